"""A benchmark client: keeps a number of requests in flight on instances until it has sent them all.

All of them come at once in the beginning, so the first wave queues for its prompts (the start-up burst that a benchmark's means
hold); afterwards each answer that ends lets the next request in. No simulator and no plant: workers and a heap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from operator import attrgetter
from typing import Literal

from twin.errors import InputError, SimulationError
from twin.serving.request import Request
from twin.serving.worker import FINISHED, PREFILLED, Worker


def _none(tokens: int) -> float:
    return 0.0


def _to_the_end(finished: int, now_s: float) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """The client: (input, output) tokens of each request in the order they are sent, and how many are in flight at once.

    `front_end_s` of its input tokens passes between a request's arrival and its instance's queue; the front end takes one request
    every `spacing_s`. `transfer_s` is how long the KV of so many tokens takes from a prefill to a decode instance.
    The first `warm` requests have had their prompts and first tokens before: they decode from the beginning on, and no burst of
    prompts comes.
    `go_on` is asked each time an answer has ended, with how many have by now and the time; the play stops there if it says no.
    """

    lengths: Sequence[tuple[int, int]]
    concurrency: int
    front_end_s: Callable[[int], float] = _none
    spacing_s: float = 0.0
    transfer_s: Callable[[int], float] = _none
    warm: int = 0
    go_on: Callable[[int, float], bool] = _to_the_end

    def run(self, entry: Sequence[Worker], decoders: Sequence[Worker] = ()) -> list[Request]:
        """Play it on `entry` instances (aggregated, or prefill with `decoders` behind them); the requests, all finished unless
        `go_on` stopped it before.

        Each request goes to the instance with the least work. Raises InputError if an instance cannot hold the longest request
        or prefill instances have nothing behind them.
        """
        if any((worker.role == "prefill") != bool(decoders) for worker in entry):
            raise InputError("prefill instances need decode instances behind them, and aggregated ones have none")
        for worker in (*entry, *decoders):
            longest = max(self.lengths, key=sum)
            if not worker.can_hold(Request(0, 0.0, *longest)):
                raise InputError(
                    f"{worker.name} holds {worker.spec.kv_capacity_tokens:,} tokens, a request takes {sum(longest):,}"
                )
        return _Play(self, entry, decoders).requests


@dataclass(order=True, slots=True)
class _Due:
    time_s: float
    serial: int
    what: Literal["enters", "has moved"]
    request: Request


class _Play:
    """One pass of a client over instances."""

    def __init__(self, client: ClosedLoop, entry: Sequence[Worker], decoders: Sequence[Worker]):
        self._client = client
        self._entry, self._decoders = entry, decoders
        self._by_name = {worker.name: worker for worker in (*entry, *decoders)}
        self.requests = [Request(number, 0.0, *sizes) for number, sizes in enumerate(client.lengths)]
        self._due: list[_Due] = []
        self._serial = 0
        self._sent = 0
        self._free_s = 0.0
        self._finished = 0
        self._going = True
        self._now_s = 0.0
        for _ in range(min(client.concurrency, len(self.requests))):
            self._send()
        workers = (*entry, *decoders)
        while self._going and (left := len(self.requests) - self._finished):
            worker = min(workers, key=attrgetter("next_change_s"))
            due_s = self._due[0].time_s if self._due else inf
            if worker.next_change_s == due_s == inf:
                raise SimulationError(f"{left} requests are left and nothing is due: no instance can take them")
            if worker.next_change_s <= due_s:
                self._now_s = worker.next_change_s
                worker.advance(self._now_s)
                self._take_output(worker)
            else:
                due = heappop(self._due)
                self._now_s = due.time_s
                self._happen(due)

    def _send(self) -> None:
        """The client sends its next request, if there is one."""
        if self._sent < len(self.requests):
            request = self.requests[self._sent]
            self._sent += 1
            request.arrival_s = self._now_s
            if request.request_id < self._client.warm:
                self._decode_at_once(request)
                return
            self._free_s = max(self._free_s, self._now_s) + self._client.spacing_s
            self._push(self._free_s + self._client.front_end_s(request.input_tokens), "enters", request)

    def _decode_at_once(self, request: Request) -> None:
        request.generated = 1
        request.first_token_s = self._now_s
        self._hand_over(request, self._decoders or self._entry)

    def _hand_over(self, request: Request, to: Sequence[Worker]) -> None:
        """Ask the instance with the fewest sequences for room for a request whose prompt is done."""
        worker = min(to, key=_sequences)
        request.kv_elsewhere = True
        request.decode_worker = worker.name
        worker.submit(request, self._now_s)

    def _push(self, time_s: float, what: Literal["enters", "has moved"], request: Request) -> None:
        self._serial += 1
        heappush(self._due, _Due(time_s, self._serial, what, request))

    def _happen(self, due: _Due) -> None:
        request = due.request
        if due.what == "enters":
            worker = min(self._entry, key=attrgetter("work_s")) if len(self._entry) > 1 else self._entry[0]
            worker.submit(request, due.time_s)
        else:
            assert request.decode_worker is not None
            if request.prefill_worker is not None:
                self._by_name[request.prefill_worker].release(request, due.time_s)
            self._by_name[request.decode_worker].join(request, due.time_s)

    def _take_output(self, worker: Worker) -> None:
        """Act on what a worker has put out."""
        outbox, worker.outbox = worker.outbox, []
        for kind, request in outbox:
            if kind == FINISHED:
                self._finished += 1
                if not self._client.go_on(self._finished, self._now_s):
                    self._going = False
                    return
                self._send()
            elif kind == PREFILLED:
                self._hand_over(request, self._decoders)
            else:
                moves_s = 0.0 if request.prefill_worker is None else self._client.transfer_s(request.context_tokens)
                self._push(self._now_s + moves_s, "has moved", request)


def _sequences(worker: Worker) -> int:
    return len(worker.batch) + len(worker.queue.waiting) + worker.reserved + len(worker.joining)
