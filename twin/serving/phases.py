"""The phases of an instance's work: what its steps do, in time and energy."""

from __future__ import annotations

from typing import NamedTuple

#: Steps with prompts alone, with prompts and decoding sequences, with decoding sequences alone.
PHASES = ("prefill", "mixed", "decode")
PREFILL, MIXED, DECODE = range(len(PHASES))


class PhaseTotals(NamedTuple):
    """Seconds that an instance spent in steps of each of PHASES, and joules of all its GPUs in them."""

    time_s: tuple[float, ...] = (0.0, 0.0, 0.0)
    energy_j: tuple[float, ...] = (0.0, 0.0, 0.0)

    def since(self, before: PhaseTotals) -> PhaseTotals:
        """What has come on top of `before`."""
        return PhaseTotals(
            *(tuple(now - then for now, then in zip(*both, strict=True)) for both in zip(self, before, strict=True))
        )
