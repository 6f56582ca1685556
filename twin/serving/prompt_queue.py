"""The requests that wait for an instance, in the order of its queue, and the work that they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from math import fsum

from twin.serving.decode_batch import DecodeBatch
from twin.serving.fair_line import FairLine
from twin.serving.queue_order import KeyedLine, queue_order
from twin.serving.request import Request
from twin.serving.worker_spec import WorkerSpec


class PromptQueue:
    """Prompts to compute, prompts from elsewhere that wait for room, and preempted sequences, which go first.

    `backlog_s` is about how long the prompts take that are not computed yet, those begun included; `context_tokens` the contexts
    of all that wait, those from elsewhere until they have arrived. `fair` is the line of those who wait where it is one between
    tenants: it hears what they are served.
    """

    __slots__ = ("_line", "_spec", "_waited_from", "backlog_s", "context_tokens", "fair", "waiting")

    def __init__(self, spec: WorkerSpec, batch: DecodeBatch):
        self._spec = spec
        order = spec.queue.order
        self.fair = FairLine(spec.queue, batch) if order == "fair" else None
        self._line = self.fair if order in ("fifo", "fair") else KeyedLine(queue_order(order), spec.queue)
        self.waiting: deque[Request] | KeyedLine | FairLine = deque() if self._line is None else self._line
        self.context_tokens = 0
        self.backlog_s = 0.0
        #: Decode step from which prompts have been held back to be taken in together.
        self._waited_from: int | None = None

    def put(self, request: Request) -> None:
        """A request comes, at its place in the queue's order; `expected_s` says how long its prompt takes."""
        if not request.kv_elsewhere:
            self.backlog_s += request.expected_s
        self.context_tokens += request.prompt_tokens
        self.waiting.append(request)

    def may_be_next(self, request: Request) -> bool:
        """Whether the one that has just come may be the next to be taken."""
        return len(self.waiting) == 1 or (self._line is not None and self._line.may_be_next(request))

    def put_first(self, request: Request) -> None:
        """A sequence was preempted and goes before the others."""
        if not request.swapped_tokens:
            self.backlog_s += request.expected_s
        self.context_tokens += request.prompt_tokens
        self.waiting.appendleft(request)

    def take(self) -> None:
        """The head is admitted. A prompt from elsewhere counts as waiting until it has arrived (`arrived`)."""
        request = self.waiting.popleft()
        if request.swapped_tokens or not request.kv_elsewhere:
            self.context_tokens -= request.prompt_tokens

    def arrived(self, request: Request) -> None:
        """The KV of an admitted prompt from elsewhere is here."""
        self.context_tokens -= request.prompt_tokens

    def computed(self, request: Request, more: bool) -> None:
        """A prompt is computed; `more`: others are not yet. Float sums drift, and an instance without prompts has no backlog."""
        self.backlog_s = self.backlog_s - request.expected_s if more else 0.0

    def take_back(self, more: bool) -> list[Request]:
        """Give up the requests that hold nothing here: prompts not begun, and prompts from elsewhere that wait for room; `more`:
        prompts that were begun are not computed yet."""
        back = [r for r in self.waiting if not r.swapped_tokens and (r.kv_elsewhere or r.admitted_s is None)]
        gone = set(back)
        kept = [request for request in self.waiting if request not in gone]
        self.waiting.clear()
        for request in reversed(kept):  # all of them preempted
            self.waiting.appendleft(request)
        self.context_tokens -= sum(request.prompt_tokens for request in back)
        if self.waiting or more:
            self.backlog_s -= fsum(request.expected_s for request in back if not request.kv_elsewhere)
        else:
            self.backlog_s, self._waited_from = 0.0, None
        return back

    def drop(self, gone: Set[Request]) -> None:
        """Prompts from elsewhere, which wait here for room, are not there any more."""
        if self._line is None:
            self.waiting = deque(request for request in self.waiting if request not in gone)
        else:
            self._line.drop(gone)
        self.context_tokens -= sum(request.prompt_tokens for request in gone)

    @property
    def prompt_is_next(self) -> bool:
        """Whether a prompt to compute here is at the head."""
        waiting = self.waiting
        return bool(waiting) and not (waiting[0].kv_elsewhere or waiting[0].swapped_tokens)

    @property
    def waits(self) -> bool:
        """Whether prompts are being held back; that goes on where decoding has taken their room meanwhile."""
        return self._waited_from is not None

    @property
    def ends_wait(self) -> bool:
        """Whether prompts are being held back although enough of them have come."""
        return self._waited_from is not None and self._are_enough()

    def wait_steps(self, step: int) -> int:
        """Decode steps from `step` for which the queue is still held back; 0 where it is no longer."""
        if self._waited_from is None:
            self._waited_from = step
        left = self._waited_from + self._spec.prompt_wait_steps - step
        return 0 if left <= 0 or self._are_enough() else left

    def end_wait(self) -> None:
        """Prompts are taken in: the next wait begins anew."""
        self._waited_from = None

    def _are_enough(self) -> bool:
        """Whether prompts for a step of the size asked for are waiting; where none is asked for, one for each attention rank."""
        dp, enough = self._spec.cost.dp, self._spec.prompt_wait_tokens
        return enough <= self.context_tokens if enough else dp > 1 and len(self.waiting) >= dp
