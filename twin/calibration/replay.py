"""Runs a measured point: real workers under a benchmark's client, with given coefficients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twin.calibration.serving_points import Instance, ServingPoint
from twin.performance import Coefficients, Speculation, gpu_power, step_cost_with
from twin.serving import ClosedLoop, Jump, Request, Role, Worker, WorkerSpec

#: A client in one process sends requests this far apart (an event loop and a connection each); assumed.
_SPACING_S = 1e-3
#: Share of the NICs' line rate that KV transfers reach: 87 of 100 GB/s over 4 x 200 Gb/s (measured, FACTS 3).
_TRANSFER_FRAC = 0.87
#: Share of drafts that are accepted while all before them are, on R1: what fits the speculating points best.
ACCEPTANCE_FRAC = 0.66

OnJump = Callable[[Worker, Jump], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Mean times of a point's requests, and the requests."""

    ttft_s: float
    tpot_s: float
    requests: list[Request]


def replay(point: ServingPoint, coefficients: Coefficients, on_jump: OnJump | None = None) -> Replayed:
    """The means that a benchmark at this point would print. Raises InputError where an instance cannot hold a request.

    Deterministic: lengths are drawn from the point's own sizes. `on_jump` hears of the steps of each worker as they end.
    """
    engines = _workers(point, coefficients, point.engine, "aggregated" if point.prefill is None else "decode")
    prefills = [] if point.prefill is None else _workers(point, coefficients, point.prefill, "prefill")
    if on_jump is not None:
        for worker in (*prefills, *engines):
            worker.on_jump = on_jump
    kv_token = point.shape.kv_bytes_per_token(point.precision.kv)
    nics = max(1, min(worker.spec.gpus for worker in (*prefills, *engines)))
    rate = nics * point.gpu.number("nic_bytes_per_s") * _TRANSFER_FRAC
    client = ClosedLoop(
        lengths=lengths(point),
        concurrency=point.concurrency,
        front_end_s=(prefills or engines)[0].spec.cost.front_end_s,
        spacing_s=_SPACING_S,
        transfer_s=lambda tokens: tokens * kv_token / rate,
    )
    requests = client.run(prefills or engines, engines if prefills else ())
    first = np.array([request.first_token_s for request in requests])
    arrival = np.array([request.arrival_s for request in requests])
    finish = np.array([request.finish_s for request in requests])
    outputs = np.array([request.output_tokens for request in requests])
    several = outputs > 1
    tpot_s = (finish - first)[several] / (outputs[several] - 1)
    ttft_s = float((first - arrival).mean()) + _cold_start_s(point)
    return Replayed(ttft_s, float(tpot_s.mean()), requests)


def _cold_start_s(point: ServingPoint) -> float:
    """What a client without warm-up adds to the mean time to first token: kernels are compiled in the first step with as many
    prompt tokens as a step takes, and all requests of the first wave wait for it."""
    campaign = point.campaign
    full = min(point.concurrency, len(lengths(point))) * point.input_tokens > campaign.batched_tokens
    return campaign.cold_start_s / campaign.waves if full else 0.0


def lengths(point: ServingPoint) -> list[tuple[int, int]]:
    """(input, output) tokens of each request of the point's benchmark, drawn from its own sizes."""
    campaign, count = point.campaign, point.campaign.waves * point.concurrency
    draws = np.random.default_rng([point.input_tokens, point.output_tokens, point.concurrency])

    def drawn(tokens: int) -> list[int]:
        low, high = int(campaign.length_from * tokens), int(campaign.length_to * tokens)
        drawn: list[int] = draws.integers(max(1, low), max(1, high) + 1, count).tolist()
        return drawn

    inputs = drawn(point.input_tokens) if campaign.vary_inputs else [point.input_tokens] * count
    return list(zip(inputs, drawn(point.output_tokens), strict=True))


def _workers(point: ServingPoint, coefficients: Coefficients, instance: Instance, role: Role) -> list[Worker]:
    campaign, layout = point.campaign, instance.layout
    speculation = Speculation(campaign.draft_tokens, ACCEPTANCE_FRAC if campaign.draft_tokens else 0.0)
    cost = step_cost_with(coefficients, point.shape, point.precision, layout, point.gpu, point.links, speculation)
    batched = campaign.batched_tokens
    if campaign.scheduling == "chunked" and campaign.per_rank:
        # Whole prompts join the decoding sequences: a step takes at least one.
        batched = max(batched, point.input_tokens + point.concurrency * (1 + campaign.draft_tokens)) * layout.dp
    places = max(1, -(-point.concurrency // instance.count) - campaign.unused_places)
    if campaign.most_sequences:
        places = min(places, campaign.most_sequences)
    return [
        Worker(
            WorkerSpec(
                name=f"{role}-{number}",
                role=role,
                cost=cost,
                power=gpu_power(point.gpu),
                gpus=layout.gpus,
                kv_capacity_tokens=instance.kv_capacity_tokens,
                max_sequences=places if role != "prefill" else point.concurrency,
                max_batched_tokens=batched,
                prefill_first=campaign.scheduling == "prefill_first",
                reserve_answers=campaign.reserve_answers,
                prompt_wait_steps=campaign.wait_steps,
                prompt_wait_tokens=round(campaign.wait_tokens_frac * batched),
            )
        )
        for number in range(instance.count)
    ]
