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
    kv_bytes_per_rank_token,
    kv_capacity_tokens,
    weight_bytes_per_gpu,
)

CATALOG = load_catalog()


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_part(CATALOG.part("model", name))


def test_llama_70b_on_four_h100_in_bf16() -> None:
    shape, layout, precision = shape_of("llama_3_1_70b"), Parallelism(tp=4), Precision("bf16", "bf16")
    weights = weight_bytes_per_gpu(shape, precision, layout)
    assert weights == pytest.approx(2 * 70.55e9 / 4, rel=1e-3)
    assert kv_bytes_per_rank_token(shape, "bf16", 4) == 327_680 / 4
    tokens = kv_capacity_tokens(shape, precision, layout, CATALOG.part("gpu", "h100"), 0.1)
    assert tokens == int((72e9 - weights) / (327_680 / 4))
    assert 430_000 < tokens < 460_000


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
    assert tokens == 32 * int((186e9 * 0.9 - weights) / (61 * 576))
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


def test_what_does_not_fit_says_how_much() -> None:
    with pytest.raises(DoesNotFit, match=r"deepseek_r1 in fp8 needs 8\d\.\d GB of weights on each of 8 h100, which have 80 GB"):
        kv_capacity_tokens(shape_of("deepseek_r1"), Precision("fp8", "fp8"), Parallelism(tp=8), CATALOG.part("gpu", "h100"), 0.1)
    with pytest.raises(Unfit, match="reserve_frac"):
        kv_capacity_tokens(shape_of("llama_3_1_8b"), Precision("fp8", "fp8"), Parallelism(), CATALOG.part("gpu", "h100"), 1.0)
