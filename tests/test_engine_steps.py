"""When a plant steps: every multiple of the intervals and every boundary of the grid, in order, to the horizon."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.engine.plant_process import StepTime, step_times

NANO = 1e-9


def test_by_hand() -> None:
    assert list(step_times(5.0, 2.0, 4.0, 1.0, [2.5, 4.0])) == [
        StepTime(1.0, False, False, True),
        StepTime(2.0, True, False, True),
        StepTime(2.5, True, False, False),  # a boundary is recorded, nobody acts
        StepTime(3.0, False, False, True),
        StepTime(4.0, True, True, True),
        StepTime(5.0, True, True, False),  # the horizon: recorded, nothing left to act for
    ]


def test_times_that_differ_by_rounding_are_one_and_boundaries_keep_their_own() -> None:
    # 3 x 0.1 and 0.1 + 0.2 are 0.30000000000000004, 0.3 is not.
    steps = list(step_times(1.0, 0.1, 0.5, 0.3, [0.1 + 0.2]))
    assert [round(s.time_s, 9) for s in steps] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert steps[2] == StepTime(0.1 + 0.2, True, False, True)
    # Whoever asks after this step whether an event has ended that ends at the boundary must hear yes.
    (first, _) = step_times(0.5, 0.3, 1.0, 1.0, [0.1 + 0.2])
    assert first.time_s == 0.1 + 0.2


def test_boundaries_outside_the_run_do_not_count() -> None:
    times = [s.time_s for s in step_times(2.0, 1.0, 1.0, 1.0, [0.0, 2.0, 3.0, 2.0 - 1e-10])]
    assert times == [1.0, 2.0]


def test_intervals_longer_than_the_run() -> None:
    assert list(step_times(2.0, 10.0, 10.0, 10.0, [])) == [StepTime(2.0, True, True, False)]


def test_multiples_do_not_drift() -> None:
    times = [s.time_s for s in step_times(3_600.0, 0.1, 3_600.0, 3_600.0, [])]
    assert len(times) == 36_000
    assert all(t == n * 0.1 for n, t in enumerate(times[:-1], 1))


_INTERVALS = st.sampled_from([0.1, 0.25, 0.3, 0.7, 1.0, 1.1, 2.0, 3.3, 10.0])
_BOUNDARIES = st.lists(
    st.one_of(
        st.floats(0.0, 25.0),
        st.tuples(_INTERVALS, st.integers(1, 40)).map(lambda p: p[0] * p[1]),
        st.tuples(_INTERVALS, st.integers(1, 40)).map(lambda p: sum([p[0]] * p[1])),  # with the rounding of a running sum
        st.tuples(_INTERVALS, st.integers(1, 20), st.floats(-2e-9, 2e-9)).map(lambda p: p[0] * p[1] + p[2]),
    ).filter(lambda t: t >= 0.0),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(horizon_s=st.floats(0.5, 20.0), record_s=_INTERVALS, workers_s=_INTERVALS, control_s=_INTERVALS, boundaries=_BOUNDARIES)
def test_every_time_that_is_due_is_there_once(
    horizon_s: float, record_s: float, workers_s: float, control_s: float, boundaries: list[float]
) -> None:
    steps = list(step_times(horizon_s, record_s, workers_s, control_s, boundaries))
    times = [s.time_s for s in steps]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[0] > 0.0
    assert times[-1] == horizon_s
    assert (steps[-1].record, steps[-1].record_workers) == (True, True)

    inside = [t for t in boundaries if NANO < t < horizon_s - NANO]
    for flag, interval in ((1, record_s), (2, workers_s), (3, control_s)):
        due = [n * interval for n in range(1, int(horizon_s / interval) + 1) if n * interval < horizon_s - NANO]
        flagged = [s.time_s for s in steps[:-1] if s[flag]]
        for time_s in due:
            assert any(abs(time_s - t) <= 3 * NANO for t in flagged)
        others = [t for t in flagged if not any(abs(t - d) <= 3 * NANO for d in due)]
        # Only records have other reasons: a boundary.
        assert all(flag == 1 and any(abs(t - b) <= 3 * NANO for b in inside) for t in others)
    for boundary in inside:
        at = next(s for s in steps if s.time_s >= boundary)  # never before it, so that it is over when the next step begins
        assert at.time_s - boundary <= 15 * NANO
        assert at.record


@pytest.mark.parametrize("count", [1, 2, 3])
def test_boundaries_a_nanosecond_apart_do_not_step_backwards(count: int) -> None:
    boundaries = [1.0 + n * 0.9e-9 for n in range(-count, count + 1)]
    times = [s.time_s for s in step_times(2.0, 1.0, 0.5, 0.25, boundaries)]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert all(any(t >= b and t - b < 1e-8 for t in times) for b in boundaries)
