"""Steady state of one instance under closed-loop load, in closed form: what a benchmark at fixed concurrency measures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.performance.cost import StepCost


@dataclass(frozen=True, slots=True)
class LoopEstimate:
    """Mean time to first token without queueing, and mean time per further output token."""

    ttft_s: float
    tpot_s: float


def closed_loop(cost: StepCost, concurrency: int, input_tokens: int, output_tokens: int, chunk_tokens: int) -> LoopEstimate:
    """`concurrency` requests always in flight, each of `input_tokens` and `output_tokens`, prompts chunked into decode steps.

    Each decode step finishes concurrency / output_tokens requests and so admits as many prompts: a share q of the steps
    carries a chunk, the rest decode alone. `chunk_tokens` 0 means prompts are computed elsewhere (a decode pool); TTFT is
    then that of one prompt alone on this instance. Queueing is left out.
    """
    context = concurrency * (input_tokens + output_tokens / 2)
    plain = cost.step_s(concurrency, context)
    chunks = math.ceil(input_tokens / chunk_tokens) if chunk_tokens else 1
    chunk = input_tokens / chunks
    pairs = chunk * (input_tokens + 1) / 2  # a chunk's share of the prompt's causal pairs
    prefix = input_tokens * (chunks - 1) / (2 * chunks)  # mean over the chunks
    if not chunk_tokens:
        alone = cost.step_s(input_tokens, 0.0, input_tokens * (input_tokens + 1) / 2)
        return LoopEstimate(cost.request_overhead_s + alone, plain)
    per_step = concurrency * chunks / output_tokens  # chunks a decode step has to carry
    share = min(1.0, per_step)
    load = per_step / share
    mixed = cost.step_s(round(concurrency + load * chunk), context, load * pairs, load * prefix)
    alone = cost.step_s(round(concurrency - 1 + chunk), context * (concurrency - 1) / concurrency, pairs, prefix)
    wait = plain / 2 if concurrency > 1 else 0.0  # for the step in flight
    return LoopEstimate(cost.request_overhead_s + wait + chunks * alone, (1.0 - share) * plain + share * mixed)
