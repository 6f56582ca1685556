"""The ladder's rung of jobs: who is paused, when, and how they come back; and the cap that jobs share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from control_cases import EVENT, SETTINGS, battery, in_event, pool, seen

from twin.control import HoldJobs, JobState, Ladder, PauseJob, ReleaseJobs, ResumeJob, SetCap, SetClock, UniformCap

#: Ten GPUs that take 500 W each above idle and no CPU beside them: 5 kW of IT, 6 kW at the meter of `seen`.
JOB = JobState("a", "training", 0, "stepping", False, 10, 6_000.0, 5_000.0, 600.0, 100.0, 700.0, 200.0, 0.0, 20.0, 60.0)


def job(name: str, **changes: Any) -> JobState:
    return replace(JOB, name=name, **changes)


def decide(ladder: Ladder, *observed: Any) -> list[Any]:
    return [command for each in observed for command in ladder.decide(each)]


def of(kind: type, commands: list[Any]) -> list[Any]:
    return [command for command in commands if isinstance(command, kind)]


#: 20 kW at the meter with jobs, of a contract of 20: 12 of them are two jobs'.
BUSY = {"contract_w": 20_000.0, "limit_w": 20_000.0, "limit_ahead_w": 20_000.0, "utility_w": 19_000.0, "it_w": 19_000.0 / 1.2}
DIP = replace(EVENT, target_w=14_000.0)


def test_jobs_are_called_as_late_as_they_can_save() -> None:
    ladder = Ladder(SETTINGS)
    commands = {t: ladder.decide(seen(float(t), **BUSY, announced=(DIP,), jobs=(job("a"),))) for t in range(60, 110)}
    calls = [(t, c) for t, found in commands.items() for c in of(PauseJob, found)]
    # The level less 1 % falls from 19,800 at 100 s to 13,860 at 160 s: it meets 19,000 at 108.1 s. Saving takes 20 s and the call
    # comes two control steps before.
    (called_s, call), *_ = calls
    assert (called_s, call.job, call.by_s) == (87, "a", pytest.approx(100 + 60 * 800 / 5_940))
    assert not [c for found in commands.values() for c in of(SetClock, found)]


def test_the_least_important_first_and_no_more_than_needed() -> None:
    jobs = (job("high", priority=2), job("low"), job("last"))
    found = decide(Ladder(SETTINGS), in_event(200.0, **{**BUSY, "limit_w": 14_000.0, "limit_ahead_w": 14_000.0}, jobs=jobs))
    # 5,140 W too many: one pause saves 6,000; of equals the last of the list goes.
    assert [c.job for c in of(PauseJob, found)] == ["last"]
    assert not of(SetClock, found)
    small = (job("big"), job("small", gpus=2, extra_w=1_000.0, priority=-1))
    found = decide(Ladder(SETTINGS), in_event(200.0, **{**BUSY, "limit_w": 14_000.0, "limit_ahead_w": 14_000.0}, jobs=small))
    assert [c.job for c in of(PauseJob, found)] == ["big"]  # the small one would not do, and with the big one is not needed


def test_what_jobs_cannot_give_the_clocks_do() -> None:
    found = decide(
        Ladder(SETTINGS), in_event(200.0, **{**BUSY, "limit_w": 10_000.0, "limit_ahead_w": 10_000.0}, jobs=(job("a"),))
    )
    assert of(PauseJob, found)
    assert of(SetClock, found)


def test_a_job_that_saves_for_a_moment_is_no_room() -> None:
    ladder = Ladder(SETTINGS)
    saving = {**BUSY, "utility_w": 13_000.0, "it_w": 13_000.0 / 1.2}
    jobs = (job("a", status="saving", gpu_w=1_000.0, extra_w=0.0),)
    level = {"limit_w": 14_000.0, "limit_ahead_w": 14_000.0}
    found = decide(ladder, in_event(200.0, **{**saving, **level}, jobs=jobs))
    assert of(PauseJob, found)


@pytest.mark.parametrize(
    ("there", "by_s"), [(None, 200.0), (battery(discharge_max_w=8_000.0), 221.0), (battery(discharge_max_w=1_000.0), 200.0)]
)
def test_jobs_get_the_time_to_save_where_the_battery_bridges_it(there: Any, by_s: float) -> None:
    level = {"limit_w": 14_000.0, "limit_ahead_w": 14_000.0}
    found = decide(Ladder(SETTINGS), in_event(200.0, **{**BUSY, **level}, jobs=(job("a"),), battery=there))
    assert [c.by_s for c in of(PauseJob, found)] == [by_s]


def test_they_come_back_one_at_a_time_within_the_ramp() -> None:
    ladder = Ladder(SETTINGS)
    level = {"limit_w": 8_000.0, "limit_ahead_w": 8_000.0}
    jobs = (job("high", priority=1), job("low"))
    found = decide(ladder, in_event(200.0, **{**BUSY, **level}, jobs=jobs))
    assert [c.job for c in of(PauseJob, found)] == ["low", "high"]
    quiet = {**BUSY, "utility_w": 7_000.0, "it_w": 7_000.0 / 1.2}
    back: list[tuple[float, str]] = []
    state = {"high": "paused", "low": "paused"}
    released_s = None
    for t in range(400, 1400, 10):
        up = tuple(
            job(name, priority=rank, status=state[name], gpu_w=0.0, extra_w=0.0) for name, rank in (("high", 1), ("low", 0))
        )
        watts = 7_000.0 + 6_000.0 * sum(status == "stepping" for status in state.values())
        there = {**quiet, "utility_w": watts, "it_w": watts / 1.2}
        up = tuple(replace(j, extra_w=5_000.0 if j.status == "stepping" else 0.0) for j in up)
        for command in ladder.decide(seen(float(t), **there, jobs=up)):
            if isinstance(command, ResumeJob):
                back.append((t, command.job))
                state[command.job] = "stepping"
            released_s = t if isinstance(command, ReleaseJobs) else released_s
    # 6 kW at 5 % of 20 kW a minute are six minutes each; clocks come back first.
    (first_s, first), (second_s, second) = back
    assert (first, second) == ("high", "low")
    assert first_s >= 760
    assert second_s - first_s == 360


def test_nobody_begins_shortly_before_a_target() -> None:
    ladder = Ladder(SETTINGS)
    waiting = (job("a", status="waiting", gpu_w=0.0, extra_w=0.0),)
    # The start at 100 s less twice the restart of 60 s has passed already.
    assert of(HoldJobs, decide(ladder, seen(0.0, announced=(EVENT,), jobs=waiting)))
    assert not of(HoldJobs, decide(ladder, seen(1.0, announced=(EVENT,), jobs=waiting)))
    assert of(ReleaseJobs, decide(ladder, seen(500.0, jobs=waiting)))


def test_a_uniform_cap_counts_jobs_as_a_pool() -> None:
    # 900 W of IT too many, as without jobs; 10 GPUs of chat and 10 of the job share 11,000 - 900 W.
    found = UniformCap(SETTINGS).decide(in_event(200.0, gpu_w=11_000.0, pools=(pool(gpu_w=5_000.0),), jobs=(JOB,)))
    assert all(isinstance(command, SetCap) for command in found)
    assert [(c.pool, c.cap_w) for c in found] == [("chat", pytest.approx(510.0)), ("jobs", pytest.approx(510.0))]
