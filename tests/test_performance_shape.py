"""Shapes of models: the table of published ones, KV cache by hand, and sizes that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twin.catalog import Part, Value, load_catalog
from twin.errors import UnknownValueError
from twin.performance import ModelShape, Parallelism, Precision, Unfit, kv_capacity_tokens, weight_bytes_per_gpu

CATALOG = load_catalog()
#: name -> total and active parameters, layers, those without experts, hidden, heads, KV heads and their width or MLA's latent
#: and rotary part, experts, of them a token, shared, width of a (routed or the only) feed-forward, KV bytes per token in BF16.
PUBLISHED = {
    "deepseek_r1": (671e9, 37e9, 61, 3, 7168, 128, (512, 64), 256, 8, 1, 2048, 70_272),
    "deepseek_v3": (671e9, 37e9, 61, 3, 7168, 128, (512, 64), 256, 8, 1, 2048, 70_272),
    "kimi_k2": (1.04e12, 32e9, 61, 1, 7168, 64, (512, 64), 384, 8, 1, 2048, 70_272),
    "llama_3_1_8b": (8e9, 8e9, 32, 32, 4096, 32, (8, 128), 0, 0, 0, 14336, 131_072),
    "llama_3_1_70b": (70e9, 70e9, 80, 80, 8192, 64, (8, 128), 0, 0, 0, 28672, 327_680),
    "llama_3_1_405b": (405e9, 405e9, 126, 126, 16384, 128, (8, 128), 0, 0, 0, 53248, 516_096),
    "gpt_oss_120b": (117e9, 5.1e9, 36, 0, 2880, 64, (8, 64), 128, 4, 0, 2880, 73_728),
    "qwen3_32b": (32.8e9, 32.8e9, 64, 64, 5120, 64, (8, 128), 0, 0, 0, 25600, 262_144),
    "qwen3_235b": (235e9, 22e9, 94, 0, 4096, 64, (4, 128), 128, 8, 0, 1536, 192_512),
}


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_part(CATALOG.part("model", name))


def changed(name: str, **values: float | str | bool | None) -> Part:
    """The shipped model with other values; None takes one away."""
    part = CATALOG.part("model", name)
    new = {key: Value(value, "", "test", "assumed") for key, value in values.items() if value is not None}
    kept = {key: value for key, value in part.values.items() if key not in values}
    return Part("model", "mine", "mine", {**kept, **new})


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_catalogue_holds_the_published_models(name: str) -> None:
    """Totals agree within 2 % with what is published, which is often rounded, and active parameters within 2.5 %."""
    total, active, layers, dense, hidden, heads, kv, experts, chosen, shared, width, kv_bytes = PUBLISHED[name]
    shape = shape_of(name)
    assert (shape.layers, shape.dense_layers, shape.hidden, shape.heads) == (layers, dense, hidden, heads)
    assert ((shape.kv_rank, shape.rope_dim) if shape.attention == "mla" else (shape.kv_heads, shape.head_dim)) == kv
    assert (shape.experts, shape.experts_per_token, shape.shared_experts) == (experts, chosen, shared)
    assert (shape.expert_ff if experts else shape.dense_ff) == width
    assert shape.kv_bytes_per_token("bf16") == kv_bytes
    for stated, published in ((shape.params_total, total), (shape.params_active, active)):
        assert stated == pytest.approx(published, rel=0.01)
    assert shape.summed_params == pytest.approx(total, rel=0.02)
    assert shape.summed_active_params == pytest.approx(active, rel=0.025)


@pytest.mark.parametrize("name", CATALOG.names("model"))
def test_shapes_add_up_to_what_the_catalogue_says(name: str) -> None:
    part, shape = CATALOG.part("model", name), shape_of(name)
    assert shape.summed_params == pytest.approx(shape.params_total, rel=0.02)
    assert shape.summed_active_params == pytest.approx(shape.params_active, rel=0.025)
    assert shape.kv_bytes_per_token("bf16") == part.number("kv_token_bf16_bytes")
    assert shape.kv_bytes_per_token("fp8") == part.number("kv_token_bf16_bytes") / 2
    assert part.number("mtp_layers") == 1 if name.startswith("deepseek") else True


def test_kv_of_windowed_layers() -> None:
    """gpt-oss-120b: 18 of 36 layers keep 128 tokens; a token is 2 x 8 heads x 64 = 1024 elements a layer."""
    shape = shape_of("gpt_oss_120b")
    assert shape.kv_bytes_per_token("bf16") == 36 * 1024 * 2 == 73_728
    assert shape.kv_bytes_per_long_token("bf16") == 18 * 1024 * 2 == 36_864
    assert shape.kv_bytes(0, "bf16") == 0
    assert shape.kv_bytes(100, "bf16") == 100 * 73_728
    assert shape.kv_bytes(128, "bf16") == 128 * 73_728
    assert shape.kv_bytes(129, "bf16") == 128 * 73_728 + 36_864
    assert shape.kv_bytes(1000, "bf16") == (18 * 1000 + 18 * 128) * 2048 == 41_582_592
    assert shape.kv_bytes(1000, "fp8") == 41_582_592 / 2


def test_kv_of_models_without_windows_is_proportional() -> None:
    assert shape_of("llama_3_1_8b").kv_bytes(10, "bf16") == 10 * 32 * 2 * 8 * 128 * 2
    assert shape_of("deepseek_r1").kv_bytes(10, "fp8") == 10 * 61 * 576


def test_one_matrix_for_embedding_and_head_counts_once() -> None:
    apart = shape_of("llama_3_1_8b")
    tied = ModelShape.from_part(changed("llama_3_1_8b", tied_embeddings=True))
    matrix = 4096 * 128_256
    assert apart.summed_params - tied.summed_params == matrix
    assert tied.summed_active_params == tied.summed_params
    layout, precision = Parallelism(tp=2), Precision("fp8", "fp8")
    spared = weight_bytes_per_gpu(apart, precision, layout) - weight_bytes_per_gpu(tied, precision, layout)
    assert spared == pytest.approx(matrix * 2 / 2)


def test_queries_without_a_rank_are_projected_straight() -> None:
    """7168 x 128 heads x (128 + 64), instead of 7168 x 1536 and 1536 x 128 x 192."""
    ranked, straight = shape_of("deepseek_r1"), ModelShape.from_part(changed("deepseek_r1", query_rank=0.0))
    per_layer = 7168 * 128 * 192 - (7168 * 1536 + 1536 * 128 * 192)
    assert straight.attention_params - ranked.attention_params == 61 * per_layer


@pytest.mark.parametrize(
    ("name", "gone", "said"),
    [
        ("llama_3_1_8b", ("kv_heads", "head_dim"), "no published kv_heads, head_dim, which a model of attention gqa needs"),
        ("deepseek_r1", ("kv_rank",), "no published kv_rank, which a model with experts of attention mla needs"),
        ("gpt_oss_120b", ("window_tokens", "expert_ff"), "no published expert_ff, window_tokens, which"),
        ("deepseek_r1", ("dense_ff",), "no published dense_ff"),
        ("llama_3_1_8b", ("attention",), "no published 'attention'"),
    ],
)
def test_every_size_that_is_missing_is_named(name: str, gone: tuple[str, ...], said: str) -> None:
    with pytest.raises(UnknownValueError, match=said):
        ModelShape.from_part(changed(name, **dict.fromkeys(gone)))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("llama_3_1_8b", {"kv_heads": 7.0}, "kv_heads 7 does not divide heads 32"),
        ("llama_3_1_8b", {"kv_heads": 0.0}, "kv_heads must be a whole number of at least 1, not 0"),
        ("llama_3_1_8b", {"layers": 1.5, "vocab": -1.0}, "layers must be .* not 1.5; vocab must be .* not -1"),
        ("llama_3_1_8b", {"attention": "mamba"}, "attention 'mamba' is none of gqa, mla"),
        ("deepseek_r1", {"experts_per_token": 257.0}, "experts_per_token 257 is more than experts 256"),
        ("deepseek_r1", {"dense_layers": 62.0}, "dense_layers 62 is more than layers 61"),
        ("gpt_oss_120b", {"windowed_layers": 37.0}, "windowed_layers 37 is more than layers 36"),
        ("gpt_oss_120b", {"params_active": 1e12}, "params_active 1e\\+12 is more than params_total 1.17e\\+11"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name: str, values: dict[str, float | str | bool | None], said: str) -> None:
    with pytest.raises(Unfit, match=f"model mine: {said}"):
        ModelShape.from_part(changed(name, **values))


def test_a_model_of_windows_alone_is_refused_where_tokens_are_counted() -> None:
    shape = replace(shape_of("llama_3_1_8b"), windowed_layers=32, window_tokens=4096)
    assert shape.kv_bytes(10_000, "bf16") == shape.kv_bytes(4096, "bf16")
    with pytest.raises(Unfit, match="every layer of llama_3_1_8b is windowed"):
        kv_capacity_tokens(shape, Precision("fp8", "fp8"), Parallelism(), CATALOG.part("gpu", "h100"), 0.1)
