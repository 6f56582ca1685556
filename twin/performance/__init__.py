"""What a step of an LLM engine costs on given hardware: seconds by roofline, bytes of memory, watts."""

from twin.performance.coefficients import IDEAL, Coefficients
from twin.performance.cost import StepCost, step_cost, step_cost_with
from twin.performance.fit_range import FitRange
from twin.performance.instance import Instance
from twin.performance.job_power import power_at_level
from twin.performance.layout import DoesNotFit, Interconnect, Parallelism, Precision, Unfit, interconnect_of
from twin.performance.memory import (
    activation_bytes_per_gpu,
    check_windows,
    kv_bytes_per_rank_token,
    kv_capacity_tokens,
    weight_bytes_per_gpu,
)
from twin.performance.power import GpuPower, gpu_power
from twin.performance.shape import ModelShape
from twin.performance.speculation import NO_SPECULATION, Speculation

__all__ = [
    "IDEAL",
    "NO_SPECULATION",
    "Coefficients",
    "DoesNotFit",
    "FitRange",
    "GpuPower",
    "Instance",
    "Interconnect",
    "ModelShape",
    "Parallelism",
    "Precision",
    "Speculation",
    "StepCost",
    "Unfit",
    "activation_bytes_per_gpu",
    "check_windows",
    "gpu_power",
    "interconnect_of",
    "kv_bytes_per_rank_token",
    "kv_capacity_tokens",
    "power_at_level",
    "step_cost",
    "step_cost_with",
    "weight_bytes_per_gpu",
]
