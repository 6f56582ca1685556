"""What a step of an LLM engine costs on given hardware: seconds by roofline, bytes of memory, watts."""

from twin.performance.closed_loop import LoopEstimate, closed_loop
from twin.performance.cost import IDEAL, Coefficients, StepCost, step_cost, step_cost_with
from twin.performance.layout import DoesNotFit, Interconnect, Parallelism, Precision, Unfit, interconnect_of
from twin.performance.memory import kv_bytes_per_rank_token, kv_capacity_tokens, weight_bytes_per_gpu
from twin.performance.power import GpuPower, gpu_power
from twin.performance.shape import ModelShape

__all__ = [
    "IDEAL",
    "Coefficients",
    "DoesNotFit",
    "GpuPower",
    "Interconnect",
    "LoopEstimate",
    "ModelShape",
    "Parallelism",
    "Precision",
    "StepCost",
    "Unfit",
    "closed_loop",
    "gpu_power",
    "interconnect_of",
    "kv_bytes_per_rank_token",
    "kv_capacity_tokens",
    "step_cost",
    "step_cost_with",
    "weight_bytes_per_gpu",
]
