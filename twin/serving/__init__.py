"""Engine instances and how calls reach them."""

from twin.serving.between_turns import TURN_POLICIES, AgentTurns, Idle, Plan, TurnPolicy, WaitMemory, turn_policy
from twin.serving.closed_loop import ClosedLoop
from twin.serving.homes import Homes
from twin.serving.jump import Jump, clock_under_cap
from twin.serving.kv_memory import CacheCounts
from twin.serving.kv_tier import KvTier, KvTierSpec
from twin.serving.losses import TimeSplit
from twin.serving.planner import Move, Split, SplitPlanner
from twin.serving.pool_load import DecodeLoad, PrefillLoad, decode_load, prefill_load
from twin.serving.prefix_tree import ContextPath, first_tokens
from twin.serving.request import Request
from twin.serving.router import ROUTERS, Router, least_loaded, router
from twin.serving.worker import FINISHED, PREFILLED, RESERVED, Worker
from twin.serving.worker_spec import Progress, Role, WorkerSpec

__all__ = [
    "FINISHED",
    "PREFILLED",
    "RESERVED",
    "ROUTERS",
    "TURN_POLICIES",
    "AgentTurns",
    "CacheCounts",
    "ClosedLoop",
    "ContextPath",
    "DecodeLoad",
    "Homes",
    "Idle",
    "Jump",
    "KvTier",
    "KvTierSpec",
    "Move",
    "Plan",
    "PrefillLoad",
    "Progress",
    "Request",
    "Role",
    "Router",
    "Split",
    "SplitPlanner",
    "TimeSplit",
    "TurnPolicy",
    "WaitMemory",
    "Worker",
    "WorkerSpec",
    "clock_under_cap",
    "decode_load",
    "first_tokens",
    "least_loaded",
    "prefill_load",
    "router",
    "turn_policy",
]
