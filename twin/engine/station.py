"""An engine instance in its place: its worker, the GPUs it sits on, and its alarm clock."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from twin.engine.clock import Clock
from twin.serving import PhaseTotals, Progress, Request, TimeSplit, Worker


class Span(NamedTuple):
    """A station's time in a pool, of one of the instances that it stands for: how long it could work, what it did and made
    meanwhile, the most sequences it decoded together, how long it was down, and its time and energy by phase."""

    gpus: int
    span_s: float
    split: TimeSplit
    progress: Progress
    largest_batch: int
    down_s: float
    phases: PhaseTotals


class Station:
    """Wakes its worker at each step boundary that matters and hands what comes out of it to `on_output`.

    `racks` are the (rack index, GPUs) of all real instances that it stands for, and `slots` where on these: (rack index, first
    GPU, GPUs). `up` says whether it can work.
    """

    __slots__ = (
        "_clock",
        "_down_before_s",
        "_down_s",
        "_down_since_s",
        "_joined_s",
        "_on_output",
        "_phases_before",
        "_progress_before",
        "_split_before",
        "_wake_s",
        "endpoint",
        "last",
        "pool",
        "racks",
        "slots",
        "up",
        "worker",
    )

    def __init__(
        self,
        worker: Worker,
        pool: str,
        racks: tuple[tuple[int, int], ...],
        endpoint: int,
        clock: Clock,
        on_output: Callable[[Station], None],
        slots: tuple[tuple[int, int, int], ...] = (),
    ):
        self.worker = worker
        self.pool = pool
        self.racks = racks
        self.slots = slots
        self.up = True
        self.endpoint = endpoint
        self.last = Progress(0.0, 0.0, 0.0, 0.0, 0.0)
        self._joined_s = self._down_s = self._down_before_s = self._down_since_s = 0.0
        self._split_before = TimeSplit()
        self._phases_before = PhaseTotals()
        self._progress_before = self.last
        self._clock = clock
        self._on_output = on_output
        self._wake_s = inf

    def span(self, now_s: float) -> Span:
        """Its time in its pool up to `now_s`."""
        worker = self.worker
        split, progress = worker.time_split(now_s), worker.progress(now_s)
        down_s = self._down_s - self._down_before_s + (0.0 if self.up else now_s - self._down_since_s)
        return Span(
            worker.spec.gpus,
            now_s - self._joined_s - down_s,
            TimeSplit(*(now - before for now, before in zip(split, self._split_before, strict=True))),
            Progress(*(now - before for now, before in zip(progress, self._progress_before, strict=True))),
            worker.largest_batch,
            down_s,
            worker.phases(now_s).since(self._phases_before),
        )

    def join_pool(self, pool: str, now_s: float) -> Span:
        """Count for another pool from now on; its time in the one it leaves."""
        span = self.span(now_s)
        self.pool, self._joined_s, self._down_before_s = pool, now_s, self._down_s
        self._split_before, self._progress_before = self.worker.time_split(now_s), self.worker.progress(now_s)
        self._phases_before = self.worker.phases(now_s)
        return span

    def fail(self, now_s: float) -> list[Request]:
        """Its hardware is lost, what was due having been played: it is down, and gives up what it held."""
        self.up, self._down_since_s = False, now_s
        self._wake_s = inf
        return self.worker.fail(now_s)

    def come_up(self, now_s: float) -> None:
        """It can work again."""
        self.up = True
        self._down_s += now_s - self._down_since_s

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
