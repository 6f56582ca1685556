"""An engine instance as a design: a model in a precision, laid out over GPUs of a kind, under a backend."""

from __future__ import annotations

from dataclasses import dataclass

from twin.catalog import Part
from twin.performance.cost import StepCost, step_cost
from twin.performance.fit_range import FitRange
from twin.performance.layout import Interconnect, Parallelism, Precision
from twin.performance.memory import activation_bytes_per_gpu, kv_capacity_tokens
from twin.performance.shape import ModelShape
from twin.performance.speculation import NO_SPECULATION, Speculation


@dataclass(frozen=True, slots=True)
class Instance:
    """What sets the step times and the memory of an instance."""

    shape: ModelShape
    precision: Precision
    layout: Parallelism
    gpu: Part
    backend: Part
    links: Interconnect
    speculation: Speculation = NO_SPECULATION
    expert_imbalance: float = 1.0

    def cost(self) -> StepCost:
        """The step cost. Raises Unfit with the reason, UnknownValueError where a GPU value is unpublished."""
        parts = (self.shape, self.precision, self.layout, self.gpu, self.backend, self.links)
        return step_cost(*parts, self.speculation, self.expert_imbalance)

    def kv_capacity_tokens(self, reserve_frac: float, max_batched_tokens: int, max_sequences: int) -> int:
        """Tokens of context that memory holds beside weights, activations of a full step and the reserve. Raises DoesNotFit."""
        activations = activation_bytes_per_gpu(self.shape, self.layout, max_batched_tokens, max_sequences)
        return kv_capacity_tokens(self.shape, self.precision, self.layout, self.gpu, reserve_frac, activations)

    def fit_range(self) -> FitRange:
        """What its coefficients were fitted on."""
        return FitRange.of(self.backend, self.gpu.text("generation"), self.precision.weights)
