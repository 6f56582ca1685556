"""Fabric counts against closed forms, graphs against counts, transfers against hand arithmetic."""

from __future__ import annotations

import time

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError, SimulationError
from twin.fabric import (
    Endpoint,
    Network,
    NetworkSpec,
    end_w,
    fabric_w,
    full_graph,
    nic_radix,
    optics_w,
    plan_fabric,
    scale_up_graph,
    switch_graph,
)


@pytest.mark.parametrize(("radix", "two", "three"), [(64, 2048, 65_536), (144, 10_368, 746_496), (512, 131_072, 33_554_432)])
def test_fat_tree_limits(radix: int, two: int, three: int) -> None:
    assert (radix**2 // 2, radix**3 // 4) == (two, three)
    full = plan_fabric("fat_tree", two, 1, radix)
    assert (full.tiers, full.leaves, full.spines) == (2, radix, radix // 2)
    assert plan_fabric("fat_tree", two + 1, 1, radix).tiers == 3
    full = plan_fabric("fat_tree", three, 1, radix)
    assert (full.pods, full.leaves, full.spines, full.cores) == (radix, radix**2 // 2, radix**2 // 2, radix**2 // 4)
    with pytest.raises(InputError, match="do not fit three tiers"):
        plan_fabric("fat_tree", three + 1, 1, radix)


def test_optics_per_gpu() -> None:
    # three tiers: 6 transceivers = 180 W; co-packaged in the switches: 30 + 5 x 9 = 75 W; two tiers: 30 + 3 x 9 = 57 W
    three = plan_fabric("fat_tree", 64**3 // 4, 1, 64)
    assert optics_w(three, 30.0, 30.0) / three.nics == pytest.approx(180.0)
    assert optics_w(three, 30.0, 9.0) / three.nics == pytest.approx(75.0)
    two = plan_fabric("fat_tree", 2048, 1, 64)
    assert optics_w(two, 30.0, 9.0) / two.nics == pytest.approx(57.0)
    assert end_w(30.0, 200e9, 50e9) == 7.5
    assert fabric_w(two, 1000.0, 0.0, 0.0) == 96_000.0


def test_superpod_has_eight_leaves_a_unit() -> None:
    # 8 NVL72 = 144 trays x 4 NICs of 400G on switches of 64 x 400G: 144 / 32 = 5 blocks of 4 rails
    plan = plan_fabric("rail_optimized", 144, 4, 64)
    assert (plan.leaves, plan.spines, plan.tiers) == (20, 10, 2)
    # one scalable unit of 32 nodes with 8 rails: 8 leaves, as built
    assert plan_fabric("rail_optimized", 32, 8, 64).leaves == 8


def test_oversubscription_takes_up_links_away() -> None:
    plan = plan_fabric("fat_tree", 2000, 1, 64, oversubscription=3.0)
    assert (plan.leaf_down, plan.leaf_up) == (48, 16)
    assert plan.leaves == 42
    assert plan.spines == 11  # ceil(42 x 16 / 64)
    with pytest.raises(InputError, match="oversubscription"):
        plan_fabric("fat_tree", 10, 1, 64, oversubscription=0.5)


def test_radix_at_nic_speed() -> None:
    assert nic_radix(144, 100e9, 50e9) == 288
    assert nic_radix(64, 50e9, 50e9) == 64
    with pytest.raises(InputError, match="does not fit"):
        nic_radix(64, 50e9, 100e9)


plans = st.builds(
    plan_fabric,
    st.sampled_from(["rail_optimized", "fat_tree"]),
    st.integers(1, 60),
    st.integers(1, 4),
    st.sampled_from([8, 10, 16]),
    st.sampled_from([1.0, 1.5, 3.0]),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_graph_is_what_the_plan_counts(data: st.DataObject) -> None:
    try:
        plan = data.draw(plans)
    except InputError:
        return  # more than three tiers hold
    graph = full_graph(plan)
    roles = nx.get_node_attributes(graph, "role")
    assert sum(role != "nic" for role in roles.values()) == plan.switches
    assert nx.is_connected(graph)
    ports = {name: sum(links for _, _, links in graph.edges(name, data="links")) for name in graph}
    assert all(count <= plan.radix for name, count in ports.items() if roles[name] != "nic")
    assert sum(ports.values()) == 2 * (plan.nics + plan.switch_links)
    switch_ends = sum(count for name, count in ports.items() if roles[name] != "nic")
    assert switch_ends == plan.switch_ends
    up = {"leaf": ("spine",), "spine": ("core",)}
    for name, role in roles.items():
        if role == "leaf" and plan.tiers > 1:
            climbing = sum(links for _, other, links in graph.edges(name, data="links") if roles[other] in up[role])
            assert climbing == plan.leaf_up
    for node, other in [(0, plan.nodes - 1), (plan.nodes // 2, 0)]:
        if node != other:
            path = nx.shortest_path_length(graph, f"nic/{node}/0", f"nic/{other}/0")
            assert path - 1 == plan.hops(node, other)


def test_rails() -> None:
    plan = plan_fabric("rail_optimized", 30, 4, 16)
    graph = full_graph(plan)
    for node in range(30):
        leaves = [next(iter(graph[f"nic/{node}/{nic}"])) for nic in range(4)]
        assert len(set(leaves)) == 4
        assert leaves == [f"leaf/{node // 8 * 4 + nic}" for nic in range(4)]
    assert plan.hops(0, 7) == 1  # same rail, same block
    assert plan.hops(0, 8) == 3


def test_large_fabric_is_built_fast() -> None:
    plan = plan_fabric("rail_optimized", 108_000, 4, 144)  # 432,000 NICs, a gigawatt of NVL72
    assert plan.tiers == 3
    assert switch_graph(plan).number_of_nodes() == plan.switches


def test_scale_up_domain() -> None:
    graph = scale_up_graph(72, 18, 900e9)
    assert graph.number_of_nodes() == 90
    assert graph.number_of_edges() == 72 * 18
    assert nx.is_bipartite(graph)
    assert sum(rate for _, _, rate in graph.edges("gpu/0", data="bytes_per_s")) == pytest.approx(900e9)
    with pytest.raises(InputError, match="impossible"):
        scale_up_graph(8, 0, 1.0)


SPEC = NetworkSpec(900e9, 0.8, 2e-6, 50e9, 0.95, 5e-6, 0.5e-6, 50e9)


def _network(oversubscription: float = 1.0) -> Network:
    plan = plan_fabric("rail_optimized", 64, 4, 32, oversubscription)
    ends = [Endpoint("a", 4, 0, 0), Endpoint("b", 8, 0, 1), Endpoint("c", 8, 1, 4), Endpoint("d", 4, 2, 40)]
    return Network(SPEC, plan, ends)


def test_handoff_by_hand() -> None:
    network = _network()
    # inside a domain: 4 GPUs x 900 GB/s x 0.8 = 2.88 TB/s
    assert network.handoff(1.0, 0, 1, 2.88e9) == pytest.approx((1.0, 1.0 + 1e-3 + 2e-6))
    # outside, same leaves: min(4, 8) x 50 GB/s x 0.95 = 190 GB/s and one switch
    assert network.handoff(2.0, 0, 2, 19e9) == pytest.approx((2.0, 2.1 + 5.5e-6), rel=1e-9)
    # other block: three switches, beginning when the sender's link is free again
    assert network.handoff(2.0, 0, 3, 19e9) == pytest.approx((2.1, 2.2 + 6.5e-6), rel=1e-9)
    assert network.scale_out.bytes == 38e9
    assert network.scale_out.transfers == 2
    assert network.uplinks.transfers == 1
    assert network.scale_up.busy_s == pytest.approx(2.88e9 / (24 * 900e9 * 0.8))


def test_fast_receiver_serves_two_slow_senders_at_once() -> None:
    network = _network()
    # c has 380 GB/s; a and d send 190 GB/s each, side by side
    assert network.handoff(0.0, 0, 2, 19e9).finish_s == pytest.approx(0.1 + 5.5e-6)
    assert network.handoff(0.0, 3, 2, 19e9).finish_s == pytest.approx(0.1 + 6.5e-6)


def test_uplinks_bind_when_oversubscribed() -> None:
    network = _network(oversubscription=7.0)
    # 4 up-links x 4 leaves x 50 GB/s x 0.95 = 760 GB/s leave the block of 28 nodes: no limit for one instance, one for four
    assert network.handoff(0.0, 0, 3, 19e9).finish_s == pytest.approx(0.1 + 6.5e-6, rel=1e-6)
    later = Network(SPEC, network.plan, [Endpoint(f"e{i}", 16, i, i) for i in range(4)] + [Endpoint("far", 64, 9, 40)])
    finishes = [later.handoff(0.0, i, 4, 76e9).finish_s for i in range(4)]
    assert finishes == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.05), st.integers(0, 3), st.integers(1, 3), st.floats(0, 5e10)), max_size=40))
def test_no_link_carries_more_than_its_bandwidth(transfers: list[tuple[float, int, int, float]]) -> None:
    network = _network()
    now_s = 0.0
    finished: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for gap_s, src, turn, size in transfers:
        now_s += gap_s
        dst = (src + turn) % 4
        start_s, finish_s = network.handoff(now_s, src, dst, size)
        assert now_s <= start_s + 1e-12
        assert finish_s >= start_s
        kind = "up" if {src, dst} == {0, 1} else "out"
        finished.setdefault((src, kind + ">"), []).append((finish_s, size))
        finished.setdefault((dst, kind + "<"), []).append((finish_s, size))
    gpus = [4, 8, 8, 4]
    for (end, kind), arrivals in finished.items():
        rate = gpus[end] * (720e9 if kind.startswith("up") else 47.5e9)
        total = sum(size for _, size in arrivals)
        assert max(finish for finish, _ in arrivals) >= total / rate * (1 - 1e-9)


def test_what_is_refused() -> None:
    network = _network()
    network.handoff(1.0, 0, 1, 1.0)
    for bad in ((0.5, 0, 1, 1.0), (2.0, 1, 1, 1.0), (2.0, 0, 1, -1.0), (2.0, 0, 1, float("nan")), (float("nan"), 0, 1, 1.0)):
        with pytest.raises(SimulationError, match="cannot send"):
            network.handoff(*bad)
    with pytest.raises(InputError, match="on node 64 of 64"):
        Network(SPEC, network.plan, [Endpoint("x", 1, 0, 64)])


def test_a_handoff_is_cheap() -> None:
    network = _network()
    best = 1.0
    for attempt in range(5):
        started = time.perf_counter()
        for i in range(2000):
            network.handoff(attempt + i * 1e-4, i & 1, 2 + (i & 1), 1e9)
        best = min(best, (time.perf_counter() - started) / 2000)
    assert best < 20e-6  # 2 us on an idle machine
