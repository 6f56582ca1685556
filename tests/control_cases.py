"""Observations made by hand for tests of policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twin.control import AnnouncedTarget, BatteryState, Observation, PolicySettings, PoolState, TierState
from twin.performance import GpuPower

SETTINGS = PolicySettings(margin_frac=0.01, ramp_back_frac_per_min=0.05, clock_delay_s=0.1, cap_delay_s=2.0, extra={})


def watts(idle_w: float, active_w: float, compute_w: float, memory_w: float, exponent: float) -> GpuPower:
    """A GPU without a voltage floor."""
    return GpuPower(idle_w, compute_w, memory_w, exponent, tdp_w=700.0, clock_min_frac=0.2, active_w=active_w)


#: Ten GPUs whose step at full clock is 30 ms of arithmetic in GEMMs (over 10 ms of memory), 5 ms of attention bound by memory
#: (1 ms of arithmetic), and 5 ms of overhead: 40 ms.
POOL = PoolState(
    name="chat",
    role="aggregated",
    gpus=10,
    clock=1.0,
    clock_min=0.2,
    cap_w=700.0,
    tdp_w=700.0,
    cap_min_w=200.0,
    gpu_w=5000.0,
    busy_frac=0.5,
    output_tokens_per_s=1000.0,
    sequences_frac=0.25,
    waiting=0,
    gemm_compute_s=0.030,
    gemm_memory_s=0.010,
    attention_compute_s=0.001,
    attention_memory_s=0.005,
    overhead_s=0.005,
    compute_busy_s=0.031,
    memory_busy_s=0.015,
    power=watts(70.0, 40.0, 520.0, 330.0, 3.0),
)

PREMIUM = TierState("premium", "slow", 0.1, False, 0)
STANDARD = TierState("standard", "defer", None, False, 0)
FREE = TierState("free", "defer", None, False, 0)

EVENT = AnnouncedTarget("dip", start_s=100.0, ramp_end_s=160.0, end_s=400.0, target_w=8_000.0, mandatory=True)


def pool(**changes: Any) -> PoolState:
    """POOL with `changes`; the mean GPU is as busy as the terms of the step's time say."""
    new = replace(POOL, **changes)
    compute_s, memory_s = new.gemm_compute_s + new.attention_compute_s, new.gemm_memory_s + new.attention_memory_s
    return replace(new, compute_busy_s=compute_s, memory_busy_s=memory_s)


def seen(time_s: float = 0.0, **changes: Any) -> Observation:
    """A site of 10 kW of contract that draws 9 kW, 7.5 of them IT, with POOL and three tiers, without event or battery."""
    base = Observation(
        time_s=time_s,
        step_s=1.0,
        site="main",
        contract_w=10_000.0,
        limit_w=10_000.0,
        limit_ahead_w=10_000.0,
        utility_w=9_000.0,
        it_w=7_500.0,
        gpu_w=5_000.0,
        announced=(),
        pools=(POOL,),
        tiers=(PREMIUM, STANDARD, FREE),
        battery=None,
    )
    return replace(base, **changes)


def in_event(time_s: float, **changes: Any) -> Observation:
    """`seen` after the ramp of EVENT, at its level."""
    return seen(time_s, **{"announced": (EVENT,), "limit_w": 8_000.0, "limit_ahead_w": 8_000.0, **changes})


def battery(soc_frac: float = 1.0, discharge_max_w: float = 4_000.0, battery_w: float = 0.0) -> BatteryState:
    """A battery that gives 4 kW for the next minute."""
    return BatteryState(soc_frac, discharge_max_w, battery_w)
