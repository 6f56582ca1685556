"""How sessions enter the factory: arrival times, thinning for `represent`, tiers and the end of it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from twin.errors import InputError
from twin.rng import stream
from twin.workload.arrivals import Arrivals
from twin.workload.session import Session

_CHUNK = 1024


def uniforms(seed: int, name: str) -> Iterator[float]:
    """Endless uniform draws of the stream `name`."""
    rng = stream(seed, name)
    while True:
        yield from rng.random(_CHUNK).tolist()


def kept_one_in(n: int, seed: int) -> Iterator[bool]:
    """Endless decisions: one session in `n` is kept, at random, so that what remains is a fair sample of the whole."""
    if n < 1:
        raise InputError(f"one session can stand for 1 or more, not {n}")
    if n == 1:
        while True:
            yield True
    for draw in uniforms(seed, "workload.thinning"):
        yield draw * n < 1


class TierMix:
    """Tier (or tenant, `kind` says) -> share of the sessions; a session keeps what it has drawn for all its calls."""

    def __init__(self, shares: Mapping[str, float], kind: str = "tier"):
        if not shares or any(not share >= 0 for share in shares.values()):
            raise InputError(f"{kind} shares must be at least 0, for at least one {kind}")
        if abs(math.fsum(shares.values()) - 1) > 1e-6:
            raise InputError(f"the {kind} shares add up to {math.fsum(shares.values()):g}, not 1")
        self._kind = kind
        self._names = list(shares)
        self._upto = list(accumulate(shares.values()))

    def draws(self, seed: int) -> Iterator[str]:
        """Endless draws for successive sessions, from a stream of their own."""
        if len(self._names) == 1:
            while True:
                yield self._names[0]
        last = len(self._names) - 1
        for draw in uniforms(seed, f"workload.{self._kind}s"):
            yield self._names[min(bisect_right(self._upto, draw), last)]


def with_tenants(sessions: Iterable[Session], shares: Mapping[str, float], seed: int) -> Iterator[Session]:
    """`sessions`, each with its own tenant if it has one and else with one drawn from `shares`."""
    draws = TierMix(shares, "tenant").draws(seed)
    for session in sessions:
        session.tenant = session.tenant or next(draws)
        yield session


@dataclass(frozen=True, slots=True)
class Intake:
    """What every generator needs to know besides the sessions' shapes."""

    arrivals: Arrivals
    seed: int
    #: No session arrives from here on; infinite where `limit` ends it.
    horizon_s: float = math.inf
    tiers: Mapping[str, float] = field(default_factory=lambda: {"default": 1.0})
    #: One session stands for this many: the others are left out before they are made.
    represent: int = 1
    #: Stop after this many sessions.
    limit: int | None = None

    def __post_init__(self) -> None:
        TierMix(self.tiers)
        if math.isinf(self.horizon_s) and self.limit is None:
            raise InputError("sessions without a horizon need a limit on their number")

    def entries(self, start_s: float = 0.0) -> Iterator[tuple[int, float, str]]:
        """(session_id, arrival_s, tier) of the sessions kept, in order of arrival from `start_s`; without regard to `limit`."""
        times = self.arrivals.times(stream(self.seed, "workload.arrivals"), start_s, self.horizon_s)
        tiers = TierMix(self.tiers).draws(self.seed)
        kept = kept_one_in(self.represent, self.seed)
        arrivals = (arrival_s for arrival_s in times if next(kept))
        for session_id, arrival_s in enumerate(arrivals):
            yield session_id, arrival_s, next(tiers)
