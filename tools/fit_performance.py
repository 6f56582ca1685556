"""Fit the efficiencies of serving backends to measurements, and write them as the catalogue's backends.yaml.

    python tools/fit_performance.py DATA/perf [--write FILE]

One set of coefficients per backend and GPU generation, none per point. The loss is robust (soft L1 on log ratios), as some
points were taken with multi-token prediction that their labels do not mention. Time to first token counts where nothing
queues: at most four requests in flight.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from phase_points import read_phases
from scipy.optimize import least_squares
from serving_points import Point, read_points

from twin.performance import Coefficients, closed_loop, step_cost_with

#: name -> (prior, lowest, highest, unit of the catalogue, its size in SI). Ceilings of the shares are what microbenchmarks
#: reach: large GEMMs 0.65-0.73 of peak on H100 and H200, memory 0.8-0.9, all-reduce 0.82; all-to-all of MoE layers 0.2-0.3.
#: Arithmetic and collectives both grow with tokens, so points tell them apart poorly: without these limits one eats the other.
COEFFICIENTS = {
    "gemm_compute_eff": (0.6, 0.05, 0.75, "", 1.0),
    "memory_eff": (0.75, 0.2, 0.9, "", 1.0),
    "expert_memory_eff": (0.6, 0.1, 0.9, "", 1.0),
    "attention_compute_eff": (0.3, 0.02, 0.75, "", 1.0),
    "attention_memory_eff": (0.5, 0.05, 0.9, "", 1.0),
    "collective_eff": (0.7, 0.25, 0.9, "", 1.0),
    "step_overhead_s": (1e-3, 1e-5, 2e-2, " us", 1e-6),
    "layer_overhead_s": (20e-6, 1e-6, 3e-4, " us", 1e-6),
    "expert_layer_overhead_s": (20e-6, 1e-6, 3e-4, " us", 1e-6),
    "collective_latency_s": (6e-6, 1e-7, 5e-5, " us", 1e-6),
    "request_overhead_s": (50e-3, 1e-3, 0.3, " ms", 1e-3),
}
QUIET = 4  # requests in flight up to which time to first token is service, not queueing
TTFT_WEIGHT = 0.3
PRIOR_WEIGHT = 0.5  # against hundreds of points: it only holds what the points say nothing about
SERVING_SOURCE = "InferenceX serving points (ai-dynamo/aiconfigurator)"
PHASES_SOURCE = "Llama-2-70B prompt and token times (Mutinifni/splitwise-sim)"


@dataclass(frozen=True)
class Pair:
    """A measured duration and how to predict it."""

    kind: str
    measured_s: float
    predict: Callable[[Coefficients], float]


@dataclass(frozen=True)
class Fit:
    coefficients: Coefficients
    points: int
    error: dict[str, float]

    @property
    def note(self) -> str:
        errors = ", ".join(f"{kind} {error:.1%}" for kind, error in self.error.items())
        return f"{self.points} points, median error {errors}"


def serving_pairs(points: Iterable[Point]) -> list[Pair]:
    """Time per output token of each point, and time to first token where nothing queues."""
    pairs = []
    for point in points:
        pairs.append(Pair("tpot", point.tpot_s, lambda c, p=point: predict(c, p)[1]))  # type: ignore[misc]
        if point.chunk_tokens and point.concurrency <= QUIET:
            pairs.append(Pair("ttft", point.ttft_s, lambda c, p=point: predict(c, p)[0]))  # type: ignore[misc]
    return pairs


def predict(coefficients: Coefficients, point: Point) -> tuple[float, float]:
    """(ttft_s, tpot_s) of a serving point."""
    cost = step_cost_with(coefficients, point.shape, point.precision, point.layout, point.gpu, point.links)
    estimate = closed_loop(cost, point.concurrency, point.input_tokens, point.output_tokens, point.chunk_tokens)
    return estimate.ttft_s, estimate.tpot_s


def fit(pairs: list[Pair]) -> Fit:
    prior, lowest, highest = (np.log([row[i] for row in COEFFICIENTS.values()]) for i in range(3))
    weights = np.array([TTFT_WEIGHT if pair.kind == "ttft" else 1.0 for pair in pairs])
    measured = np.array([pair.measured_s for pair in pairs])

    def ratios(coefficients: Coefficients) -> np.ndarray:
        return np.array([pair.predict(coefficients) for pair in pairs]) / measured

    def residuals(x: np.ndarray) -> np.ndarray:
        coefficients = Coefficients(*map(float, np.exp(x)))
        return np.concatenate([weights * np.log(ratios(coefficients)), PRIOR_WEIGHT * (x - prior)])

    found = least_squares(residuals, prior, bounds=(lowest, highest), loss="soft_l1", f_scale=0.12, max_nfev=60)
    coefficients = Coefficients(*(float(f"{value:.3g}") for value in np.exp(found.x)))
    error = np.abs(ratios(coefficients) - 1.0)
    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    return Fit(
        coefficients,
        sum(pair.kind == kinds[0] for pair in pairs),
        {kind: statistics.median(e for e, pair in zip(error, pairs, strict=True) if pair.kind == kind) for kind in kinds},
    )


def report(points: list[Point], fits: dict[tuple[str, str], Fit]) -> None:
    """Error of time per output token by GPU, backend, model, precision and mode."""
    errors: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for point in points:
        _, tpot = predict(fits[point.backend, point.generation].coefficients, point)
        mode = "aggregated" if point.chunk_tokens else "decode"
        for key in (("all",), (point.gpu.name, point.backend, point.shape.name, point.precision.weights, mode)):
            errors[key].append(tpot / point.tpot_s - 1)
    for key, ratio in sorted(errors.items()):
        error = sorted(map(abs, ratio))
        print(
            f"{' '.join(key):50} n {len(ratio):4} median |e| {statistics.median(error):6.1%}"
            f" p90 {error[int(len(error) * 0.9)]:6.1%} bias {statistics.median(ratio):+6.1%}"
        )


def backend_lines(
    name: str, description: str, fits: dict[str, Fit], source: str, taken_over: dict[str, tuple[str, str]]
) -> list[str]:
    """One part of backends.yaml; `taken_over`: generation without points -> (generation it copies, status)."""
    lines = [f"  {name}:", f"    description: {description}", "    values:"]
    rows = [
        (generation, f, f'"fitted by tools/fit_performance.py to {source}"', "measured", f.note) for generation, f in fits.items()
    ]
    for generation, (origin, status) in taken_over.items():
        rows.append((generation, fits[origin], f"taken over from {origin}", status, "not measured on this generation"))
    for generation, found, origin, status, note in rows:
        for key, (prior, _, _, unit, size) in COEFFICIENTS.items():
            number = getattr(found.coefficients, key)
            silent = status == "measured" and abs(number / prior - 1.0) < 1e-3  # the points left it where it started
            how = 'source: prior of tools/fit_performance.py, status: assumed, note: "no point tells it"'
            if not silent:
                how = f'source: {origin}, status: {status}, note: "{note}"'
            lines.append(f"      {generation}_{key}: {{value: {number / size:.4g}{unit}, {how}}}")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the efficiencies of serving backends.")
    parser.add_argument("folder", type=Path, help="folder with serving_points.csv and llama2_70b_bloom_a100_h100.csv")
    parser.add_argument("--write", type=Path, help="write this backends.yaml")
    arguments = parser.parse_args()
    points, refused = read_points(arguments.folder / "serving_points.csv")
    for reason, count in refused.most_common():
        print(f"refused {count:4}: {reason}")
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.backend, point.generation].append(point)
    fits = {key: fit(serving_pairs(group)) for key, group in sorted(groups.items())}
    report(points, fits)
    phases: dict[str, list[Pair]] = defaultdict(list)
    for phase in read_phases(arguments.folder / "llama2_70b_bloom_a100_h100.csv"):
        phases[phase.gpu.text("generation")].append(Pair(phase.kind, phase.measured_s, phase.predict_s))
    early = {generation: fit(pairs) for generation, pairs in sorted(phases.items())}
    lines = [
        "# Serving backends by GPU generation: shares of peak rates reached and fixed seconds (twin.performance.Coefficients).",
        "# Written by tools/fit_performance.py.",
        "parts:",
    ]
    for name, title in (("trtllm", "NVIDIA TensorRT-LLM"), ("sglang", "SGLang"), ("vllm", "vLLM")):
        own = {generation: found for (backend, generation), found in fits.items() if backend == name}
        taken_over = {"ampere": ("hopper", "assumed"), "rubin": ("blackwell", "projected")}
        lines += backend_lines(name, title, own, SERVING_SOURCE, taken_over)
    lines += backend_lines("vllm_2023", "vLLM of 2023, before CUDA graphs", early, PHASES_SOURCE, {})
    for generation, found in early.items():
        print(f"vllm_2023 {generation}: {found.note}")
    for (backend, generation), found in fits.items():
        print(f"{backend} {generation}: {found.note}")
    if arguments.write:
        arguments.write.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
