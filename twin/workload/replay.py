"""Replay of a trace: from where, how fast, how often, how much of it, in which tiers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from twin.errors import InputError
from twin.rng import stream
from twin.workload.arrivals import Arrivals
from twin.workload.formats import read_trace
from twin.workload.intake import TierMix, kept_one_in
from twin.workload.session import Session


@dataclass(frozen=True, slots=True)
class TraceReplay:
    """A `SessionSource` that replays a file.

    Without `arrivals` the recorded ones are used, and a trace that records none (agent sessions) is an InputError.
    Sessions keep a recorded tier and draw one from `tiers` otherwise.
    """

    path: Path
    seed: int
    format: str = "auto"
    #: When sessions begin, instead of when they did.
    arrivals: Arrivals | None = None
    #: No session arrives from here on.
    horizon_s: float = math.inf
    tiers: Mapping[str, float] = field(default_factory=lambda: {"default": 1.0})
    #: Recorded arrivals are this many times faster.
    speedup: float = 1.0
    #: Offset into the trace at which the replay begins.
    start_s: float = 0.0
    #: How many times the trace is played, one after the other with a mean gap between; hashes differ from time to time.
    repeat: int = 1
    #: One session stands for this many: a random one in so many is kept.
    represent: int = 1
    #: Stop after this many sessions.
    limit: int | None = None
    #: Factor on every tool and think time.
    think_time_scale: float = 1.0

    def __post_init__(self) -> None:
        TierMix(self.tiers)
        for name in ("speedup", "think_time_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a positive number, not {value!r}")
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise InputError(f"start_s must be at least 0, not {self.start_s!r}")
        if self.repeat < 1:
            raise InputError(f"a trace is played at least once, not {self.repeat} times")

    def sessions(self) -> Iterator[Session]:
        """The sessions in order of arrival, read as they are asked for."""
        chosen = self._at_recorded_times() if self.arrivals is None else self._at_given_times(self.arrivals)
        tiers = TierMix(self.tiers).draws(self.seed)
        for number, session in enumerate(islice(chosen, self.limit)):
            session.session_id = number
            session.tier = session.tier or next(tiers)
            if self.think_time_scale != 1:
                for call in session.calls:
                    call.wait_s *= self.think_time_scale
            yield session

    def _at_recorded_times(self) -> Iterator[Session]:
        kept = kept_one_in(self.represent, self.seed)
        for session in self._repeated():
            if math.isnan(session.arrival_s):
                raise InputError(f"{self.path} does not record when sessions began: give the workload `arrivals`")
            session.arrival_s = (session.arrival_s - self.start_s) / self.speedup
            if session.arrival_s >= self.horizon_s:
                return
            if session.arrival_s >= 0 and next(kept):
                yield session

    def _at_given_times(self, arrivals: Arrivals) -> Iterator[Session]:
        if self.start_s or self.speedup != 1:
            raise InputError("an offset and a speed-up act on recorded arrivals: leave out the workload's `arrivals`, or them")
        kept = kept_one_in(self.represent, self.seed)
        times_s = arrivals.times(stream(self.seed, "workload.arrivals"), 0.0, self.horizon_s)
        return assign_arrivals(self._repeated(), (time_s for time_s in times_s if next(kept)))

    def _repeated(self) -> Iterator[Session]:
        period_s, hashes = 0.0, 0
        for round_number in range(self.repeat):
            count, last_s, largest = 0, 0.0, -1
            for session in read_trace(self.path, self.format):
                count, last_s = count + 1, session.arrival_s
                if self.repeat > 1:
                    largest = max(largest, _shift_hashes(session, round_number * hashes))
                session.arrival_s += round_number * period_s
                yield session
            if not round_number:
                period_s, hashes = last_s * count / max(count - 1, 1), largest + 1


def _shift_hashes(session: Session, by: int) -> int:
    """Tell the hashes of one round from those of another; the largest one as recorded, -1 where there are none."""
    largest = -1
    for call in session.calls:
        if call.hash_ids:
            largest = max(largest, *call.hash_ids)
            call.hash_ids = tuple(each + by for each in call.hash_ids)
    return largest


def assign_arrivals(sessions: Iterable[Session], times_s: Iterable[float]) -> Iterator[Session]:
    """`sessions`, each beginning at the next of `times_s`; ends with the shorter of the two."""
    for session, time_s in zip(sessions, times_s, strict=False):
        session.arrival_s = time_s
        yield session
