"""Many engine steps at once: while the batch stays the same, each step is a constant longer than the one before.

In a run of steps over one batch the context grows by a constant number of tokens a step, so each roof of the step time
(`twin.performance.StepCost`) is linear in the step's number; a jump ends where another roof takes over, hence its step
times are an arithmetic progression, with closed forms for the time, the energy and their inverse.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

from twin.serving.losses import TimeSplit
from twin.serving.phases import DECODE, MIXED, PREFILL

if TYPE_CHECKING:
    from twin.performance import GpuPower, StepCost
    from twin.serving.request import Request


#: Seconds by which the slowest part of an instance outlasts the mean one at clock 1: in its GEMMs, the arithmetic of its
#: attention and by how much that grows each step, the reading of its attention and its growth.
Late = tuple[float, float, float, float, float]


class GemmTerms(NamedTuple):
    """What a step over a number of tokens takes whatever their contexts, at relative clock 1 and on evenly loaded ranks."""

    compute_s: float
    memory_s: float
    network_s: float
    ideal_compute_s: float
    ideal_memory_s: float


class Jump:
    """`steps` engine steps from `start_s`; step j takes `first_s + j * growth_s`.

    `compute_s + j * compute_growth_s` is how long step j would keep the mean GPU's compute units busy at relative clock 1, and
    `memory_s + ...` how long it keeps its memory busy; `gemm_compute_s`, `attention_compute_s` and `attention_memory_s` are the
    roofs of the first step's time, higher by `late` where ranks wait for the longest prompt or stages for sequences. Power within
    a step is constant. `stepping_w`, `compute_w` and `memory_w` are those of the whole instance at the jump's clock: a step's
    energy is `stepping_w * duration + compute_w * compute_busy + memory_w * memory_busy`.
    `gained` is how many tokens the `decodes` sequences gain in a step together: as many, but for speculation.
    """

    __slots__ = (
        "attention_compute_s",
        "attention_growth_s",
        "attention_memory_s",
        "attention_s",
        "clock",
        "compute_growth_s",
        "compute_s",
        "compute_w",
        "contexts",
        "decodes",
        "draft_s",
        "end_s",
        "first_s",
        "full_chunks",
        "gained",
        "gemm_compute_s",
        "growth_s",
        "host_s",
        "ideal",
        "late",
        "memory_growth_s",
        "memory_s",
        "memory_w",
        "pair_growth",
        "pairs",
        "pieces",
        "read",
        "read_growth",
        "start_s",
        "stepping_w",
        "steps",
        "terms",
        "tokens",
    )

    start_s: float
    end_s: float
    steps: int
    first_s: float
    growth_s: float
    clock: float
    compute_s: float
    compute_growth_s: float
    memory_s: float
    memory_growth_s: float
    terms: GemmTerms
    host_s: float
    draft_s: float
    gemm_compute_s: float
    attention_compute_s: float
    attention_memory_s: float
    attention_s: float
    attention_growth_s: float
    late: Late | None
    stepping_w: float
    compute_w: float
    memory_w: float
    decodes: int
    gained: float
    tokens: int
    full_chunks: bool
    pieces: list[tuple[Request, int]]
    ideal: StepCost
    contexts: float
    pairs: float
    pair_growth: int
    read: float
    read_growth: float

    @property
    def overhead_s(self) -> float:
        """What of a step neither roof explains."""
        return self.terms.network_s + self.host_s + self.draft_s

    @property
    def roofs(self) -> tuple[float, ...]:
        """Of the first step, seconds at clock 1: the four roofs and the overhead that set its time, and compute and memory of the
        mean GPU, which set its energy."""
        return (
            self.gemm_compute_s,
            self.terms.memory_s,
            self.attention_compute_s,
            self.attention_memory_s,
            self.overhead_s,
            self.compute_s,
            self.memory_s,
        )

    def duration_s(self, steps: int) -> float:
        """Time that the first `steps` steps take."""
        return steps * self.first_s + self.growth_s * (0.5 * steps * (steps - 1))

    def energy_j(self, steps: int) -> float:
        """Energy of the first `steps` steps, over all GPUs of the instance."""
        pairs = 0.5 * steps * (steps - 1)
        return (
            self.stepping_w * (steps * self.first_s + self.growth_s * pairs)
            + self.compute_w * (steps * self.compute_s + self.compute_growth_s * pairs)
            + self.memory_w * (steps * self.memory_s + self.memory_growth_s * pairs)
        )

    def memory_j(self, steps: int) -> float:
        """The part of the energy of the first `steps` steps that went into memory traffic."""
        return self.memory_w * (steps * self.memory_s + self.memory_growth_s * (0.5 * steps * (steps - 1)))

    @property
    def phase(self) -> int:
        """Place in `twin.serving.phases.PHASES` of what its steps do."""
        return DECODE if not self.pieces else MIXED if self.decodes else PREFILL

    def split(self, steps: int) -> TimeSplit:
        """Where the time of the first `steps` steps went.

        The bound on attention takes the larger sum of its two roofs, not the sum of the larger: never too high.
        """
        compute_s, memory_s, network_s, ideal_compute_s, ideal_memory_s = self.terms
        ideal = self.ideal
        later = 0.5 * steps * (steps - 1)
        light_compute_s = ideal.decode_attention_compute_s * (steps * self.contexts + later * self.gained)
        if self.pieces:
            light_compute_s += ideal.prefill_attention_compute_s * (steps * self.pairs + later * self.pair_growth)
        light_attention_s = ideal.attention_memory_s * (steps * self.read + later * self.read_growth)
        if light_compute_s > light_attention_s:
            light_attention_s = light_compute_s
        # GEMMs on even ranks at full clock, then attention: each the slower of its roofs.
        gemm_lost_s = (compute_s if compute_s > memory_s else memory_s) - (
            ideal_compute_s if ideal_compute_s > ideal_memory_s else ideal_memory_s
        )
        busy_compute_s = steps * (self.compute_s - compute_s) + later * self.compute_growth_s
        busy_memory_s = steps * (self.memory_s - memory_s - self.draft_s) + later * self.memory_growth_s
        if busy_compute_s > busy_memory_s:
            lost_compute_s, lost_memory_s = busy_compute_s - light_attention_s, 0.0
        else:
            lost_compute_s, lost_memory_s = 0.0, busy_memory_s - light_attention_s
        if compute_s > memory_s:
            lost_compute_s += steps * gemm_lost_s
        else:
            lost_memory_s += steps * gemm_lost_s
        batching_s = steps * (ideal_memory_s - ideal_compute_s) if ideal_memory_s > ideal_compute_s else 0.0
        light_s = steps * ideal_compute_s
        drafts_s = 0.0
        if self.draft_s:
            refused_s = light_s * (self.decodes * (1 + ideal.speculation.draft_tokens) - self.gained) / self.tokens
            light_s -= refused_s
            drafts_s = refused_s + steps * self.draft_s
        clocks_s = 0.0
        if self.clock < 1.0 or self.late is not None:
            waited_s, clocks_s = self._waits(steps, later, busy_compute_s, busy_memory_s)
            batching_s += waited_s
        return TimeSplit(
            light_s + light_attention_s,
            batching_s,
            lost_memory_s,
            lost_compute_s,
            clocks_s,
            steps * network_s,
            steps * self.host_s,
            drafts_s,
        )

    def _waits(self, steps: int, later: float, busy_compute_s: float, busy_memory_s: float) -> tuple[float, float]:
        """Time lost to ranks that wait for the longest prompt, and to a clock below the highest."""
        compute_s, memory_s, *_ = self.terms
        even_s = max(busy_compute_s, busy_memory_s) + steps * max(compute_s, memory_s)
        full_s = even_s
        if self.late is not None:
            _, late_compute_s, compute_growth_s, late_memory_s, memory_growth_s = self.late
            full_s = steps * max(self.gemm_compute_s, memory_s) + max(
                busy_compute_s + steps * late_compute_s + later * compute_growth_s,
                busy_memory_s + steps * late_memory_s + later * memory_growth_s,
            )
        gemm_s = max(self.gemm_compute_s / self.clock, memory_s)
        spent_s = steps * (gemm_s + self.attention_s) + later * self.attention_growth_s
        return full_s - even_s, spent_s - full_s

    def boundary_at_or_after(self, time_s: float) -> int:
        """The number of steps done at the first step boundary at or after `time_s`, at least 1."""
        elapsed = time_s - self.start_s
        if self.growth_s > 0.0:
            linear = self.first_s - 0.5 * self.growth_s
            guess = (sqrt(linear * linear + 2.0 * self.growth_s * max(elapsed, 0.0)) - linear) / self.growth_s
        else:
            guess = elapsed / self.first_s
        steps = min(max(1, ceil(guess)), self.steps)
        # The root is right but for rounding; settle on the exact comparison that a step-by-step walk would make.
        while steps > 1 and self.start_s + self.duration_s(steps - 1) >= time_s:
            steps -= 1
        while steps < self.steps and self.start_s + self.duration_s(steps) < time_s:
            steps += 1
        return steps

    def cut(self, steps: int) -> None:
        """End the jump after `steps` of its steps."""
        self.steps = steps
        self.end_s = self.start_s + self.duration_s(steps)


def clock_under_cap(
    cap_w: float,
    clock: float,
    power: GpuPower,
    gemm_compute_s: float,
    gemm_memory_s: float,
    attention_compute_s: float,
    attention_memory_s: float,
    overhead_s: float,
    busy_compute_s: float,
    busy_memory_s: float,
) -> tuple[float, bool]:
    """The highest relative clock up to `clock` at which a step's mean power per GPU stays within `cap_w`, and whether none does.

    The five terms set the step's time; `busy_*_s` is how long the mean GPU is busy in it (less than the terms where ranks wait
    for one another). A cap that does not bind gives `clock` back, so it costs nothing. Below `power.clock_min_frac` hardware
    does not go: the result is that clock then, and True. Power rises with the clock, so bisection finds it (40 halvings: 1e-12
    of the range).
    """

    def power_w(f: float) -> float:
        step_s = max(gemm_compute_s / f, gemm_memory_s) + max(attention_compute_s / f, attention_memory_s) + overhead_s
        return power.step_energy_j(step_s, busy_compute_s, busy_memory_s, f) / step_s

    if power_w(clock) <= cap_w:
        return clock, False
    low, high = power.clock_min_frac, clock
    if low >= clock or power_w(low) > cap_w:
        return min(low, clock), True
    for _ in range(40):
        middle = 0.5 * (low + high)
        if power_w(middle) <= cap_w:
            low = middle
        else:
            high = middle
    return low, False
