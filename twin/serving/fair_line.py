"""A queue that is fair between tenants: the virtual token counter.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2. Each tenant's counter rises by the tokens it
is served, weighted, over the tenant's weight; the tenant with the smallest one is next. A tenant that comes back after a pause is
lifted to the smallest counter of those who wait, so that nobody saves up; with nobody waiting, to that of the last who did.
While two tenants wait, what they are served differs by no more than 2 max(w_in longest prompt, w_out tokens held) (theorem 4.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from heapq import heapify, heappop, heappush, heapreplace
from math import inf

from twin.serving.decode_batch import DecodeBatch
from twin.serving.queue_order import QueueSpec
from twin.serving.request import Request


class _Account:
    """A tenant at an instance: who of it waits, and its counter, which grows by `rate` a decode step from `mark` on."""

    __slots__ = ("_base", "_gain", "_in_per_token", "_mark", "_out_per_token", "_running", "waiting")

    def __init__(self, in_per_token: float, out_per_token: float):
        self.waiting: deque[Request] = deque()
        self._in_per_token = in_per_token
        self._out_per_token = out_per_token
        self._base = 0.0
        self._mark = 0
        self._gain: float = 0
        self._running = 0

    @property
    def rate(self) -> float:
        """What a decode step adds."""
        return self._gain * self._out_per_token

    def at(self, step: int) -> float:
        """The counter at a decode step."""
        return self._base + self.rate * (step - self._mark)

    def _settle(self, step: int) -> None:
        self._base, self._mark = self.at(step), step

    def lift(self, least: float, step: int) -> None:
        """The counter is at least so high from now on."""
        self._settle(step)
        self._base = max(self._base, least)

    def computed(self, tokens: int) -> None:
        """Prompt tokens are computed for it."""
        self._base += tokens * self._in_per_token

    def generated(self, tokens: int) -> None:
        """Tokens are generated for it outside decode steps."""
        self._base += tokens * self._out_per_token

    def run(self, gain: float, sequences: int, step: int) -> None:
        """Sequences that gain so much a step in all join the batch; with both negative, they leave it."""
        self._settle(step)
        self._running += sequences
        self._gain = self._gain + gain if self._running else 0


class FairLine:
    """Requests of tenants by their counters, behind those that go first (`appendleft`).

    `batch` tells the decode step. A change costs O(log tenants); how long the next one stays the next (`steps_to_change`)
    O(tenants that wait), asked where an instance is full. A tenant that begins to wait counts from the next step boundary on
    (`seat`).
    """

    __slots__ = ("_accounts", "_batch", "_count", "_first", "_heap", "_last", "_new", "_serial", "_spec", "_weights")

    def __init__(self, spec: QueueSpec, batch: DecodeBatch):
        self._spec = spec
        self._weights = dict(spec.tenant_weights)
        self._batch = batch
        self._first: deque[Request] = deque()
        self._accounts: dict[str, _Account] = {}
        #: Tenants that wait, by counters that may have grown since: each entry is a lower bound.
        self._heap: list[tuple[float, int, _Account]] = []
        self._new: list[_Account] = []
        self._last: _Account | None = None
        self._serial = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._first) + self._count

    def __iter__(self) -> Iterator[Request]:
        return iter([*self._first, *(request for account in self._accounts.values() for request in account.waiting)])

    def __getitem__(self, place: int, /) -> Request:
        """The next one to be served, at place 0; the others have no place yet."""
        if place:
            raise IndexError(place)
        return self._first[0] if self._first else self._leader().waiting[0]

    def _leader(self) -> _Account:
        """The tenant that is next: the one with the smallest counter of those who wait; of equals, the one that waits longest."""
        heap, step = self._heap, self._batch.step
        if not heap:
            return self._new[0]
        while True:
            bound, serial, account = heap[0]
            counter = account.at(step)
            if counter == bound:
                return account
            heapreplace(heap, (counter, serial, account))

    def _account(self, tenant: str) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            spec, weight = self._spec, self._weights.get(tenant, 1.0)
            account = self._accounts[tenant] = _Account(spec.input_weight / weight, spec.output_weight / weight)
        return account

    def append(self, request: Request, /) -> None:
        """A request comes."""
        account = self._account(request.tenant)
        if not account.waiting:
            self._new.append(account)
        account.waiting.append(request)
        self._count += 1

    def seat(self) -> None:
        """At a step boundary: tenants that have begun to wait are lifted and count from here on."""
        step = self._batch.step
        for account in self._new:
            lowest = self._leader() if self._heap else self._last
            account.lift(-inf if lowest is None else lowest.at(step), step)
            self._serial += 1
            heappush(self._heap, (account.at(step), self._serial, account))
        self._new.clear()

    def appendleft(self, request: Request, /) -> None:
        """A request goes before all others."""
        self._first.appendleft(request)

    def popleft(self) -> Request:
        """Take the next one out."""
        if self._first:
            return self._first.popleft()
        account = self._leader()
        request = account.waiting.popleft()
        self._count -= 1
        if not account.waiting:
            heappop(self._heap)
            self._last = account
        return request

    def clear(self) -> None:
        """Take all out."""
        for account in self._accounts.values():
            account.waiting.clear()
        self._first.clear()
        self._heap.clear()
        self._new.clear()
        self._count = 0

    def drop(self, gone: Set[Request]) -> None:
        """Take some out, as if they had never waited; their tenants keep their counters."""
        self._first = deque(request for request in self._first if request not in gone)
        for account in self._accounts.values():
            before = len(account.waiting)
            account.waiting = deque(request for request in account.waiting if request not in gone)
            self._count -= before - len(account.waiting)
            if before and not account.waiting:
                self._last = account
        self._heap = [entry for entry in self._heap if entry[2].waiting]
        heapify(self._heap)
        self._new = [account for account in self._new if account.waiting]

    def may_be_next(self, request: Request) -> bool:
        """Whether the one that has just come may change who is next: its tenant has begun to wait."""
        return self._accounts[request.tenant].waiting[0] is request

    def steps_to_change(self) -> float:
        """Decode steps, at least 1, for which the next one surely stays the next if nothing else changes; infinite for ever."""
        if self._first or len(self._heap) < 2:
            return inf
        step, leader = self._batch.step, self._leader()
        rate, counter = leader.rate, leader.at(step)
        soonest = inf
        for _, _, other in self._heap[1:]:
            if rate > other.rate:
                soonest = min(soonest, (other.at(step) - counter) / (rate - other.rate))
        return soonest if soonest == inf else max(1, int(soonest))

    # --- what tenants are served -------------------------------------------------------------------------------------

    def computed(self, request: Request, tokens: int) -> None:
        """A request is admitted and so many of its prompt tokens will be computed here, or have been elsewhere."""
        self._account(request.tenant).computed(tokens)

    def generated(self, request: Request) -> None:
        """A request's prompt is done, and with it a token."""
        self._account(request.tenant).generated(1)

    def started(self, request: Request) -> None:
        """A request joins the decode batch."""
        self._account(request.tenant).run(request.gain, 1, self._batch.step)

    def stopped(self, request: Request) -> None:
        """A request leaves the decode batch."""
        self._account(request.tenant).run(-request.gain, -1, self._batch.step)
