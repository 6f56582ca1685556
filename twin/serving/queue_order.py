"""In which order requests wait for an instance: as they come, by a key, or fairly between tenants.

An order by key is a function of the request and the queue's settings; the smallest key is served first, equals as they come. Keys
must not change while a request waits. Plug-ins register under the entry-point group `twin.queue_orders`; the contract test
covers each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from importlib.metadata import entry_points

from twin.errors import InputError, SimulationError, did_you_mean
from twin.serving.request import Request


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """The order of an instance's queue and its settings.

    `tiers` are the names of tiers, most urgent first, and `ageing_s` what a call of one is behind the tier above it (`priority`).
    A tenant's counter rises by `input_weight` for a prompt token computed and `output_weight` for one generated, over its weight
    of `tenant_weights` (1 where it has none) (`fair`).
    """

    order: str = "fifo"
    tiers: tuple[str, ...] = ()
    ageing_s: float = 0.0
    input_weight: float = 1.0
    output_weight: float = 2.0
    tenant_weights: tuple[tuple[str, float], ...] = ()


#: As they come.
FIFO = QueueSpec()

#: A request's place in a queue, the smallest first; `request.queued_s` is when it came.
QueueOrder = Callable[[Request, QueueSpec], float]


def priority(request: Request, spec: QueueSpec) -> float:
    """As if each request had come `ageing_s` later for each tier above its own.

    All that wait age alike, so two requests keep their order and a heap will do; and none starves: those of higher tiers that
    come after it by more than their lead are served after it.
    """
    return request.queued_s + spec.ageing_s * spec.tiers.index(request.tier)


#: Orders by key that come with the twin.
ORDERS: dict[str, QueueOrder] = {"priority": priority}


def queue_order(name: str) -> QueueOrder:
    """The order by key that is registered as `name`. Raises InputError with the nearest known name."""
    if name in ORDERS:
        return ORDERS[name]
    found = {point.name: point for point in entry_points(group="twin.queue_orders")}
    if name not in found:
        raise InputError(f"unknown queue order {name!r}{did_you_mean(name, ['fifo', 'fair', *ORDERS, *found])}")
    plugin: QueueOrder = found[name].load()
    return plugin


class KeyedLine:
    """Requests by their key, behind those that go first (`appendleft`); stands for a deque that is sorted. O(log n) a change."""

    __slots__ = ("_first", "_heap", "_order", "_serial", "_spec")

    def __init__(self, order: QueueOrder, spec: QueueSpec):
        self._order = order
        self._spec = spec
        self._first: deque[Request] = deque()
        self._heap: list[tuple[float, int, Request]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._first) + len(self._heap)

    def __iter__(self) -> Iterator[Request]:
        return iter([*self._first, *(request for _, _, request in sorted(self._heap))])

    def __getitem__(self, place: int, /) -> Request:
        """The next one to be served, at place 0; the others have no place yet."""
        if place:
            raise IndexError(place)
        return self._first[0] if self._first else self._heap[0][2]

    def append(self, request: Request, /) -> None:
        """A request comes."""
        key = self._order(request, self._spec)
        if key != key:
            raise SimulationError(f"the queue order {self._spec.order} gives request {request.request_id} no number")
        self._serial += 1
        heappush(self._heap, (key, self._serial, request))

    def appendleft(self, request: Request, /) -> None:
        """A request goes before all others."""
        self._first.appendleft(request)

    def popleft(self) -> Request:
        """Take the next one out."""
        return self._first.popleft() if self._first else heappop(self._heap)[2]

    def clear(self) -> None:
        """Take all out."""
        self._first.clear()
        self._heap.clear()

    def drop(self, gone: Set[Request]) -> None:
        """Take some out."""
        self._first = deque(request for request in self._first if request not in gone)
        self._heap = [entry for entry in self._heap if entry[2] not in gone]
        heapify(self._heap)

    def may_be_next(self, request: Request) -> bool:
        """Whether the one that has just come may be the next to be served."""
        return self[0] is request
