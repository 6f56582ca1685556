"""What a serving backend makes of a GPU generation in a number format: the few fitted numbers of the step model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.catalog import Part
from twin.errors import UnknownValueError
from twin.performance.fit_range import group_key
from twin.performance.layout import Unfit


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Shares of the peak rates (0..1], and seconds that no roof explains.

    `step_overhead_s` is spent once a step (scheduling, sampling), `layer_overhead_s` once a layer (launches that a graph leaves),
    `expert_layer_overhead_s` on top of it in layers with experts (routing, permutation), `collective_latency_s` once a
    collective, `sequence_overhead_s` once a step for each decoding sequence of an attention rank (detokenising, streaming; each
    rank has a host process of its own). A step that holds prompt tokens runs outside CUDA graphs: `prompt_layer_overhead_s` and
    `prompt_expert_layer_overhead_s` come on top in each layer. `request_overhead_s` is spent once a request outside the steps
    (connection, queueing, the way back), `input_token_overhead_s` once a token of its input (tokenising, hashing).
    """

    gemm_compute_eff: float
    memory_eff: float
    attention_compute_eff: float
    attention_memory_eff: float
    collective_eff: float
    step_overhead_s: float
    layer_overhead_s: float
    expert_layer_overhead_s: float
    collective_latency_s: float
    sequence_overhead_s: float
    prompt_layer_overhead_s: float
    prompt_expert_layer_overhead_s: float
    request_overhead_s: float
    input_token_overhead_s: float

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name.endswith("_eff") and not 0.0 < value <= 1.0:
                raise Unfit(f"{name} must be in (0, 1], not {value}")
            if name.endswith("_s") and not 0.0 <= value < math.inf:
                raise Unfit(f"{name} must not be negative, not {value}")

    @classmethod
    def of(cls, backend: Part, generation: str, weights: str) -> Coefficients:
        """The coefficients of `backend` on a GPU `generation` with weights in a format. Raises Unfit if there are none."""
        key = group_key(backend, generation, weights)
        try:
            return cls(**{name: backend.number(f"{key}_{name}") for name in cls.__slots__})
        except UnknownValueError as error:
            raise Unfit(
                f"backend {backend.name} has no coefficients for {weights} weights on GPU generation {generation!r}: {error}"
            ) from None


#: no overhead and every peak rate reached: the speed of light.
IDEAL = Coefficients(1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
