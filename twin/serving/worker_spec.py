"""What an engine instance is, and the running totals it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from twin.performance import GpuPower, StepCost
from twin.serving.queue_order import FIFO, QueueSpec

#: `aggregated` does both phases, `prefill` hands the KV on to a `decode` instance.
Role = Literal["aggregated", "prefill", "decode"]


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What an instance is: its cost model, power, memory and scheduling limits.

    `kv_capacity_tokens` counts KV tokens over the whole instance; `gpus` how many GPUs work in lockstep. `max_batched_tokens`
    are new tokens of a step: decoding sequences with their drafts, and prompts. While sequences decode, prompts wait up to
    `prompt_wait_steps` steps to be taken in together, or until `prompt_wait_tokens` of them have come, or where that is 0 a
    prompt for each of several attention ranks (batching delays of engines). With `reserve_answers` a request is admitted when its
    whole answer has room, else when its prompt has, and those that grow out of the memory are preempted: their KV is recomputed,
    or with `swap` put into the tier below. Prefixes are reused by whole blocks of `block_tokens`. `seed` draws what speculation
    accepts. `queue` is the order in which requests wait.
    """

    name: str
    role: Role
    cost: StepCost
    power: GpuPower
    gpus: int
    kv_capacity_tokens: int
    max_sequences: int
    max_batched_tokens: int
    prefill_first: bool = False
    prompt_wait_steps: int = 0
    prompt_wait_tokens: int = 0
    reserve_answers: bool = False
    swap: bool = False
    block_tokens: int = 1
    seed: int = 0
    queue: QueueSpec = FIFO


class Progress(NamedTuple):
    """Running totals of an instance up to a moment. Energy is that of its GPUs, idle time included; `memory_j` is the part of it
    that went into memory traffic."""

    energy_j: float
    busy_s: float
    output_tokens: float
    prefill_tokens: float
    decode_batch_s: float
    memory_j: float = 0.0
