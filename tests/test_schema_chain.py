"""The electrical chain in topology files: what is refused, where, and all at once; the shipped examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from twin.catalog import load_catalog
from twin.engine.plant_builder import chain_spec, plant_spec, site_chain_graph
from twin.errors import InputError
from twin.facility import Plant
from twin.schema import load_topology

AB = Path("topologies/factory_1mw_ab.yaml").read_text()


def refused(tmp_path: Path, *changes: tuple[str, str], base: str = AB) -> list[str]:
    """Every problem of the A/B factory with some text replaced, without the folder."""
    text = base
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_topology(file)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


def line_of(text: str, base: str = AB) -> int:
    return next(number for number, line in enumerate(base.splitlines(), 1) if text in line)


BUSWAY_A = "        - {name: busway_a, part: busway, rating: 1.25 MW, fed_from: ups_a, breaker: {curve: extremely_inverse}}\n"


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (
            (BUSWAY_A, BUSWAY_A + BUSWAY_A.replace("ups_a", "ups_b")),
            "chain.4.fed_from",
            "has two parents, 'ups_b' here and 'ups_a'",
        ),
        (("fed_from: ups_a", "fed_from: [ups_a, ups_b]"), "chain.3.fed_from", "'busway_a' has 2 parents"),
        (("fed_from: ups_a", "fed_from: ups_c"), "chain.3.fed_from", "unknown incomer or element 'ups_c' (did you mean 'ups_"),
        (
            ("fed_from: board_a", "fed_from: busway_a"),
            "chain.2.fed_from",
            "is fed in a circle, from no incomer: ups_a <- busway_a",
        ),
        (("[utility_a, utility_b]", "[utility_a, utility_b, spare]"), "incomers.2", "'spare' feeds no element"),
        (
            ("row_a, feeds: [busway_a, busway_b]", "row_a"),
            "racks.0",
            "the chain ends in busway_a, busway_b: these racks are on no feed",
        ),
        (("feeds: [busway_a, busway_b]", "feeds: [busway_a, busway_d]"), "feeds.1", "unknown element 'busway_d'"),
        (("feeds: [busway_a, busway_b]", "feeds: [busway_a, busway_a]"), "feeds.1", "is named already"),
        (("[board_a, board_b]", "[board_a, bord_b]"), "cooling_from.1", "unknown element 'bord_b' (did you mean 'board_"),
        ((BUSWAY_A, BUSWAY_A + BUSWAY_A.replace("busway_a", "spare")), "chain.4.name", "'spare' feeds nothing"),
        (
            ("part: busway, rating: 1.25 MW, fed_from: ups_a", "part: orv3_shelf_33kw, rating: 1 MW, fed_from: ups_a"),
            "part",
            "is no ",
        ),
        (("rating: 1.25 MW, fed_from: ups_a", "rating: 10 kW, fed_from: ups_a"), "chain.3.rating", "10 kW is less than the"),
        (
            ("power_shelf: orv3_shelf_33kw", "power_shelf: orv3_shelf_33kw\n      ups: ups_eco"),
            "ups",
            "belongs to the short form",
        ),
    ],
)
def test_what_no_chain_can_be(change: tuple[str, str], path: str, said: str, tmp_path: Path) -> None:
    told = refused(tmp_path, change)
    assert any(path in line and said in line for line in told), told
    assert all(line.startswith("t.yaml:") for line in told)


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    told = refused(
        tmp_path,
        ("fed_from: ups_a", "fed_from: ups_x"),
        ("fed_from: board_b", "fed_from: busway_b"),
        ("[board_a, board_b]", "[board_a, board_x]"),
    )
    where = [line_of("name: busway_a"), line_of("name: ups_b"), line_of("cooling_from")]
    assert sorted({int(line.split(":")[1]) for line in told} & set(where)) == sorted(where)


def test_a_short_form_that_lacks_something(tmp_path: Path) -> None:
    base = Path("topologies/factory_1mw.yaml").read_text()
    told = refused(tmp_path, ("      ups: ups_double_conversion\n", ""), ("ups_rating: 1.5 MW", "cooling_from: [x]"), base=base)
    assert [line.split(": ")[1] for line in told] == [
        *("sites.0.electrical.ups", "sites.0.electrical.ups_rating"),
        "sites.0.electrical.cooling_from",
    ]
    told = refused(tmp_path, ("loop: row_a}", "loop: row_a, feeds: [ups]}"), base=base)
    assert "needs `electrical.chain`" in told[0]


@pytest.mark.parametrize("name", ["factory_1mw_ab", "row_800vdc"])
def test_the_examples_become_plants(name: str) -> None:
    site = load_topology(f"topologies/{name}.yaml").topology.sites[0]
    catalog = load_catalog()
    plant = Plant(plant_spec(site, catalog))
    assert plant.rack_up.all()
    graph = site_chain_graph(site, catalog)
    assert set(chain_spec(site, catalog).incomers) == {node for node in graph if graph.in_degree(node) == 0}


def test_either_side_of_the_factory_carries_it() -> None:
    site = load_topology("topologies/factory_1mw_ab.yaml").topology.sites[0]
    spec = chain_spec(site, load_catalog())
    for side in "ab":
        busway, ups = (next(e for e in spec.elements if e.name == f"{kind}_{side}") for kind in ("busway", "ups"))
        racks_w = 8 * 120e3 / 0.967
        assert busway.element.rated_w > racks_w
        assert ups.element.rated_w * (ups.count - 1) / ups.count > racks_w + busway.element.loss_w(racks_w)
