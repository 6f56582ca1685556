"""The ladder, rung by rung: what it slows down first, whom it defers, what it says, and how it comes back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
from control_cases import FREE, PREMIUM, SETTINGS, STANDARD, battery, in_event, pool, seen, watts
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twin.control import FollowLimit, HoldTier, Ladder, Observation, PoolState, ReleaseTier, Report, SetClock
from twin.control.ladder import CLOCK_STEP, slow_down, speed_up, token_loss
from twin.errors import InputError

#: Prompts at half load: slower clocks cost little patience. Decoding close to its objective: they cost tokens.
EASY = pool(name="easy", role="prefill", output_tokens_per_s=0.0, attention_memory_s=0.0005)
TIGHT = pool(name="tight", role="decode", overhead_s=0.040, gpu_w=4000.0)  # 75 ms of an objective of 100


def _both(first: PoolState, second: PoolState, **changes: object) -> Observation:
    return seen(**{"pools": (first, second), "gpu_w": first.gpu_w + second.gpu_w, **changes})


def _loss(view: Observation, clocks: dict[str, float]) -> float:
    rate = sum(p.output_tokens_per_s for p in view.pools)
    tpot_s = min((t.tpot_objective_s for t in view.tiers if t.tpot_objective_s is not None), default=None)
    return sum(token_loss(p, clocks[p.name], rate, tpot_s) for p in view.pools)


def _drawn_w(view: Observation, clocks: dict[str, float]) -> float:
    return sum(p.power_at(clocks[p.name]) for p in view.pools) * view.overhead_ratio


FULL = {"easy": 1.0, "tight": 1.0}


def test_enough_is_saved_and_no_step_more() -> None:
    view = _both(EASY, TIGHT)
    clocks, missing_w = slow_down(view, FULL, 1_000.0, 0.5)
    assert missing_w == 0.0
    assert _drawn_w(view, FULL) - _drawn_w(view, clocks) >= 1_000.0
    one_step_back = [{**clocks, name: round(clock + CLOCK_STEP, 6)} for name, clock in clocks.items() if clock < 1.0]
    assert any(_drawn_w(view, FULL) - _drawn_w(view, back) < 1_000.0 for back in one_step_back)


def test_the_cheaper_pool_goes_first() -> None:
    clocks, _ = slow_down(_both(EASY, TIGHT), FULL, 600.0, 0.5)
    assert clocks["easy"] < clocks["tight"] == 1.0
    # The order in which pools are seen does not matter.
    assert slow_down(_both(TIGHT, EASY), FULL, 600.0, 0.5)[0] == clocks


def test_what_the_floors_leave_is_missing() -> None:
    view = _both(EASY, TIGHT)
    clocks, missing_w = slow_down(view, FULL, 50_000.0, 0.5)
    assert clocks == {"easy": 0.5, "tight": 0.5}
    assert missing_w == pytest.approx(50_000.0 - (_drawn_w(view, FULL) - _drawn_w(view, clocks)))
    deeper, still_missing_w = slow_down(view, clocks, missing_w, 0.0)
    assert deeper == {"easy": 0.2, "tight": 0.2}  # no lower than hardware goes
    assert still_missing_w == pytest.approx(50_000.0 - (_drawn_w(view, FULL) - _drawn_w(view, deeper)))


_POOLS = st.builds(
    lambda role, gpus, busy, batch, compute, memory, exponent: pool(
        role=role,
        gpus=gpus,
        busy_frac=busy,
        sequences_frac=batch,
        gemm_compute_s=compute,
        gemm_memory_s=memory,
        power=watts(70.0, 40.0, 520.0, 330.0, exponent),
        tdp_w=5_000.0,
    ),
    st.sampled_from(["prefill", "decode", "aggregated"]),
    st.integers(4, 40),
    st.floats(0.1, 0.95),
    st.floats(0.05, 0.9),
    st.floats(0.005, 0.05),
    st.floats(0.001, 0.03),
    st.floats(2.0, 3.0),
)


@settings(max_examples=50, deadline=None)
@given(first=_POOLS, second=_POOLS, share=st.floats(0.05, 0.95), floor=st.sampled_from([0.5, 0.7]))
def test_no_pair_of_clocks_saves_as_much_for_less(first: PoolState, second: PoolState, share: float, floor: float) -> None:
    """Exhaustive over both clocks, where each pool's price per watt grows as its clock falls (what the ladder relies on)."""
    view = _both(replace(first, name="easy"), replace(second, name="tight"))
    grid = [round(1.0 - n * CLOCK_STEP, 6) for n in range(round((1.0 - floor) / CLOCK_STEP) + 1)]
    rate = sum(p.output_tokens_per_s for p in view.pools)
    for each in view.pools:
        watts = [each.power_at(c) for c in grid]
        losses = [token_loss(each, c, rate, PREMIUM.tpot_objective_s) for c in grid]
        saved = [a - b for a, b in pairwise(watts)]
        assume(all(w > 1e-6 for w in saved))
        prices = [(b - a) / w for a, b, w in zip(losses, losses[1:], saved, strict=False)]
        assume(all(later >= earlier - 1e-12 for earlier, later in pairwise(prices)))
    most_w = _drawn_w(view, FULL) - _drawn_w(view, {"easy": floor, "tight": floor})
    clocks, missing_w = slow_down(view, FULL, share * most_w, floor)
    assert missing_w == 0.0
    saved_w = _drawn_w(view, FULL) - _drawn_w(view, clocks)
    assert saved_w >= share * most_w * (1 - 1e-9)
    cheapest = min(
        _loss(view, pair)
        for a, b in product(grid, grid)
        if _drawn_w(view, FULL) - _drawn_w(view, pair := {"easy": a, "tight": b}) >= saved_w * (1 - 1e-9)
    )
    assert _loss(view, clocks) <= cheapest + 1e-6 * max(1.0, abs(cheapest))


@pytest.mark.parametrize("compute_w", range(1300, 1700, 20))
def test_a_pool_held_by_its_tdp_can_still_be_slowed(compute_w: int) -> None:
    """Just below the clock that the TDP leaves, power rises at first (as many watts, for longer); the ladder steps over that."""
    hot = pool(
        role="prefill",
        gemm_compute_s=0.1,
        gemm_memory_s=0.02,
        attention_compute_s=0.02,
        attention_memory_s=0.001,
        overhead_s=0.0,
        busy_frac=0.6,
        power=watts(70.0, 40.0, float(compute_w), 330.0, 2.6),
    )

    def draws_w(clock: float) -> float:
        return 70 + 40 * clock**2.6 + (compute_w * clock**1.6 * 0.12 + 330 * 0.021) / hot.step_s(clock)

    natural = next(c / 10_000 for c in range(10_000, 2_000, -1) if draws_w(c / 10_000) <= hot.tdp_w)
    view = seen(pools=(replace(hot, clock=natural),))
    clocks, missing_w = slow_down(view, {"chat": 1.0}, 500.0, 0.5)
    assert missing_w == 0.0
    assert clocks["chat"] < natural


def test_speeding_up_stays_within_the_room_and_takes_all_of_it() -> None:
    view = _both(EASY, TIGHT)
    slow = {"easy": 0.5, "tight": 0.5}
    for room_w in (50.0, 400.0, 1_500.0, 100_000.0):
        clocks = speed_up(view, slow, room_w)
        assert _drawn_w(view, clocks) - _drawn_w(view, slow) <= room_w + 1e-3
        for name in clocks:
            if clocks[name] < 1.0:
                one_more = {**clocks, name: round(clocks[name] + CLOCK_STEP, 6)}
                assert _drawn_w(view, one_more) - _drawn_w(view, slow) > room_w - 1e-3
    assert clocks == FULL
    assert slow == {"easy": 0.5, "tight": 0.5}  # what was handed in is not touched


def test_speeding_up_begins_where_it_gives_most() -> None:
    clocks = speed_up(_both(EASY, TIGHT), {"easy": 0.5, "tight": 0.5}, 300.0)
    assert clocks["tight"] > clocks["easy"]


# --- the policy ----------------------------------------------------------------------------------------------------------


def _holds(commands: list[object]) -> list[str]:
    return [c.tier for c in commands if isinstance(c, HoldTier)]


def test_clocks_fall_first_and_nobody_is_deferred_while_they_suffice() -> None:
    commands = Ladder(SETTINGS).decide(in_event(200.0))
    assert [type(c) for c in commands] == [SetClock]
    assert commands[0].clock < 1.0


def test_the_lowest_tier_is_deferred_first_then_the_next_never_the_one_that_must_not() -> None:
    ladder = Ladder(SETTINGS)
    held: list[str] = []
    for second in range(200, 400):
        tiers = tuple(replace(t, held=t.name in held) for t in (PREMIUM, STANDARD, FREE))
        view = in_event(float(second), limit_w=3_000.0, limit_ahead_w=3_000.0, tiers=tiers)
        held += (now := _holds(ladder.decide(view)))
        assert len(now) <= 1
    assert held == ["free", "standard"]


def test_between_two_deferrals_it_waits_to_see_what_the_first_did() -> None:
    ladder = Ladder(SETTINGS)
    times = []
    held: list[str] = []
    for second in range(200, 300):
        tiers = tuple(replace(t, held=t.name in held) for t in (PREMIUM, STANDARD, FREE))
        if now := _holds(ladder.decide(in_event(float(second), limit_w=3_000.0, limit_ahead_w=3_000.0, tiers=tiers))):
            held += now
            times.append(second)
    assert times[1] - times[0] > 30


def test_a_target_out_of_reach_is_reported_once_with_the_shortfall() -> None:
    ladder = Ladder(SETTINGS)
    reports = []
    clocks = []
    for second in range(200, 400):
        commands = ladder.decide(in_event(float(second), limit_w=1_000.0, limit_ahead_w=1_000.0, tiers=(PREMIUM,)))
        reports += [c for c in commands if isinstance(c, Report)]
        clocks += [c.clock for c in commands if isinstance(c, SetClock)]
    assert len(reports) == 1
    assert reports[0].subject == "dip"
    assert "cannot be met" in reports[0].message
    assert "kW above the limit" in reports[0].message
    assert clocks[-1] == 0.2  # nearest feasible point: as low as hardware goes


def test_what_the_battery_bridges_is_not_out_of_reach() -> None:
    ladder = Ladder(SETTINGS)
    said = []
    for second in range(200, 300):
        view = in_event(
            float(second), limit_w=6_800.0, limit_ahead_w=6_800.0, tiers=(PREMIUM,), battery=battery(1.0, 9_000.0, 2_200.0)
        )
        said += ladder.decide(replace(view, utility_w=6_800.0))
    assert not [c for c in said if isinstance(c, Report)]
    assert [c.clock for c in said if isinstance(c, SetClock)]


def test_best_effort_never_goes_below_the_floor_and_says_what_is_missing() -> None:
    ladder = Ladder(SETTINGS)
    event = replace(in_event(200.0).announced[0], mandatory=False)
    commands = []
    for second in range(200, 400):
        view = in_event(float(second), limit_w=1_000.0, limit_ahead_w=1_000.0, announced=(event,), tiers=(PREMIUM,))
        commands += ladder.decide(view)
    assert min(c.clock for c in commands if isinstance(c, SetClock)) == 0.5
    (report,) = [c for c in commands if isinstance(c, Report)]  # what is missing is said all the same
    assert "at the clock floor" in report.message


def test_the_way_back_is_measured_from_the_end_of_the_event() -> None:
    """Five percent of 10 kW a minute: 500 W in the first minute after an event, however long the event was."""
    ladder = Ladder(SETTINGS)
    clock = 1.0
    for second in range(200, 1000):
        over = second < 400
        view = in_event(float(second)) if over else seen(float(second))
        drawn_w = view.pools[0].power_at(clock) * 1.2
        load_w = 3_000.0 + drawn_w
        limit_w = 6_500.0 if over else 10_000.0
        view = replace(view, utility_w=load_w, it_w=load_w / 1.2, limit_w=limit_w, limit_ahead_w=limit_w)
        if second == 400:
            at_end_w = load_w
        for command in ladder.decide(view):
            assert isinstance(command, SetClock)
            clock = command.clock
        if second == 399:
            assert clock < 1.0
        if 400 < second <= 460:
            assert load_w - at_end_w <= 500.0
    assert clock == 1.0


def test_tiers_come_back_after_the_clocks_and_in_reverse_order() -> None:
    ladder = Ladder(SETTINGS)
    held: list[str] = []
    order: list[tuple[str, str]] = []
    clock = 1.0
    for second in range(200, 2000):
        tiers = tuple(replace(t, held=t.name in held) for t in (PREMIUM, STANDARD, FREE))
        view = (
            in_event(float(second), limit_w=3_000.0, limit_ahead_w=3_000.0, tiers=tiers)
            if second < 400
            else seen(float(second), utility_w=5_000.0, tiers=tiers)
        )
        for command in ladder.decide(view):
            if isinstance(command, SetClock):
                clock = command.clock
            elif isinstance(command, HoldTier):
                held.append(command.tier)
                order.append(("hold", command.tier))
            elif isinstance(command, ReleaseTier):
                assert clock == 1.0
                held.remove(command.tier)
                order.append(("release", command.tier))
    assert order == [("hold", "free"), ("hold", "standard"), ("release", "standard"), ("release", "free")]


def test_the_battery_follows_all_the_time_and_recharges_below_the_level_but_not_on_the_way_back() -> None:
    ladder = Ladder(SETTINGS)
    low = battery(0.4, 4_000.0)
    (order,) = [c for c in ladder.decide(seen(1.0, utility_w=5_000.0, battery=low)) if isinstance(c, FollowLimit)]
    assert order.recharge_w == pytest.approx(1_000.0)  # a tenth of the contract
    # In an event it goes on doing both: what room there is below the level is taken up again.
    orders = []
    for second in range(200, 400):
        orders += [c for c in ladder.decide(in_event(float(second), battery=low)) if isinstance(c, FollowLimit)]
    assert not orders
    # On the way back its power would count against the ramp: it recharges once the clocks are at full again.
    clock = 0.5
    told: list[tuple[float, float]] = []
    for second in range(400, 1500):
        for command in ladder.decide(seen(float(second), utility_w=5_000.0, battery=low)):
            if isinstance(command, SetClock):
                clock = command.clock
            elif isinstance(command, FollowLimit):
                told.append((clock, command.recharge_w))
    assert [recharge_w for _, recharge_w in told] == [0.0, pytest.approx(1_000.0)]
    assert told[1][0] == 1.0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"clock_flor": 0.4}, "no setting 'clock_flor'.*did you mean 'clock_floor'"),
        ({"settle_s": -1}, "settle_s must be a number above 0, not -1"),
        ({"react_s": "soon"}, "react_s must be a number above 0, not 'soon'"),
        ({"mean_s": True}, "mean_s must be a number above 0, not True"),
        ({"mean_s": float("nan")}, "mean_s must be a number above 0"),
        ({"clock_floor": 5}, "clock_floor must be a share above 0 and up to 1, not 5"),
    ],
)
def test_settings_that_are_wrong_are_refused(extra: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ladder(replace(SETTINGS, extra=extra))


def test_a_floor_of_its_own() -> None:
    commands = Ladder(replace(SETTINGS, extra={"clock_floor": 0.8})).decide(
        in_event(200.0, limit_w=3_000.0, limit_ahead_w=3_000.0, tiers=(PREMIUM, FREE))
    )
    assert [c.clock for c in commands if isinstance(c, SetClock)] == [0.8]
    assert _holds(commands) == ["free"]
