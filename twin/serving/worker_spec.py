"""What an engine instance is, and the running totals it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from twin.performance import GpuPower, StepCost


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What an instance is: its cost model, power, memory and scheduling limits.

    `kv_capacity_tokens` counts KV tokens over the whole instance; `gpus` how many GPUs work in lockstep.
    """

    name: str
    role: Literal["aggregated", "prefill", "decode"]
    cost: StepCost
    power: GpuPower
    gpus: int
    kv_capacity_tokens: int
    max_sequences: int
    max_batched_tokens: int
    prefill_first: bool = False


class Progress(NamedTuple):
    """Running totals of an instance up to a moment. Energy is that of its GPUs, idle time included."""

    energy_j: float
    busy_s: float
    ideal_s: float
    output_tokens: float
    prefill_tokens: float
    decode_batch_s: float
