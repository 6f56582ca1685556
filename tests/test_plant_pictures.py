"""Sankey flows add up, heat maps have the shapes they say, the one-line diagram is well-formed and shows all there is."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from tiny_run import write_tiny

import twin
from twin.analysis.energy_flow import Flow, energy_flow
from twin.analysis.loading import loadings
from twin.analysis.rack_map import COLUMNS_MOST, ROWS_MOST, _gather, _rows, rack_map
from twin.api import Run
from twin.cli.topology import topology_show
from twin.errors import InputError
from twin.schema import load_topology

mpl.use("Agg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pictures")
    changes = {"topology.sites.0.racks.0.count": 3, "records.rack_interval": "2 s"}
    return twin.run(write_tiny(folder), set=changes, out=folder / "run")


def every(flow: Flow) -> list[Flow]:
    return [flow, *(below for part in flow.parts for below in every(part))]


def test_the_flows_add_up(run: Run) -> None:
    flow, energy = energy_flow(run.path, run.summary), run.summary["energy"]
    for each in every(flow.used):
        assert each.energy_j > 0
        if each.parts:
            assert each.energy_j == math.fsum(part.energy_j for part in each.parts)
    assert math.fsum(leaf.energy_j for leaf in flow.used.leaves()) == pytest.approx(flow.used.energy_j, rel=1e-14)
    assert sum(source.energy_j for source in flow.sources) == pytest.approx(flow.used.energy_j, rel=1e-9)
    named = {each.label: each.energy_j for each in every(flow.used)}
    assert named["IT"] == pytest.approx(energy["it_j"], rel=1e-9)
    assert named["cooling"] == energy["cooling_j"]
    # One rack serves, two have none of the pool's GPUs: these idle.
    assert named["GPUs of no pool"] > 0
    assert flow.tokens * flow.used.energy_j > 0


def test_a_summary_that_contradicts_itself_is_not_drawn(run: Run) -> None:
    energy = {**run.summary["energy"], "utility_j": run.summary["energy"]["utility_j"] * 1.01}
    with pytest.raises(InputError, match="does not add up"):
        energy_flow(run.path, {**run.summary, "energy": energy})


def test_a_battery_is_a_source_or_a_use(run: Run) -> None:
    energy = run.summary["energy"]
    moved_j = 0.1 * energy["utility_j"]
    given = {**energy, "utility_j": energy["utility_j"] - moved_j, "battery_j": energy["battery_j"] + moved_j}
    assert "battery" in [source.label for source in energy_flow(run.path, {**run.summary, "energy": given}).sources]
    taken = {**energy, "utility_j": energy["utility_j"] + moved_j, "battery_j": energy["battery_j"] - moved_j}
    flow = energy_flow(run.path, {**run.summary, "energy": taken})
    assert "into the battery" in [leaf.label for leaf in flow.used.leaves()]
    assert [source.label for source in flow.sources] == ["utility"]


def test_no_two_labels_of_the_sankey_overlap(run: Run) -> None:
    axes = run.plot.energy()
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= 9
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :]), axes.texts[i].get_text()
        assert one.x0 >= 0
        assert one.x1 <= figure.bbox.x1


def test_a_map_holds_what_the_table_holds(run: Run) -> None:
    drawn = rack_map(run.path, "hgx-h100", "die")
    racks = run.racks
    assert drawn.values.shape == (3, 5)
    assert drawn.edges_s.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert drawn.groups == [("racks", 0, 3)]
    for i in range(3):
        assert drawn.values[i].tolist() == racks[racks.rack == f"racks/{i}"].die_c.tolist()
    with pytest.raises(InputError, match="did you mean"):
        rack_map(run.path, "hgx-h100", "dye")


def test_many_racks_share_rows_within_their_groups() -> None:
    group_of = [f"hall_{i // 500:02d}" for i in range(6000)]
    starts, groups, most = _rows(group_of)
    assert most == math.ceil(6000 / ROWS_MOST)
    assert len(groups) == 12
    assert len(starts) <= ROWS_MOST + len(groups)
    values = np.arange(6000.0)[:, None] * np.ones((1, COLUMNS_MOST))
    ends = np.append(starts[1:], 6000)
    for pick, kind, by_hand in ((np.maximum, "max", np.max), (np.minimum, "min", np.min), (np.add, "mean", np.mean)):
        gathered = _gather(values, starts, pick, kind)
        assert gathered[:, 0].tolist() == [by_hand(values[a:b, 0]) for a, b in zip(starts, ends, strict=True)]
    for first, last in zip(starts, ends, strict=True):
        assert group_of[first] == group_of[last - 1]


def test_loads_of_a_run(run: Run) -> None:
    loads = loadings(run.path, "hgx-h100")
    assert {"transformer", "ups", "feed", "cooling", "racks/racks"} <= set(loads)
    assert loads["racks/racks"].mean_w == pytest.approx(run.summary["energy"]["it_j"] / 10, rel=1e-9)
    assert loads["feed"].mean_w == pytest.approx(run.summary["energy"]["utility_j"] / 10, rel=1e-9)
    for load in loads.values():
        assert load.mean_w <= load.peak_w * (1 + 1e-12)


@pytest.mark.parametrize("name", ["factory_1mw", "factory_1gw", "factory_100mw_hopper", "vr_pod"])
def test_the_one_line_diagram_is_whole(name: str) -> None:
    topology = load_topology(ROOT / "topologies" / f"{name}.yaml").topology
    text = topology_show(topology, "svg")
    svg = ElementTree.fromstring(text)
    said = " ".join(filter(None, (element.text for element in svg.iter())))
    (site,) = topology.sites
    for rack in (*site.racks, *site.cpu_racks):
        assert f"{rack.name}: " in said
    for word in ("transformer", "ups", f"incomer {site.feed.name}", "cooling and building", "hall air"):
        assert word in said
    boxes = [
        tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
        for rect in svg.iter("{http://www.w3.org/2000/svg}rect")
        if rect.get("rx")
    ]
    for i, (x, y, width, height) in enumerate(boxes):
        assert not any(abs(x - a) < width and abs(y - b) < height for a, b, _, _ in boxes[i + 1 :])


def test_loads_go_into_the_picture(run: Run) -> None:
    topology = load_topology(ROOT / "topologies" / "hgx_h100.yaml").topology
    assert "peak" in topology_show(topology, "svg", run.path)
    with pytest.raises(InputError, match="--format svg"):
        topology_show(topology, "json", run.path)
    other = load_topology(ROOT / "topologies" / "factory_1mw.yaml").topology
    with pytest.raises(InputError, match="another topology"):
        topology_show(other, "svg", run.path)
