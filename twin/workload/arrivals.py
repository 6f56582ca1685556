"""When sessions begin: Poisson, gamma (bursty or steady), or Poisson with a rate profile."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Protocol

import numpy as np

from twin.errors import InputError, Problem

_CHUNK = 1024
#: Least and largest coefficient of variation of gaps that can be drawn with sense.
BURSTINESS = (1e-3, 100.0)

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class Arrivals(Protocol):
    """A point process on the time axis."""

    def times(self, rng: np.random.Generator, start_s: float, end_s: float) -> Iterator[float]:
        """Times in [start_s, end_s), never falling; `end_s` may be infinite and changes nothing before it."""
        ...


def _positive(value: float, what: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{what} must be a positive number, not {value!r}")


def _until(end_s: float, start_s: float, gaps_s: Callable[[], Floats]) -> Iterator[float]:
    """The running sums of `gaps_s()`, called again and again, from `start_s` until `end_s`."""
    last_s = start_s
    while True:
        times_s: list[float] = (last_s + np.cumsum(gaps_s())).tolist()
        for time_s in times_s:
            if time_s >= end_s:
                return
            yield time_s
        last_s = times_s[-1]


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Everything at the beginning: for a client that decides itself when to let the next one in."""

    def times(self, rng: np.random.Generator, start_s: float, end_s: float) -> Iterator[float]:
        """`start_s` without end."""
        return repeat(start_s)


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals at a constant rate."""

    rate_per_s: float

    def __post_init__(self) -> None:
        _positive(self.rate_per_s, "the arrival rate")

    def times(self, rng: np.random.Generator, start_s: float, end_s: float) -> Iterator[float]:
        """Gaps are exponential with mean 1/rate."""
        return _until(end_s, start_s, lambda: rng.standard_exponential(_CHUNK) / self.rate_per_s)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gaps drawn from a gamma distribution: burstier (`burstiness` > 1) or steadier (< 1) than Poisson."""

    rate_per_s: float
    #: Coefficient of variation of the gaps; 1 is Poisson.
    burstiness: float

    def __post_init__(self) -> None:
        _positive(self.rate_per_s, "the arrival rate")
        if not BURSTINESS[0] <= self.burstiness <= BURSTINESS[1]:
            raise InputError(f"the burstiness must be from {BURSTINESS[0]:g} to {BURSTINESS[1]:g}, not {self.burstiness!r}")

    def times(self, rng: np.random.Generator, start_s: float, end_s: float) -> Iterator[float]:
        """Shape 1/burstiness^2 and scale burstiness^2/rate give mean 1/rate and the coefficient of variation asked for."""
        shape = self.burstiness**-2
        scale_s = 1 / (shape * self.rate_per_s)
        return _until(end_s, start_s, lambda: rng.standard_gamma(shape, _CHUNK) * scale_s)


@dataclass(frozen=True, slots=True)
class Profile:
    """Poisson arrivals, the rate linear between `points` (time_s, rate_per_s), constant before the first and after the last."""

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("a rate profile needs at least one point")
        if any(not (math.isfinite(t) and math.isfinite(r) and r >= 0) for t, r in self.points):
            raise InputError("the points of a rate profile must be finite, with rates of at least 0")
        if any(b[0] <= a[0] for a, b in pairwise(self.points)):
            raise InputError("the times of a rate profile must increase")
        if all(r == 0 for _, r in self.points):
            raise InputError("a rate profile must not be 0 throughout")

    def times(self, rng: np.random.Generator, start_s: float, end_s: float) -> Iterator[float]:
        """Exact, by inverting the integrated rate at the points of a unit Poisson process."""
        due = _unit_exponentials(rng)
        need = next(due)
        for from_s, to_s, rate, slope in self._segments(start_s):
            now = from_s
            while now < end_s:
                step_s = _time_to_integrate(need, rate + slope * (now - from_s), slope)
                if now + step_s >= to_s:
                    need -= _integral(rate + slope * (now - from_s), slope, to_s - now)
                    break
                now += step_s
                if now >= end_s:
                    return
                yield now
                need = next(due)
            if to_s >= end_s:
                return

    def _segments(self, start_s: float) -> Iterator[tuple[float, float, float, float]]:
        """(from, to, rate at from, slope) of each linear piece from `start_s` on; the last one is endless."""
        first, last = self.points[0], self.points[-1]
        if start_s < first[0]:
            yield start_s, first[0], first[1], 0.0
        for (t0, r0), (t1, r1) in pairwise(self.points):
            slope = (r1 - r0) / (t1 - t0)
            if t1 > start_s:
                begin = max(t0, start_s)
                yield begin, t1, r0 + slope * (begin - t0), slope
        yield max(start_s, last[0]), math.inf, last[1], 0.0


def _unit_exponentials(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.standard_exponential(_CHUNK).tolist()


def _integral(rate: float, slope: float, span_s: float) -> float:
    return rate * span_s + slope * span_s * span_s / 2 if rate or slope else 0.0


def _time_to_integrate(need: float, rate: float, slope: float) -> float:
    """The x > 0 with rate x + slope x^2 / 2 = need; infinite where the falling rate reaches 0 first."""
    root = rate * rate + 2 * slope * need
    if root < 0 or (rate == 0 and slope <= 0):
        return math.inf
    return 2 * need / (rate + math.sqrt(root))  # the form of the quadratic's root that does not cancel


def read_profile(path: Path) -> Profile:
    """A profile from a CSV file with the columns `time_s,rate_per_s`. Raises InputError with every bad row's place."""
    problems: list[Problem] = []
    points: list[tuple[float, float]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows: Iterator[Sequence[str]] = csv.reader(file)
            if list(next(rows, [])) != ["time_s", "rate_per_s"]:
                raise InputError([Problem(str(path), 1, 1, "", "the header must be time_s,rate_per_s")])
            for line, row in enumerate(rows, start=2):
                try:
                    time_s, rate = map(float, row)
                    points.append((time_s, rate))
                except ValueError:
                    problems.append(Problem(str(path), line, 1, "", f"expected a time and a rate, not {','.join(row)!r}"))
    except OSError as error:
        raise InputError([Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror}")]) from None
    if problems:
        raise InputError(problems)
    try:
        return Profile(tuple(points))
    except InputError as error:
        raise InputError([Problem(str(path), 1, 1, "", str(error))]) from None


#: Arrival processes by the name scenarios use.
ARRIVALS: dict[str, type[Poisson] | type[Gamma] | type[Profile]] = {"poisson": Poisson, "gamma": Gamma, "profile": Profile}
