"""Seconds of one step of an engine instance: a roofline with a few fitted efficiencies per backend and GPU generation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.catalog import Part
from twin.errors import UnknownValueError
from twin.performance.collectives import Collectives, collectives
from twin.performance.layout import ELEMENT_BYTES, Interconnect, Parallelism, Precision, Unfit
from twin.performance.memory import attention_format, check_parallelism, kv_bytes_per_rank_token
from twin.performance.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What a backend makes of a GPU generation: shares of the peak rates (0..1], and seconds that no roof explains.

    `memory_eff` is for weights that every token passes, `expert_memory_eff` for routed experts; `expert_layer_overhead_s`
    comes on top of `layer_overhead_s` in layers with experts (routing, permutation); `request_overhead_s` is spent once a
    request outside the steps (tokenising, scheduling, streaming).
    """

    gemm_compute_eff: float
    memory_eff: float
    expert_memory_eff: float
    attention_compute_eff: float
    attention_memory_eff: float
    collective_eff: float
    step_overhead_s: float
    layer_overhead_s: float
    expert_layer_overhead_s: float
    collective_latency_s: float
    request_overhead_s: float

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name.endswith("_eff") and not 0.0 < value <= 1.0:
                raise Unfit(f"{name} must be in (0, 1], not {value}")
            if name.endswith("_s") and not 0.0 <= value < math.inf:
                raise Unfit(f"{name} must not be negative, not {value}")

    @classmethod
    def of(cls, backend: Part, generation: str) -> Coefficients:
        """The coefficients of `backend` on a GPU `generation`. Raises Unfit if the pair was never calibrated."""
        try:
            return cls(**{name: backend.number(f"{generation}_{name}") for name in cls.__slots__})
        except UnknownValueError as error:
            raise Unfit(f"backend {backend.name} has no coefficients for GPU generation {generation!r}: {error}") from None


#: no overhead and every peak rate reached: the speed of light.
IDEAL = Coefficients(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of a step of one engine instance on its GPUs at relative clock f = 1.

    Two roofs in sequence: GEMMs, then attention, plus what does not overlap:
    `step_s = max(gemm_compute_s / f, gemm_memory_s) + max(attention_compute_s / f, attention_memory_s) + overhead_s`.
    The attention coefficients multiply, in this order: context tokens of the decoding sequences; (new, context) pairs of
    prompt chunks, n p + n (n + 1) / 2 for n tokens after a prefix of p; KV tokens read, decode contexts plus chunk prefixes.
    `request_overhead_s` is spent once a request outside the steps and belongs to its time to first token.
    With `dp` attention ranks a prompt lives on one of them: in a step the ranks wait for the one with the most new tokens, whose
    own GEMMs take `rank_gemm_compute_s_per_token` of the mean rank's time a token; sums over the instance count as if even.
    `ideal` is the same instance with every efficiency 1 and no overhead or collectives; None on an ideal itself.
    """

    gemm_compute_s_per_token: float
    dense_memory_s: float
    experts_memory_s: float
    expert_miss: float
    overhead_s: float
    overhead_s_per_token: float
    decode_attention_compute_s: float
    prefill_attention_compute_s: float
    attention_memory_s: float
    request_overhead_s: float
    dp: int = 1
    rank_gemm_compute_s_per_token: float = 0.0
    ideal: StepCost | None = None

    def token_terms(self, tokens: int) -> tuple[float, float, float]:
        """(gemm_compute_s, gemm_memory_s, overhead_s) of a step over `tokens`: decoding sequences + new prompt tokens.

        Weights read: dense part, plus experts touched, E (1 - (1 - k/E)^tokens) of E.
        """
        return (
            self.gemm_compute_s_per_token * tokens,
            self.dense_memory_s + self.experts_memory_s * (1.0 - self.expert_miss**tokens),
            self.overhead_s + self.overhead_s_per_token * tokens,
        )

    def step_s(
        self, tokens: int, decode_context: float, prefill_pairs: float = 0.0, prefix_tokens: float = 0.0, clock: float = 1.0
    ) -> float:
        """Seconds of one step at relative `clock`; see the class for the units of the sums."""
        compute, memory, overhead = self.token_terms(tokens)
        attention = decode_context * self.decode_attention_compute_s + prefill_pairs * self.prefill_attention_compute_s
        read = (decode_context + prefix_tokens) * self.attention_memory_s
        return max(compute / clock, memory) + max(attention / clock, read) + overhead


def step_cost(
    shape: ModelShape,
    precision: Precision,
    parallelism: Parallelism,
    gpu: Part,
    backend: Part,
    interconnect: Interconnect,
) -> StepCost:
    """The step cost of `shape` on `parallelism.gpus` of `gpu` under `backend`.

    Weights in a format that the GPU cannot multiply (FP4 on Hopper, FP8 on Ampere) are stored in it and computed in BF16,
    as measured systems do (gpt-oss with MXFP4 weights on H100). Raises Unfit with the reason, UnknownValueError where a GPU
    value is unpublished.
    """
    coefficients = Coefficients.of(backend, gpu.text("generation"))
    return step_cost_with(coefficients, shape, precision, parallelism, gpu, interconnect)


def step_cost_with(
    coefficients: Coefficients,
    shape: ModelShape,
    precision: Precision,
    parallelism: Parallelism,
    gpu: Part,
    interconnect: Interconnect,
) -> StepCost:
    """As `step_cost`, with given coefficients: what a calibration varies."""
    check_parallelism(shape, parallelism)
    domain = interconnect.domain_gpus
    uneven_tp = parallelism.tp % domain and domain % parallelism.tp
    if parallelism.gpus > domain and (parallelism.gpus % domain or uneven_tp):
        raise Unfit(f"{parallelism.gpus} GPUs with tp {parallelism.tp} do not fill scale-up domains of {domain}")
    traffic = collectives(shape, parallelism, interconnect)
    ideal = _roofs(IDEAL, shape, precision, parallelism, gpu, Collectives(0, 0.0, 0.0), None)
    return _roofs(coefficients, shape, precision, parallelism, gpu, traffic, ideal)


def _roofs(
    use: Coefficients,
    shape: ModelShape,
    precision: Precision,
    layout: Parallelism,
    gpu: Part,
    traffic: Collectives,
    ideal: StepCost | None,
) -> StepCost:
    attention_weights = attention_format(shape, precision)
    bandwidth = gpu.number("memory_bytes_per_s")
    bf16 = gpu.number("bf16_flops")
    ranks = layout.tp * layout.dp
    # compute, per token of the instance: attention and dense blocks over tp x dp ranks, k experts over all GPUs
    attention_flops = 2.0 * shape.attention_params
    window = shape.windowed_layers * shape.window_tokens * shape.decode_pair_flops
    feed_forward_flops = 2.0 * (shape.dense_ff_params + shape.experts_per_token * shape.expert_params)
    gemm_compute = attention_flops / compute_flops(gpu, attention_weights) + feed_forward_flops / compute_flops(
        gpu, precision.weights
    )
    own_compute = attention_flops / compute_flops(gpu, attention_weights)
    own_compute += 2.0 * shape.dense_ff_params / compute_flops(gpu, precision.weights)
    # memory: what every step reads on each GPU, and what it reads when all experts are touched. The head is read but its
    # FLOPs are left out: a prompt needs them for its last token alone
    dense = shape.attention_params * ELEMENT_BYTES[attention_weights]
    dense += shape.dense_ff_params * ELEMENT_BYTES[precision.weights] + shape.vocab_params * ELEMENT_BYTES["bf16"]
    experts = shape.experts * shape.expert_params * ELEMENT_BYTES[precision.weights] / ranks
    kv_token = kv_bytes_per_rank_token(shape, precision.kv, layout.tp) / layout.dp
    pair = shape.full_layers / ranks / (bf16 * use.attention_compute_eff)
    return StepCost(
        gemm_compute_s_per_token=gemm_compute / ranks / use.gemm_compute_eff
        + window / ranks / (bf16 * use.attention_compute_eff),
        dense_memory_s=dense / layout.tp / (bandwidth * use.memory_eff),
        experts_memory_s=experts / (bandwidth * use.expert_memory_eff),
        expert_miss=1.0 - shape.experts_per_token / shape.experts if shape.experts else 0.0,
        overhead_s=use.step_overhead_s
        + shape.layers * use.layer_overhead_s
        + shape.moe_layers * use.expert_layer_overhead_s
        + traffic.count * use.collective_latency_s
        + traffic.latency_s,
        overhead_s_per_token=traffic.s_per_token / use.collective_eff,
        decode_attention_compute_s=shape.decode_pair_flops * pair,
        prefill_attention_compute_s=shape.prefill_pair_flops * pair,
        attention_memory_s=kv_token / (bandwidth * use.attention_memory_eff),
        request_overhead_s=use.request_overhead_s,
        dp=layout.dp,
        rank_gemm_compute_s_per_token=own_compute / ranks / use.gemm_compute_eff,
        ideal=ideal,
    )


def compute_flops(gpu: Part, weights: str) -> float:
    """FLOP/s with weights in a format: the GPU's rate in it, or in BF16 if the GPU has no such arithmetic."""
    key = f"{weights}_flops"
    return gpu.number(key) if key in gpu.values else gpu.number("bf16_flops")
