"""Requests of the clients of a service, drawn from what ServeGen recorded of each: rates, burstiness and lengths over a day."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from twin.errors import InputError, Problem
from twin.rng import stream
from twin.workload.intake import TierMix, kept_one_in
from twin.workload.servegen_clients import Client, Window, read_clients, recognises_folder
from twin.workload.session import Call, Session
from twin.workload.trace_rows import MOST_S, ReadLog

__all__ = ["ServeGenSessions", "read", "recognises_folder"]

_CHUNK = 256
#: Seed of the day that a folder of clients is where it is read as a trace, which has no seed.
TRACE_SEED = 1


@dataclass(frozen=True, slots=True)
class ServeGenSessions:
    """A `SessionSource`: single calls, each client a tenant of its own with its own random streams.

    A client's calls are a renewal process on the clock of its expected number of calls: gaps of mean 1 of the family and shape
    of the window in which they begin, so that the mean rate is the window's, a gap goes on from one window into the next, and
    nothing comes where the rate is 0. (The recorded scale is the mean gap of a fit without the pauses of a window: it does not
    give its rate, and is not used.) The recorded day begins anew when it is over.
    """

    folder: Path
    seed: int
    #: No call arrives from here on, nor after a hundred years.
    horizon_s: float = math.inf
    tiers: Mapping[str, float] = field(default_factory=lambda: {"default": 1.0})
    #: Factor on every rate.
    scale: float = 1.0
    #: Time of the recorded day at which the run begins.
    start_s: float = 0.0
    #: One call stands for this many: a random one in so many is kept.
    represent: int = 1
    #: Stop after this many calls.
    limit: int | None = None

    def __post_init__(self) -> None:
        TierMix(self.tiers)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"the scale of the rates must be a positive number, not {self.scale!r}")
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise InputError(f"start_s must be at least 0, not {self.start_s!r}")
        if math.isinf(self.horizon_s) and self.limit is None:
            raise InputError("calls without a horizon need a limit on their number")

    def sessions(self) -> Iterator[Session]:
        """The calls in order of arrival. Raises InputError for files that are wrong."""
        clients = read_clients(self.folder)
        day_s = clients[0].windows[-1].end_s
        if self.start_s >= day_s:
            raise InputError(f"{self.folder}: the recorded day has {day_s:g} s: a run can't begin at {self.start_s:g} s of it")
        merged = heapq.merge(*(self._calls(order, client, day_s) for order, client in enumerate(clients)), key=lambda c: c[:2])
        kept = kept_one_in(self.represent, self.seed)
        tiers = TierMix(self.tiers).draws(self.seed)
        chosen = islice((call for call in merged if next(kept)), self.limit)
        count = 0
        for count, (arrival_s, _, tenant, input_tokens, output_tokens) in enumerate(chosen, start=1):
            yield Session(count - 1, arrival_s, next(tiers), [Call((), 0.0, input_tokens, output_tokens)], tenant=tenant)
        if self.limit is not None and count < self.limit and math.isinf(self.horizon_s):
            raise InputError(f"{self.folder}: {count} calls come in a hundred years, not {self.limit}: the rates are too low")

    def _calls(self, order: int, client: Client, day_s: float) -> Iterator[tuple[float, int, str, int, int]]:
        """(arrival, order of the client, its name, input, output) of a client's calls; one draw of lengths more a call."""
        rng = stream(self.seed, f"workload.servegen.{client.name}.lengths")
        draws: Iterator[list[float]] = iter(())
        for arrival_s in self._arrivals(client, day_s):
            pair = next(draws, None)
            if pair is None:
                draws = iter(rng.random((_CHUNK, 2)).tolist())
                pair = next(draws)
            inputs, outputs = client.lengths_at((arrival_s + self.start_s) % day_s)
            yield arrival_s, order, client.name, inputs.at(pair[0]), outputs.at(pair[1])

    def _arrivals(self, client: Client, day_s: float) -> Iterator[float]:
        rng = stream(self.seed, f"workload.servegen.{client.name}.arrivals")
        gaps: dict[tuple[str, float], Iterator[float]] = {}
        due: float | None = None
        end_s = min(self.horizon_s, MOST_S)
        for window, from_s, to_s in _days(client.windows, self.start_s, day_s):
            if from_s >= end_s:
                return
            rate = window.rate_per_s * self.scale
            if not rate:
                continue
            drawn = gaps.setdefault((window.family, window.shape), _unit_gaps(rng, window))
            due = next(drawn) if due is None else due
            now = from_s
            while now + due / rate < to_s:
                now += due / rate
                if now >= end_s:
                    return
                yield now
                due = next(drawn)
            due = max(due - (to_s - now) * rate, 0.0)  # rounding must not lead back before the window


def _days(windows: tuple[Window, ...], start_s: float, day_s: float) -> Iterator[tuple[Window, float, float]]:
    """(window, from, to) on the run's clock, from `start_s` of the day on, day after day."""
    midnight_s = -start_s
    while True:
        for window in windows:
            if midnight_s + window.end_s > 0:
                yield window, max(midnight_s + window.start_s, 0.0), midnight_s + window.end_s
        midnight_s += day_s


def _unit_gaps(rng: np.random.Generator, window: Window) -> Iterator[float]:
    """Endless gaps of mean 1. One at a time, so that what a window draws does not hang on how many windows there are."""
    shape = window.shape
    draw: Callable[[], float]
    if window.family == "Gamma":
        scale, draw = 1 / shape, lambda: rng.standard_gamma(shape)
    else:
        scale, draw = 1 / math.gamma(1 + 1 / shape), lambda: rng.weibull(shape)
    while True:
        yield draw() * scale


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """The recorded day of a folder of clients as a trace: drawn with `TRACE_SEED`, tiers left open."""
    day_s = read_clients(path)[0].windows[-1].end_s
    session = None
    for session in ServeGenSessions(path, TRACE_SEED, day_s, {"": 1.0}).sessions():
        log.latest_s = session.arrival_s
        yield session
    if session is None:
        said = f"no call comes in the recorded day of {day_s:g} s: the clients' rates are too low"
        raise InputError([Problem(str(path), 1, 1, "", said)])
