"""Collective traffic of a step, alpha-beta: a latency for each round of messages, and seconds per token on the slower network.

Over n GPUs an all-reduce of m bytes sends 2 (n - 1)/n m from each, inside the domain over NVLink, then 2 (d - 1)/d m / n_in
over the NIC for d domains of n_in GPUs. An all-to-all sends each token's copies to the GPUs of its experts: FP8 on the way
out, BF16 on the way back (DeepSeek-AI, DeepEP).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from twin.performance.layout import Interconnect, Parallelism
from twin.performance.shape import ModelShape

_ACTIVATION_BYTES = 2.0
_DISPATCH_BYTES = 1.0


@dataclass(frozen=True, slots=True)
class Collectives:
    """Of one step: rounds of messages (log2 of the participants each, as in a tree), link latencies together, and seconds per
    token at full link rate."""

    rounds: float
    latency_s: float
    s_per_token: float


def collectives(shape: ModelShape, layout: Parallelism, links: Interconnect) -> Collectives:
    """Collectives of one step: two all-reduces per layer over tp; with dp, dispatch and combine in layers with experts."""
    token_bytes = shape.hidden * _ACTIVATION_BYTES
    rounds, latency, per_token = 0.0, 0.0, 0.0

    def add(times: int, gpus: int, s_per_token: float) -> None:
        nonlocal rounds, latency, per_token
        if gpus == 1 or times == 0:
            return
        rounds += times * log2(gpus)
        latency += times * (links.scale_up_latency_s if gpus <= links.domain_gpus else links.scale_out_latency_s)
        per_token += times * s_per_token

    over_tp = _all_reduce_s(token_bytes / layout.dp, layout.tp, links)
    add(shape.layers + shape.dense_layers, layout.tp, over_tp)
    if shape.experts:
        if layout.dp == 1:
            add(shape.moe_layers, layout.tp, over_tp)
        elif layout.ep == 1:  # gathered before the experts, reduced after them: as much as an all-reduce
            add(shape.moe_layers, layout.stage_gpus, _all_reduce_s(token_bytes, layout.stage_gpus, links))
        else:
            sent = shape.hidden * (_DISPATCH_BYTES + _ACTIVATION_BYTES) * min(shape.experts_per_token, layout.ep)
            add(2 * shape.moe_layers, layout.stage_gpus, _all_to_all_s(sent / layout.stage_gpus, layout.stage_gpus, links) / 2)
    return Collectives(rounds, latency, per_token)


def stage_hop_s(shape: ModelShape, layout: Parallelism, links: Interconnect) -> tuple[float, float]:
    """What handing activations from stage to stage adds to a round of a pipe: seconds, and seconds per token of a part.

    Each of the pp parts makes pp hops, the hops of different parts side by side: a round has pp on its way. Over NVLink where
    the whole instance fits the scale-up domain, else over the NICs of the stage's GPUs.
    """
    if layout.pp == 1:
        return 0.0, 0.0
    if layout.gpus <= links.domain_gpus:
        latency_s, rate = links.scale_up_latency_s, links.scale_up_bytes_per_s
    else:
        latency_s, rate = links.scale_out_latency_s, links.scale_out_bytes_per_s * links.scale_out_efficiency_frac
    return layout.pp * latency_s, layout.pp * shape.hidden * _ACTIVATION_BYTES / layout.stage_gpus / rate


def _all_reduce_s(message_bytes: float, gpus: int, links: Interconnect) -> float:
    inside = min(gpus, links.domain_gpus)
    domains = gpus / inside
    up = 2.0 * (inside - 1) / inside * message_bytes / links.scale_up_bytes_per_s
    if domains <= 1:
        return up
    out = 2.0 * (domains - 1) / domains * message_bytes / inside
    return up + out / (links.scale_out_bytes_per_s * links.scale_out_efficiency_frac)


def _all_to_all_s(sent_bytes: float, gpus: int, links: Interconnect) -> float:
    """Seconds to send `sent_bytes` from each GPU evenly to all: NVLink and NIC run side by side, the slower counts."""
    inside = min(gpus, links.domain_gpus)
    up = sent_bytes * (inside - 1) / gpus / links.scale_up_bytes_per_s
    out = sent_bytes * (gpus - inside) / gpus / (links.scale_out_bytes_per_s * links.scale_out_efficiency_frac)
    return max(up, out)
