"""What an instance holds in GPU memory: its share of the weights, and KV cache in the rest."""

from __future__ import annotations

import math

from twin.catalog import Part
from twin.performance.layout import ELEMENT_BYTES, DoesNotFit, Parallelism, Precision, Unfit
from twin.performance.shape import ModelShape


def attention_format(shape: ModelShape, precision: Precision) -> str:
    """Format of the attention projections: published FP4 checkpoints of mixtures of experts keep them in BF16."""
    return "bf16" if precision.weights == "fp4" and shape.experts else precision.weights


def check_parallelism(shape: ModelShape, parallelism: Parallelism) -> None:
    """Raises Unfit where heads, experts or their width do not split as asked."""
    if parallelism.pp > 1:
        raise Unfit("pipeline parallelism (pp > 1) is not modelled; use tp, dp and ep")
    if shape.heads % parallelism.tp:
        raise Unfit(f"tp {parallelism.tp} does not divide the {shape.heads} attention heads of {shape.name}")
    if not shape.experts:
        if parallelism.ep > 1:
            raise Unfit(f"{shape.name} has no experts: ep must be 1, not {parallelism.ep}")
        if parallelism.dp > 1:
            raise Unfit(f"{shape.name} is dense: run {parallelism.dp} instances instead of dp {parallelism.dp}")
        return
    if parallelism.ep > shape.experts:
        raise Unfit(f"ep {parallelism.ep} is more than the {shape.experts} experts of {shape.name}")
    if shape.expert_ff % parallelism.moe_tp:
        raise Unfit(f"experts of width {shape.expert_ff} do not split over {parallelism.moe_tp} GPUs; raise ep")


def weight_bytes_per_gpu(shape: ModelShape, precision: Precision, parallelism: Parallelism) -> float:
    """Bytes of weights on each GPU.

    Attention, dense blocks and shared experts are split over tp and repeated over dp; routed experts fill
    ceil(experts / ep) slots on each group of moe_tp GPUs (slots left over hold redundant copies); head and embedding are
    in BF16 and split over tp. Raises Unfit.
    """
    check_parallelism(shape, parallelism)
    dense = shape.attention_params * ELEMENT_BYTES[attention_format(shape, precision)]
    dense += shape.dense_ff_params * ELEMENT_BYTES[precision.weights] + 2 * shape.vocab_params * ELEMENT_BYTES["bf16"]
    slots = math.ceil(shape.experts / parallelism.ep)
    routed = slots * shape.expert_params * ELEMENT_BYTES[precision.weights] / parallelism.moe_tp
    return dense / parallelism.tp + routed


def kv_bytes_per_rank_token(shape: ModelShape, kv: str, tp: int) -> float:
    """Bytes that one token of context takes on each GPU of its attention rank.

    gqa: ceil(kv_heads / tp) heads a GPU, so heads repeat beyond tp = kv_heads. mla: the latent is shared by all heads and
    stands whole on every GPU of the rank.
    """
    share = 1.0 if shape.attention == "mla" else math.ceil(shape.kv_heads / tp) / shape.kv_heads
    return shape.kv_bytes_per_long_token(kv) * share


def kv_capacity_tokens(shape: ModelShape, precision: Precision, parallelism: Parallelism, gpu: Part, reserve_frac: float) -> int:
    """Tokens of context that the whole instance holds beside its weights, with `reserve_frac` of memory kept free.

    Windowed layers keep a constant per sequence that is left out. Raises DoesNotFit with the GB on each side.
    """
    if not 0.0 <= reserve_frac < 1.0:
        raise Unfit(f"reserve_frac must be in 0..1, not {reserve_frac}")
    weights = weight_bytes_per_gpu(shape, precision, parallelism)
    memory = gpu.number("memory_bytes")
    room = memory * (1.0 - reserve_frac) - weights
    tokens = math.floor(room / kv_bytes_per_rank_token(shape, precision.kv, parallelism.tp)) * parallelism.dp
    if tokens < 1:
        free = memory * (1.0 - reserve_frac)
        raise DoesNotFit(
            f"{shape.name} in {precision.weights} needs {weights / 1e9:.1f} GB of weights on each of {parallelism.gpus} "
            f"{gpu.name}, which have {memory / 1e9:.0f} GB, {free / 1e9:.1f} GB with {reserve_frac:.0%} kept free"
        )
    return tokens
