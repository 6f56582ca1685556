"""How loaded a prefill and a decode pool are, each in shares of what it can do, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from twin.performance import StepCost
from twin.serving.request import Request
from twin.serving.worker import Worker
from twin.serving.worker_spec import WorkerSpec


@dataclass(frozen=True, slots=True)
class PrefillLoad:
    """The prefill instances of a pool that take work, over one look of the planner.

    `busy_frac` is the share of the look's `look_s` seconds in which a batch ran, `queue_s` the seconds of prompts left to do;
    both are means over `instances`. Prompts that only wait because finished ones hold the memory until decode takes them are
    no work that more prefill would do, so they are not in `queue_s`.
    """

    pool: str
    instances: int
    look_s: float
    busy_frac: float
    queue_s: float

    @property
    def load(self) -> float:
        """What a look asked for over what it can do: time worked, and more by the looks that what is left will take.

        A busy share alone ends at 1 however long the queue is, and a queue alone is nothing until it is too late. A queue before
        instances that stood still in part waits for something else in part, so it counts by the share that they worked.
        """
        return self.busy_frac * (1.0 + self.queue_s / self.look_s)

    @property
    def said(self) -> str:
        """The load in words."""
        return f"{self.pool} was busy {self.busy_frac:.0%} of the time and has {self.queue_s:.1f} s of prompts left each"


@dataclass(frozen=True, slots=True)
class DecodeLoad:
    """The decode instances of a pool that take work, now.

    `sequences` are all that they decode or that wait for room with them, of `places` in all; their KV takes `held_tokens` and
    would take `wanted_tokens` more, of `capacity_tokens`. `sequences_in_time` of the present length can be decoded together
    within the objective for the time per output token; None where no tier has one, or not even one sequence can.
    """

    pool: str
    instances: int
    sequences: int
    places: int
    held_tokens: float
    wanted_tokens: float
    capacity_tokens: int
    sequences_in_time: int | None

    @property
    def load(self) -> float:
        """The fullest of the three things that bound a batch: places, memory, and the time that its steps may take.

        What waits for room counts as if it had it, so the load goes on above 1 while a queue builds.
        """
        shares = [self.sequences / self.places, (self.held_tokens + self.wanted_tokens) / self.capacity_tokens]
        if self.sequences_in_time is not None:
            shares.append(self.sequences / self.sequences_in_time)
        return max(shares)

    @property
    def said(self) -> str:
        """The load in words."""
        bounds = [f"{self.places} places"]
        if self.sequences_in_time is not None:
            bounds.append(f"{self.sequences_in_time} in time")
        kv_frac = (self.held_tokens + self.wanted_tokens) / self.capacity_tokens
        return f"{self.pool} has {self.sequences} sequences for {' and '.join(bounds)}, and needs {kv_frac:.0%} of its KV memory"


def prefill_load(pool: str, workers: Sequence[Worker], busy_s: float, look_s: float) -> PrefillLoad:
    """The load of prefill instances that were busy for `busy_s` seconds together in the last `look_s`."""
    owed_s = fsum(worker.queue.backlog_s for worker in workers if not _is_blocked(worker))
    return PrefillLoad(pool, len(workers), look_s, busy_s / look_s / len(workers), owed_s / len(workers))


def _is_blocked(worker: Worker) -> bool:
    """Whether its next prompt finds no room while KV is there that decode has yet to take."""
    if not (worker.exported and worker.queue.waiting):
        return False
    memory = worker.memory
    return _needed_tokens(worker.queue.waiting[0], worker.spec) > memory.longest_tokens - _held_tokens(worker)


def decode_load(pool: str, workers: Sequence[Worker], tpot_s: float | None) -> DecodeLoad:
    """The load of decode instances whose tightest tier allows `tpot_s` for an output token (None: no tier says)."""
    decoding = sum(len(worker.batch) for worker in workers)
    waiting = [request for worker in workers for request in worker.queue.waiting]
    wanted_tokens = sum(_needed_tokens(request, workers[0].spec) for request in waiting)
    sequences = sum(len(worker.held()) + worker.reserved for worker in workers)
    in_time = None
    if tpot_s is not None and sequences:
        if decoding:
            context_tokens = fsum(worker.batch.context_tokens for worker in workers) / decoding
        else:
            context_tokens = sum(worker.queue.context_tokens for worker in workers) / sequences
        in_time = sum(
            sequences_within(worker.spec.cost, context_tokens, tpot_s, worker.stepper.clock, worker.spec.max_sequences)
            for worker in workers
        )
    return DecodeLoad(
        pool=pool,
        instances=len(workers),
        sequences=sequences,
        places=sum(worker.spec.max_sequences for worker in workers),
        held_tokens=fsum(_held_tokens(worker) for worker in workers),
        wanted_tokens=wanted_tokens,
        capacity_tokens=sum(worker.spec.kv_capacity_tokens for worker in workers),
        sequences_in_time=in_time or None,
    )


def _held_tokens(worker: Worker) -> float:
    """KV tokens in use, or promised to answers where that is more."""
    memory = worker.memory
    return max(
        memory.pinned_tokens, memory.pinned_tokens - memory.own_tokens + memory.promised_tokens * worker.spec.reserve_answers
    )


def _needed_tokens(request: Request, spec: WorkerSpec) -> int:
    """KV tokens that must be free for it to be admitted."""
    return request.input_tokens + request.output_tokens if spec.reserve_answers else request.prompt_tokens


def sequences_within(cost: StepCost, context_tokens: float, tpot_s: float, clock: float, most: int) -> int:
    """How many sequences of `context_tokens` an instance at relative `clock` decodes together within `tpot_s` per token, up to
    `most`; 0 for none. With speculation a step yields the mean of what it may accept."""
    step_s = tpot_s * cost.speculation.tokens_per_step
    enough, too_many = 0, most + 1
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if cost.step_s(middle, middle * context_tokens, clock=clock) <= step_s:
            enough = middle
        else:
            too_many = middle
    return enough
