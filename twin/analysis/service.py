"""What users got: which requests kept their tier's promises, and the distribution of each latency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twin.analysis.columns import Names, TableColumns
from twin.analysis.totals import TierObjectives

LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
#: Outcomes of a request whose whole answer was delivered.
FINISHED = ("completed", "moved")


class Requests:
    """The requests of a run with the verdict on each.

    `finished`: its answer was delivered. `judged`: it is known whether it met every objective of its tier: it finished, was
    rejected, or is still in flight at the horizon and already late. `met`: it finished and met them all; a request of one
    token has no time per token and meets that objective.
    """

    def __init__(self, run_dir: Path, objectives: Mapping[str, TierObjectives], horizon_s: float):
        table = TableColumns(run_dir, "requests")
        self.tier: Names = table.names("tier")
        self.outcome: Names = table.names("outcome")
        self.arrival_s = table.numbers("arrival_s")
        self.finish_s = table.numbers("finish_s")
        self.admitted_s = table.numbers("admitted_s")
        self.output_tokens = table.integers("output_tokens")
        self.input_tokens = table.integers("input_tokens")
        self.cached_tokens = table.integers("cached_tokens")
        self.lower_cached_tokens = table.integers("lower_cached_tokens")
        self.tenant: Names = table.names("tenant")
        self.reason: Names = table.names("reason")
        self.first_token_s = table.numbers("first_token_s")
        self.storage_cached_tokens = table.integers("storage_cached_tokens")
        self.recomputed_tokens = table.integers("recomputed_tokens")
        self.latency = {name: table.numbers(name) for name in LATENCIES}
        self.finished = self.outcome.are(*FINISHED)
        self._horizon_s = horizon_s
        late = np.zeros(len(self.arrival_s), bool)
        for name, objective in objectives.items():
            for measure in LATENCIES:
                late |= self.of_tier(name) & self._late(measure, getattr(objective, measure))
        self.met = self.finished & ~late
        self.judged = self.finished | self.outcome.are("rejected") | (self.outcome.are("in_flight") & late)

    def _late(self, measure: str, bound: float | None) -> np.ndarray:
        """Requests later than `bound` by the horizon. A wait that goes on counts from arrival to the horizon."""
        value = self.latency[measure]
        if bound is None:
            return np.zeros(len(value), bool)
        if measure != "tpot_s":
            value = np.where(np.isnan(value), self._horizon_s - self.arrival_s, value)
        return value > bound

    def attainment_by_objective(self, name: str, objectives: TierObjectives) -> dict[str, float | None]:
        """Share of a tier's requests that met each objective alone, of those of which it is known: they have the latency, were
        rejected (broken) or are late already. None where there is no such objective or nothing is known."""
        found: dict[str, float | None] = {}
        mask, rejected = self.of_tier(name), self.outcome.are("rejected")
        for measure in LATENCIES:
            bound = getattr(objectives, measure)
            late = self._late(measure, bound) | rejected
            known = int(np.count_nonzero(mask & (self.finished | ~np.isnan(self.latency[measure]) | late)))
            found[measure] = None if bound is None or not known else 1 - int(np.count_nonzero(mask & late)) / known
        return found

    def of_tier(self, name: str) -> np.ndarray:
        """Mask of a tier's requests."""
        return self.tier.are(name)

    def attainment_frac(self, mask: np.ndarray) -> float | None:
        """Share of the judged requests of `mask` that met every objective; None where none is judged."""
        judged = int(np.count_nonzero(self.judged & mask))
        return int(np.count_nonzero(self.met & mask)) / judged if judged else None

    def good_tokens(self, mask: np.ndarray) -> int:
        """Goodput: output tokens of requests of `mask` that met every objective."""
        return int(self.output_tokens[self.met & mask].sum())


def task_attainment_frac(run_dir: Path, tier: str, bound_s: float | None, horizon_s: float) -> float | None:
    """Share of a tier's sessions whose task ended within `bound_s` of its first call, of those judged: finished, rejected, or
    late already at the horizon. None without a bound or without any."""
    if bound_s is None:
        return None
    table = TableColumns(run_dir, "sessions")
    mask, outcome = table.names("tier").are(tier), table.names("outcome")
    start_s, finish_s = table.numbers("start_s"), table.numbers("finish_s")
    finished = outcome.are(*FINISHED)
    late = np.where(np.isnan(finish_s), horizon_s, finish_s) - start_s > bound_s
    judged = int(np.count_nonzero(mask & (finished | ~outcome.are("in_flight") | late)))
    return int(np.count_nonzero(mask & finished & ~late)) / judged if judged else None


def distribution(values: np.ndarray) -> dict[str, float | None]:
    """mean, p50, p90, p99 of the values that are not NaN, exact (linear between order statistics); None where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {"mean": None, "p50": None, "p90": None, "p99": None}
    p50, p90, p99 = (float(q) for q in np.quantile(known, (0.5, 0.9, 0.99)))
    # fsum: correctly rounded in any order, so the same bytes on any machine.
    return {"mean": math.fsum(known.tolist()) / len(known), "p50": p50, "p90": p90, "p99": p99}
