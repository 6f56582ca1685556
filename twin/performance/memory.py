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
    if parallelism.pp > shape.layers:
        raise Unfit(f"pp {parallelism.pp} is more than the {shape.layers} layers of {shape.name}")
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


def check_windows(shape: ModelShape) -> None:
    """Raises Unfit for a model of windowed layers alone: its room for KV is a number of sequences, not of tokens."""
    if not shape.full_layers:
        raise Unfit(
            f"every layer of {shape.name} is windowed, which is not modelled; with windowed_layers 0 it keeps its whole context"
        )


def weight_bytes_per_gpu(shape: ModelShape, precision: Precision, parallelism: Parallelism) -> float:
    """Bytes of weights on each GPU of the fullest pipeline stage.

    Attention (but for what mla repeats), dense blocks and shared experts are split over tp and repeated over dp; routed experts
    fill ceil(experts / ep) slots on each group of moe_tp GPUs (slots left over hold redundant copies); head and embedding are
    in BF16 and split over tp. A stage has ceil(layers / pp) of the layers, and the first and last one of head and embedding.
    Raises Unfit.
    """
    check_parallelism(shape, parallelism)
    dense = attention_params_per_gpu(shape, parallelism.tp) * ELEMENT_BYTES[attention_format(shape, precision)]
    dense += shape.dense_ff_params * ELEMENT_BYTES[precision.weights] / parallelism.tp
    ends = shape.vocab_params + (shape.embedding_params if parallelism.pp == 1 else 0.0)
    ends *= ELEMENT_BYTES["bf16"]
    slots = math.ceil(shape.experts / parallelism.ep)
    routed = slots * shape.expert_params * ELEMENT_BYTES[precision.weights] / parallelism.moe_tp
    stage = stage_share(shape, parallelism)
    return stage * dense + ends / parallelism.tp + stage * routed


def attention_params_per_gpu(shape: ModelShape, tp: int) -> float:
    """Parameters of the attention projections on each GPU of a rank."""
    repeated = shape.repeated_attention_params
    return repeated + (shape.attention_params - repeated) / tp


def stage_share(shape: ModelShape, parallelism: Parallelism) -> float:
    """Share of the layers on the fullest pipeline stage."""
    return math.ceil(shape.layers / parallelism.pp) / shape.layers


def activation_bytes_per_gpu(shape: ModelShape, parallelism: Parallelism, max_batched_tokens: int, max_sequences: int) -> float:
    """Bytes of activations that a step of `max_batched_tokens` over the instance needs on each GPU, at most.

    In BF16 and per token of the rank: the residual and its normalised copy, queries, keys and values over the heads of a GPU,
    and the two halves of the widest feed-forward block; of the sequences' logits one FP32 row over the GPU's share of the
    vocabulary. Engines measure this peak in a trial step; this is their tensors added up.
    """
    tokens = math.ceil(max_batched_tokens / parallelism.dp)
    heads = shape.heads * (shape.nope_dim + shape.rope_dim + shape.value_dim if shape.attention == "mla" else 3 * shape.head_dim)
    wide = max(shape.dense_ff, shape.experts_per_token * shape.expert_ff)
    per_token = 2 * shape.hidden + (heads + 2 * wide) / parallelism.tp
    logits = math.ceil(max_sequences / parallelism.dp) * shape.vocab / parallelism.tp * 4.0
    return tokens * per_token * ELEMENT_BYTES["bf16"] + logits


def kv_bytes_per_rank_token(shape: ModelShape, kv: str, tp: int) -> float:
    """Bytes that one token of context takes on each GPU of its attention rank.

    gqa: ceil(kv_heads / tp) heads a GPU, so heads repeat beyond tp = kv_heads. mla: the latent is shared by all heads and
    stands whole on every GPU of the rank.
    """
    share = 1.0 if shape.attention == "mla" else math.ceil(shape.kv_heads / tp) / shape.kv_heads
    return shape.kv_bytes_per_long_token(kv) * share


def kv_capacity_tokens(
    shape: ModelShape,
    precision: Precision,
    parallelism: Parallelism,
    gpu: Part,
    reserve_frac: float,
    activation_bytes: float = 0.0,
) -> int:
    """Tokens of context that the whole instance holds beside its weights.

    On each GPU `reserve_frac` of memory is kept free for the driver's context, graphs, buffers of the backend and fragmentation,
    and `activation_bytes` for a step's activations. Windowed layers keep a constant per sequence that is left out. Raises
    DoesNotFit with the GB on each side, and Unfit for a model of windowed layers alone, whose room no count of tokens says.
    """
    if not 0.0 <= reserve_frac < 1.0:
        raise Unfit(f"reserve_frac must be in 0..1, not {reserve_frac}")
    check_windows(shape)
    weights = weight_bytes_per_gpu(shape, precision, parallelism)
    # What the driver gives where somebody has looked: vendors' GB are nearer GiB.
    memory = gpu.number("driver_memory_bytes" if gpu.has("driver_memory_bytes") else "memory_bytes")
    free = memory * (1.0 - reserve_frac) - activation_bytes
    kv_token = kv_bytes_per_rank_token(shape, precision.kv, parallelism.tp) * stage_share(shape, parallelism)
    tokens = math.floor((free - weights) / kv_token) * parallelism.dp
    if tokens < 1:
        raise DoesNotFit(
            f"{shape.name} in {precision.weights} needs {weights / 1e9:.1f} GB of weights on each of {parallelism.gpus} "
            f"{gpu.name}, which have {memory / 1e9:.0f} GB, {free / 1e9:.1f} GB with {reserve_frac:.0%}"
            f"{f' and {activation_bytes / 1e9:.1f} GB of activations' if activation_bytes else ''} kept free"
        )
    return tokens
