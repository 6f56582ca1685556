"""Step times against arithmetic by hand, and the bounds that must hold for any model and layout."""

from __future__ import annotations

import timeit
from dataclasses import replace
from math import log, log2, sqrt

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
    Speculation,
    StepCost,
    Unfit,
    interconnect_of,
    step_cost,
    step_cost_with,
)
from twin.performance.collectives import collectives, stage_hop_s
from twin.performance.cost import EXPERT_DRAWS

CATALOG = load_catalog()
#: Models whose output head is their input embedding, which cards count once.
TIED = ("bloom_176b",)
PLAIN = Coefficients(
    gemm_compute_eff=0.5,
    memory_eff=0.8,
    attention_compute_eff=0.4,
    attention_memory_eff=0.25,
    collective_eff=0.5,
    step_overhead_s=1e-3,
    layer_overhead_s=10e-6,
    expert_layer_overhead_s=20e-6,
    collective_latency_s=5e-6,
    sequence_overhead_s=3e-6,
    prompt_layer_overhead_s=40e-6,
    prompt_expert_layer_overhead_s=70e-6,
    request_overhead_s=0.05,
    input_token_overhead_s=2e-6,
)


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_part(CATALOG.part("model", name))


def gpu_of(name: str) -> Part:
    return CATALOG.part("gpu", name)


def cost_of(model: str, weights: str, kv: str, layout: Parallelism, gpu: str, *more: object) -> StepCost:
    """With the coefficients above; `more`: speculation, expert imbalance."""
    links = interconnect_of(gpu_of(gpu), 0.95)
    return step_cost_with(PLAIN, shape_of(model), Precision(weights, kv), layout, gpu_of(gpu), links, *more)  # type: ignore[arg-type]


def test_experts_touched() -> None:
    """A second of memory for each expert read: the term counts them. Eight of 256 a token, as DeepSeek-R1 routes.

    Tokens of a batch agree in part: a second one draws as 0.65 of an independent one would.
    """
    cost = StepCost(
        gemm_compute_s_per_token=0.0,
        expert_compute_s_per_token=0.0,
        dense_memory_s=0.0,
        experts_memory_s=256.0,
        expert_miss=1 - 8 / 256,
        experts_per_token=8,
        network_s=0.0,
        network_s_per_token=0.0,
        step_overhead_s=0.0,
        sequence_overhead_s=0.0,
        prompt_overhead_s=0.0,
        decode_attention_compute_s=0.0,
        prefill_attention_compute_s=0.0,
        attention_memory_s=0.0,
        request_overhead_s=0.0,
    )
    assert cost.token_terms(1)[1] == pytest.approx(8)
    assert EXPERT_DRAWS == 0.65
    assert cost.token_terms(2)[1] == pytest.approx(256 * (1 - (248 / 256) ** 1.65))
    assert 8 < cost.token_terms(2)[1] < 8 + 8 * (1 - 8 / 256)  # what independent draws would touch
    assert cost.token_terms(10_000)[1] == pytest.approx(256)


@pytest.mark.parametrize("tp", [4, 8])
def test_llama_70b_on_h100_by_hand(tp: int) -> None:
    """BF16: 70.6 G parameters, of which 1.05 G embedding are looked up; batch 32, context 1000 each."""
    cost = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(tp=tp), "h100")
    attention = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024)
    feed_forward = 80 * 3 * 8192 * 28672
    head = 8192 * 128256
    compute, memory, network = cost.token_terms(32)
    assert compute == pytest.approx(32 * 2 * (attention + feed_forward) / tp / (989e12 * 0.5))
    assert memory == pytest.approx(2 * (attention + feed_forward + head) / tp / (3.35e12 * 0.8))
    # two all-reduces of 8192 x 2 bytes per layer and token, 2 (tp - 1) / tp of it from each GPU at half of 450 GB/s
    reduce_s = 160 * 32 * 2 * (tp - 1) / tp * 16384 / 450e9 / 0.5
    # each in log2(tp) rounds of 5 us, over links of 2 us
    assert network == pytest.approx(160 * (log2(tp) * 5e-6 + 2e-6) + reduce_s)
    host = 1e-3 + 80 * 10e-6 + 32 * 3e-6
    assert cost.host_s(32, prompts=False) == pytest.approx(host)
    assert cost.host_s(32, prompts=True) == pytest.approx(host + 80 * 40e-6)
    context = 32 * 1000
    assert cost.attention_memory_s == pytest.approx(327_680 / tp / (3.35e12 * PLAIN.attention_memory_eff))
    assert cost.decode_attention_compute_s == pytest.approx(4 * 64 * 128 * 80 / tp / (989e12 * PLAIN.attention_compute_eff))
    assert cost.prefill_attention_compute_s == cost.decode_attention_compute_s
    overhead = network + host
    step = max(compute, memory) + max(context * cost.decode_attention_compute_s, context * cost.attention_memory_s) + overhead
    assert cost.step_s(32, context) == pytest.approx(step)
    # half the clock stretches arithmetic alone
    half = max(2 * compute, memory) + max(2 * context * cost.decode_attention_compute_s, context * cost.attention_memory_s)
    assert cost.step_s(32, context, clock=0.5) == pytest.approx(half + overhead)


def test_a_step_with_prompts_by_hand() -> None:
    """Eight sequences of 500 tokens beside 1000 tokens of a prompt, 2000 tokens of which were computed before."""
    cost = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(tp=8), "h100")
    compute, memory, network = cost.token_terms(8 + 1000)
    pairs = 1000 * 2000 + 1000 * 1001 / 2
    arithmetic = 4000 * cost.decode_attention_compute_s + pairs * cost.prefill_attention_compute_s
    reading = (4000 + 2000) * cost.attention_memory_s
    expected = max(compute, memory) + max(arithmetic, reading) + network + cost.host_s(8, prompts=True)
    assert cost.step_s(8, 4000, 1000, pairs, 2000) == pytest.approx(expected)


def test_the_front_end_counts_the_tokens_of_the_input() -> None:
    cost = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(tp=8), "h100")
    assert cost.front_end_s(0) == 0.05
    assert cost.front_end_s(10_000) == pytest.approx(0.05 + 0.02)


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
    expert = 58 * 3 * 7168 * 2048 / 8 / (4.8e12 * PLAIN.memory_eff)
    assert many - one == pytest.approx((256 - 8) * expert)


def test_host_work_of_layers_with_experts_and_of_attention_ranks() -> None:
    """61 layers, 58 with experts; each of 8 attention ranks has a host process for its own sequences."""
    cost = cost_of("deepseek_r1", "fp8", "fp8", Parallelism(dp=8, ep=8), "h200")
    step = 1e-3 + 61 * 10e-6 + 58 * 20e-6
    assert cost.host_s(0, prompts=False) == pytest.approx(step)
    assert cost.host_s(64, prompts=False) == pytest.approx(step + 64 / 8 * 3e-6)
    assert cost.host_s(64, prompts=True) == pytest.approx(step + 64 / 8 * 3e-6 + 61 * 40e-6 + 58 * 70e-6)


def test_the_busiest_expert_group_sets_the_pace() -> None:
    """8 experts a token over 32 groups: the largest of 32 Poisson counts is sqrt(2 ln 32 x 32 / 8 n) above the mean."""
    layout = Parallelism(dp=32, ep=32)
    even, random, uneven = (cost_of("deepseek_r1", "fp4", "fp8", layout, "gb200", Speculation(), i) for i in (0.0, 1.0, 3.0))
    above = sqrt(2 * log(32) * 32 / (8 * 2048))
    assert [cost.busiest_expert_group(2048) for cost in (even, random, uneven)] == pytest.approx([1, 1 + above, 1 + 3 * above])
    # The first token's 8 experts are on 8 of 32 groups at least, and no group has more than all.
    assert uneven.busiest_expert_group(1) == pytest.approx(min(32, 1 + 3 * sqrt(2 * log(32) * 4)))
    assert cost_of("deepseek_r1", "fp4", "fp8", layout, "gb200", Speculation(), 100.0).busiest_expert_group(1) == 32
    routed = 2 * 8 * 58 * 3 * 7168 * 2048 / (10e15 * 0.5) / 32
    assert random.expert_compute_s_per_token == pytest.approx(routed)
    assert random.token_terms(2048)[0] - even.token_terms(2048)[0] == pytest.approx(2048 * routed * above)
    assert cost_of("deepseek_r1", "fp8", "fp8", Parallelism(tp=8), "h200").busiest_expert_group(5) == 1, (
        "one group waits for none"
    )


def test_a_pipe_by_hand() -> None:
    """Llama-3.1-70B in four stages of one GPU: a step's tokens go through in four parts, each stage has 20 layers."""
    one = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(), "h100")
    pipe = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(pp=4), "h100")
    # Four parts of ten tokens over stages that are busy side by side: as long as one part over all layers.
    assert pipe.token_terms(40)[:2] == one.token_terms(10)[:2]
    assert pipe.token_terms(37)[:2] == one.token_terms(10)[:2], "a part more, and not filled"
    # A round has four hops on its way, of 2 us and 8192 x 2 bytes a token over one GPU's NVLink each.
    hop = 4 * 2e-6 + 10 * 4 * 8192 * 2 / 450e9
    assert pipe.token_terms(40)[2] == pytest.approx(hop)
    assert pipe.host_s(0, prompts=False) == pytest.approx(4 * 1e-3 + 80 * 10e-6)
    # A GPU has a quarter of the layers' KV and of their attention.
    assert pipe.attention_memory_s == pytest.approx(one.attention_memory_s / 4)
    assert pipe.decode_attention_compute_s == pytest.approx(one.decode_attention_compute_s / 4)
    # A sequence alone passes the stages one by one: as on one GPU, and later by three steps of overhead and the hops.
    late = 3 * 1e-3 + 4 * 2e-6 + 4 * 8192 * 2 / 450e9
    assert pipe.step_s(1, 10_000) == pytest.approx(one.step_s(1, 10_000) + late)
    assert (pipe.idle_stages(1), pipe.idle_stages(2), pipe.idle_stages(4)) == (3.0, 1.0, 0.0)
    drafting = cost_of("llama_3_1_70b", "bf16", "bf16", Parallelism(pp=4), "h100", Speculation(3, 0.5))
    assert [drafting.part(tokens) for tokens in (3, 4, 5, 16, 400)] == [3, 4, 4, 4, 100], "drafts stay with their sequence"


def test_stages_across_domains_hand_on_over_their_nics() -> None:
    links = Interconnect(8, 450e9, 2e-6, 50e9, 40e-6, 0.9)
    latency, per_token = stage_hop_s(shape_of("llama_3_1_405b"), Parallelism(tp=8, pp=2), links)
    assert latency == pytest.approx(2 * 40e-6)
    assert per_token == pytest.approx(2 * 16384 * 2 / 8 / (50e9 * 0.9))
    assert stage_hop_s(shape_of("llama_3_1_405b"), Parallelism(tp=8), links) == (0.0, 0.0)


def test_drafts_by_hand() -> None:
    """Two drafts a sequence and step, one after the other: a layer of 61 and the head each; then three tokens are verified."""
    layout = Parallelism(tp=8)
    plain = cost_of("deepseek_r1", "fp8", "fp8", layout, "h200")
    drafting = cost_of("deepseek_r1", "fp8", "fp8", layout, "h200", Speculation(2, 0.8))
    compute, memory, network = plain.token_terms(16)
    layer = (max(compute, memory) + network + plain.host_s(0, prompts=False)) / 61
    head = 7168 * 129_280 * 2 / 8 / (4.8e12 * 0.8)
    assert drafting.draft_s(16) == pytest.approx(2 * (layer + head))
    assert drafting.draft_s(0) == plain.draft_s(16) == 0.0
    compute, memory, network = plain.token_terms(48)
    attention = max(3 * 16_000 * plain.decode_attention_compute_s, 16_000 * plain.attention_memory_s)
    step = max(compute, memory) + attention + network + plain.host_s(16, prompts=False)
    assert drafting.step_s(16, 16_000) == pytest.approx(step + drafting.draft_s(16))


def test_a_ranks_own_tokens_leave_experts_aside() -> None:
    """The rank with the longest prompt is late in what it computes alone: attention and dense blocks; experts are shared."""
    cost = cost_of("deepseek_r1", "fp8", "fp8", Parallelism(dp=8, ep=8), "h200")
    shape = shape_of("deepseek_r1")
    attention = 2 * shape.attention_params / (1979e12 * 0.5)
    dense = 2 * shape.dense_ff_params / (1979e12 * 0.5)
    assert cost.rank_gemm_compute_s_per_token == pytest.approx((attention + dense) / 8)
    assert cost.gemm_compute_s_per_token == pytest.approx(cost.rank_gemm_compute_s_per_token)


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
    assert (inside.rounds, across.rounds) == (252 * 3, 252 * 4)  # log2 of 8 and of 16 GPUs
    assert collectives(shape_of("llama_3_1_8b"), Parallelism(), links).rounds == 0


@pytest.mark.parametrize(
    ("model", "layout", "gpu", "wrong"),
    [
        ("llama_3_1_70b", Parallelism(tp=6), "h100", "tp 6 does not divide the 64 attention heads"),
        ("llama_3_1_70b", Parallelism(pp=81), "h100", "pp 81 is more than the 80 layers"),
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
        replace(PLAIN, gemm_compute_eff=1.2)
    with pytest.raises(Unfit, match="collective_latency_s must not be negative, not -1e-06"):
        replace(PLAIN, collective_latency_s=-1e-6)
    with pytest.raises(Unfit, match=r"acceptance must be in 0\.\.1, not 1\.5"):
        Speculation(1, 1.5)
    with pytest.raises(Unfit, match="draft_tokens must not be negative"):
        Speculation(-1)
    lpu = gpu_of("groq3_lpu")
    links = Interconnect(8, 450e9, 2e-6, 50e9, 40e-6, 0.95)
    with pytest.raises(Unfit, match="no coefficients for fp8 weights on GPU generation 'groq3'"):
        step_cost(shape_of("llama_3_1_8b"), Precision("fp8", "fp8"), Parallelism(), lpu, CATALOG.part("backend", "trtllm"), links)


LAYOUTS = {
    "llama_3_1_8b": [Parallelism(), Parallelism(tp=8), Parallelism(tp=2, pp=4)],
    "gpt_oss_120b": [Parallelism(), Parallelism(tp=4), Parallelism(tp=2, ep=2)],
    "deepseek_r1": [
        Parallelism(tp=8),
        Parallelism(dp=32, ep=32),
        Parallelism(dp=72, ep=72),
        Parallelism(tp=8, dp=2, ep=16),
        Parallelism(dp=4, ep=4, pp=4),
    ],
}


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(sorted(LAYOUTS)),
    which=st.integers(0, 4),
    backend=st.sampled_from(["trtllm", "sglang", "vllm"]),
    weights=st.sampled_from(["bf16", "fp8", "fp4"]),
    decodes=st.integers(0, 10_000),
    prompt=st.integers(1, 100_000),
    context=st.integers(0, 10_000_000),
    pairs=st.integers(0, 10**9),
    prefix=st.integers(0, 10**6),
    clock=st.floats(0.2, 1.0),
    speculation=st.sampled_from([Speculation(), Speculation(1, 0.7), Speculation(3, 0.9)]),
    imbalance=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_no_step_is_faster_than_light(
    model: str,
    which: int,
    backend: str,
    weights: str,
    decodes: int,
    prompt: int,
    context: int,
    pairs: int,
    prefix: int,
    clock: float,
    speculation: Speculation,
    imbalance: float,
) -> None:
    layout = LAYOUTS[model][which % len(LAYOUTS[model])]
    gpu, part = gpu_of("gb200"), CATALOG.part("backend", backend)
    precision, links = Precision(weights, "fp8"), interconnect_of(gpu, 0.95)
    cost = step_cost(shape_of(model), precision, layout, gpu, part, links, speculation, imbalance)
    ideal = cost.ideal
    assert ideal is not None
    assert ideal.ideal is None
    for mine, light in zip(cost.token_terms(prompt), ideal.token_terms(prompt), strict=True):
        assert mine >= light >= 0.0
    step = (decodes, context, prompt, pairs, prefix)
    real = cost.step_s(*step, clock=clock)
    assert real >= ideal.step_s(*step, clock=clock) > 0.0
    assert real >= cost.step_s(*step) * (1 - 1e-12)
    # More to do takes no less time, whatever is added.
    # (But for the same context in one more part of a pipe that has stages to spare.)
    for place in range(1 if decodes < layout.pp else 0, len(step)):
        more = [value + (n == place) for n, value in enumerate(step)]
        assert cost.step_s(*more) >= cost.step_s(*step) * (1 - 1e-12)


def test_token_terms_are_cheap() -> None:
    cost = cost_of("deepseek_r1", "fp4", "fp8", Parallelism(dp=32, ep=32), "gb200")
    assert min(timeit.repeat(lambda: cost.token_terms(2048), number=2000, repeat=3)) / 2000 < 5e-6
