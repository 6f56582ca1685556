"""Recorded rows as series over time, binned so that a figure's size does not depend on how many requests or steps a run had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twin.analysis.columns import TableColumns

#: An answer given within this time falls into one bin whole: far below any bin, far above what rounding leaves of a difference.
_INSTANT_S = 1e-3


def bin_edges(horizon_s: float, bins: int) -> np.ndarray:
    """`bins` equal bins over the run: bins + 1 edges in seconds."""
    return np.linspace(0.0, horizon_s, bins + 1)


@dataclass(frozen=True, slots=True)
class Steps:
    """One numeric column over the steps of one site or loop: a mean over each step that ends at `end_s`."""

    end_s: np.ndarray
    values: np.ndarray

    def mean(self, edges: np.ndarray) -> np.ndarray:
        """Exact time mean in each bin (bins,); NaN where no step reaches, as for a target that is not in force."""
        start_s = np.concatenate(([0.0], self.end_s[:-1]))
        known = ~np.isnan(self.values)
        width_s = self.end_s - start_s
        knots = np.concatenate(([0.0], self.end_s))
        area = np.concatenate(([0.0], np.cumsum(np.where(known, self.values, 0.0) * width_s)))
        covered = np.concatenate(([0.0], np.cumsum(np.where(known, width_s, 0.0))))
        covered_s = np.diff(np.interp(edges, knots, covered))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(covered_s > 1e-9, np.diff(np.interp(edges, knots, area)) / covered_s, np.nan)

    def maximum(self, edges: np.ndarray) -> np.ndarray:
        """Largest step value that ends in each bin (bins,); NaN where none does."""
        return _extreme(np.fmax, self.end_s, self.values, edges)

    def minimum(self, edges: np.ndarray) -> np.ndarray:
        """Smallest step value that ends in each bin (bins,); NaN where none does."""
        return _extreme(np.fmin, self.end_s, self.values, edges)


def _extreme(pick: np.ufunc, at_s: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    result = np.full(len(edges) - 1, np.nan)
    pick.at(result, _bin_of(at_s, edges), values)
    return result


def _bin_of(at_s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Index of the bin (edge, next edge] that each time falls into."""
    return np.clip(np.searchsorted(edges, at_s, side="left") - 1, 0, len(edges) - 2)


class StepTable:
    """A table with rows per step, cut by site (and loop)."""

    def __init__(self, run_dir: Path, table: str):
        self._table = TableColumns(run_dir, table)
        self._time_s = self._table.numbers("time_s")
        self._site = self._table.names("site")

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that have rows, in the order of the table."""
        return self._site.labels

    def steps(self, column: str, site: str) -> Steps:
        """`column` at `site`; the table must have one row per site and step."""
        rows = self._site.are(site)
        return Steps(self._time_s[rows], self._table.numbers(column)[rows])

    def grouped(self, column: str, site: str, group: str) -> dict[str, Steps]:
        """`column` at `site` for each value of `group` (such as each loop)."""
        rows, names = self._site.are(site), self._table.names(group)
        values = self._table.numbers(column)
        found = {}
        for name in names.labels:
            chosen = rows & names.are(name)
            if chosen.any():
                found[name] = Steps(self._time_s[chosen], values[chosen])
        return found


class RequestSeries:
    """Tokens and latencies of a tier over time."""

    def __init__(self, run_dir: Path, horizon_s: float):
        table = TableColumns(run_dir, "requests")
        self._horizon_s = horizon_s
        self._tier = table.names("tier")
        self._first_s = table.numbers("first_token_s")
        self._finish_s = table.numbers("finish_s")
        self._tokens = table.numbers("output_tokens")
        self._latency = {"ttft_s": table.numbers("ttft_s"), "tpot_s": table.numbers("tpot_s")}

    def tokens_per_s(self, tier: str, edges: np.ndarray) -> np.ndarray:
        """Output tokens a second in each bin (bins,), each request's spread evenly from its first token to its last.

        Exact integral of that spread in one pass over the requests: between two edges the cumulated tokens are those of requests
        begun less those of requests ended, each linear in time.
        """
        rows = self._tier.are(tier) & ~np.isnan(self._first_s) & (self._tokens > 0)
        first_s, tokens = self._first_s[rows], self._tokens[rows]
        last_s = np.where(np.isnan(self._finish_s[rows]), self._horizon_s, self._finish_s[rows])
        at_once = last_s - first_s < _INSTANT_S
        rate = np.where(at_once, 0.0, tokens / np.where(at_once, 1.0, last_s - first_s))
        begun = ramp(first_s, rate, edges)
        ended = ramp(last_s, rate, edges)
        sudden = np.bincount(_bin_of(first_s[at_once], edges), tokens[at_once], minlength=len(edges) - 1)
        return np.maximum(np.diff(begun - ended) + sudden, 0.0) / np.diff(edges)

    def quantiles(self, tier: str, measure: str, edges: np.ndarray, q: tuple[float, ...], fewest: int = 5) -> np.ndarray:
        """Quantiles of "ttft_s" (by first token) or "tpot_s" (by finish) in each bin (len(q), bins); NaN in bins with fewer
        than `fewest` requests, where a quantile says little."""
        at_s = self._first_s if measure == "ttft_s" else self._finish_s
        values = self._latency[measure]
        rows = self._tier.are(tier) & ~np.isnan(at_s) & ~np.isnan(values)
        where, values = _bin_of(at_s[rows], edges), values[rows]
        order = np.lexsort((values, where))
        where, values = where[order], values[order]
        bounds = np.searchsorted(where, np.arange(len(edges)))
        result = np.full((len(q), len(edges) - 1), np.nan)
        for i in range(len(edges) - 1):
            inside = values[bounds[i] : bounds[i + 1]]
            if len(inside) >= fewest:
                result[:, i] = np.quantile(inside, q)
        return result


def ramp(start_s: np.ndarray, rate: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """sum of rate x max(0, edge - start) at each edge."""
    order = np.argsort(start_s, kind="stable")
    start_s, rate = start_s[order], rate[order]
    rates = np.concatenate(([0.0], np.cumsum(rate)))
    offsets = np.concatenate(([0.0], np.cumsum(rate * start_s)))
    count = np.searchsorted(start_s, edges, side="right")
    return rates[count] * edges - offsets[count]


def busiest_unit(values: np.ndarray, unit: str) -> tuple[float, str]:
    """Divisor and prefixed unit that bring the largest of `values` to 1..1000: (1000.0, "kW")."""
    known = values[np.isfinite(values)]
    largest = float(np.abs(known).max()) if len(known) else 0.0
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= factor:
            return factor, prefix + unit
    return 1.0, unit
