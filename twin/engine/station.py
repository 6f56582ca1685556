"""An engine instance in its place: its worker, the GPUs it sits on, and its alarm clock."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twin.engine.clock import Clock
from twin.serving import Progress, Worker


class Station:
    """Wakes its worker at each step boundary that matters and hands what comes out of it to `on_output`.

    `racks` are the (rack index, GPUs) of all real instances that it stands for.
    """

    __slots__ = ("_clock", "_on_output", "_wake_s", "endpoint", "last", "pool", "racks", "worker")

    def __init__(
        self,
        worker: Worker,
        pool: str,
        racks: tuple[tuple[int, int], ...],
        endpoint: int,
        clock: Clock,
        on_output: Callable[[Station], None],
    ):
        self.worker = worker
        self.pool = pool
        self.racks = racks
        self.endpoint = endpoint
        self.last = Progress(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        self._clock = clock
        self._on_output = on_output
        self._wake_s = inf

    def touched(self) -> None:
        """Something was told to the worker: play what is due now and set the alarm anew."""
        self._play(self._clock.environment.now)

    def _play(self, to_s: float) -> None:
        worker = self.worker
        if worker.next_change_s <= to_s:
            worker.advance(to_s)
        if worker.outbox:
            self._on_output(self)
        due_s = worker.next_change_s
        if due_s != self._wake_s:
            self._wake_s = due_s
            if due_s != inf:
                self._clock.at(due_s, self._wake)

    def _wake(self, event: Any) -> None:
        due_s = event._value
        if due_s == self._wake_s:  # else an earlier alarm, set anew since
            self._wake_s = inf
            self._play(due_s)
