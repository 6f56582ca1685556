"""The baseline: one cap for all, by water-filling, and its loop around the meter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from control_cases import SETTINGS, in_event, pool, seen
from hypothesis import given
from hypothesis import strategies as st

from twin.control import PoolState, Report, SetCap, UniformCap
from twin.control.uniform_cap import uniform_cap_w
from twin.errors import InputError


def _pool(name: str, gpus: int, mean_w: float) -> PoolState:
    return pool(name=name, gpus=gpus, gpu_w=gpus * mean_w)


def test_one_pool_shares_what_there_is() -> None:
    assert uniform_cap_w((_pool("a", 10, 500.0),), 4_000.0) == 400.0


def test_pools_below_the_cap_keep_what_they_draw() -> None:
    # 10 x 200 W stay; the 4 kW that are left go to the 10 of 600 W.
    assert uniform_cap_w((_pool("low", 10, 200.0), _pool("high", 10, 600.0)), 6_000.0) == 400.0
    # With 3 kW for both, 150 W each bind the low pool as well.
    assert uniform_cap_w((_pool("low", 10, 200.0), _pool("high", 10, 600.0)), 3_000.0) == 150.0


def test_a_budget_above_what_is_drawn_binds_nobody() -> None:
    assert uniform_cap_w((_pool("low", 10, 200.0), _pool("high", 10, 600.0)), 9_000.0) == 700.0


@given(
    means=st.lists(st.tuples(st.integers(1, 64), st.floats(70.0, 700.0)), min_size=1, max_size=5),
    share=st.floats(0.0, 1.0, exclude_max=True),
)
def test_the_cap_gives_out_the_budget_exactly(means: list[tuple[int, float]], share: float) -> None:
    pools = tuple(_pool(f"p{n}", gpus, mean_w) for n, (gpus, mean_w) in enumerate(means))
    budget_w = share * sum(each.gpu_w for each in pools)
    cap_w = uniform_cap_w(pools, budget_w)
    assert sum(each.gpus * min(each.gpu_w / each.gpus, cap_w) for each in pools) == pytest.approx(budget_w, rel=1e-9, abs=1e-6)


def test_the_meter_above_the_target_caps_all_pools_alike() -> None:
    # 9,000 W at the meter, 8,000 less 1 % allowed: 1,080 W too many are 900 W of IT at 1.2, so 4,100 W for 10 GPUs.
    (command,) = UniformCap(SETTINGS).decide(in_event(200.0))
    assert isinstance(command, SetCap)
    assert (command.pool, command.cap_w) == ("chat", pytest.approx(410.0))
    both = UniformCap(SETTINGS).decide(in_event(200.0, pools=(pool(), pool(name="other")), gpu_w=10_000.0))
    assert [c.pool for c in both] == ["chat", "other"]
    assert len({c.cap_w for c in both}) == 1


def test_it_waits_until_the_last_cap_has_acted_and_been_seen() -> None:
    policy = UniformCap(SETTINGS)
    assert policy.decide(in_event(200.0))
    assert policy.decide(in_event(202.0)) == []  # cap delay 2 s + a step of 1 s
    assert policy.decide(in_event(203.0, utility_w=8_500.0, gpu_w=4_100.0))


def test_it_never_caps_below_what_hardware_takes() -> None:
    (command,) = UniformCap(SETTINGS).decide(in_event(200.0, utility_w=20_000.0, it_w=16_000.0))
    assert command.cap_w == 200.0


def test_a_target_below_the_lowest_cap_is_said_once() -> None:
    policy = UniformCap(SETTINGS)
    stuck = {"utility_w": 20_000.0, "it_w": 16_000.0, "pools": (pool(cap_unmet=True),)}
    policy.decide(in_event(200.0, **stuck))
    (said,) = policy.decide(in_event(210.0, **stuck))
    # 20,000 W against 8,000 less 1 %.
    assert said == Report(
        "dip", "the target cannot be met: 12.1 kW above it at the lowest cap, and some GPUs are at their lowest clock"
    )
    assert policy.decide(in_event(220.0, **stuck)) == []


def test_the_cap_creeps_up_afterwards_until_it_binds_no_more() -> None:
    policy = UniformCap(SETTINGS)
    policy.decide(in_event(200.0))
    after = seen(utility_w=7_900.0, it_w=7_900.0 / 1.2, gpu_w=4_100.0)
    caps = [c.cap_w for t in range(260, 1000, 60) for c in policy.decide(replace(after, time_s=float(t)))]
    # A minute on, 5 % of 10 kW at the meter: 500 W / 1.2 over 10 GPUs. At the TDP it falls silent.
    step_w = 500 / 1.2 / 10
    assert caps == pytest.approx([*(410 + n * step_w for n in range(1, 7)), 700])


def test_the_way_back_is_measured_from_the_end_of_the_event() -> None:
    policy = UniformCap(SETTINGS)
    policy.decide(in_event(200.0))
    at_target = in_event(0.0, utility_w=7_920.0, it_w=6_600.0, gpu_w=4_100.0)
    assert [c for t in range(203, 400) for c in policy.decide(replace(at_target, time_s=float(t)))] == []
    (up,) = policy.decide(seen(400.0, utility_w=7_920.0, it_w=6_600.0, gpu_w=4_100.0))
    # One second after the event was last seen: 5 % of 10 kW / 60, not a whole minute's worth.
    assert up.cap_w == pytest.approx(410 + 500 / 60 / 1.2 / 10)


def test_it_takes_no_settings() -> None:
    with pytest.raises(InputError, match="takes no settings"):
        UniformCap(replace(SETTINGS, extra={"gain": 2}))
