"""Identical units side by side, some of them spare, and what is left when units fail."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.errors import InputError


@dataclass(frozen=True, slots=True)
class Bank:
    """`units` of which `needed` carry the rating; the rest are spare (N+1: one) and add nothing while all is well."""

    units: int = 1
    needed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.units:
            raise InputError(f"a bank of {self.units} units cannot need {self.needed}: at least 1 and at most all are due")

    def share(self, left: int) -> float:
        """What `left` units give, as a share of the rating."""
        return min(1.0, left / self.needed)


@dataclass(frozen=True, slots=True)
class PumpBank(Bank):
    """Pumps in parallel on a closed circuit of pipes, whose head goes with the square of the flow (friction alone).

    One pump at full speed has the head `shutoff_head_ratio` H - (shutoff_head_ratio - 1) H (q / q_rated)^2, the usual parabola
    (I. J. Karassik et al., Pump Handbook), with H and q_rated its rated point. Slower, it keeps the same shape (affinity laws),
    so pump and system parabolas meet at the same point of the curve at every speed: efficiency stays and power goes with the
    cube of the flow. That is why no curve is solved while all pumps that are needed run; with fewer, the rest run out along it.
    """

    shutoff_head_ratio: float = 1.25

    def __post_init__(self) -> None:
        Bank.__post_init__(self)
        if not (math.isfinite(self.shutoff_head_ratio) and self.shutoff_head_ratio > 1):
            raise InputError(
                f"a pump's head must fall with its flow: shutoff_head_ratio must be above 1, not {self.shutoff_head_ratio!r}"
            )

    def share(self, left: int) -> float:
        """Flow of `left` pumps at full speed over the rated flow: pump and system curve solved for it."""
        if left >= self.needed:
            return 1.0
        if left == 0:
            return 0.0
        crowding = self.needed / left
        return math.sqrt(self.shutoff_head_ratio / (1 + (self.shutoff_head_ratio - 1) * crowding * crowding))


ONE_UNIT = Bank()
ONE_PUMP = PumpBank()
