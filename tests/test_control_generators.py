"""The ladder's generators: last before cuts, started in time, asked for no more than is missing, stopped afterwards."""

from __future__ import annotations

from dataclasses import replace

from control_cases import EVENT, SETTINGS, seen

from twin.control import GeneratorState, Observation, SetClock, StartGenerators, StopGenerators
from twin.control.ladder import Ladder

SETS = GeneratorState(4_000.0, 50.0, 0.0)
HELD = seen(tiers=())


def at(time_s: float, **changes: object) -> Observation:
    return replace(HELD, time_s=time_s, **changes)  # type: ignore[arg-type]


def test_they_start_in_time_for_an_announced_event_that_needs_them() -> None:
    ladder = Ladder(SETTINGS)
    low = replace(EVENT, target_w=1_000.0)
    assert not [c for c in ladder.decide(at(100.0, announced=(low,), generators=SETS)) if isinstance(c, StartGenerators)]
    (order,) = [c for c in ladder.decide(at(110.0, announced=(low,), generators=SETS)) if isinstance(c, StartGenerators)]
    assert 0 < order.power_w <= 4_000.0
    assert not [c for c in ladder.decide(at(111.0, announced=(low,), generators=SETS)) if isinstance(c, StartGenerators)]
    assert [c for c in ladder.decide(at(500.0, generators=SETS)) if isinstance(c, StopGenerators)]
    assert not [c for c in ladder.decide(at(501.0, generators=SETS)) if isinstance(c, StopGenerators)]


def test_they_stay_off_where_slowing_down_is_enough() -> None:
    orders = Ladder(SETTINGS).decide(at(150.0, announced=(EVENT,), limit_w=8_000.0, limit_ahead_w=8_000.0, generators=SETS))
    assert [c for c in orders if isinstance(c, SetClock)]
    assert not [c for c in orders if isinstance(c, StartGenerators)]


def test_what_they_give_is_room_for_the_load() -> None:
    low = replace(EVENT, target_w=6_000.0, mandatory=False)
    given = replace(SETS, generator_w=3_500.0)
    # 5.5 kW at the meter and 3.5 from the generators: within the limit, so no clock moves
    orders = Ladder(SETTINGS).decide(
        at(200.0, utility_w=5_500.0, announced=(low,), limit_w=6_000.0, limit_ahead_w=6_000.0, generators=given)
    )
    assert not [c for c in orders if isinstance(c, SetClock)]
    assert at(200.0, utility_w=5_500.0, generators=given).load_w == 9_000.0


def test_a_site_without_them_decides_as_before() -> None:
    with_none, low = Ladder(SETTINGS), replace(EVENT, target_w=1_000.0)
    orders = with_none.decide(at(200.0, announced=(low,), limit_w=1_000.0, limit_ahead_w=1_000.0))
    assert not [c for c in orders if isinstance(c, StartGenerators | StopGenerators)]
