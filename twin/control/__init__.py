"""Observation in, commands out: what a policy sees, what it may say, and the policies themselves."""

from twin.control.ladder import Ladder
from twin.control.protocol import (
    AnnouncedTarget,
    BatteryState,
    Command,
    FollowLimit,
    HoldTier,
    Observation,
    Policy,
    PolicySettings,
    PoolState,
    ReleaseTier,
    Report,
    RestBattery,
    SetCap,
    SetClock,
    TierState,
)
from twin.control.registry import POLICIES, policy, policy_of
from twin.control.uniform_cap import UniformCap

__all__ = [
    "POLICIES",
    "AnnouncedTarget",
    "BatteryState",
    "Command",
    "FollowLimit",
    "HoldTier",
    "Ladder",
    "Observation",
    "Policy",
    "PolicySettings",
    "PoolState",
    "ReleaseTier",
    "Report",
    "RestBattery",
    "SetCap",
    "SetClock",
    "TierState",
    "UniformCap",
    "policy",
    "policy_of",
]
