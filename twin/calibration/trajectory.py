"""What a replayed point spent its time on, so that other coefficients can be priced without replaying it.

The mean time to first token of N requests is (1/N) times the integral of how many wait for theirs, and the mean time per output
token is close to the time integral of how many decode over the tokens they gain: both are sums over the engines' steps of a
weight times the step's time. A trajectory keeps those weights, for classes of similar steps, with what a step of each class
consists of at efficiency 1. Coefficients change the times; that they also change which steps there are is mended by replaying
with the coefficients found.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from twin.calibration.replay import replay
from twin.calibration.serving_points import ServingPoint
from twin.calibration.step_terms import Column, Setup, Terms, terms_of
from twin.performance import Coefficients, StepCost
from twin.serving import Jump, Worker

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Classes of steps of one point with their weights in its mean times. `ttft_s` and `tpot_s` are those of the replay."""

    terms: Terms
    ttft_weight: Floats
    tpot_weight: Floats
    ttft_s: float
    tpot_s: float
    front_end_s: float
    input_tokens: float
    ttft_scale: float
    tpot_scale: float

    def times_s(self, use: Coefficients) -> tuple[float, float]:
        """(ttft_s, tpot_s) with other coefficients, as far as the same steps are taken."""
        step_s = self.terms.step_s(use)
        front_end_s = self.front_end_s + use.request_overhead_s + use.input_token_overhead_s * self.input_tokens
        ttft_s = self.ttft_scale * (float(self.ttft_weight @ step_s) + front_end_s)
        return ttft_s, self.tpot_scale * float(self.tpot_weight @ step_s)


def trajectory(point: ServingPoint, coefficients: Coefficients, classes: int = 64) -> Trajectory:
    """Replay `point` and keep what its time went to, in up to about `classes` classes of steps an instance role."""
    rows: dict[str, list[tuple[float, ...]]] = {"prefill": [], "decode": [], "aggregated": []}

    def on_jump(worker: Worker, jump: Jump) -> None:
        rows[worker.role].append(_row(jump, worker.spec.cost))

    done = replay(point, coefficients, on_jump)
    first = np.array([request.first_token_s for request in done.requests])
    # Waiting counts from the queue on; the front end before it is the same for all.
    inputs = np.array([request.input_tokens for request in done.requests])
    front_end = coefficients.request_overhead_s + coefficients.input_token_overhead_s * inputs
    queued = np.array([request.arrival_s for request in done.requests]) + front_end
    outputs = np.array([request.output_tokens for request in done.requests])
    several = outputs > 1
    per_token = float(np.sum(several)) / max(1.0, float(np.sum(outputs[several] - 1)))
    parts: list[tuple[Terms, Floats, Floats]] = []
    for role, role_rows in rows.items():
        if not role_rows:
            continue
        instance = point.prefill if role == "prefill" and point.prefill is not None else point.engine
        table = np.array(role_rows)
        waits = role != "decode"
        merged, ttft, tpot = _classes(table, instance.count, queued, first, waits, classes)
        setup = Setup(point.shape, point.precision, instance.layout, point.gpu, point.links, point.campaign.draft_tokens)
        parts.append((terms_of(setup, merged), ttft / len(done.requests), tpot * per_token / len(done.requests)))
    terms = Terms(*(np.concatenate([getattr(part[0], f.name) for part in parts]) for f in fields(Terms)))
    ttft_weight = np.concatenate([part[1] for part in parts])
    tpot_weight = np.concatenate([part[2] for part in parts])
    # Waits outside the instances' steps: the front end's queue, transfers. What is left is no step's.
    step_s = terms.step_s(coefficients)
    priced_tpot_s = float(tpot_weight @ step_s)
    priced_ttft_s = float(ttft_weight @ step_s) + float(front_end.mean())
    front_end_s = max(0.0, done.ttft_s - priced_ttft_s)
    return Trajectory(
        terms,
        ttft_weight,
        tpot_weight,
        done.ttft_s,
        done.tpot_s,
        front_end_s,
        float(inputs.mean()),
        done.ttft_s / (priced_ttft_s + front_end_s),
        done.tpot_s / priced_tpot_s if priced_tpot_s else 1.0,
    )


def _row(jump: Jump, cost: StepCost) -> tuple[float, ...]:
    """Start, end, steps, and means over the steps: sequences, tokens gained, prompt tokens, decode context, prompt pairs and
    prefix, and what of tokens, pairs and prefix the fullest attention rank has above the mean one, times the ranks."""
    steps = jump.steps
    later = 0.5 * (steps - 1)
    drafted = 1 + cost.speculation.draft_tokens
    prompt = jump.tokens - jump.decodes * drafted
    late = late_pairs = late_prefix = 0.0
    if jump.late is not None:
        gemm_s, compute_s, compute_growth_s, memory_s, memory_growth_s = jump.late
        late = gemm_s / cost.rank_gemm_compute_s_per_token
        late_pairs = (compute_s + later * compute_growth_s) / cost.prefill_attention_compute_s
        late_prefix = (memory_s + later * memory_growth_s) / cost.attention_memory_s
    pairs, context = jump.pairs + later * jump.pair_growth, jump.contexts + later * jump.gained
    prefix = jump.read - jump.contexts + later * (jump.read_growth - jump.gained)
    head = (jump.start_s, jump.end_s, steps, jump.decodes, jump.gained, prompt, context)
    return (*head, pairs, prefix, late, late_pairs, late_prefix)


def _classes(
    table: Floats, workers: int, queued: Floats, first: Floats, waits: bool, classes: int
) -> tuple[Floats, Floats, Floats]:
    """Rows merged by similar sequences and prompt tokens; for each class the weights in the sums of TTFT and decode time."""
    start, end, steps = table[:, Column.START], table[:, Column.END], table[:, Column.STEPS]
    waiting = np.zeros(len(table))
    if waits:
        ahead = _waited(queued, end) - _waited(first, end) - _waited(queued, start) + _waited(first, start)
        waiting = ahead / np.maximum(end - start, 1e-12) * steps / workers
    decoding = table[:, Column.DECODES] * steps
    fine = max(1.0, classes / 12)
    key = np.round(fine * np.log2(table[:, Column.DECODES] + 1)) * 1000 + np.round(fine * np.log2(table[:, Column.PROMPT] + 1))
    _, place = np.unique(key, return_inverse=True)
    # Means over a class by what its steps weigh in both figures.
    share = waiting / max(waiting.sum(), 1e-300) + decoding / max(decoding.sum(), 1e-300) + 1e-12
    weight = np.bincount(place, share)
    merged = np.stack([np.bincount(place, share * column) / weight for column in table.T], axis=1)
    return merged, np.bincount(place, waiting).astype(float), np.bincount(place, decoding).astype(float)


def _waited(times: Floats, until: Floats) -> Floats:
    """Integral up to `until` of how many of `times` have come."""
    ordered = np.sort(times)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    count = np.searchsorted(ordered, until, side="right")
    waited: Floats = count * until - sums[count]
    return waited
