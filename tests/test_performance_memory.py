"""Weights and KV cache in GPU memory, by hand."""

from __future__ import annotations

import pytest

from twin.catalog import load_catalog
from twin.performance import (
    DoesNotFit,
    ModelShape,
    Parallelism,
    Precision,
    Unfit,
    activation_bytes_per_gpu,
    kv_bytes_per_rank_token,
    kv_capacity_tokens,
    weight_bytes_per_gpu,
)

CATALOG = load_catalog()
#: What the driver gives of each GPU.
H100, GB200 = 81_559 * 2**20, 189_471 * 2**20


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_part(CATALOG.part("model", name))


def test_llama_70b_on_four_h100_in_bf16() -> None:
    shape, layout, precision = shape_of("llama_3_1_70b"), Parallelism(tp=4), Precision("bf16", "bf16")
    weights = weight_bytes_per_gpu(shape, precision, layout)
    assert weights == pytest.approx(2 * 70.55e9 / 4, rel=1e-3)
    assert kv_bytes_per_rank_token(shape, "bf16", 4) == 327_680 / 4
    tokens = kv_capacity_tokens(shape, precision, layout, CATALOG.part("gpu", "h100"), 0.1)
    assert tokens == int((0.9 * H100 - weights) / (327_680 / 4))
    assert 490_000 < tokens < 520_000


def test_r1_on_gb200_with_wide_experts() -> None:
    """FP4, EP32: 8 of 256 experts a GPU (11.5 GB), attention in BF16 (22.9 GB) and the rest on each GPU."""
    shape, layout, precision = shape_of("deepseek_r1"), Parallelism(dp=32, ep=32), Precision("fp4", "fp8")
    weights = weight_bytes_per_gpu(shape, precision, layout)
    experts = 8 * 58 * 3 * 7168 * 2048 * 0.5625
    assert experts == pytest.approx(11.5e9, rel=0.01)
    attention = 2 * shape.attention_params
    dense = 0.5625 * shape.dense_ff_params + 2 * 2 * 7168 * 129_280
    assert weights == pytest.approx(experts + attention + dense)
    tokens = kv_capacity_tokens(shape, precision, layout, CATALOG.part("gpu", "gb200"), 0.1)
    assert tokens == 32 * int((0.9 * GB200 - weights) / (61 * 576))
    assert tokens > 64 * 32 * 2000


def test_latent_cache_repeats_over_tp_and_splits_over_dp() -> None:
    shape, precision, gpu = shape_of("deepseek_r1"), Precision("fp8", "fp8"), CATALOG.part("gpu", "h200")
    assert kv_bytes_per_rank_token(shape, "fp8", 8) == kv_bytes_per_rank_token(shape, "fp8", 1) == 35_136
    split = kv_capacity_tokens(shape, precision, Parallelism(dp=8, ep=8), gpu, 0.1)
    repeated = kv_capacity_tokens(shape, precision, Parallelism(tp=8, ep=8), gpu, 0.1)
    assert split > 3 * repeated  # eight caches, less the attention weights that dp repeats


def test_redundant_slots_when_experts_do_not_divide() -> None:
    shape, precision = shape_of("deepseek_r1"), Precision("fp4", "fp8")
    wide = weight_bytes_per_gpu(shape, precision, Parallelism(dp=72, ep=72))
    narrow = weight_bytes_per_gpu(shape, precision, Parallelism(dp=64, ep=64))
    assert wide == narrow  # four slots a GPU in both: 288 for 256 experts on 72


def test_a_stage_of_a_pipe_holds_its_layers_and_one_end() -> None:
    """80 layers over 4 stages: 20 on each, and the first or the last with embedding or head; over 3 stages 27 on the fullest."""
    shape, precision = shape_of("llama_3_1_70b"), Precision("bf16", "bf16")
    layers, end = 2 * (shape.attention_params + shape.dense_ff_params), 2 * 8192 * 128_256
    assert weight_bytes_per_gpu(shape, precision, Parallelism(tp=2)) == pytest.approx((layers + 2 * end) / 2)
    assert weight_bytes_per_gpu(shape, precision, Parallelism(tp=2, pp=4)) == pytest.approx((layers / 4 + end) / 2)
    assert weight_bytes_per_gpu(shape, precision, Parallelism(pp=3)) == pytest.approx(layers * 27 / 80 + end)
    # A token takes room on each stage for the stage's layers alone.
    gpu, layout = CATALOG.part("gpu", "h100"), Parallelism(tp=2, pp=4)
    weights = weight_bytes_per_gpu(shape, precision, layout)
    assert kv_capacity_tokens(shape, precision, layout, gpu, 0.1) == int((0.9 * H100 - weights) / (327_680 / 2 / 4))


def test_activations_by_hand() -> None:
    """Of each token in BF16: the residual twice, queries, keys, values, two halves of a feed-forward block; FP32 logits."""
    llama = activation_bytes_per_gpu(shape_of("llama_3_1_70b"), Parallelism(tp=4), 8192, 256)
    per_token = 2 * 8192 + (3 * 64 * 128 + 2 * 28_672) / 4
    assert llama == pytest.approx(8192 * per_token * 2 + 256 * 128_256 / 4 * 4)
    # With attention data-parallel each rank has its part of the tokens and of the sequences; 8 experts of 2048 are less wide
    # than the first layers' 18,432.
    r1 = activation_bytes_per_gpu(shape_of("deepseek_r1"), Parallelism(dp=8, ep=8), 8192, 256)
    per_token = 2 * 7168 + 128 * (128 + 64 + 128) + 2 * 18_432
    assert r1 == pytest.approx(1024 * per_token * 2 + 32 * 129_280 * 4)


def test_activations_take_their_room_from_the_cache() -> None:
    shape, precision, layout = shape_of("llama_3_1_70b"), Precision("bf16", "bf16"), Parallelism(tp=4)
    gpu = CATALOG.part("gpu", "h100")
    free = 0.9 * H100 - weight_bytes_per_gpu(shape, precision, layout)
    assert kv_capacity_tokens(shape, precision, layout, gpu, 0.1, 2e9) == int((free - 2e9) / (327_680 / 4))
    with pytest.raises(DoesNotFit, match=r"86 GB, 32\.0 GB with 10% and 45\.0 GB of activations kept free"):
        kv_capacity_tokens(shape, precision, layout, gpu, 0.1, 45e9)


def test_what_does_not_fit_says_how_much() -> None:
    with pytest.raises(DoesNotFit, match=r"deepseek_r1 in fp8 needs 8\d\.\d GB of weights on each of 8 h100, which have 86 GB"):
        kv_capacity_tokens(shape_of("deepseek_r1"), Precision("fp8", "fp8"), Parallelism(tp=8), CATALOG.part("gpu", "h100"), 0.1)
    with pytest.raises(Unfit, match="reserve_frac"):
        kv_capacity_tokens(shape_of("llama_3_1_8b"), Precision("fp8", "fp8"), Parallelism(), CATALOG.part("gpu", "h100"), 1.0)
