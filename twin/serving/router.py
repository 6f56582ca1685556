"""Which instance a call goes to.

A router is a function of the request, the candidates (in a fixed order) and the instance that served the call's context
before, if any. Plug-ins register under the entry-point group `twin.routers`; the contract test covers each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from twin.errors import InputError, did_you_mean
from twin.serving.request import Request
from twin.serving.worker import Worker

Router = Callable[[Request, Sequence[Worker], Worker | None], Worker]


def work_tokens(worker: Worker) -> int:
    """Prompt tokens still to compute and KV tokens in use or asked for: the load measure of common KV-aware routers."""
    return worker.backlog_tokens + worker.pinned_tokens + worker.waiting_context_tokens


def least_loaded(request: Request, workers: Sequence[Worker], home: Worker | None) -> Worker:
    """The instance with the least work in tokens; the first of equals."""
    return min(workers, key=work_tokens)


def kv_affinity(request: Request, workers: Sequence[Worker], home: Worker | None) -> Worker:
    """The instance where the call's prefix lies, unless another is so much freer that computing it again is sooner done.

    Cost of an instance = its work in tokens + the prompt tokens it would have to compute, prefix hits deducted.
    """
    best = min(workers, key=work_tokens)
    if home is None or home is best:
        return best
    hit = min(home.cache.peek(request.cache_key), request.shared_prefix_tokens)
    return home if work_tokens(home) - hit <= work_tokens(best) else best


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
