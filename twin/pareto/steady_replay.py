"""Real workers under a closed loop, measured once it has settled: no start-up burst, no drain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twin.errors import InputError
from twin.pareto.lengths import RequestSizes
from twin.serving import ClosedLoop, Progress, Request, TimeSplit, Worker, WorkerSpec

#: Least answers that a measurement takes in.
LEAST_MEASURED = 256
#: Turnovers before the measurement: of aggregated instances, and of groups, where the queue before prefill nears its length
#: exponentially, with the time of an answer as its time constant (5 % are left after three).
_SETTLED, _SETTLED_APART = 1, 3


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the measured span; quantiles over the requests of which the span saw what they are of.

    Powers are those of one GPU of the role, in W, `prefill_w` None where aggregated instances do both. `busy_frac` is how much
    of the time the prefill (else the aggregated) instances compute; `mean_batch` sequences decode on an instance.
    `split` is where the time of the decode or aggregated instances goes, as shares of their busy time.
    """

    output_tokens_per_s: float
    ttft_mean_s: float
    ttft_p99_s: float
    tpot_mean_s: float
    tpot_p99_s: float
    completion_p99_s: float
    decode_w: float
    prefill_w: float | None
    busy_frac: float
    mean_batch: float
    preemptions: int
    split: TimeSplit


def measure(
    entry: Sequence[WorkerSpec],
    decoders: Sequence[WorkerSpec],
    sizes: RequestSizes,
    concurrency: int,
    transfer_s: Callable[[int], float],
) -> Measured:
    """Keep `concurrency` requests in flight on instances of `entry` (aggregated, or prefill with `decoders` behind them).

    The loop begins with `in_flight` requests that are being decoded, so there is no burst of prompts and answers end evenly from
    the first moment on; prefill and queues fill up for one turnover (as many answers as are in flight), behind prefill instances
    for three. From there a whole number of turnovers is measured, at least LEAST_MEASURED answers, and the play stops: nothing
    is seen of a loop that empties. Raises InputError if an instance cannot hold the longest request.
    """
    workers, behind = [Worker(spec) for spec in entry], [Worker(spec) for spec in decoders]
    measured = concurrency * math.ceil(LEAST_MEASURED / concurrency)
    settled = concurrency * (_SETTLED_APART if behind else _SETTLED)
    window = _Window([*workers, *behind], settled, settled + measured)
    client = ClosedLoop(
        lengths=[*sizes.in_flight(concurrency), *sizes.take(settled + measured)],
        concurrency=concurrency,
        front_end_s=workers[0].spec.cost.front_end_s,
        transfer_s=transfer_s,
        warm=concurrency,
        go_on=window.go_on,
    )
    requests = client.run(workers, behind)
    return _means(window, workers, behind, requests[concurrency:])


@dataclass(slots=True)
class _Mark:
    time_s: float
    progress: list[Progress]
    splits: list[TimeSplit]
    preemptions: int


class _Window:
    """Reads the workers' meters when `first` answers have ended, and when `last` have."""

    def __init__(self, workers: Sequence[Worker], first: int, last: int):
        self._workers, self._first, self._last = workers, first, last
        self.marks: list[_Mark] = []

    def go_on(self, finished: int, now_s: float) -> bool:
        """Whether there is more to measure."""
        if finished in (self._first, self._last):
            progress = [worker.progress(now_s) for worker in self._workers]
            splits = [worker.time_split(now_s) for worker in self._workers]
            self.marks.append(_Mark(now_s, progress, splits, sum(worker.preemptions for worker in self._workers)))
        return finished < self._last


def _means(window: _Window, entry: Sequence[Worker], behind: Sequence[Worker], requests: Sequence[Request]) -> Measured:
    begin, end = window.marks
    span_s = end.time_s - begin.time_s
    used = [Progress(*np.subtract(now, before)) for now, before in zip(end.progress, begin.progress, strict=True)]
    first, second = used[: len(entry)], used[len(entry) :]
    main = [*zip(end.splits, begin.splits, strict=True)][-len(behind or entry) :]
    split = np.sum([np.subtract(now, before) for now, before in main], axis=0)
    started = [r for r in requests if r.first_token_s is not None and begin.time_s < r.first_token_s <= end.time_s]
    ended = [r for r in requests if r.finish_s is not None and r.output_tokens > 1 and begin.time_s < r.finish_s <= end.time_s]
    if not started or not ended:
        raise InputError("no request was seen from its first token to its last: answers are too short to be timed")
    ttft_s = np.array([(r.first_token_s or 0.0) - r.arrival_s for r in started])
    tpot_s = np.array([((r.finish_s or 0.0) - (r.first_token_s or 0.0)) / (r.output_tokens - 1) for r in ended])
    completion_s = np.array([(r.finish_s or 0.0) - r.arrival_s for r in ended])
    entry_w = _gpu_w(first, entry, span_s)
    decoding = second or first
    return Measured(
        output_tokens_per_s=sum(each.output_tokens for each in used) / span_s,
        ttft_mean_s=float(ttft_s.mean()),
        ttft_p99_s=float(np.quantile(ttft_s, 0.99)),
        tpot_mean_s=float(tpot_s.mean()),
        tpot_p99_s=float(np.quantile(tpot_s, 0.99)),
        completion_p99_s=float(np.quantile(completion_s, 0.99)),
        decode_w=_gpu_w(second, behind, span_s) if behind else entry_w,
        prefill_w=entry_w if behind else None,
        busy_frac=sum(each.busy_s for each in first) / span_s / len(first),
        mean_batch=sum(each.decode_batch_s for each in decoding) / span_s / len(decoding),
        preemptions=end.preemptions - begin.preemptions,
        split=TimeSplit(*(split / split.sum()).tolist()),
    )


def _gpu_w(used: Sequence[Progress], workers: Sequence[Worker], span_s: float) -> float:
    return sum(each.energy_j for each in used) / span_s / sum(worker.spec.gpus for worker in workers)
