"""CPU sandboxes in which agents' tools run: a number of them, and one queue in order of arrival."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from math import inf
from typing import Any

from twin.errors import SimulationError
from twin.serving.level import Level


class ToolRun:
    """One run of a tool: it asked for a sandbox at `asked_s`, got one at `begun_s` (None: not yet) and holds it for `service_s`.

    `attempt` counts from 1; `owner` is whatever its owner needs to go on.
    """

    __slots__ = ("asked_s", "attempt", "begun_s", "number", "owner", "service_s")

    def __init__(self, service_s: float, attempt: int = 1, owner: Any = None):
        if not 0 <= service_s < inf:
            raise SimulationError(f"a tool cannot run for {service_s!r} s")
        self.service_s = service_s
        self.attempt = attempt
        self.owner = owner
        self.number = -1
        self.asked_s = 0.0
        self.begun_s: float | None = None

    @property
    def ends_s(self) -> float:
        """When it gives its sandbox back."""
        assert self.begun_s is not None
        return self.begun_s + self.service_s

    @property
    def waited_s(self) -> float:
        """How long it waited for its sandbox."""
        assert self.begun_s is not None
        return self.begun_s - self.asked_s


class SandboxPool:
    """`sandboxes` of them, infinite where tools never wait. Knows no clock: `advance(to_s)` plays what falls due, `next_change_s`
    says when that is; `outbox` collects the runs that have ended, in order of time.

    Of all runs that asked, some were withdrawn before they had begun, the others wait, hold a sandbox or have ended.
    """

    def __init__(self, sandboxes: float):
        if not sandboxes >= 1:
            raise SimulationError(f"tools need at least one sandbox to run in, not {sandboxes:g}")
        self.sandboxes = sandboxes
        self.outbox: list[ToolRun] = []
        self.busy = Level()
        self.waiting = Level()
        self.asked = 0
        self.withdrawn = 0
        self.ended = 0
        #: Sandbox seconds of the runs that have ended.
        self.served_s = 0.0
        self._queue: OrderedDict[int, ToolRun] = OrderedDict()
        self._running: list[tuple[float, int, ToolRun]] = []

    @property
    def next_change_s(self) -> float:
        """When the next sandbox is given back; infinite where none is in use."""
        return self._running[0][0] if self._running else inf

    def ask(self, run: ToolRun, now_s: float) -> None:
        """A run wants a sandbox: it begins at once where one is free, else it waits its turn."""
        run.number = self.asked
        run.asked_s = now_s
        self.asked += 1
        if self.busy.now < self.sandboxes:
            self._begin(run, now_s)
        else:
            self._queue[run.number] = run
            self.waiting.change(1, now_s)

    def withdraw(self, run: ToolRun, now_s: float) -> bool:
        """Take a run out of the queue; False where it is not in it any more, since a tool that runs is not stopped."""
        if run.number not in self._queue:
            return False
        del self._queue[run.number]
        self.waiting.change(-1, now_s)
        self.withdrawn += 1
        return True

    def advance(self, to_s: float) -> None:
        """Play every end of a run up to and including `to_s`; the first in the queue begins where one ends."""
        running = self._running
        while running and running[0][0] <= to_s:
            end_s, _, run = heappop(running)
            self.busy.change(-1, end_s)
            self.ended += 1
            self.served_s += run.service_s
            self.outbox.append(run)
            if self._queue:
                _, first = self._queue.popitem(last=False)
                self.waiting.change(-1, end_s)
                self._begin(first, end_s)

    def _begin(self, run: ToolRun, now_s: float) -> None:
        run.begun_s = now_s
        self.busy.change(1, now_s)
        heappush(self._running, (run.ends_s, run.number, run))

    def open(self) -> list[ToolRun]:
        """The runs that hold a sandbox, then those that wait for one, each in order of asking."""
        return [*sorted((run for _, _, run in self._running), key=lambda run: run.number), *self._queue.values()]

    def books_balance(self, now_s: float) -> bool:
        """Whether every run that asked is accounted for, and so is every second that a sandbox was in use."""
        running, queued = len(self._running), len(self._queue)
        whole = self.asked == self.withdrawn + self.ended + running + queued
        under_way_s = sum(now_s - (end_s - run.service_s) for end_s, _, run in self._running)
        used_s = self.busy.integral(now_s)
        return whole and (self.busy.now, self.waiting.now) == (running, queued) and _near(self.served_s + under_way_s, used_s)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(one, other, 1.0)
