"""Finds coefficients: few numbers for many points, held by priors where the points say little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from twin.calibration.step_terms import Terms
from twin.calibration.trajectory import Trajectory
from twin.performance import Coefficients

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """Where a coefficient is expected, its limits, and by how much (as a factor, natural log) it may well be off."""

    value: float
    lowest: float
    highest: float
    spread: float


#: Shares: ceilings are what microbenchmarks reach (large GEMMs 0.65-0.73 of peak on H100 and H200, memory 0.8-0.9, all-reduce
#: 0.82, all-to-all of layers with experts 0.2-0.3), with room. Seconds: what traces of engines show.
PRIORS = {
    "gemm_compute_eff": Prior(0.55, 0.03, 0.95, 0.25),
    "memory_eff": Prior(0.75, 0.2, 0.95, 0.2),
    "attention_compute_eff": Prior(0.35, 0.02, 0.95, 0.45),
    "attention_memory_eff": Prior(0.6, 0.05, 0.95, 0.4),
    "collective_eff": Prior(0.5, 0.05, 0.95, 0.4),
    "step_overhead_s": Prior(1e-3, 1e-5, 2e-2, 1.0),
    "layer_overhead_s": Prior(20e-6, 1e-6, 3e-4, 0.7),
    "expert_layer_overhead_s": Prior(20e-6, 1e-6, 3e-4, 0.7),
    "collective_latency_s": Prior(2e-6, 3e-8, 1e-4, 0.7),
    "sequence_overhead_s": Prior(10e-6, 1e-7, 3e-4, 1.0),
    "prompt_layer_overhead_s": Prior(1e-4, 1e-6, 3e-3, 1.0),
    "prompt_expert_layer_overhead_s": Prior(1e-4, 1e-6, 3e-3, 1.0),
    "request_overhead_s": Prior(30e-3, 1e-4, 0.3, 0.7),
    "input_token_overhead_s": Prior(5e-6, 1e-8, 1e-4, 1.0),
}
NAMES = tuple(field.name for field in fields(Coefficients))
#: How strongly coefficients are drawn, against the points of the group: to the priors by those of all points together, which
#: decide all but what they say nothing about; to what is common by those of a backend on a generation, and by those of a format
#: on it. Chosen on points held out: 0.08 for all is best where neighbours of a point were measured (time per token off by 7.0 %
#: instead of 8), and worse for systems (20 % instead of 16) and models (21 % instead of 19) of which none were.
_PRIOR_WEIGHT = 0.08
_COMMON_WEIGHT = 0.25
#: Of time to first token against time per token, in squares, where prompts queue: what queues is chaotic.
_QUEUED_WEIGHT = 0.5
#: Residual (log of the ratio) from which a point counts ever less: some rows are other than their labels say.
_ROBUST = 0.1


@dataclass(frozen=True, slots=True)
class Measured:
    """A replayed point with what was measured."""

    trajectory: Trajectory
    ttft_s: float
    tpot_s: float


class Batch:
    """Points priced together: the classes of all their trajectories in one array."""

    def __init__(self, points: Sequence[Measured]):
        trajectories = [point.trajectory for point in points]
        self._count = len(points)
        self._owner = np.repeat(np.arange(len(points)), [len(t.tpot_weight) for t in trajectories])
        self._terms = Terms(*(np.concatenate([getattr(t.terms, f.name) for t in trajectories]) for f in fields(Terms)))
        self._ttft_weight = np.concatenate([t.ttft_weight for t in trajectories])
        self._tpot_weight = np.concatenate([t.tpot_weight for t in trajectories])
        self._front_end_s = np.array([t.front_end_s for t in trajectories])
        self._input_tokens = np.array([t.input_tokens for t in trajectories])
        self._ttft_scale = np.array([t.ttft_scale for t in trajectories])
        self._tpot_scale = np.array([t.tpot_scale for t in trajectories])
        self.measured_ttft_s = np.array([point.ttft_s for point in points])
        self.measured_tpot_s = np.array([point.tpot_s for point in points])

    def times_s(self, use: Coefficients) -> tuple[Floats, Floats]:
        """(ttft_s, tpot_s) of every point."""
        step_s = self._terms.step_s(use)
        first_s = np.bincount(self._owner, self._ttft_weight * step_s, self._count)
        front_end_s = self._front_end_s + use.request_overhead_s + use.input_token_overhead_s * self._input_tokens
        ttft_s: Floats = self._ttft_scale * (first_s + front_end_s)
        tpot_s: Floats = self._tpot_scale * np.bincount(self._owner, self._tpot_weight * step_s, self._count)
        return ttft_s, tpot_s


def fit(points: Sequence[Measured], around: Coefficients | None = None, ttft_weight: float = _QUEUED_WEIGHT) -> Coefficients:
    """The coefficients that fit `points` best in a robust sense (soft L1 on logs of the ratios).

    They are drawn to `around` (the priors where it is None), less where the priors' spread is wider. `ttft_weight` is that of
    times to first token against times per token, in squares.
    """
    from scipy.optimize import least_squares  # only calibration needs it, and it takes long to load

    batch = Batch(points)
    center = np.log([prior.value for prior in PRIORS.values()] if around is None else astuple(around))
    low = np.log([prior.lowest for prior in PRIORS.values()])
    high = np.log([prior.highest for prior in PRIORS.values()])
    weight = _PRIOR_WEIGHT if around is None else _COMMON_WEIGHT
    pull = weight / np.array([prior.spread for prior in PRIORS.values()])
    log_ttft, log_tpot = np.log(batch.measured_ttft_s), np.log(batch.measured_tpot_s)

    def residuals(x: Floats) -> Floats:
        ttft_s, tpot_s = batch.times_s(Coefficients(*np.exp(x).tolist()))
        wrong = (np.log(tpot_s) - log_tpot, np.sqrt(ttft_weight) * (np.log(ttft_s) - log_ttft), pull * (x - center))
        return np.concatenate(wrong)

    start = np.clip(center, low + 1e-6, high - 1e-6)
    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=_ROBUST, max_nfev=80)
    return rounded(Coefficients(*np.exp(found.x).tolist()))


def fit_groups(points: Mapping[tuple[str, str, str], Sequence[Measured]]) -> dict[tuple[str, str, str], Coefficients]:
    """Coefficients per (backend, generation, format): each group around what its backend and generation have in common, and that
    around what all points have, so that a group of few or odd points is not led astray by them."""
    shared: dict[tuple[str, str], list[Measured]] = {}
    for (backend, generation, _), group in points.items():
        shared.setdefault((backend, generation), []).extend(group)
    if not shared:
        return {}
    overall = fit([point for group in shared.values() for point in group])
    around = {key: fit(group, overall) for key, group in shared.items()}
    return {key: fit(group, around[key[:2]]) for key, group in points.items()}


def rounded(use: Coefficients) -> Coefficients:
    """As they stand in the catalogue: three digits."""
    return Coefficients(*(float(f"{value:.3g}") for value in astuple(use)))
