"""Engine instances and how calls reach them."""

from twin.serving.admission import Admission, Limits, TokenBucket
from twin.serving.closed_loop import ClosedLoop
from twin.serving.homes import Homes
from twin.serving.jump import Jump, clock_under_cap
from twin.serving.kv_tier import KvTier, KvTierSpec
from twin.serving.losses import TimeSplit
from twin.serving.planner import Move, Split, SplitPlanner
from twin.serving.pool_load import DecodeLoad, PrefillLoad, decode_load, prefill_load
from twin.serving.prefix_tree import ContextPath
from twin.serving.queue_order import QueueSpec
from twin.serving.request import Request
from twin.serving.router import ROUTERS, Router, least_loaded, router
from twin.serving.worker import FINISHED, PREFILLED, RESERVED, Worker
from twin.serving.worker_spec import Progress, Role, WorkerSpec

__all__ = [
    "FINISHED",
    "PREFILLED",
    "RESERVED",
    "ROUTERS",
    "Admission",
    "ClosedLoop",
    "ContextPath",
    "DecodeLoad",
    "Homes",
    "Jump",
    "KvTier",
    "KvTierSpec",
    "Limits",
    "Move",
    "PrefillLoad",
    "Progress",
    "QueueSpec",
    "Request",
    "Role",
    "Router",
    "Split",
    "SplitPlanner",
    "TimeSplit",
    "TokenBucket",
    "Worker",
    "WorkerSpec",
    "clock_under_cap",
    "decode_load",
    "least_loaded",
    "prefill_load",
    "router",
]
