"""Distributions of what streams by, in memory that does not grow with it."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator


class Tally:
    """Whole numbers by how often they come: exact, in memory by the number of different ones."""

    __slots__ = ("_counts", "_sum", "count")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self._sum = 0

    def add(self, value: int) -> None:
        """Note one more."""
        self._counts[value] += 1
        self.count += 1
        self._sum += value

    def quantile(self, share: float) -> float:
        """As numpy's: linear between the two values next to it."""
        place = (self.count - 1) * share
        below, above = self._at(math.floor(place)), self._at(math.ceil(place))
        part = place - math.floor(place)
        return above - (above - below) * (1 - part) if part >= 0.5 else below + (above - below) * part

    def _at(self, rank: int) -> float:
        for value, count in sorted(self._counts.items()):
            if rank < count:
                return float(value)
            rank -= count
        raise IndexError(rank)

    def summary(self) -> dict[str, float]:
        """Mean, p50, p95 and maximum."""
        mean, most = self._sum / self.count, max(self._counts)
        return {"mean": mean, "p50": self.quantile(0.5), "p95": self.quantile(0.95), "max": most}

    def shares(self) -> tuple[list[float], list[float]]:
        """(values, share of all up to each)."""
        values = sorted(self._counts)
        shares, upto = [], 0
        for value in values:
            upto += self._counts[value]
            shares.append(upto / self.count)
        return [float(value) for value in values], shares


class LogTally:
    """Numbers of at least 0 in bins of a hundredth of their size: quantiles to half of that, the mean exact."""

    __slots__ = ("_bins", "_most", "_sum", "count")
    _STEP = math.log(1.01)

    def __init__(self) -> None:
        self._bins: Counter[int | None] = Counter()
        self.count = 0
        self._sum = 0.0
        self._most = 0.0

    def add(self, value: float) -> None:
        """Note one more; 0 has a bin of its own."""
        self._bins[round(math.log(value) / self._STEP) if value > 0 else None] += 1
        self.count += 1
        self._sum += value
        self._most = max(self._most, value)

    def _values(self) -> Iterator[tuple[float, float]]:
        if self._bins[None]:
            yield 0.0, self._bins[None]
        for bin_number in sorted(each for each in self._bins if each is not None):
            yield min(math.exp(bin_number * self._STEP), self._most), self._bins[bin_number]

    def quantile(self, share: float) -> float:
        """The least value that so large a share is at most."""
        upto = 0.0
        for value, weight in self._values():
            upto += weight
            if upto >= share * self.count:
                return value
        return self._most

    def summary(self) -> dict[str, float]:
        """Mean, p50, p95 and maximum."""
        return {
            "mean": self._sum / self.count,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "max": self._most,
        }

    def shares(self) -> tuple[list[float], list[float]]:
        """(values, share of all up to each)."""
        values, shares, upto = [], [], 0.0
        for value, weight in self._values():
            upto += weight
            values.append(value)
            shares.append(upto / self.count)
        return values, shares


class InFlight:
    """How many sessions are under way over time, from their beginnings in order and their lengths; as a step function whose
    time at each level is summed up exactly, and its mean over at most `_BINS` bins of time, which double as time goes on."""

    __slots__ = ("_bin_s", "_bins", "_ends", "_from_s", "_now_s", "_times_s")
    _BINS = 512

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._from_s: float | None = None
        self._now_s = 0.0
        self._times_s: Counter[int] = Counter()
        self._bin_s = 1.0
        self._bins = [0.0] * self._BINS

    def add(self, begin_s: float, length_s: float) -> None:
        """One more session, which begins no earlier than those before."""
        if self._from_s is None:
            self._from_s = self._now_s = begin_s
        self._run_until(begin_s)
        heapq.heappush(self._ends, begin_s + length_s)

    def _run_until(self, to_s: float) -> None:
        while self._ends and self._ends[0] <= to_s:
            self._advance(self._ends[0])
            heapq.heappop(self._ends)
        self._advance(to_s)

    def _advance(self, to_s: float) -> None:
        level = len(self._ends)
        if to_s > self._now_s:
            self._times_s[level] += to_s - self._now_s  # type: ignore[assignment]
            self._fill(self._now_s - (self._from_s or 0.0), to_s - (self._from_s or 0.0), level)
            self._now_s = to_s

    def _fill(self, from_s: float, to_s: float, level: int) -> None:
        bins = self._bins
        while to_s > self._bin_s * self._BINS:
            self._bin_s *= 2
            half = self._BINS // 2
            bins[:half] = [bins[2 * i] + bins[2 * i + 1] for i in range(half)]
            bins[half:] = [0.0] * half
        index = int(from_s / self._bin_s)
        while level and from_s < to_s and index < self._BINS:
            end_s = min((index + 1) * self._bin_s, to_s)
            bins[index] += level * (end_s - from_s)
            from_s, index = end_s, index + 1

    def finish(self) -> None:
        """No more sessions begin: those under way come to their ends."""
        while self._ends:
            self._advance(self._ends[0])
            heapq.heappop(self._ends)

    def summary(self) -> dict[str, float]:
        """Mean over time, p50, p95 and maximum of the number under way."""
        tally = sorted(self._times_s.items())
        total_s = sum(each for _, each in tally)
        if not total_s:
            return {"mean": 0.0, "p50": 0.0, "p95": 0.0, "max": 0}
        quantiles = []
        for share in (0.5, 0.95):
            upto = 0.0
            for level, time_s in tally:
                upto += time_s
                if upto >= share * total_s:
                    quantiles.append(float(level))
                    break
        mean = sum(level * time_s for level, time_s in tally) / total_s
        return {"mean": mean, "p50": quantiles[0], "p95": quantiles[1], "max": tally[-1][0]}

    def series(self) -> tuple[list[float], list[float]]:
        """(end of each bin from the first session on in s, mean number under way in it)."""
        used = max(1, math.ceil((self._now_s - (self._from_s or 0.0)) / self._bin_s))
        return [self._bin_s * (i + 1) for i in range(used)], [each / self._bin_s for each in self._bins[:used]]
