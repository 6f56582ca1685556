"""The electrical chain: hand arithmetic, failover, rectifiers, cascades, and a recursive reference beside the evaluation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_facility_plant import HOLD, example_spec, racks_w, unbalance
from twin.errors import InputError, SimulationError
from twin.facility import (
    BatteryOrder,
    BreakerSpec,
    Chain,
    ChainElementSpec,
    ChainSpec,
    ElectricalElement,
    Plant,
    Sources,
    chain_graph,
)
from twin.facility.shelves import Shelves

Floats = np.ndarray[Any, np.dtype[np.float64]]
SHELF = ElectricalElement("shelf", 200e3, 0.005, 0.01, 0.02)


def element(name: str, kind: str, fed_from: str, rated_w: float, breaker: BreakerSpec | None = None, count: int = 1) -> Any:
    """Loses 0.2 % of its rating without load, 1 % of its load, and 1 % of its rating more as the square of the load."""
    return ChainElementSpec(ElectricalElement(name, rated_w, 0.002, 0.01, 0.01), kind, fed_from, count, breaker)


def two_sides(breaker: BreakerSpec | None = None, busway_w: float = 500e3) -> ChainSpec:
    """Two lines with a transformer, a UPS of two modules and a busway each; six racks in three groups on both."""
    elements = []
    for side in "ab":
        elements += [
            element(f"busway_{side}", "busway", f"ups_{side}", busway_w, breaker),
            element(f"ups_{side}", "ups", f"transformer_{side}", 800e3, None, 2),
            element(f"transformer_{side}", "transformer", f"line_{side}", 1e6),
        ]
    return ChainSpec(("line_a", "line_b"), tuple(elements), (("busway_a", "busway_b"),) * 3, ("transformer_a", "transformer_b"))


def lost(spec: ChainElementSpec, output_w: float) -> float:
    e = spec.element
    load = output_w / e.rated_w
    return e.rated_w * (e.loss_fixed_frac + e.loss_linear_frac * load + e.loss_quadratic_frac * load**2)


def shelves_of(racks: int, feeds: list[int], psus: int = 12, shelf: ElectricalElement = SHELF) -> Shelves:
    return Shelves(["row"], [racks], [shelf], [psus], [feeds])


def carried(chain: Chain, it_w: Floats, rest_w: float = 0.0) -> float:
    """One step of a second without a battery; what the racks draw."""
    shelves = chain.shelves
    said = None if (it_w <= shelves.rated_w).all() else shelves.beyond(it_w)
    assert said is None, said
    drawn_w = (it_w * shelves.quadratic_per_w + shelves.linear) * it_w + shelves.fixed_w
    chain.carry_racks(drawn_w, float(drawn_w.sum()))
    chain.carry_rest(rest_w, 0.0)
    if chain.bus is not None:
        below = [i for i, e in enumerate(chain.spec.elements) if e.fed_from == chain.spec.elements[chain.bus].name]
        hung_w = rest_w if chain.spec.cooling_from == (chain.spec.elements[chain.bus].name,) else 0.0
        chain.carry_bus(math.fsum(float(chain.input_w[i]) for i in below if chain.live[i]) + hung_w)
    chain.count(1.0)
    return float(drawn_w.sum())


def test_two_levels_by_hand() -> None:
    spec = ChainSpec(
        ("line",),
        (element("board", "switchboard", "line", 1e6), element("left", "busway", "board", 200e3)),
        (("left",),),
        ("board",),
    )
    chain = Chain(spec, shelves_of(1, [1]), "site")
    chain.carry_racks(np.array([100e3]), 100e3)
    # busway at half its 200 kW: 400 + 1,000 + 2 kW / 4 = 1.9 kW
    assert chain.loss_w[1] == pytest.approx(1900)
    chain.carry_rest(50e3, 0.0)
    chain.carry_bus(101_900 + 50e3)
    # board at 151.9 kW of 1 MW: 2,000 + 1,519 + 10,000 x 0.1519^2
    assert chain.loss_w[0] == pytest.approx(2000 + 1519 + 10e3 * 0.1519**2)
    assert chain.delivered_w == {"line": pytest.approx(151_900 + 3519 + 10e3 * 0.1519**2)}
    chain.count(2.0)
    (board, left) = chain.take_means()
    assert left.output_w == 100e3
    assert left.loading_frac == 0.5
    assert left.headroom_w == 100e3
    assert board.state == "live"
    assert chain.totals()[1].loss_j == pytest.approx(3800)


def test_a_side_lost_by_hand() -> None:
    plant = Plant(example_spec(battery=None, chain=two_sides(), racks=with_psus()))
    both = plant.advance(1.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    assert plant.chain.output_w[0] == pytest.approx(plant.chain.output_w[3])
    assert unbalance(both) < 1e-12
    plant.fail("busway/busway_a")
    assert plant.rack_up.all()
    one = plant.advance(2.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    # half the rectifiers: 100 of 100 kW: 100 kW x (0.005 + 0.01 + 0.02) = 3.5 kW, no longer 3 kW; 40 of 25 kW is too much for
    # the other group, whose racks carry on until the end of the step: 25 kW x (0.005 + 0.01 x 1.6 + 0.02 x 1.6^2)
    assert one.shelf_loss_w == pytest.approx(4 * 3500 + 2 * 25e3 * (0.005 + 0.016 + 0.0512))
    assert plant.chain.output_w[0] == 0
    assert plant.chain.loss_w[0] == 0
    assert plant.chain.output_w[3] == pytest.approx(one.it_w + one.shelf_loss_w)
    assert unbalance(one) < 1e-12
    assert plant.rack_up.tolist() == [True] * 4 + [False] * 2
    assert [(event.kind, event.subject) for event in plant.take_events()] == [("failover", "busway_a"), ("rack_dark", "c")]
    with pytest.raises(SimulationError, match="has no power"):
        plant.advance(3.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    plant.repair("busway/busway_a")
    assert plant.rack_up.all()
    assert [event.kind for event in plant.take_events()] == ["rack_back"]
    again = plant.advance(3.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    assert again.shelf_loss_w == both.shelf_loss_w


def with_psus(psus: int = 6) -> Any:
    return tuple(dataclasses.replace(rack, psus=psus) for rack in example_spec().racks)


def test_both_sides_lost_is_dark() -> None:
    plant = Plant(example_spec(battery=None, chain=two_sides(), racks=with_psus()))
    for side in "ab":
        plant.fail(f"ups/ups_{side}", 2)
    assert not plant.rack_up.any()
    step = plant.advance(1.0, racks_w(0.0), racks_w(0.0), 10.0, 8.0, HOLD)
    assert step.shelf_loss_w == step.ups_loss_w == 0
    assert step.cooling_w > 0
    assert unbalance(step) < 1e-12
    assert [plant.chain.state(i) for i in range(3)] == ["dead", "failed", "live"]


def test_one_rectifier_less() -> None:
    chain = Chain(two_sides(), shelves_of_sides(), "site")
    chain.fail("psu/row/1", 3)
    # two of the six on side a are out and one of the six on side b
    chain.carry_racks(np.array([0.0, 9000.0]), 9000.0)
    assert chain.output_w[0] == pytest.approx(9000 * 4 / 9)
    assert chain.output_w[3] == pytest.approx(9000 * 5 / 9)
    assert chain.shelves.rated_w[1] == pytest.approx(200e3 * 9 / 12)
    chain.fail("psu/row/1", 9)
    assert chain.rack_live.tolist() == [True, False]
    with pytest.raises(SimulationError, match="12 are out already"):
        chain.fail("psu/row/1")
    chain.repair("psu/row/1", 12)
    assert chain.rack_live.all()


def shelves_of_sides() -> Shelves:
    return Shelves(["row"], [2], [SHELF], [12], [[0, 3]])


def two_racks(breaker: BreakerSpec | None, busway_w: float = 500e3) -> Chain:
    spec = dataclasses.replace(two_sides(breaker, busway_w), rack_feeds=(("busway_a", "busway_b"),))
    return Chain(spec, shelves_of_sides(), "site")


def test_modules_that_remain_carry_or_drop() -> None:
    chain = two_racks(None)
    chain.fail("ups/ups_a")
    carried(chain, np.array([100e3, 100e3]))
    assert chain.state(1) == "live"
    assert chain.loss_w[1] == pytest.approx(400e3 * (0.002 + 0.01 * (x := chain.output_w[1] / 400e3) + 0.01 * x * x))


def test_cascade() -> None:
    """A busway that is lost leaves the other with more than its breaker takes: that one trips in turn and all is dark."""
    chain = two_racks(BreakerSpec(150e3, "very_inverse", 0.1), busway_w=150e3)
    load = np.array([100e3, 100e3])
    for _ in range(100):
        carried(chain, load)
    assert chain.next_change_s() == math.inf
    chain.fail("busway/busway_a")
    load = np.array([95e3, 95e3])  # the rectifiers of one side carry 100 kW
    drawn_w = carried(chain, load)
    trip_s = 0.1 * 13.5 / (drawn_w / 150e3 - 1)
    assert chain.next_change_s() == pytest.approx(trip_s - 1)
    steps = 1
    while chain.rack_live.any():
        carried(chain, load)
        steps += 1
    assert steps == math.ceil(trip_s)
    assert [(e.kind, e.subject) for e in chain.take_events()] == [
        ("failover", "busway_a"),
        ("breaker_trip", "busway_b"),
        ("rack_dark", "row"),
    ]
    assert chain.state(3) == "tripped"
    assert chain.totals()[3].trips == 1
    assert chain.totals()[3].peak_loading_frac > 1
    chain.repair("busway/busway_b")
    assert chain.rack_live.all()


def test_too_small_is_an_error_and_too_small_after_a_fault_drops() -> None:
    chain = two_racks(None, busway_w=150e3)
    with pytest.raises(SimulationError, match="busway_b carries 196,510 W"):
        carried(chain, np.array([190e3, 190e3]))
    chain = two_racks(None, busway_w=150e3)
    chain.fail("incomer/line_b")
    carried(chain, np.array([95e3, 95e3]))
    assert chain.state(0) == "tripped"
    assert not chain.rack_live.any()


def test_a_store_holds_a_ups() -> None:
    chain = two_racks(None)
    assert chain.unfed == ()
    chain.fail("incomer/line_a")
    assert chain.unfed == ("busway_a", "ups_a", "transformer_a")
    chain.supply(Sources(frozenset({"line_a", "line_b"}), frozenset({"ups_a"})))
    assert chain.unfed == ("ups_a", "transformer_a")
    drawn_w = carried(chain, np.array([90e3, 90e3]), 50e3)
    through_w = drawn_w / 2 + lost(chain.spec.elements[0], drawn_w / 2)
    assert chain.delivered_w["ups_a"] == pytest.approx(through_w + lost(chain.spec.elements[1], through_w))
    assert chain.delivered_w["line_a"] == 0
    carried_b = chain.input_w[4] + 50e3
    assert chain.delivered_w["line_b"] == pytest.approx(carried_b + lost(chain.spec.elements[5], carried_b))
    chain.repair("incomer/line_a")
    chain.supply(Sources(frozenset({"line_a", "line_b"}), charge_w={"ups_a": 5000.0}))
    carried(chain, np.array([90e3, 90e3]), 50e3)
    assert chain.input_w[1] == pytest.approx(chain.output_w[1] + chain.loss_w[1] + 5000)
    with pytest.raises(SimulationError, match="did you mean 'ups_a'"):
        chain.supply(Sources(frozenset(), frozenset({"ups_aa"})))


@pytest.mark.parametrize("key", ["ups/ups_c", "transformer/ups_a", "psu/row/2", "psu/raw/0", "incomer/ups_a", "nothing"])
def test_unknown_keys(key: str) -> None:
    with pytest.raises(SimulationError):
        two_racks(None).fail(key)


def test_no_more_units_than_there_are() -> None:
    chain = two_racks(None)
    with pytest.raises(SimulationError, match="0 of its 2 units out, 3 cannot fail"):
        chain.fail("ups/ups_a", 3)
    with pytest.raises(SimulationError, match="1 cannot be repaired"):
        chain.repair("ups/ups_a")
    with pytest.raises(SimulationError, match="cannot be repaired now"):
        chain.repair("incomer/line_a")
    assert {c.key: c.units for c in chain.components()}["psu/row/1"] == 12
    assert {c.key: c.units for c in chain.components()}["ups/ups_a"] == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"incomers": ()}, "at least one incomer"),
        ({"cooling_from": ("boiler",)}, "unknown element 'boiler'"),
        ({"rack_feeds": (("busway_a", "busway_a"),)}, "each once"),
        ({"elements": (element("a", "ups", "b", 1e3), element("b", "ups", "a", 1e3))}, "fed in a circle"),
        ({"elements": (element("a", "ups", "line_c", 1e3),)}, "fed from unknown 'line_c'"),
        ({"elements": (element("a", "oven", "line_a", 1e3),)}, "unknown kind 'oven'"),
    ],
)
def test_specs_that_cannot_be(changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        dataclasses.replace(two_sides(), **changes)


def test_the_graph() -> None:
    graph = chain_graph(two_sides(), ["a", "b", "c"])
    assert sorted(graph.predecessors("racks/b")) == ["busway_a", "busway_b"]
    assert graph.nodes["ups_a"] == {"kind": "ups", "rated_w": 800e3, "count": 2}
    assert list(graph.successors("line_a")) == ["transformer_a"]
    chain = two_racks(None)
    carried(chain, np.array([90e3, 90e3]))
    assert chain.graph().nodes["ups_b"]["loading_frac"] == pytest.approx(chain.output_w[4] / 800e3)


def reference(chain: Chain, drawn_w: Floats, shares: Floats, feeds: list[int], rest_w: float) -> dict[str, float]:
    """What each element draws, by recursion from above. Taps are alive."""
    spec = chain.spec
    taps = [tap for tap in spec.cooling_from if chain.live[[e.name for e in spec.elements].index(tap)]]

    def input_w(i: int) -> float:
        e = spec.elements[i]
        if not chain.live[i]:
            return 0.0
        output_w = sum(input_w(j) for j, below in enumerate(spec.elements) if below.fed_from == e.name)
        output_w += sum(float(drawn_w[r] * shares[r, k]) for r in range(len(drawn_w)) for k, f in enumerate(feeds) if f == i)
        output_w += rest_w / len(taps) if e.name in taps else 0.0
        return output_w + lost(e, output_w)

    return {e.name: input_w(i) for i, e in enumerate(spec.elements)}


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    size=st.integers(2, 60),
    incomers=st.integers(1, 3),
    racks=st.integers(1, 6),
    rest_w=st.floats(0, 1e6),
)
def test_random_trees_balance_and_match_the_reference(data: Any, size: int, incomers: int, racks: int, rest_w: float) -> None:
    lines = [f"line{i}" for i in range(incomers)]
    elements = []
    for i in range(size):
        above = data.draw(st.sampled_from(lines if i == 0 else [*lines[:1], *(e.name for e in elements)]))
        kind = data.draw(st.sampled_from(["transformer", "switchboard", "ups", "busway", "rectifier"]))
        elements.append(element(f"e{i}", kind, above, 1e9 * (1 + i % 3)))
    order = data.draw(st.permutations(elements))
    names = [e.name for e in order]
    feeds = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3, unique=True))
    taps = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    spec = ChainSpec(tuple(lines), tuple(order), (tuple(names[f] for f in feeds),), tuple(taps))
    chain = Chain(spec, shelves_of(racks, feeds), "site")
    for name in data.draw(st.lists(st.sampled_from(names), max_size=2, unique=True)):
        chain.fail(f"{spec.elements[names.index(name)].kind}/{name}")
    if not chain.cooling_live:
        rest_w = 0.0
    it_w = np.array(data.draw(st.lists(st.floats(0, 60e3), min_size=racks, max_size=racks))) * chain.rack_live
    shelves = chain.shelves
    drawn_w = (it_w * shelves.quadratic_per_w + shelves.linear) * it_w + shelves.fixed_w
    chain.carry_racks(drawn_w, float(drawn_w.sum()))
    chain.carry_rest(rest_w, 0.0)
    alive = [k for k, f in enumerate(feeds) if chain.live[f]]
    split = [shelves_split(12, len(feeds), k) if k in alive else 0 for k in range(len(feeds))]
    shares = np.array([[part / max(sum(split), 1) for part in split]] * racks)
    due = reference(chain, drawn_w, shares, feeds, rest_w)
    if chain.bus is not None:
        bus = spec.elements[chain.bus]
        if chain.live[chain.bus]:
            below_w = math.fsum(due[e.name] for e in spec.elements if e.fed_from == bus.name)
            own = math.fsum(float(drawn_w @ shares[:, k]) for k, f in enumerate(feeds) if f == chain.bus)
            live_taps = [tap for tap in taps if chain.live[names.index(tap)]]
            own += rest_w / len(live_taps) if bus.name in live_taps else 0.0
            chain.carry_bus(below_w + own)
        else:
            chain.carry_bus(0.0)
    for i, name in enumerate(names):
        assert float(chain.input_w[i]) == pytest.approx(due[name], rel=1e-12, abs=1e-6)
    supplied_w = chain.incomers_w()
    used_w = float(drawn_w.sum()) + rest_w + math.fsum(map(float, chain.loss_w))
    assert abs(supplied_w - used_w) <= 1e-12 * max(used_w, 1.0)
    assert sum(chain.delivered_w.values()) == pytest.approx(supplied_w, rel=1e-12)


def shelves_split(psus: int, feeds: int, place: int) -> int:
    return psus // feeds + (place < psus % feeds)


def test_a_site_battery_beside_several_incomers() -> None:
    spec = example_spec(chain=two_sides(), racks=with_psus())
    plant = Plant(spec)
    plain = plant.advance(1.0, racks_w(90e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    held = plant.advance(2.0, racks_w(90e3), racks_w(1000.0), 10.0, 8.0, BatteryOrder.follow(plain.utility_w - 50e3))
    assert held.utility_w == pytest.approx(plain.utility_w - 50e3, rel=1e-6)
    assert unbalance(held) < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.floats(0.1, 30)), min_size=1, max_size=12))
def test_books_balance_through_faults(story: list[tuple[float, int, float]]) -> None:
    """Energy and heat over loads, failures, trips and repairs, whatever the order."""
    breaker = BreakerSpec(300e3, "extremely_inverse", 0.05)
    plant = Plant(example_spec(battery=None, chain=two_sides(breaker), racks=with_psus()))
    keys = [
        *("incomer/line_a", "ups/ups_a", "busway/busway_b", "transformer/transformer_b", "psu/a/0"),
        *("busway/busway_a", "psu/c/1", "ups/ups_b"),
    ]
    out: list[str] = []
    now_s, losses_j = 0.0, 0.0
    for load, which, span_s in story:
        if which < len(keys) and keys[which] not in out and plant.chain.cooling_live:
            plant.fail(keys[which])
            out.append(keys[which])
            if not plant.chain.cooling_live:  # cooling is another's business
                plant.repair(out.pop())
        elif out:
            plant.repair(out.pop(0))
        now_s += span_s
        it_w = racks_w(load * 120e3) * plant.rack_up
        step = plant.advance(now_s, it_w, it_w / 100, 20.0, 12.0, HOLD)
        losses_j += (step.shelf_loss_w + math.fsum(plant.chain.loss_w)) * span_s
        assert unbalance(step) < 1e-12
        assert not it_w[~plant.rack_up].any() or plant.take_events()
    assert losses_j == pytest.approx(plant.energy.conversion_loss_j, rel=1e-12)
    assert plant.energy.balance_residual_frac < 1e-12
    assert plant.energy.heat_residual_frac < 1e-9
