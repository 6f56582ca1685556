"""Where instances stand: inside scale-up domains or over whole ones, every GPU once."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twin.catalog import load_catalog
from twin.engine.placement import Place, place
from twin.errors import InputError
from twin.schema import load_topology
from twin.schema.serving import Parallelism, Pool
from twin.schema.topology import RackGroup, Site

BASE = load_topology(ROOT / "topologies" / "gb200_nvl72.yaml").topology.sites[0]


def _site(**counts: tuple[str, int]) -> Site:
    groups = tuple(RackGroup(name=name, rack=rack, count=count) for name, (rack, count) in counts.items())
    return BASE.model_copy(update={"racks": groups})


def _pool(name: str, gpus: int, instances: int, racks: str | tuple[str, ...] = "a", **more: Any) -> Pool:
    return Pool(name=name, role="aggregated", racks=racks, parallelism=Parallelism(tp=1, dp=gpus), instances=instances, **more)


def _place(site: Site, *pools: Pool) -> dict[str, list[Place]]:
    return place(site, list(pools), load_catalog())


def test_the_emptiest_domain_first_and_the_first_of_equals() -> None:
    # Two racks of one domain of 72 each: halves go left, right, left, right.
    found = _place(_site(a=("gb200_nvl72", 2)), _pool("p", 36, 4))["p"]
    left, right = ((0, 0, 36),), ((1, 0, 36),)
    assert found == [Place(0, 0, left), Place(1, 18, right), Place(0, 9, ((0, 36, 36),)), Place(1, 27, ((1, 36, 36),))]


def test_large_instances_go_first_whatever_the_order_of_pools() -> None:
    places = _place(_site(a=("gb200_nvl72", 2)), _pool("small", 8, 9), _pool("large", 72, 1))
    assert places["large"] == [Place(0, 0, ((0, 0, 72),))]
    assert {at.domain for at in places["small"]} == {1}


def test_domains_within_a_rack() -> None:
    # A rack of four nodes of eight GPUs, each a domain of its own.
    found = _place(_site(a=("hgx_h100", 2)), _pool("p", 8, 8))["p"]
    assert [at.domain for at in found] == list(range(8))
    assert [at.node for at in found] == list(range(8))
    assert [at.racks for at in found] == [((0, 8),)] * 4 + [((1, 8),)] * 4
    assert [at.slots for at in found] == [((rack, first, 8),) for rack in (0, 1) for first in (0, 8, 16, 24)]


def test_racks_are_numbered_over_the_site() -> None:
    site = _site(a=("gb200_nvl72", 1), b=("gb200_nvl72", 2))
    places = _place(site, _pool("p", 72, 2, "b"), _pool("q", 72, 1, "a"))
    assert [at.racks for at in places["p"]] == [((1, 72),), ((2, 72),)]
    assert places["q"] == [Place(0, 0, ((0, 0, 72),))]


def test_an_instance_larger_than_a_domain_fills_whole_ones() -> None:
    found = _place(_site(a=("hgx_h100", 2)), _pool("p", 16, 4))["p"]
    assert [at.racks for at in found] == [((0, 16),), ((0, 16),), ((1, 16),), ((1, 16),)]
    across = _place(_site(a=("gb200_nvl72", 2)), _pool("p", 144, 1))["p"]
    assert across == [Place(0, 0, ((0, 0, 72), (1, 0, 72)))]


def test_no_room_is_said_with_pool_and_racks() -> None:
    with pytest.raises(InputError, match="pool p: no room left in a for instances of 36 GPUs"):
        _place(_site(a=("gb200_nvl72", 1)), _pool("p", 36, 3))


@settings(max_examples=60, deadline=None)
@given(
    rack=st.sampled_from([("gb200_nvl72", 72, 72), ("hgx_h100", 32, 8)]),
    racks=st.integers(1, 4),
    shapes=st.lists(st.tuples(st.sampled_from([1, 2, 4, 8, 16, 24, 36, 72, 144]), st.integers(1, 12)), min_size=1, max_size=4),
)
def test_no_gpu_twice_and_no_instance_across_domains(
    rack: tuple[str, int, int], racks: int, shapes: list[tuple[int, int]]
) -> None:
    name, gpus, domain = rack
    shapes = [(size, count) for size, count in shapes if domain % size == 0 or size % domain == 0]
    assume(shapes)
    pools = [_pool(f"p{n}", size, count) for n, (size, count) in enumerate(shapes)]
    try:
        places = _place(_site(a=(name, racks)), *pools)
    except InputError:
        # Sizes that divide a domain pack without gaps, so refusing is right only where GPUs are short or domains broken.
        asked = sum(size * count for size, count in shapes)
        assert asked > gpus * racks or any(size > domain for size, _ in shapes) or _gaps(shapes, domain)
        return
    used: Counter[int] = Counter()
    in_domain: Counter[int] = Counter()
    for pool in pools:
        found = places[pool.name]
        assert len(found) == pool.instances
        for at in found:
            size = pool.parallelism.gpus
            assert sum(count for _, count in at.racks) == size
            if size <= domain:
                assert len(at.racks) == 1
                assert at.racks[0][0] == at.domain * domain // gpus
                in_domain[at.domain] += size
            used.update(dict(at.racks))
    assert all(used[r] <= gpus for r in range(racks))
    assert set(used) <= set(range(racks))
    assert all(count <= domain for count in in_domain.values())
    assert sum(used.values()) == sum(size * count for size, count in shapes)


def _gaps(shapes: list[tuple[int, int]], domain: int) -> bool:
    """Whether some size does not divide the next larger one, so that packing may leave holes."""
    sizes = sorted({min(size, domain) for size, _ in shapes})
    return any(larger % smaller for smaller, larger in itertools.pairwise(sizes))
