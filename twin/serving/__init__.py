"""Engine instances and how calls reach them."""

from twin.serving.jump import Jump, clock_under_cap
from twin.serving.prefix_cache import PrefixCache
from twin.serving.request import Request
from twin.serving.router import ROUTERS, Router, least_loaded, router
from twin.serving.worker import FINISHED, PREFILLED, RESERVED, Worker
from twin.serving.worker_spec import Progress, WorkerSpec

__all__ = [
    "FINISHED",
    "PREFILLED",
    "RESERVED",
    "ROUTERS",
    "Jump",
    "PrefixCache",
    "Progress",
    "Request",
    "Router",
    "Worker",
    "WorkerSpec",
    "clock_under_cap",
    "least_loaded",
    "router",
]
