"""Seconds of one step of an engine instance: a roofline with a few fitted efficiencies per backend, GPU generation and format."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

from twin.catalog import Part
from twin.performance.coefficients import IDEAL, Coefficients
from twin.performance.collectives import Collectives, collectives, stage_hop_s
from twin.performance.layout import ELEMENT_BYTES, Interconnect, Parallelism, Precision, Unfit
from twin.performance.memory import attention_format, attention_params_per_gpu, check_parallelism, kv_bytes_per_rank_token
from twin.performance.shape import ModelShape
from twin.performance.speculation import NO_SPECULATION, Speculation

#: Tokens of a batch agree in part on their experts: each further one draws as 0.65 of an independent one would (fitted to serving
#: points of R1, gpt-oss and Qwen3 together, leave-curves-out; independent draws leave mid-size batches too slow).
EXPERT_DRAWS = 0.65


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of a step of one engine instance on its GPUs at relative clock f = 1.

    Two roofs in sequence: GEMMs, then attention, plus what does not overlap:
    `step_s = max(gemm_compute_s / f, gemm_memory_s) + max(attention_compute_s / f, attention_memory_s) + network_s + host_s`.
    The GEMM terms depend on the tokens of the step (`token_terms`), the last on its sequences (`host_s`). The attention
    coefficients multiply, in this order: context tokens of the decoding sequences; (new, context) pairs of prompt chunks,
    n p + n (n + 1) / 2 for n tokens after a prefix of p; KV tokens read, decode contexts plus chunk prefixes.
    `request_overhead_s`, and `input_token_overhead_s` for each token of its input, are spent once a request outside the steps and
    belong to its time to first token (`front_end_s`).

    With `dp` attention ranks a prompt lives on one of them: in a step the ranks wait for the one with the most new tokens, whose
    own GEMMs take `rank_gemm_compute_s_per_token` of the mean rank's time a token; sums over the instance count as if even.
    With `pp` stages the step's tokens go through the pipe in `pp` parts, so a stage's GEMMs see a part at a time; a sequence is
    in one part, so fewer sequences than stages are fewer parts (`idle_stages`). With experts
    over `ep` groups the others wait for the busiest: k tokens fall on each of ep groups at random, so it has about
    1 + sqrt(2 ln(ep) ep / (k tokens)) of the mean's (the largest of ep Poisson counts), at most ep times, and
    `expert_imbalance` times what exceeds 1. With speculation each sequence brings 1 + `draft_tokens` tokens to a step, and
    drafting them one after the other comes before it (`draft_s`).
    `ideal` is the same instance with every efficiency 1 and no overhead, collectives or imbalance; None on an ideal itself.
    """

    gemm_compute_s_per_token: float
    expert_compute_s_per_token: float
    dense_memory_s: float
    experts_memory_s: float
    expert_miss: float
    experts_per_token: int
    network_s: float
    network_s_per_token: float
    step_overhead_s: float
    sequence_overhead_s: float
    prompt_overhead_s: float
    decode_attention_compute_s: float
    prefill_attention_compute_s: float
    attention_memory_s: float
    request_overhead_s: float
    input_token_overhead_s: float = 0.0
    dp: int = 1
    rank_gemm_compute_s_per_token: float = 0.0
    pp: int = 1
    ep: int = 1
    expert_imbalance: float = 1.0
    speculation: Speculation = NO_SPECULATION
    draft_memory_s: float = 0.0
    draft_share: float = 0.0
    ideal: StepCost | None = None

    def token_terms(self, tokens: int) -> tuple[float, float, float]:
        """(gemm_compute_s, gemm_memory_s, network_s) of a step over `tokens`: decoding sequences with their drafts + new prompt
        tokens.

        Weights read: dense part, plus experts touched, E (1 - (1 - k/E)^n) of E for n = 1 + EXPERT_DRAWS (tokens - 1), in each of
        the parts of a pipe.
        """
        part = ceil(self.part(tokens))
        busiest = self.busiest_expert_group(part)
        return (
            (self.gemm_compute_s_per_token + self.expert_compute_s_per_token * busiest) * part,
            self.dense_memory_s + self.experts_memory_s * (1.0 - self.expert_miss ** (1.0 + EXPERT_DRAWS * (part - 1))),
            self.network_s + self.network_s_per_token * part,
        )

    def part(self, tokens: float) -> float:
        """Tokens of the largest part in which `tokens` go through a pipe: the drafts of a sequence stay with it."""
        return max(tokens / self.pp, min(tokens, 1 + self.speculation.draft_tokens)) if self.pp > 1 else tokens

    def idle_stages(self, decodes: float) -> float:
        """Stages that stand still for each that works while `decodes` sequences are decoded; attention counts on all of them."""
        return self.pp / decodes - 1.0 if 0 < decodes < self.pp else 0.0

    def busiest_expert_group(self, tokens: int) -> float:
        """Load of the expert group with the most tokens over the mean group's."""
        ep = self.ep
        if ep == 1 or not self.expert_imbalance:
            return 1.0
        spread = sqrt(2.0 * log(ep) * ep / (self.experts_per_token * max(tokens, 1)))
        return min(float(ep), 1.0 + self.expert_imbalance * spread)

    def host_s(self, decodes: int, prompts: bool) -> float:
        """Launches and host work that do not overlap, of a step with `decodes` sequences and prompt tokens or none."""
        return self.step_overhead_s + self.sequence_overhead_s * decodes + (self.prompt_overhead_s if prompts else 0.0)

    def front_end_s(self, input_tokens: int) -> float:
        """What a request spends before it is in an instance's queue."""
        return self.request_overhead_s + self.input_token_overhead_s * input_tokens

    def draft_s(self, decodes: int) -> float:
        """Seconds in which `decodes` sequences draft their tokens, one after the other through the draft layer and the head."""
        drafts = self.speculation.draft_tokens
        if not drafts or not decodes:
            return 0.0
        compute, memory, network = self.token_terms(decodes)
        layer = (max(compute, memory) + network + self.host_s(0, prompts=False)) * self.draft_share
        return drafts * (layer + self.draft_memory_s)

    def step_s(
        self,
        decodes: int,
        decode_context: float,
        prompt_tokens: int = 0,
        prefill_pairs: float = 0.0,
        prefix_tokens: float = 0.0,
        clock: float = 1.0,
    ) -> float:
        """Seconds of one step at relative `clock`; see the class for the units of the sums. Ranks count as evenly loaded."""
        drafted = 1 + self.speculation.draft_tokens
        compute, memory, network = self.token_terms(decodes * drafted + prompt_tokens)
        stretched_context = decode_context * (1.0 + self.idle_stages(decodes))
        attention = stretched_context * drafted * self.decode_attention_compute_s
        attention += prefill_pairs * self.prefill_attention_compute_s
        read = (stretched_context + prefix_tokens) * self.attention_memory_s
        host = self.host_s(decodes, prompt_tokens > 0) + self.draft_s(decodes)
        return max(compute / clock, memory) + max(attention / clock, read) + network + host


def step_cost(
    shape: ModelShape,
    precision: Precision,
    parallelism: Parallelism,
    gpu: Part,
    backend: Part,
    interconnect: Interconnect,
    speculation: Speculation = NO_SPECULATION,
    expert_imbalance: float = 1.0,
) -> StepCost:
    """The step cost of `shape` on `parallelism.gpus` of `gpu` under `backend`.

    Weights in a format that the GPU cannot multiply (FP4 on Hopper, FP8 on Ampere) are stored in it and computed in BF16,
    as measured systems do (gpt-oss with MXFP4 weights on H100). Raises Unfit with the reason, UnknownValueError where a GPU
    value is unpublished.
    """
    coefficients = Coefficients.of(backend, gpu.text("generation"), precision.weights)
    return step_cost_with(coefficients, shape, precision, parallelism, gpu, interconnect, speculation, expert_imbalance)


def step_cost_with(
    coefficients: Coefficients,
    shape: ModelShape,
    precision: Precision,
    parallelism: Parallelism,
    gpu: Part,
    interconnect: Interconnect,
    speculation: Speculation = NO_SPECULATION,
    expert_imbalance: float = 1.0,
) -> StepCost:
    """As `step_cost`, with given coefficients: what a calibration varies."""
    check_parallelism(shape, parallelism)
    domain = interconnect.domain_gpus
    stage = parallelism.stage_gpus
    uneven_tp = parallelism.tp % domain and domain % parallelism.tp
    if stage > domain and (stage % domain or uneven_tp):
        raise Unfit(f"{stage} GPUs with tp {parallelism.tp} do not fill scale-up domains of {domain}")
    traffic = collectives(shape, parallelism, interconnect)
    hop_s = stage_hop_s(shape, parallelism, interconnect)
    ideal = _roofs(IDEAL, shape, precision, parallelism, gpu, Collectives(0.0, 0.0, 0.0), (0.0, 0.0), speculation, 0.0, None)
    return _roofs(coefficients, shape, precision, parallelism, gpu, traffic, hop_s, speculation, expert_imbalance, ideal)


def _roofs(
    use: Coefficients,
    shape: ModelShape,
    precision: Precision,
    layout: Parallelism,
    gpu: Part,
    traffic: Collectives,
    hop_s: tuple[float, float],
    speculation: Speculation,
    expert_imbalance: float,
    ideal: StepCost | None,
) -> StepCost:
    attention_weights = attention_format(shape, precision)
    bandwidth = gpu.number("memory_bytes_per_s") * use.memory_eff
    bf16 = gpu.number("bf16_flops")
    ranks = layout.tp * layout.dp
    # compute, per token of the instance: attention and dense blocks over tp x dp ranks, k experts over all GPUs of a stage
    # (what is repeated over tp is computed by each of its GPUs)
    on_each = attention_params_per_gpu(shape, layout.tp)
    attention_s = 2.0 * on_each / compute_flops(gpu, attention_weights) / layout.dp / use.gemm_compute_eff
    weights_flops = compute_flops(gpu, precision.weights) * use.gemm_compute_eff
    dense_ff_s = 2.0 * shape.dense_ff_params / weights_flops / ranks
    experts_s = 2.0 * shape.experts_per_token * shape.expert_params / weights_flops / ranks
    window = shape.windowed_layers * shape.window_tokens * shape.decode_pair_flops
    window_s = window / ranks / (bf16 * use.attention_compute_eff)
    # memory: what every step reads on each GPU, and what it reads when all experts are touched. The head is read but its
    # FLOPs are left out: a prompt needs them for its last token alone
    head_s = shape.vocab_params * ELEMENT_BYTES["bf16"] / layout.tp / bandwidth
    dense = on_each * ELEMENT_BYTES[attention_weights]
    dense += shape.dense_ff_params * ELEMENT_BYTES[precision.weights] / layout.tp
    experts = shape.experts * shape.expert_params * ELEMENT_BYTES[precision.weights] / ranks
    kv_token = kv_bytes_per_rank_token(shape, precision.kv, layout.tp) / layout.dp
    pair = shape.full_layers / ranks / layout.pp / (bf16 * use.attention_compute_eff)
    # A round of a pipe has pp passes through each stage of layers / pp: the layers' overheads count once, the step's pp times
    # over its stages side by side.
    return StepCost(
        gemm_compute_s_per_token=attention_s + dense_ff_s + window_s,
        expert_compute_s_per_token=experts_s,
        dense_memory_s=dense / bandwidth + head_s,
        experts_memory_s=experts / bandwidth,
        expert_miss=1.0 - shape.experts_per_token / shape.experts if shape.experts else 0.0,
        experts_per_token=shape.experts_per_token,
        network_s=traffic.rounds * use.collective_latency_s + traffic.latency_s + hop_s[0],
        network_s_per_token=traffic.s_per_token / use.collective_eff + hop_s[1],
        step_overhead_s=layout.pp * use.step_overhead_s
        + shape.layers * use.layer_overhead_s
        + shape.moe_layers * use.expert_layer_overhead_s,
        sequence_overhead_s=use.sequence_overhead_s / layout.dp,
        prompt_overhead_s=shape.layers * use.prompt_layer_overhead_s + shape.moe_layers * use.prompt_expert_layer_overhead_s,
        decode_attention_compute_s=shape.decode_pair_flops * pair,
        prefill_attention_compute_s=shape.prefill_pair_flops * pair,
        attention_memory_s=kv_token / layout.pp / (gpu.number("memory_bytes_per_s") * use.attention_memory_eff),
        request_overhead_s=use.request_overhead_s,
        input_token_overhead_s=use.input_token_overhead_s,
        dp=layout.dp,
        rank_gemm_compute_s_per_token=(attention_s + dense_ff_s) / layout.pp,
        pp=layout.pp,
        ep=layout.ep,
        expert_imbalance=expert_imbalance,
        speculation=speculation,
        draft_memory_s=head_s,
        draft_share=1.0 / shape.layers,
        ideal=ideal,
    )


def compute_flops(gpu: Part, weights: str) -> float:
    """FLOP/s with weights in a format: the GPU's rate in it, or in BF16 if the GPU has no such arithmetic."""
    key = f"{weights}_flops"
    return gpu.number(key) if key in gpu.values else gpu.number("bf16_flops")
