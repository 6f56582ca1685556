"""What a policy sees, in numbers worked out by hand, and the contract that every policy keeps."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import pytest
from control_cases import EVENT, POOL, PREMIUM, SETTINGS, battery, pool, seen

from twin.control import (
    POLICIES,
    AnnouncedTarget,
    Command,
    FollowLimit,
    HoldTier,
    Observation,
    PolicySettings,
    ReleaseTier,
    Report,
    RestBattery,
    SetCap,
    SetClock,
    policy,
    registry,
)
from twin.errors import InputError


def test_step_time_at_a_clock() -> None:
    assert POOL.step_s(1.0) == pytest.approx(0.030 + 0.005 + 0.005)
    assert POOL.step_s(0.5) == pytest.approx(0.060 + 0.005 + 0.005)  # GEMMs twice as long, attention still bound by memory
    assert POOL.step_s(0.1) == pytest.approx(0.300 + 0.010 + 0.005)  # now its arithmetic is the slower roof too


def test_busy_share_grows_with_the_step() -> None:
    assert POOL.busy_at(1.0) == 0.5
    assert POOL.busy_at(0.5) == pytest.approx(0.5 * 70 / 40)
    # The state was seen at the clock that it names: from half clock, full clock takes 40/70 of the time.
    assert pool(clock=0.5).busy_at(1.0) == pytest.approx(0.5 * 40 / 70)


def test_power_at_a_clock() -> None:
    # Full clock: 40 W x 40 ms + 520 W x 31 ms + 330 W x 15 ms = 22.67 J in 40 ms, half of the time, beside 70 W idle.
    assert POOL.power_at(1.0) == pytest.approx(10 * (70 + 0.5 * 22.67 / 0.040))
    # Half clock: 40/8 W x 70 ms + 520/4 W x 31 ms + 330 W x 15 ms = 9.33 J in 70 ms, 7/8 of the time.
    assert POOL.power_at(0.5) == pytest.approx(10 * (70 + 0.875 * 9.33 / 0.070))
    # More work than time: never busier than always.
    busy = pool(busy_frac=0.9)
    assert busy.power_at(0.5) == pytest.approx(10 * (70 + 9.33 / 0.070))
    # The TDP holds: 22.67 J in 40 ms are 567 W beside idle.
    assert pool(tdp_w=600.0).power_at(1.0) == pytest.approx(10 * (70 + 0.5 * (600 - 70)))


def test_a_pool_that_did_nothing_idles() -> None:
    still = pool(
        busy_frac=0.0, gemm_compute_s=0.0, gemm_memory_s=0.0, attention_compute_s=0.0, attention_memory_s=0.0, overhead_s=0.0
    )
    assert (still.step_s(0.5), still.busy_at(0.5), still.power_at(0.5)) == (0.0, 0.0, 700.0)


def test_load_and_overhead_count_the_battery() -> None:
    assert seen().load_w == 9_000.0
    assert seen().overhead_ratio == pytest.approx(1.2)
    helped = seen(utility_w=8_000.0, battery=battery(battery_w=1_000.0))
    assert helped.load_w == 9_000.0
    assert helped.overhead_ratio == pytest.approx(1.2)


def test_the_event_in_force_is_the_lowest_that_has_begun() -> None:
    deeper = AnnouncedTarget("deeper", 200.0, 200.0, 300.0, 7_000.0, True)
    assert seen(99.0, announced=(EVENT,)).event is None
    assert seen(100.0, announced=(EVENT, deeper)).event is EVENT
    assert seen(200.0, announced=(EVENT, deeper)).event is deeper


# --- the contract ------------------------------------------------------------------------------------------------------


class _Outside:
    """A policy from another package: halves every clock in an event."""

    def __init__(self, settings: PolicySettings):
        self._slowed = False

    def decide(self, seen: Observation) -> list[Command]:
        if (seen.event is not None) == self._slowed:
            return []
        self._slowed = not self._slowed
        return [SetClock(each.name, 0.5 if self._slowed else 1.0, "half in an event") for each in seen.pools]


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(name="outside", load=lambda: _Outside)
    monkeypatch.setattr(registry, "entry_points", lambda group: [found] if group == "twin.policies" else [])


def _story(seed: int, *, pools: int, with_battery: bool, with_event: bool) -> Iterator[Observation]:
    """Ten minutes of a site whose load wanders, with a target from 100 s to 400 s or none."""
    rng = random.Random(seed)
    load_w = 9_500.0
    states = [
        replace(POOL, name=f"pool{n}", role="aggregated" if pools == 1 else ("prefill", "decode", "decode")[n % 3], gpus=10 + n)
        for n in range(pools)
    ]
    for second in range(1, 600):
        load_w = min(11_500.0, max(6_000.0, load_w + rng.gauss(0.0, 250.0)))
        announced = (EVENT,) if with_event and 40 <= second < EVENT.end_s else ()
        limit_w = EVENT.target_w if with_event and EVENT.ramp_end_s <= second < EVENT.end_s else 10_000.0
        given_w = max(0.0, load_w - limit_w) if with_battery else 0.0
        states = [
            replace(s, busy_frac=rng.random(), clock=rng.uniform(0.2, 1.0), sequences_frac=rng.random())
            if rng.random() < 0.5
            else s
            for s in states
        ]
        if rng.random() < 0.02:
            idle = dict.fromkeys(
                ("gemm_compute_s", "gemm_memory_s", "attention_compute_s", "attention_memory_s", "overhead_s"), 0.0
            )
            states[0] = replace(states[0], busy_frac=0.0, **idle)
        yield seen(
            float(second),
            limit_w=limit_w,
            limit_ahead_w=limit_w,
            utility_w=load_w - given_w,
            it_w=load_w / 1.2,
            gpu_w=load_w / 1.8,
            announced=announced,
            pools=tuple(states),
            battery=battery(rng.random(), rng.uniform(0.0, 4_000.0), given_w) if with_battery else None,
        )


NAMES = [*POLICIES, "outside"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pools", [1, 3])
@pytest.mark.parametrize("with_battery", [True, False])
@pytest.mark.parametrize("with_event", [True, False])
def test_every_policy_keeps_the_contract(name: str, pools: int, with_battery: bool, with_event: bool) -> None:
    story = list(_story(7, pools=pools, with_battery=with_battery, with_event=with_event))
    first, second = policy(name, SETTINGS), policy(name, SETTINGS)
    said = 0
    for each in story:
        commands = first.decide(each)
        assert commands == second.decide(each)  # the same observations, the same words
        assert isinstance(commands, list)
        said += len(commands)
        pool_names, tier_names = {p.name for p in each.pools}, {t.name for t in each.tiers}
        for command in commands:
            assert isinstance(command, get_args(Command))
            _within_reach(command, pool_names, tier_names, each.battery is not None)
    if name != "none" and with_event:
        assert said, "a load above its target for minutes and not a word"
    if name == "none":
        assert not said


def _within_reach(command: Command, pools: set[str], tiers: set[str], has_battery: bool) -> None:
    match command:
        case SetClock(pool=where, clock=clock):
            assert where in pools
            assert 0 < clock <= 1
        case SetCap(pool=where, cap_w=cap_w):
            assert where in pools
            assert POOL.cap_min_w <= cap_w <= POOL.tdp_w
        case HoldTier(tier=tier):
            assert tier in tiers
            assert tier != PREMIUM.name  # it may be slowed, not deferred
        case ReleaseTier(tier=tier, over_s=over_s):
            assert tier in tiers
            assert over_s >= 0
        case FollowLimit(recharge_w=recharge_w):
            assert has_battery
            assert math.isfinite(recharge_w)
            assert recharge_w >= 0
        case RestBattery():
            assert has_battery
        case Report(subject=subject, message=message):
            assert subject
            assert message


@pytest.mark.parametrize("name", NAMES)
def test_no_state_is_left_from_another_run(name: str) -> None:
    story = list(_story(11, pools=2, with_battery=True, with_event=True))
    used = policy(name, SETTINGS)
    first = [used.decide(each) for each in story]
    fresh = policy(name, SETTINGS)
    assert [fresh.decide(each) for each in story] == first


def test_none_does_nothing_and_takes_no_settings() -> None:
    assert policy("none", SETTINGS).decide(seen(utility_w=20_000.0)) == []
    with pytest.raises(InputError, match="takes no settings"):
        policy("none", replace(SETTINGS, extra={"haste": 1}))


def test_an_unknown_policy_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'ladder'"):
        policy("lader", SETTINGS)
    with pytest.raises(InputError, match="did you mean 'outside'"):
        policy("outsid", SETTINGS)
