"""A job that can wait: hand arithmetic, the walk over its steps, and what never gets lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_cases import SPEC, STEP, spec, started
from reference_job import walk

from twin.errors import SimulationError
from twin.serving import CheckpointRule, Job, JobSpec


def test_a_jump_to_the_checkpoint_costs_two_events() -> None:
    job = started()
    changes = []
    while job.next_change_s < 400.0:
        changes.append(job.next_change_s)
        job.advance(job.next_change_s)
    # up at 20 s; ten steps of 10 s, a checkpoint of 4 s, and again
    assert changes == [20.0, 120.0, 124.0, 224.0, 228.0, 328.0, 332.0]
    assert job.outbox == [("saved", 10), ("saved", 20), ("saved", 30)]


def test_energy_and_gpu_seconds_add_up() -> None:
    job = started()
    job.advance(130.0)
    # 20 s and 4 s at 150 W, 100 s and the 6 s under way at 600 W, on 8 GPUs
    assert job.progress(130.0).memory_j == pytest.approx(8 * 106 * 100)
    assert job.progress(130.0)[:2] == pytest.approx((8 * (24 * 150 + 106 * 600), 8 * 130.0))
    assert job.gpu_time(130.0) == pytest.approx((800.0, 0.0, 48.0, 32.0, 160.0))
    assert job.steps(130.0) == (10, 10, 0, 0)
    assert job.steps(135.0) == (11, 10, 0, 1)


def test_more_gpus_scale_the_step_and_not_the_watts() -> None:
    assert STEP.step_s(1.0, 16) == 5.0
    assert replace(STEP, scaling=0.5).step_s(1.0, 32) == 5.0  # a quarter to the power of a half
    assert STEP.watts(1.0) == 600.0
    # At half the clock 10 s + 5 s; (100 + 200/8) 15 + 400/8/0.5 x 5 + 200 x 5 joules.
    assert STEP.step_s(0.5, 8) == 15.0
    assert STEP.watts(0.5) == pytest.approx((125 * 15 + 100 * 5 + 1000) / 15)


def test_a_clock_acts_at_once() -> None:
    """The second step, 30 s to 40 s, is 0.3 done: its other 0.7 takes 10.5 s at 15 s a step."""
    job = started()
    job.advance(20.0)
    job.set_power(33.0, clock_lock=0.5)
    assert (job.clock, job.steps_done, job.next_change_s) == (0.5, 1, pytest.approx(43.5 + 8 * 15.0))
    assert job.steps(43.4).done == 1
    assert job.steps(43.6).done == 2
    half_j = 8 * STEP.watts(0.5) * 7.0
    assert job.progress(40.0).energy_j == pytest.approx(8 * (20 * 150 + 13 * 600) + half_j)
    job.set_power(40.0, clock_lock=1.0)  # 0.3 + 7 / 15 are done
    assert job.next_change_s == pytest.approx(40.0 + 10.0 * (0.7 - 7 / 15) + 80.0)
    assert job.progress(41.0).energy_j == pytest.approx(8 * (20 * 150 + 14 * 600) + half_j)


def test_a_clock_at_the_end_of_a_step_changes_the_next_one() -> None:
    job = started()
    job.advance(20.0)
    job.set_power(40.0, clock_lock=0.5)
    assert (job.steps_done, job.next_change_s) == (2, 40.0 + 8 * 15.0)


def test_a_cap_that_binds_nobody_changes_nothing() -> None:
    job = started()
    job.advance(20.0)
    job.set_power(33.0, cap_w=700.0)
    assert (job.steps_done, job.next_change_s) == (0, 120.0)


def test_a_cap_finds_the_clock_that_keeps_it() -> None:
    job = started()
    job.set_power(0.0, cap_w=400.0)
    job.advance(20.0)
    assert 0.2 < job.clock < 1.0
    assert STEP.watts(job.clock) == pytest.approx(400.0)


def test_a_pause_waits_for_the_checkpoint_if_that_is_in_time() -> None:
    job = started()
    job.advance(20.0)
    job.pause(33.0, by_s=130.0)  # the checkpoint at 120 s is done at 124 s
    job.advance(200.0)
    assert job.status == "paused"
    assert job.outbox == [("saved", 10), ("paused", 0)]
    assert job.progress(200.0).held_gpu_s == 8 * 124.0


def test_else_it_saves_at_the_end_of_the_step() -> None:
    job = started()
    job.advance(20.0)
    job.pause(33.0, by_s=44.0)  # the step ends at 40 s, and it is saved at 44 s
    job.advance(200.0)
    assert job.outbox == [("saved", 2), ("paused", 0)]
    assert job.progress(200.0).held_gpu_s == 8 * 44.0
    assert job.steps(200.0) == (2, 2, 0, 0)


def test_else_it_is_stopped_and_what_was_not_saved_is_lost() -> None:
    job = started()
    job.advance(20.0)
    job.pause(33.0, by_s=43.9)
    assert job.status == "paused"
    assert job.outbox == [("stopped", 1)]
    assert job.steps(33.0) == (1, 0, 1, 0)
    assert job.gpu_time(33.0) == pytest.approx((0.0, 8 * 13.0, 0.0, 0.0, 160.0))


def test_it_resumes_from_its_checkpoint() -> None:
    job = started()
    job.advance(160.0)
    job.pause(160.0, by_s=160.0)
    assert job.steps(160.0) == (13, 10, 3, 0)
    job.resume()
    job.start(500.0, 8)
    job.advance(624.0)
    assert job.steps(624.0) == (23, 20, 3, 0)
    assert job.start_s == 0.0


def test_a_checkpoint_that_comes_too_late_is_given_up() -> None:
    job = started()
    job.advance(121.0)
    assert job.status == "saving"
    job.pause(121.0, by_s=123.0)
    assert job.outbox == [("stopped", 10)]


def test_a_slower_clock_that_spoils_the_plan_makes_it_save_earlier() -> None:
    job = started()
    job.advance(20.0)
    job.pause(33.0, by_s=125.0)
    job.advance(41.0)
    job.set_power(41.0, clock_lock=0.5)
    # The step from 40 s on ends at 41 + 0.9 x 15 s: the regular checkpoint would be done at 54.5 + 7 x 15 + 4 s.
    job.advance(300.0)
    assert job.outbox == [("saved", 3), ("paused", 0)]
    assert job.progress(300.0).held_gpu_s == pytest.approx(8 * 58.5)


def test_a_slower_clock_that_spoils_the_step_under_way_loses_no_more_than_that() -> None:
    job = started()
    job.advance(20.0)
    job.pause(33.0, by_s=44.0)
    job.set_power(35.0, clock_lock=0.5)  # half of it is left: it would end at 42.5 s and be saved at 46.5 s
    job.advance(200.0)
    assert job.outbox == [("saved", 1), ("paused", 0)]
    assert job.steps(200.0) == (1, 1, 0, 0)
    assert job.gpu_time(200.0) == pytest.approx((80.0, 40.0, 0.0, 32.0, 160.0))
    first = started()
    first.advance(20.0)
    first.pause(23.0, by_s=34.0)
    first.set_power(25.0, clock_lock=0.5)
    assert first.outbox == [("stopped", 0)]
    assert first.gpu_time(25.0) == pytest.approx((0.0, 40.0, 0.0, 0.0, 160.0))


def test_a_pause_before_the_first_step_loses_nothing() -> None:
    job = started()
    job.pause(7.0, by_s=7.0)
    assert job.outbox == [("paused", 0)]
    assert job.gpu_time(7.0).starting_s == 56.0


def test_the_end_is_saved_too() -> None:
    job = started(steps=15)
    job.advance(1000.0)
    assert (job.status, job.finish_s, job.checkpoints) == ("done", 20.0 + 100 + 4 + 50 + 4, 2)


def test_without_a_number_of_steps_it_saves_what_it_can_before_its_deadline() -> None:
    job = started(steps=None, deadline_s=190.0)
    job.advance(1000.0)
    # After 124 s six steps end at 184 s and are saved at 188 s.
    assert (job.status, job.finish_s, job.steps_kept) == ("done", 188.0, 16)


def test_a_deadline_stops_what_is_left() -> None:
    job = started(steps=None, deadline_s=190.0)
    job.advance(151.0)
    job.set_power(151.0, clock_lock=0.5)  # 0.3 x 15 s + two steps of 15 s + 4 s: one more would end too late
    job.advance(1000.0)
    assert (job.finish_s, job.steps_kept) == (pytest.approx(151 + 4.5 + 30 + 4), 15)
    slow = started(steps=None, deadline_s=190.0)
    slow.advance(177.0)
    slow.set_power(177.0, clock_lock=0.25)  # 0.7 x 25 s are left, which is too late: five steps are saved without it
    slow.advance(1000.0)
    assert (slow.finish_s, slow.steps_kept, slow.steps_lost) == (181.0, 15, 0)
    assert slow.gpu_time(181.0).lost_s == pytest.approx(8 * 3.0)
    to_the_second = started(steps=None, deadline_s=188.0)
    to_the_second.advance(187.0)
    to_the_second.expire(188.0)
    assert (to_the_second.steps_kept, to_the_second.steps_lost, to_the_second.finish_s) == (16, 0, 188.0)
    late = started(steps=None, deadline_s=190.0)
    late.advance(186.0)
    late.expire(186.0)
    assert (late.status, late.steps_kept, late.steps_lost) == ("done", 10, 6)


def test_a_checkpoint_by_time_falls_on_the_end_of_a_step() -> None:
    job = started(checkpoint=CheckpointRule(4.0, every_s=35.0))
    job.advance(200.0)
    # up at 20 s: 35 s later is in the fourth step, which ends at 60 s
    assert [steps for _, steps in job.outbox] == [4, 8, 12, 16]


def test_a_faster_clock_ends_the_step_in_which_a_checkpoint_falls_due() -> None:
    job = started(checkpoint=CheckpointRule(4.0, every_s=33.0))
    job.set_power(0.0, clock_lock=0.5)
    job.advance(62.0)  # due at 53 s, in the step from 50 s to 65 s, of which a fifth is left
    job.set_power(62.0, clock_lock=1.0)
    assert job.next_change_s == pytest.approx(64.0)
    job.advance(68.5)
    assert job.outbox == [("saved", 3)]


def test_steps_that_save_themselves_are_never_lost() -> None:
    job = started(checkpoint=None)
    job.advance(20.0)
    job.pause(47.0, by_s=47.0)
    assert job.steps(47.0) == (2, 2, 0, 0)
    assert job.gpu_time(47.0) == pytest.approx((160.0, 56.0, 0.0, 0.0, 160.0))
    slower = started(checkpoint=None)
    slower.advance(20.0)
    slower.set_power(33.0, clock_lock=0.5)  # the second step ends at 43.5 s
    assert slower.gpu_time(43.0) == pytest.approx((80.0, 0.0, 8 * 13.0, 0.0, 160.0))
    assert slower.gpu_time(47.0) == pytest.approx((8 * 23.5, 0.0, 8 * 3.5, 0.0, 160.0))
    slower.pause(47.0, by_s=47.0)
    assert slower.gpu_time(47.0) == pytest.approx((8 * 23.5, 8 * 3.5, 0.0, 0.0, 160.0))
    gentle = started(checkpoint=None)
    gentle.advance(20.0)
    gentle.pause(47.0, by_s=50.0)
    gentle.advance(60.0)
    assert gentle.outbox == [("paused", 0)]
    assert gentle.progress(60.0).held_gpu_s == 400.0


def test_a_size_changes_at_a_checkpoint_alone() -> None:
    job = started(max_gpus=16)
    job.advance(124.0)
    job.resize(124.0, 16)
    job.advance(144.0)
    assert job.next_change_s == 144.0 + 10 * 5.0
    with pytest.raises(SimulationError, match="no checkpoint"):
        job.resize(150.0, 8)


RULES = st.one_of(
    st.builds(lambda n: CheckpointRule(7.0, steps=n), st.integers(1, 30)),
    st.builds(lambda t: CheckpointRule(7.0, every_s=t), st.floats(1.0, 400.0)),
)


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[float, float, float]]:
    """Pauses: called, due, resumed."""
    found, time_s = [], 0.0
    for _ in range(draw(st.integers(0, 4))):
        called_s = time_s + draw(st.floats(0.5, 700.0))
        due_s = called_s + draw(st.floats(0.0, 300.0))
        time_s = due_s + draw(st.floats(0.5, 100.0))
        found.append((called_s, due_s, time_s))
    return found


@given(
    rule=RULES,
    share=st.floats(0.05, 1.0),
    step_s=st.floats(0.5, 30.0),
    steps=st.integers(1, 200),
    pauses=calls(),
    clocks=st.lists(st.tuples(st.floats(0.0, 2000.0), st.floats(0.3, 1.0)), max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_the_jump_agrees_with_the_walk(
    rule: CheckpointRule,
    share: float,
    step_s: float,
    steps: int,
    pauses: list[tuple[float, float, float]],
    clocks: list[tuple[float, float]],
) -> None:
    compute_s, rest_s = share * step_s, (1 - share) * step_s
    parts = {"gemm_compute_s": compute_s, "overhead_s": rest_s, "compute_busy_s": compute_s, "memory_busy_s": rest_s}
    made = spec(checkpoint=rule, steps=steps, step=replace(STEP, **parts))
    clocks.sort()
    job, found = played(made, pauses, clocks, 3000.0)
    walked = walk(made, 8, pauses, clocks, 3000.0)
    assert found["saved"] == pytest.approx(walked.checkpoints_s, abs=1e-9)
    assert found["given_back"] == pytest.approx(walked.given_back_s, abs=1e-9)
    assert (job.finish_s is None) == (walked.finish_s is None)
    assert job.steps(3000.0)[:3] == (walked.done, walked.kept, walked.lost)
    assert job.progress(3000.0).energy_j == pytest.approx(walked.energy_j, rel=1e-9)


def played(
    made: JobSpec, pauses: list[tuple[float, float, float]], clocks: list[tuple[float, float]], horizon_s: float
) -> tuple[Job, dict[str, list[float]]]:
    """A job under the plan, change by change, with the times of its reports."""
    job = Job(made)
    job.start(0.0, 8)
    found: dict[str, list[float]] = {"saved": [], "given_back": []}
    plan: list[tuple[float, str, Any]] = [(at_s, "clock", clock) for at_s, clock in clocks]
    for called_s, due_s, resumed_s in pauses:
        plan += [(called_s, "pause", due_s), (resumed_s, "resume", None)]
    for at_s, verb, value in sorted(plan, key=lambda item: item[0]):
        if at_s < horizon_s:
            _play(job, at_s, found)
            if verb == "clock":
                job.set_power(at_s, clock_lock=value)
            elif verb == "pause" and job.holds_gpus:
                job.pause(at_s, value)
            elif verb == "resume" and job.status == "paused":
                job.resume()
                job.start(at_s, 8)
            _note(job, at_s, found)
    _play(job, horizon_s, found)
    return job, found


def _play(job: Job, to_s: float, found: dict[str, list[float]]) -> None:
    while (at_s := job.next_change_s) <= to_s:
        job.advance(at_s)
        _note(job, at_s, found)


def _note(job: Job, at_s: float, found: dict[str, list[float]]) -> None:
    for what, _ in job.outbox:
        if what != "done":
            found["saved" if what == "saved" else "given_back"].append(at_s)
    job.outbox.clear()


VERBS = st.lists(
    st.tuples(st.floats(0.1, 200.0), st.sampled_from(["pause", "resume", "clock", "cap", "size"]), st.floats(0.0, 1.0)),
    max_size=40,
)


@given(verbs=VERBS, elastic=st.booleans(), saves=st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_is_asked_nothing_gets_lost_unseen(verbs: list[tuple[float, str, float]], elastic: bool, saves: bool) -> None:
    """Random pauses, resumptions, clocks, caps and sizes: steps, GPU-seconds and energy are conserved, progress never goes back
    behind a checkpoint."""
    job = started(max_gpus=32 if elastic else 8, checkpoint=SPEC.checkpoint if saves else None, steps=100_000)
    now_s, kept, drawn_j = 0.0, 0, 0.0
    for gap_s, verb, share in verbs:
        to_s = now_s + gap_s
        while now_s < to_s:
            until_s = min(job.next_change_s, to_s)
            before_j, gpus, status = job.progress(now_s).energy_j, job.gpus, job.status
            span_j = job.progress(until_s).energy_j - before_j
            watts = {"stepping": STEP.watts(job.clock), "starting": 150.0, "saving": 150.0}.get(status, 0.0)
            assert span_j == pytest.approx(gpus * watts * (until_s - now_s), rel=1e-6, abs=1e-3)
            drawn_j += span_j
            now_s = until_s
            job.advance(now_s)
            if elastic and verb == "size" and job.status == "stepping" and ("saved", job.steps_kept) in job.outbox:
                job.resize(now_s, 8 + int(share * 24))
            job.outbox.clear()
            assert job.steps_kept >= kept
            kept = job.steps_kept
        if verb == "pause" and job.status != "done":
            job.pause(now_s, now_s + share * 150.0)
        elif verb == "resume" and job.status == "paused":
            job.resume()
            job.start(now_s, 8)
        elif verb == "clock":
            job.set_power(now_s, clock_lock=share)
        elif verb == "cap":
            job.set_power(now_s, cap_w=200.0 + 800.0 * share)
            assert job.status != "stepping" or STEP.watts(job.clock) <= max(200.0 + 800.0 * share, STEP.watts(0.2)) + 1e-6
        elif verb == "size":
            job.tell(now_s)
        steps, held_s = job.steps(now_s), job.progress(now_s).held_gpu_s
        assert steps.done == steps.kept + steps.lost + steps.open
        assert steps.kept >= kept
        assert sum(job.gpu_time(now_s)) == pytest.approx(held_s, rel=1e-9)
        assert all(part >= -1e-9 for part in job.gpu_time(now_s))
        assert job.progress(now_s).energy_j == pytest.approx(drawn_j, rel=1e-9, abs=1e-6)
