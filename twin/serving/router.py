"""Which instance a call goes to.

A router is a function of the request, the candidates (in a fixed order) and the instance that served the call's context
before, if any. Plug-ins register under the entry-point group `twin.routers`; the contract test covers each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from operator import attrgetter

from twin.errors import InputError, did_you_mean
from twin.serving.request import Request
from twin.serving.worker import Worker

Router = Callable[[Request, Sequence[Worker], Worker | None], Worker]


def least_loaded(request: Request, workers: Sequence[Worker], home: Worker | None) -> Worker:
    """The instance with the least work; the first of equals."""
    return min(workers, key=attrgetter("work_s"))


def kv_affinity(request: Request, workers: Sequence[Worker], home: Worker | None) -> Worker:
    """The instance where the call's prefix lies, unless another is so much freer that it pays to compute the prefix again.

    In seconds, not tokens, because a token at the end of a long context costs many times one at its beginning.
    """
    best = min(workers, key=attrgetter("work_s"))
    if home is None or home is best:
        return best
    wait_s = home.work_s - best.work_s
    again_s = best.expected_s(request) - home.expected_s(request)
    return best if wait_s > MOVE_GAIN * again_s else home


#: What waiting a move must save for each second of prompt that it makes the factory compute again. At 1 each call does best
#: for itself and the recomputation starves all others: hit rate and throughput collapse near full load.
MOVE_GAIN = 8.0

ROUTERS: dict[str, Router] = {"least_loaded": least_loaded, "kv_affinity": kv_affinity}


def router(name: str) -> Router:
    """The router registered as `name`. Raises InputError with the nearest known name."""
    if name in ROUTERS:
        return ROUTERS[name]
    found = {point.name: point for point in entry_points(group="twin.routers")}
    if name not in found:
        raise InputError(f"unknown router {name!r}{did_you_mean(name, [*ROUTERS, *found])}")
    plugin: Router = found[name].load()
    return plugin
