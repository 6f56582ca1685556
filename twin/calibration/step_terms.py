"""What engine steps consist of at efficiency 1, and their time with any coefficients: `StepCost` over arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.catalog import Part
from twin.performance import (
    IDEAL,
    Coefficients,
    Interconnect,
    ModelShape,
    Parallelism,
    Precision,
    Speculation,
    StepCost,
    step_cost_with,
)
from twin.performance.collectives import collectives

Floats = NDArray[np.float64]


class Column(IntEnum):
    """Columns of a row of steps: when they began and ended, how many, and means over them. `GAINED` tokens and the decode
    `CONTEXT` are sums over the sequences; `PAIRS` and `PREFIX` belong to the prompt tokens; what the fullest attention rank has
    above the mean one, times the ranks, is `LATE`."""

    START = 0
    END = 1
    STEPS = 2
    DECODES = 3
    GAINED = 4
    PROMPT = 5
    CONTEXT = 6
    PAIRS = 7
    PREFIX = 8
    LATE = 9
    LATE_PAIRS = 10
    LATE_PREFIX = 11


class Setup(NamedTuple):
    """What an instance's steps are priced for."""

    shape: ModelShape
    precision: Precision
    layout: Parallelism
    gpu: Part
    links: Interconnect
    drafts: int


@dataclass(frozen=True, slots=True)
class Terms:
    """Steps at efficiency 1, a value a class: seconds, and how often each overhead counts. `drafts` holds those of one draft
    pass, which counts `draft_weight` times, and `head_s` is read once a draft."""

    gemm_compute_s: Floats
    window_s: Floats
    gemm_memory_s: Floats
    attention_compute_s: Floats
    attention_memory_s: Floats
    transfer_s: Floats
    latency_s: Floats
    stages: Floats
    layers: Floats
    expert_layers: Floats
    collectives: Floats
    sequences: Floats
    prompt_layers: Floats
    prompt_expert_layers: Floats
    draft_compute_s: Floats
    draft_window_s: Floats
    draft_memory_s: Floats
    draft_transfer_s: Floats
    draft_latency_s: Floats
    draft_weight: Floats
    head_s: Floats

    def step_s(self, use: Coefficients) -> Floats:
        """Seconds of a step of each class with given coefficients: `StepCost.step_s` over arrays."""
        gemm = np.maximum(
            self.gemm_compute_s / use.gemm_compute_eff + self.window_s / use.attention_compute_eff,
            self.gemm_memory_s / use.memory_eff,
        )
        attention = np.maximum(
            self.attention_compute_s / use.attention_compute_eff, self.attention_memory_s / use.attention_memory_eff
        )
        fixed = (
            self.stages * use.step_overhead_s
            + self.layers * use.layer_overhead_s
            + self.expert_layers * use.expert_layer_overhead_s
        )
        latency = self.latency_s + self.collectives * use.collective_latency_s
        host = (
            fixed
            + self.sequences * use.sequence_overhead_s
            + self.prompt_layers * use.prompt_layer_overhead_s
            + self.prompt_expert_layers * use.prompt_expert_layer_overhead_s
        )
        draft = np.maximum(
            self.draft_compute_s / use.gemm_compute_eff + self.draft_window_s / use.attention_compute_eff,
            self.draft_memory_s / use.memory_eff,
        )
        draft = draft + self.draft_transfer_s / use.collective_eff + latency + fixed
        drafts = self.draft_weight * (draft / self.layers + self.head_s / use.memory_eff)
        step: Floats = gemm + attention + self.transfer_s / use.collective_eff + latency + host + drafts
        return step


def terms_of(setup: Setup, merged: Floats) -> Terms:
    """What a step of each row consists of at efficiency 1."""
    drafts, shape = setup.drafts, setup.shape
    args = (*setup[:5], Speculation(drafts, 0.5 if drafts else 0.0))
    cost = step_cost_with(IDEAL, *args)
    slow = step_cost_with(replace(IDEAL, attention_compute_eff=0.5), *args)
    window_s = slow.gemm_compute_s_per_token - cost.gemm_compute_s_per_token
    traffic = collectives(shape, setup.layout, setup.links)
    latency_s = cost.network_s
    rows: list[tuple[float, ...]] = []
    for row in merged:
        decodes, prompt = row[Column.DECODES], row[Column.PROMPT]
        tokens = decodes * (1 + drafts) + prompt
        compute_s, memory_s, network_s = _between(cost, tokens)
        part = cost.part(tokens)
        context = row[Column.CONTEXT] * (1.0 + cost.idle_stages(decodes))
        draft = _between(cost, decodes) if drafts else (0.0, 0.0, 0.0)
        rows.append(
            (
                compute_s - window_s * part + cost.rank_gemm_compute_s_per_token * row[Column.LATE],
                window_s * part,
                memory_s,
                context * (1 + drafts) * cost.decode_attention_compute_s
                + (row[Column.PAIRS] + row[Column.LATE_PAIRS]) * cost.prefill_attention_compute_s,
                (context + row[Column.PREFIX] + row[Column.LATE_PREFIX]) * cost.attention_memory_s,
                network_s - latency_s,
                latency_s,
                cost.pp,
                shape.layers,
                shape.moe_layers,
                traffic.rounds,
                decodes / cost.dp,
                shape.layers * (prompt > 0),
                shape.moe_layers * (prompt > 0),
                draft[0] - window_s * cost.part(decodes) if drafts else 0.0,
                window_s * cost.part(decodes) if drafts else 0.0,
                draft[1],
                draft[2] - latency_s if drafts else 0.0,
                latency_s,
                drafts * (decodes > 0),
                cost.draft_memory_s,
            )
        )
    return Terms(*np.array(rows).T)


def _between(cost: StepCost, tokens: float) -> tuple[float, float, float]:
    """`token_terms` between whole tokens: a class's mean is seldom one."""
    low = int(tokens)
    share = tokens - low
    below, above = cost.token_terms(max(low, 1)), cost.token_terms(max(low, 1) + 1)
    return tuple(b + share * (a - b) for b, a in zip(below, above, strict=True)) if share else below  # type: ignore[return-value]
