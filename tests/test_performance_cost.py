"""Step times against arithmetic by hand, and the bounds that must hold for any model and layout."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.catalog import Part, load_catalog
from twin.performance import (
    Coefficients,
    Interconnect,
    ModelShape,
    Parallelism,
    Precision,
    StepCost,
    Unfit,
    closed_loop,
    interconnect_of,
    step_cost,
    step_cost_with,
)
from twin.performance.collectives import collectives

CATALOG = load_catalog()
PLAIN = Coefficients(0.5, 0.8, 0.4, 0.25, 0.5, 0.5, 1e-3, 10e-6, 20e-6, 5e-6, 0.05)


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_part(CATALOG.part("model", name))


def gpu_of(name: str) -> Part:
    return CATALOG.part("gpu", name)


def cost_of(model: str, weights: str, kv: str, layout: Parallelism, gpu: str, coefficients: Coefficients = PLAIN) -> StepCost:
    links = interconnect_of(gpu_of(gpu), 0.95)
    return step_cost_with(coefficients, shape_of(model), Precision(weights, kv), layout, gpu_of(gpu), links)


@pytest.mark.parametrize("name", CATALOG.names("model"))
def test_shapes_add_up_to_the_model_cards(name: str) -> None:
    part, shape = CATALOG.part("model", name), shape_of(name)
    assert shape.summed_params == pytest.approx(shape.params_total, rel=0.02)
    active = shape.attention_params + shape.dense_ff_params + shape.experts_per_token * shape.expert_params + shape.vocab_params
    assert active == pytest.approx(shape.params_active, rel=0.07)  # cards differ in counting head and embedding
    assert shape.kv_bytes_per_token("bf16") == part.number("kv_token_bf16_bytes")
    assert shape.kv_bytes_per_token("fp8") == part.number("kv_token_bf16_bytes") / 2


def test_kv_of_windowed_layers() -> None:
    shape = shape_of("gpt_oss_120b")
    assert shape.kv_bytes_per_token("bf16") == 73_728
    assert shape.kv_bytes_per_long_token("bf16") == 36_864


def test_experts_touched() -> None:
    """A second of memory for each expert read: the term counts them. Eight of 256 a token, as DeepSeek-R1 routes."""
    cost = StepCost(
        gemm_compute_s_per_token=0.0,
        dense_memory_s=0.0,
        experts_memory_s=256.0,
        expert_miss=1 - 8 / 256,
        overhead_s=0.0,
        overhead_s_per_token=0.0,
        decode_attention_compute_s=0.0,
        prefill_attention_compute_s=0.0,
        attention_memory_s=0.0,
        request_overhead_s=0.0,
    )
    assert cost.token_terms(1)[1] == pytest.approx(8)
    assert cost.token_terms(2)[1] == pytest.approx(8 + 8 * (1 - 8 / 256))
    assert cost.token_terms(10_000)[1] == pytest.approx(256)


@pytest.mark.parametrize("tp", [4, 8])
def test_llama_70b_on_h100_by_hand(tp: int) -> None:
    """BF16: 70.6 G parameters, of which 1.05 G embedding are looked up; batch 32, context 1000 each."""
    cost = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(tp=tp), "h100")
    attention = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024)
    feed_forward = 80 * 3 * 8192 * 28672
    head = 8192 * 128256
    compute, memory, overhead = cost.token_terms(32)
    assert compute == pytest.approx(32 * 2 * (attention + feed_forward) / tp / (989e12 * 0.5))
    assert memory == pytest.approx(2 * (attention + feed_forward + head) / tp / (3.35e12 * 0.8))
    # two all-reduces of 8192 x 2 bytes per layer and token, 2 (tp - 1) / tp of it from each GPU at half of 450 GB/s
    reduce_s = 160 * 32 * 2 * (tp - 1) / tp * 16384 / 450e9 / 0.5
    assert overhead == pytest.approx(1e-3 + 80 * 10e-6 + 160 * (5e-6 + 2e-6) + reduce_s)
    context = 32 * 1000
    assert cost.attention_memory_s * context == pytest.approx(context * 327_680 / tp / (3.35e12 * 0.5), rel=0.5)
    assert cost.attention_memory_s == pytest.approx(327_680 / tp / (3.35e12 * PLAIN.attention_memory_eff))
    assert cost.decode_attention_compute_s == pytest.approx(4 * 64 * 128 * 80 / tp / (989e12 * PLAIN.attention_compute_eff))
    assert cost.prefill_attention_compute_s == cost.decode_attention_compute_s
    step = max(compute, memory) + max(context * cost.decode_attention_compute_s, context * cost.attention_memory_s) + overhead
    assert cost.step_s(32, context) == pytest.approx(step)
    # half the clock stretches arithmetic alone
    half = max(2 * compute, memory) + max(2 * context * cost.decode_attention_compute_s, context * cost.attention_memory_s)
    assert cost.step_s(32, context, clock=0.5) == pytest.approx(half + overhead)


def test_prefill_is_bound_by_arithmetic_and_decode_by_memory() -> None:
    cost = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(tp=8), "h100")
    compute, memory, _ = cost.token_terms(4096)
    assert compute > memory
    compute, memory, _ = cost.token_terms(32)
    assert compute < memory


def test_mla_by_hand() -> None:
    """Decode absorbed: heads x (576 + 512) x 2; prefill expanded: heads x (192 + 128) x 2; one latent for all heads."""
    for layout in (Parallelism(tp=8, ep=8), Parallelism(tp=1, dp=8, ep=8)):
        cost = cost_of("deepseek_r1", "fp8", "fp8", layout, "h200")
        rate = 989e12 * PLAIN.attention_compute_eff * 8
        assert cost.decode_attention_compute_s == pytest.approx(61 * 128 * (576 + 512) * 2 / rate)
        assert cost.prefill_attention_compute_s == pytest.approx(61 * 128 * (192 + 128) * 2 / rate)
        read = 61 * 576 / layout.dp  # repeated on every tp rank, split over dp
        assert cost.attention_memory_s == pytest.approx(read / (4.8e12 * PLAIN.attention_memory_eff))


def test_experts_read_by_hand() -> None:
    cost = cost_of("deepseek_r1", "fp8", "fp8", Parallelism(tp=8), "h200")
    _, one, _ = cost.token_terms(1)
    _, many, _ = cost.token_terms(100_000)
    expert = 58 * 3 * 7168 * 2048 / 8 / (4.8e12 * PLAIN.expert_memory_eff)
    assert many - one == pytest.approx((256 - 8) * expert)


def test_grouped_heads_repeat_beyond_their_number() -> None:
    eight = cost_of("qwen3_235b", "fp8", "bf16", Parallelism(tp=8, ep=8), "h200")
    four = cost_of("qwen3_235b", "fp8", "bf16", Parallelism(tp=4, ep=4), "h200")
    assert eight.attention_memory_s == four.attention_memory_s  # 4 KV heads: one a GPU in both


def test_weight_only_formats_compute_in_bf16() -> None:
    """FP4 on Hopper and FP8 on Ampere are stored, not multiplied; FP4 on Blackwell is."""
    hopper = cost_of("llama_3_1_70b", "fp4", "bf16", Parallelism(tp=4), "h100")
    plain = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(tp=4), "h100")
    assert hopper.gemm_compute_s_per_token == plain.gemm_compute_s_per_token
    assert hopper.dense_memory_s < 0.35 * plain.dense_memory_s
    blackwell = cost_of("llama_3_1_70b", "fp4", "bf16", Parallelism(tp=4), "b200")
    assert blackwell.gemm_compute_s_per_token == pytest.approx(plain.gemm_compute_s_per_token * 989 / 9000)


def test_all_to_all_meets_published_times() -> None:
    """DeepEP on H800-class nodes, 128 tokens a GPU: dispatch + combine 428 us at EP32, 487 us at EP64, 554 us at EP256."""
    links = Interconnect(8, 450e9, 2e-6, 50e9, 40e-6, 0.95)
    for gpus, measured in ((32, 428e-6), (64, 487e-6), (256, 554e-6)):
        traffic = collectives(shape_of("deepseek_r1"), Parallelism(dp=gpus, ep=gpus), links)
        layer = (traffic.latency_s + traffic.s_per_token * 128 * gpus) / 58
        assert layer == pytest.approx(measured, rel=0.15)


def test_collectives_cross_domains_over_the_nic() -> None:
    links = Interconnect(8, 450e9, 2e-6, 50e9, 40e-6, 1.0)
    inside = collectives(shape_of("llama_3_1_405b"), Parallelism(tp=8), links)
    across = collectives(shape_of("llama_3_1_405b"), Parallelism(tp=16), links)
    message = 16384 * 2
    assert inside.s_per_token == pytest.approx(252 * 2 * 7 / 8 * message / 450e9)
    assert across.s_per_token == pytest.approx(252 * (2 * 7 / 8 * message / 450e9 + 2 * 1 / 2 * message / 8 / 50e9))
    assert across.latency_s == pytest.approx(252 * 40e-6)
    assert collectives(shape_of("llama_3_1_8b"), Parallelism(), links).count == 0


@pytest.mark.parametrize(
    ("model", "layout", "gpu", "wrong"),
    [
        ("llama_3_1_70b", Parallelism(tp=6), "h100", "tp 6 does not divide the 64 attention heads"),
        ("llama_3_1_70b", Parallelism(tp=4, pp=2), "h100", "pipeline"),
        ("llama_3_1_70b", Parallelism(tp=8, ep=2), "h100", "has no experts"),
        ("llama_3_1_70b", Parallelism(dp=2), "h100", "run 2 instances"),
        ("deepseek_r1", Parallelism(dp=512, ep=512), "gb200", "more than the 256 experts"),
        ("qwen3_235b", Parallelism(dp=72, ep=1), "gb200", "do not split over 72"),
        ("deepseek_r1", Parallelism(dp=12, ep=12), "h200", "do not fill scale-up domains of 8"),
    ],
)
def test_what_does_not_go_together_is_refused(model: str, layout: Parallelism, gpu: str, wrong: str) -> None:
    with pytest.raises(Unfit, match=wrong):
        cost_of(model, "fp8", "bf16", layout, gpu)


def test_refusals_of_layouts_formats_and_backends() -> None:
    with pytest.raises(Unfit, match="ep 3 does not divide"):
        Parallelism(tp=8, ep=3)
    with pytest.raises(Unfit, match="tp must be at least 1"):
        Parallelism(tp=0)
    with pytest.raises(Unfit, match="int4"):
        Precision("int4", "bf16")
    with pytest.raises(Unfit, match="KV cache in 'fp4'"):
        Precision("fp8", "fp4")
    with pytest.raises(Unfit, match="gemm_compute_eff"):
        Coefficients(1.2, 0.8, 0.8, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    lpu = gpu_of("groq3_lpu")
    links = Interconnect(8, 450e9, 2e-6, 50e9, 40e-6, 0.95)
    with pytest.raises(Unfit, match="no coefficients for GPU generation 'groq3'"):
        step_cost(shape_of("llama_3_1_8b"), Precision("fp8", "fp8"), Parallelism(), lpu, CATALOG.part("backend", "trtllm"), links)


LAYOUTS = {
    "llama_3_1_8b": [Parallelism(), Parallelism(tp=8)],
    "gpt_oss_120b": [Parallelism(), Parallelism(tp=4), Parallelism(tp=2, ep=2)],
    "deepseek_r1": [Parallelism(tp=8), Parallelism(dp=32, ep=32), Parallelism(dp=72, ep=72), Parallelism(tp=8, dp=2, ep=16)],
}


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(sorted(LAYOUTS)),
    which=st.integers(0, 3),
    backend=st.sampled_from(["trtllm", "sglang", "vllm"]),
    weights=st.sampled_from(["bf16", "fp8", "fp4"]),
    tokens=st.integers(1, 100_000),
    context=st.integers(0, 10_000_000),
    pairs=st.integers(0, 10**9),
    clock=st.floats(0.2, 1.0),
)
def test_no_step_is_faster_than_light(
    model: str, which: int, backend: str, weights: str, tokens: int, context: int, pairs: int, clock: float
) -> None:
    layout = LAYOUTS[model][which % len(LAYOUTS[model])]
    gpu = gpu_of("gb200")
    cost = step_cost(
        shape_of(model), Precision(weights, "fp8"), layout, gpu, CATALOG.part("backend", backend), interconnect_of(gpu, 0.95)
    )
    ideal = cost.ideal
    assert ideal is not None
    assert ideal.ideal is None
    for mine, light in zip(cost.token_terms(tokens), ideal.token_terms(tokens), strict=True):
        assert mine >= light >= 0.0
    real = cost.step_s(tokens, context, pairs, clock=clock)
    assert real >= ideal.step_s(tokens, context, pairs, clock=clock) > 0.0
    assert real >= cost.step_s(tokens, context, pairs) * (1 - 1e-12)
    assert cost.step_s(tokens + 1, context, pairs) >= cost.step_s(tokens, context, pairs)


def test_token_terms_are_cheap() -> None:
    cost = cost_of("deepseek_r1", "fp4", "fp8", Parallelism(dp=32, ep=32), "gb200")
    assert min(timeit.repeat(lambda: cost.token_terms(2048), number=2000, repeat=3)) / 2000 < 5e-6


def test_closed_loop_without_prompts_is_a_decode_step() -> None:
    cost = cost_of("llama_3_1_70b", "fp8", "fp8", Parallelism(tp=8), "h100")
    assert closed_loop(cost, 16, 1000, 500, 0).tpot_s == pytest.approx(cost.step_s(16, 16 * 1250))
    # with prompts in the same steps: 16/500 of the steps carry one
    share = 16 / 500
    mixed = cost.step_s(1016, 16 * 1250, 1000 * 1001 / 2)
    expected = (1 - share) * cost.step_s(16, 16 * 1250) + share * mixed
    assert closed_loop(cost, 16, 1000, 500, 8192).tpot_s == pytest.approx(expected)
    # a lone request waits for nobody
    assert closed_loop(cost, 1, 1000, 500, 8192).ttft_s == pytest.approx(0.05 + cost.step_s(1000, 0, 1000 * 1001 / 2))
