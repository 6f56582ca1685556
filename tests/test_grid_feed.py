"""Load targets on a feed: levels on the ramp, what is in force when, and what a step is judged by."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError
from twin.grid import FeedSchedule, LoadTargetEvent

#: 1 MW falls to 800 kW over 100 s from t = 600 s on, announced at 300 s, lifted at 1000 s.
BACK = LoadTargetEvent("back", 300.0, 600.0, 700.0, 1000.0, 800e3, True)
FEED = FeedSchedule(1e6, (BACK,))


@pytest.mark.parametrize(
    ("time_s", "limit_w"),
    [
        (0.0, 1e6),
        (599.999, 1e6),
        (600.0, 1e6),  # the ramp begins at the contract
        (625.0, 950e3),
        (650.0, 900e3),
        (675.0, 850e3),
        (700.0, 800e3),
        (999.999, 800e3),
        (1000.0, 1e6),  # lifted
    ],
)
def test_limit_falls_linearly_holds_and_is_lifted(time_s: float, limit_w: float) -> None:
    assert FEED.limit_w(time_s) == pytest.approx(limit_w, rel=1e-12)


@pytest.mark.parametrize(
    ("from_s", "to_s", "target_w"),
    [
        (598.0, 600.0, None),  # an event that begins at the end of a step is the next step's
        (600.0, 610.0, 980e3),  # the level at the end of the step is the lower one
        (650.0, 700.0, 800e3),
        (700.0, 710.0, 800e3),
        (990.0, 1000.0, 800e3),  # to the very end
        (1000.0, 1010.0, None),
    ],
)
def test_a_step_on_the_ramp_is_judged_by_its_lower_end(from_s: float, to_s: float, target_w: float | None) -> None:
    assert FEED.target_w(from_s, to_s) == (None if target_w is None else pytest.approx(target_w, rel=1e-12))


def test_what_is_known() -> None:
    assert FEED.announced(299.9) == ()
    assert FEED.announced(300.0) == (BACK,)
    assert FEED.announced(999.9) == (BACK,)
    assert FEED.announced(1000.0) == ()
    assert FEED.boundaries_s() == [300.0, 600.0, 700.0, 1000.0]


def test_without_a_ramp_the_level_drops_at_once() -> None:
    feed = FeedSchedule(50e3, (LoadTargetEvent("now", 0.0, 10.0, 10.0, 20.0, 40e3, False),))
    assert [feed.limit_w(t) for t in (9.999, 10.0, 19.999, 20.0)] == [50e3, 40e3, 40e3, 50e3]
    assert feed.boundaries_s() == [0.0, 10.0, 20.0]


def test_an_event_that_is_all_ramp_reaches_its_target_as_it_ends() -> None:
    feed = FeedSchedule(100.0, (LoadTargetEvent("slope", 0.0, 10.0, 20.0, 20.0, 50.0, True),))
    assert feed.limit_w(15.0) == 75.0
    assert feed.target_w(18.0, 20.0) == 50.0
    assert feed.limit_w(20.0) == 100.0


def test_the_lowest_counts_where_events_overlap() -> None:
    deep = LoadTargetEvent("deep", 0.0, 800.0, 800.0, 1200.0, 700e3, True)
    feed = FeedSchedule(1e6, (deep, BACK))
    assert feed.events == (BACK, deep)  # in order of their start, whatever order they came in
    assert [feed.limit_w(t) for t in (750.0, 800.0, 999.0, 1000.0, 1199.0, 1200.0)] == [800e3, 700e3, 700e3, 700e3, 700e3, 1e6]
    # On one's ramp the other's level may be the lower: at 625 s 950 kW against a shallow 920 kW.
    shallow = LoadTargetEvent("shallow", 0.0, 620.0, 620.0, 900.0, 920e3, True)
    both = FeedSchedule(1e6, (BACK, shallow))
    assert both.limit_w(625.0) == 920e3
    assert both.limit_w(690.0) == pytest.approx(820e3)
    assert both.target_w(620.0, 630.0) == 920e3
    assert both.target_w(630.0, 690.0) == pytest.approx(820e3)


def test_events_that_touch_hand_over_without_a_gap() -> None:
    first = LoadTargetEvent("first", 0.0, 10.0, 10.0, 20.0, 80.0, True)
    second = LoadTargetEvent("second", 0.0, 20.0, 20.0, 30.0, 60.0, True)
    feed = FeedSchedule(100.0, (second, first))
    assert feed.limit_w(20.0) == second.target_w
    assert [feed.target_w(10.0, 20.0), feed.target_w(20.0, 30.0), feed.target_w(30.0, 40.0)] == [80.0, 60.0, None]


@pytest.mark.parametrize(("start_s", "ramp_end_s", "end_s"), [(10.0, 10.0, 10.0), (10.0, 9.0, 20.0), (10.0, 21.0, 20.0)])
def test_times_out_of_order_are_refused(start_s: float, ramp_end_s: float, end_s: float) -> None:
    with pytest.raises(InputError, match="event odd"):
        LoadTargetEvent("odd", 0.0, start_s, ramp_end_s, end_s, 1.0, True)


@st.composite
def _events(draw: st.DrawFn) -> tuple[LoadTargetEvent, ...]:
    found = []
    for number in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, 100))
        ramp = draw(st.integers(0, 30))
        hold = draw(st.integers(0 if ramp else 1, 50))
        target = draw(st.floats(1.0, 100.0))
        found.append(LoadTargetEvent(f"e{number}", 0.0, start, start + ramp, start + ramp + hold, target, True))
    return tuple(found)


@settings(max_examples=100, deadline=None)
@given(events=_events(), cuts=st.lists(st.floats(0.0, 200.0), max_size=8))
def test_no_instant_of_a_step_has_a_lower_level_than_the_step_is_judged_by(
    events: tuple[LoadTargetEvent, ...], cuts: list[float]
) -> None:
    feed = FeedSchedule(100.0, events)
    times = sorted({0.0, 200.0, *feed.boundaries_s(), *cuts})
    for from_s, to_s in itertools.pairwise(times):
        target_w = feed.target_w(from_s, to_s)
        assert (target_w is None) == (not any(e.start_s <= from_s < e.end_s for e in events))
        levels = [feed.limit_w(from_s + share * (to_s - from_s)) for share in (0.0, 0.3, 0.999)]
        assert all(level <= 100.0 for level in levels)
        if target_w is not None:
            assert target_w <= min(levels) * (1 + 1e-9)
