"""Engine instances and how calls reach them."""

from twin.serving.admission import Admission, Limits, TokenBucket
from twin.serving.between_turns import TURN_POLICIES, AgentTurns, Idle, Plan, TurnPolicy, WaitMemory, turn_policy
from twin.serving.closed_loop import ClosedLoop
from twin.serving.gpu_floor import GpuFloor, SpareDomain
from twin.serving.homes import Homes
from twin.serving.job import DONE, FAILED, PAUSED, SAVED, STOPPED, Job
from twin.serving.job_queue import JobQueue
from twin.serving.job_spec import CheckpointRule, GpuTime, JobProgress, JobSpec, JobStep, JobSteps
from twin.serving.jump import Jump, clock_under_cap
from twin.serving.kv_memory import CacheCounts
from twin.serving.kv_tier import KvTier, KvTierSpec
from twin.serving.level import Level
from twin.serving.losses import TimeSplit
from twin.serving.phases import PHASES, PhaseTotals
from twin.serving.planner import Move, Split, SplitPlanner
from twin.serving.pool_load import DecodeLoad, PrefillLoad, decode_load, prefill_load
from twin.serving.prefix_tree import ContextPath, first_tokens
from twin.serving.queue_order import QueueSpec
from twin.serving.request import Request
from twin.serving.router import ROUTERS, Router, least_loaded, router
from twin.serving.sandbox_pool import SandboxPool, ToolRun
from twin.serving.worker import FINISHED, PREFILLED, RESERVED, Worker
from twin.serving.worker_spec import Progress, Role, WorkerSpec

__all__ = [
    "DONE",
    "FAILED",
    "FINISHED",
    "PAUSED",
    "PHASES",
    "PREFILLED",
    "RESERVED",
    "ROUTERS",
    "SAVED",
    "STOPPED",
    "TURN_POLICIES",
    "Admission",
    "AgentTurns",
    "CacheCounts",
    "CheckpointRule",
    "ClosedLoop",
    "ContextPath",
    "DecodeLoad",
    "GpuFloor",
    "GpuTime",
    "Homes",
    "Idle",
    "Job",
    "JobProgress",
    "JobQueue",
    "JobSpec",
    "JobStep",
    "JobSteps",
    "Jump",
    "KvTier",
    "KvTierSpec",
    "Level",
    "Limits",
    "Move",
    "PhaseTotals",
    "Plan",
    "PrefillLoad",
    "Progress",
    "QueueSpec",
    "Request",
    "Role",
    "Router",
    "SandboxPool",
    "SpareDomain",
    "Split",
    "SplitPlanner",
    "TimeSplit",
    "TokenBucket",
    "ToolRun",
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
