"""Prices the steps of an instance: batch in, jump out, at the clock that lock, cap and die temperature leave."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twin.errors import SimulationError
from twin.serving.jump import GemmTerms, Jump, Late, clock_under_cap
from twin.serving.worker_spec import WorkerSpec

if TYPE_CHECKING:
    from twin.serving.request import Request

#: What a settled clock was settled for: batch version, head request, prompt pieces, tokens of a step.
Batch = tuple[int, int, int, int]


class Stepper:
    """The clock of an instance and the cost of its steps.

    The clock settles whenever the batch changes: the highest that the lock, the die and the power cap allow for the batch's
    first step. It then stays until the next change, as a power controller with a dead band would leave it.
    """

    def __init__(self, spec: WorkerSpec):
        if spec.cost.ideal is None:
            raise SimulationError(f"{spec.name}: a worker needs a cost model with its speed of light")
        self._spec = spec
        self._ideal = spec.cost.ideal
        self._terms: dict[int, GemmTerms] = {}
        self._drafts: dict[int, float] = {}
        self._drafted = 1 + spec.cost.speculation.draft_tokens
        self._settled_for: Batch | None = None
        self.clock = 1.0
        self._watts = self._full_watts = self._watts_at(1.0)
        self.clock_lock = 1.0
        self.thermal_limit = 1.0
        self.cap_w = spec.power.tdp_w
        self.ramp_w = inf
        #: The cap asks for less than the lowest clock draws: policies see it, and the record says when it began and ended.
        self.cap_unmet = False
        self._free = True
        self._cap_total_w = spec.gpus * self.cap_w

    def of(self, spec: WorkerSpec) -> Stepper:
        """The same clock settings for an instance that was started anew."""
        anew = Stepper(spec)
        anew.set_power(self.clock_lock, self.cap_w, self.thermal_limit, self.ramp_w)
        return anew

    def set_power(
        self, clock_lock: float | None, cap_w: float | None, thermal_limit: float | None, ramp_w: float | None = None
    ) -> None:
        """Change the clock lock (relative), the cap per GPU (W), the die's limit (relative) or what smoothing lets a GPU rise to
        (W); None leaves one as it is.

        A clock below the hardware's lowest is the lowest; a cap above the TDP is the TDP.
        """
        floor = self._spec.power.clock_min_frac
        if clock_lock is not None:
            self.clock_lock = min(1.0, max(floor, clock_lock))
        if cap_w is not None:
            self.cap_w = min(cap_w, self._spec.power.tdp_w)
        if thermal_limit is not None:
            self.thermal_limit = min(1.0, max(floor, thermal_limit))
        self._free = self.clock_lock == 1.0 and self.thermal_limit == 1.0
        if ramp_w is not None:
            self.ramp_w = ramp_w
        self._cap_total_w = self._spec.gpus * min(self.cap_w, self.ramp_w)
        self._settled_for = None

    def terms(self, tokens: int) -> GemmTerms:
        """What a step over `tokens` takes whatever their contexts; remembered."""
        terms = self._terms.get(tokens)
        if terms is None:
            ideal_compute_s, ideal_memory_s, _ = self._ideal.token_terms(tokens)
            terms = self._terms[tokens] = GemmTerms(*self._spec.cost.token_terms(tokens), ideal_compute_s, ideal_memory_s)
        return terms

    def jump(
        self,
        now_s: float,
        steps: int,
        decodes: int,
        gained: float,
        contexts: float,
        chunk: int,
        pieces: list[tuple[Request, int]],
        batch: Batch,
    ) -> Jump:
        """Up to `steps` steps over `decodes` sequences with `contexts` tokens in all, which gain `gained` tokens a step, and
        prompt `pieces` (request, tokens).

        Fewer steps where the attention's other roof takes over on the way.
        """
        cost = self._spec.cost
        drafted = self._drafted
        tokens = decodes * drafted + chunk
        terms = self._terms.get(tokens) or self.terms(tokens)
        gemm_compute_s, gemm_memory_s, network_s, _, _ = terms
        host_s = cost.step_overhead_s + cost.sequence_overhead_s * decodes
        draft_s = 0.0
        # Pairs of (new token, context token) and KV tokens read, in the first step and by how much they grow each step.
        pairs = 0.0
        pair_growth = 0
        read = contexts
        read_growth = gained
        if pieces:
            host_s += cost.prompt_overhead_s
            for request, taken in pieces:
                done = request.done_tokens
                pairs += taken * done + 0.5 * taken * (taken + 1)
                pair_growth += taken * taken
                read += done
                read_growth += taken
        per_context_s = cost.decode_attention_compute_s * drafted
        compute_s = per_context_s * contexts + cost.prefill_attention_compute_s * pairs
        compute_growth_s = per_context_s * gained + cost.prefill_attention_compute_s * pair_growth
        memory_s = cost.attention_memory_s * read
        memory_growth_s = cost.attention_memory_s * read_growth
        busy_compute_s, busy_memory_s = gemm_compute_s + compute_s, gemm_memory_s + memory_s
        if drafted > 1 and decodes:
            draft_s = self._draft_s(decodes)
            busy_memory_s += draft_s
        attention_growth_s, reading_growth_s = compute_growth_s, memory_growth_s
        late: Late | None = None
        if cost.dp > 1 and pieces:
            # A prompt lives on one attention rank: the others wait for the rank with the most to do.
            late = self._longest_rank(pieces, chunk, pairs, pair_growth, read - contexts, read_growth - gained)
        if cost.pp > decodes > 0:
            late = _sum(late, self._idle_stages(decodes, contexts, gained))
        if late is not None:
            gemm_compute_s += late[0]
            compute_s += late[1]
            attention_growth_s += late[2]
            memory_s += late[3]
            reading_growth_s += late[4]

        overhead_s = network_s + host_s + draft_s
        if self._settled_for != batch:
            self._settled_for = batch
            # At full clock and below the cap, which is the rule, there is nothing to find.
            full_s = (gemm_compute_s if gemm_compute_s > gemm_memory_s else gemm_memory_s) + overhead_s
            full_s += compute_s if compute_s > memory_s else memory_s
            stepping_w, compute_w, memory_w = self._full_watts
            drawn_j = compute_w * busy_compute_s + memory_w * busy_memory_s
            if not (self._free and self.clock == 1.0 and stepping_w * full_s + drawn_j <= self._cap_total_w * full_s):
                self._settle(gemm_compute_s, gemm_memory_s, compute_s, memory_s, overhead_s, busy_compute_s, busy_memory_s)
        clock = self.clock

        attention_s, attention_growth_s = compute_s / clock, attention_growth_s / clock
        gap_s, gap_growth_s = attention_s - memory_s, attention_growth_s - reading_growth_s
        if gap_s < 0.0 or (gap_s == 0.0 and gap_growth_s < 0.0):
            attention_s, attention_growth_s = memory_s, reading_growth_s
            gap_s, gap_growth_s = -gap_s, -gap_growth_s
        if gap_growth_s < 0.0 and gap_s + gap_growth_s * (steps - 1) < 0.0:
            steps = int(-gap_s / gap_growth_s) + 1

        jump = Jump()
        jump.start_s = now_s
        jump.steps = steps
        gemm_s = gemm_compute_s / clock
        jump.first_s = first_s = (gemm_s if gemm_s > gemm_memory_s else gemm_memory_s) + attention_s + overhead_s
        jump.growth_s = attention_growth_s
        jump.clock = clock
        jump.terms = terms
        jump.host_s = host_s
        jump.draft_s = draft_s
        jump.gemm_compute_s = gemm_compute_s
        jump.attention_compute_s = compute_s
        jump.attention_memory_s = memory_s
        jump.attention_s = attention_s
        jump.attention_growth_s = attention_growth_s
        jump.late = late
        jump.compute_s = busy_compute_s
        jump.compute_growth_s = compute_growth_s
        jump.memory_s = busy_memory_s
        jump.memory_growth_s = memory_growth_s
        jump.stepping_w, jump.compute_w, jump.memory_w = self._watts
        jump.decodes = decodes
        jump.gained = gained
        jump.tokens = tokens
        jump.pieces = pieces
        jump.ideal = self._ideal
        jump.contexts = contexts
        jump.pairs = pairs
        jump.pair_growth = pair_growth
        jump.read = read
        jump.read_growth = read_growth
        jump.end_s = now_s + steps * first_s + attention_growth_s * (0.5 * steps * (steps - 1))
        return jump

    def _draft_s(self, decodes: int) -> float:
        draft_s = self._drafts.get(decodes)
        if draft_s is None:
            draft_s = self._drafts[decodes] = self._spec.cost.draft_s(decodes)
        return draft_s

    def _idle_stages(self, decodes: int, contexts: float, gained: float) -> Late:
        """How late attention is because a pipe has fewer sequences than stages."""
        cost = self._spec.cost
        idle = cost.idle_stages(decodes)
        compute_s, memory_s = idle * cost.decode_attention_compute_s * self._drafted, idle * cost.attention_memory_s
        return 0.0, compute_s * contexts, compute_s * gained, memory_s * contexts, memory_s * gained

    def _longest_rank(
        self,
        pieces: list[tuple[Request, int]],
        chunk: int,
        pairs: float,
        pair_growth: int,
        prefixes: float,
        prefix_growth: float,
    ) -> Late:
        """How late the rank with the longest prompt piece is. Zeros where the pieces fill all ranks evenly enough that none
        stands out."""
        cost = self._spec.cost
        dp = cost.dp
        request, taken = max(pieces, key=_pairs)
        late_pairs = dp * _pairs((request, taken)) - pairs
        late_tokens = dp * max(piece[1] for piece in pieces) - chunk
        late_prefix = dp * request.done_tokens - prefixes
        # Growth counts in runs of several steps alone: their pieces are equal and no more than ranks, so the longest stays it.
        return (
            cost.rank_gemm_compute_s_per_token * max(0, late_tokens),
            cost.prefill_attention_compute_s * max(0.0, late_pairs),
            cost.prefill_attention_compute_s * max(0, dp * taken * taken - pair_growth),
            cost.attention_memory_s * max(0.0, late_prefix),
            cost.attention_memory_s * max(0.0, dp * taken - prefix_growth),
        )

    def _settle(
        self,
        gemm_compute_s: float,
        gemm_memory_s: float,
        compute_s: float,
        memory_s: float,
        overhead_s: float,
        busy_compute_s: float,
        busy_memory_s: float,
    ) -> None:
        """Find the clock for a new batch, and what the instance draws at it by what it does."""
        limit = self.clock_lock if self.clock_lock < self.thermal_limit else self.thermal_limit
        clock, unmet = clock_under_cap(
            min(self.cap_w, self.ramp_w),
            limit,
            self._spec.power,
            gemm_compute_s,
            gemm_memory_s,
            compute_s,
            memory_s,
            overhead_s,
            busy_compute_s,
            busy_memory_s,
        )
        self.cap_unmet = unmet and self.cap_w <= self.ramp_w
        if clock != self.clock:
            self.clock = clock
            self._watts = self._watts_at(clock)

    def _watts_at(self, clock: float) -> tuple[float, float, float]:
        gpus, power = self._spec.gpus, self._spec.power
        share = power.clock_share(clock)
        return (
            gpus * (power.idle_w + power.active_w * share),
            gpus * power.compute_w * share / clock,
            gpus * power.memory_w,
        )


def _sum(one: Late | None, other: Late) -> Late:
    if one is None:
        return other
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3], one[4] + other[4]


def _pairs(piece: tuple[Request, int]) -> float:
    """(New token, context token) pairs of a prompt piece."""
    request, taken = piece
    return taken * request.done_tokens + 0.5 * taken * (taken + 1)
