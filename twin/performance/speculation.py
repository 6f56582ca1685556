"""Speculative decoding: drafts that a step verifies together, and how many steps an answer then takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist

from twin.performance.layout import Unfit

_MASK = (1 << 64) - 1
_NORMAL = NormalDist()

#: Answers up to this length are drawn step by step; of longer ones the number of steps is normal to a thousandth.
_SHORT = 48


@dataclass(frozen=True)
class Speculation:
    """`draft_tokens` (k) drafts a step; each is accepted with `acceptance_frac` (a) if the one before it was.

    A step so gives 1 + A tokens with P(A >= j) = a^j for j up to k: 1 + a + ... + a^k in the mean. The first draft after a
    refused one is lost with it, which is why acceptance above all decides what drafting is worth (Leviathan et al., ICML 2023).
    """

    draft_tokens: int = 0
    acceptance_frac: float = 0.0

    def __post_init__(self) -> None:
        if self.draft_tokens < 0:
            raise Unfit(f"draft_tokens must not be negative, not {self.draft_tokens}")
        if not 0.0 <= self.acceptance_frac <= 1.0:
            raise Unfit(f"acceptance must be in 0..1, not {self.acceptance_frac}")

    @cached_property
    def tokens_per_step(self) -> float:
        """Mean tokens that a sequence gains in a step."""
        return sum(self.acceptance_frac**j for j in range(self.draft_tokens + 1))

    @cached_property
    def tokens_variance(self) -> float:
        """Variance of the tokens gained in a step: E[A^2] - E[A]^2 with E[A^2] = sum (2 j - 1) a^j."""
        powers = [self.acceptance_frac**j for j in range(1, self.draft_tokens + 1)]
        return sum((2 * j - 1) * p for j, p in enumerate(powers, 1)) - sum(powers) ** 2

    def steps(self, tokens: int, seed: int, draw: int) -> int:
        """Steps in which a sequence gains `tokens`, drawn at random: the same for the same `seed` and `draw`, whatever the order.

        Short answers are drawn step by step; for longer ones the first passage of the sum over `tokens` is normal, with mean
        tokens / m + s^2 / (2 m^2) + (m - 1) / (2 m) and variance tokens s^2 / m^3 (renewal theory; m and s^2 mean and variance of
        a step's gain; the last term of the mean because the last step may overshoot).
        """
        if not self.draft_tokens or tokens <= 1:
            return tokens
        state = (seed * 0x9E3779B97F4A7C15 + draw * 0xD1B54A32D192ED03) & _MASK
        if tokens > _SHORT:
            state, uniform = _uniform(state)
            mean, variance = self.tokens_per_step, self.tokens_variance
            expected = tokens / mean + variance / (2.0 * mean**2) + (mean - 1.0) / (2.0 * mean)
            steps = round(expected + _NORMAL.inv_cdf(uniform) * sqrt(tokens * variance / mean**3))
            return min(tokens, max(-(-tokens // (self.draft_tokens + 1)), steps))
        gained = steps = 0
        while gained < tokens:
            state, uniform = _uniform(state)
            steps += 1
            gained += 1
            chance = self.acceptance_frac
            for _ in range(self.draft_tokens):
                if uniform >= chance:
                    break
                gained += 1
                chance *= self.acceptance_frac
        return steps


NO_SPECULATION = Speculation()


def _uniform(state: int) -> tuple[int, float]:
    """The next state of splitmix64 and a number in (0, 1)."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return state, (((z ^ (z >> 31)) >> 11) + 0.5) / (1 << 53)
