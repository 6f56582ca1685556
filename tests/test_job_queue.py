"""GPUs that serving leaves: who gets which, first fit, by priority; how elastic jobs change their size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_cases import spec

from twin.errors import SimulationError
from twin.serving import GpuFloor, Job, JobQueue, SpareDomain


def floor(*spare: int, size: int = 8, group: str = "racks") -> GpuFloor:
    """Domains of `size` GPUs, two a rack, with so many spare."""
    return GpuFloor(SpareDomain(i // 2, group, size, gpus) for i, gpus in enumerate(spare))


def queue(there: GpuFloor, *specs: dict[str, Any]) -> JobQueue:
    return JobQueue([Job(spec(**each)) for each in specs], there)


def begin(jobs: JobQueue, now_s: float = 0.0) -> list[tuple[str, int]]:
    found = []
    for job, gpus in jobs.begin(now_s):
        job.start(now_s, gpus)
        found.append((job.spec.name, gpus))
    return found


def test_a_training_job_takes_gpus_rack_by_rack() -> None:
    there = floor(4, 8, 0, 8)
    there.take(spec(name="a"), 14)
    assert there.racks("a") == [(0, 12), (1, 2)]
    assert there.room(spec()) == 6
    assert there.room(spec(), beside="a") == 20
    there.give_back("a")
    assert there.room(spec()) == 20


def test_an_instance_stays_inside_a_domain() -> None:
    there = floor(4, 8, 7, 8)
    eights = spec(name="a", unit_gpus=8)
    assert there.room(eights) == 16
    there.take(eights, 16)
    assert there.racks("a") == [(0, 8), (1, 8)]
    assert floor(4, 8, 8, 8).room(spec(unit_gpus=16)) == 16  # of three whole domains two
    assert floor(4, 7).room(spec(unit_gpus=16)) == 0


def test_only_racks_that_it_names() -> None:
    assert floor(8, 8, group="other").room(spec()) == 0


def test_what_is_not_there_cannot_be_taken() -> None:
    with pytest.raises(SimulationError, match="1 of them are not there"):
        floor(8).take(spec(), 9)


def test_by_priority_and_who_does_not_fit_holds_nobody_back() -> None:
    jobs = queue(
        floor(8, 8),
        {"name": "low"},
        {"name": "big", "min_gpus": 17, "max_gpus": 17, "priority": 5},
        {"name": "late", "arrival_s": 10.0, "priority": 9},
        {"name": "high", "priority": 2},
    )
    assert begin(jobs) == [("high", 8), ("low", 8)]
    assert begin(jobs, 10.0) == []


def test_an_elastic_job_makes_room_for_its_equals_at_a_checkpoint() -> None:
    elastic = {"name": "elastic", "max_gpus": 16, "priority": 1}
    jobs = queue(floor(8, 8), elastic, {"name": "equal", "priority": 1, "arrival_s": 5.0})
    assert begin(jobs) == [("elastic", 16)]
    job = jobs.jobs[0]
    assert jobs.size(job, 4.0) == 16
    assert jobs.size(job, 5.0) == 8
    lower = queue(floor(8, 8), elastic, {"name": "lower", "arrival_s": 5.0})
    begin(lower)
    assert lower.size(lower.jobs[0], 5.0) == 16
    too_big = queue(floor(8, 8), elastic, {"name": "big", "priority": 1, "min_gpus": 12, "max_gpus": 12})
    assert begin(too_big) == [("elastic", 16)]
    assert too_big.size(too_big.jobs[0], 5.0) == 16  # 8 would not do for it


def test_held_nobody_begins_but_who_was_resumed() -> None:
    jobs = queue(floor(8, 8), {"name": "a"}, {"name": "b"})
    jobs.held = True
    assert begin(jobs) == []
    jobs.resumed.add("b")
    assert begin(jobs) == [("b", 8)]


@given(
    spare=st.lists(st.integers(0, 8), min_size=1, max_size=10),
    asks=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30), st.sampled_from([1, 2, 4, 8, 16])), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_no_gpu_is_given_twice(spare: list[int], asks: list[tuple[int, int, int]]) -> None:
    there = floor(*spare)
    held: dict[str, int] = {}
    for number, (keep, least, unit) in enumerate(asks):
        name = f"j{number}"
        made = spec(name=name, unit_gpus=unit)
        gpus = min(there.room(made), -(-least // unit) * unit)
        if gpus:
            there.take(made, gpus)
            held[name] = gpus
            assert sum(count for _, count in there.racks(name)) == gpus
        if keep == 1 and held:
            there.give_back(gone := next(iter(held)))
            del held[gone]
        assert there.room(spec()) + sum(held.values()) == sum(spare) == there.spare
