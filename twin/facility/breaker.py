"""A breaker's time-current curve and how far it is on its way to a trip.

Above its pickup a breaker with an inverse curve trips after t = TMS k / (M^alpha - 1), M being load over pickup (IEC 60255-151, k
and alpha below). From `instantaneous_ratio` times the pickup on it trips at once. Between, an accumulator from 0 to 1 fills with
dt / t, so that a load that changes trips when the shares of its times add up to one, and a constant one after t.

Below the pickup it empties with dt (1 - M^2) / (TMS t_r), which is the reset of an induction disk (IEEE C37.112, where t_r is
given for very and extremely inverse curves; for the standard inverse curve that of the moderately inverse one is taken). The
constants are quoted from memory of both standards; no document was checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from twin.errors import InputError

Curve = Literal["standard_inverse", "very_inverse", "extremely_inverse"]

#: curve -> (k in s, alpha, t_r in s).
CURVES: dict[str, tuple[float, float, float]] = {
    "standard_inverse": (0.14, 0.02, 4.85),
    "very_inverse": (13.5, 1.0, 21.6),
    "extremely_inverse": (80.0, 2.0, 29.1),
}


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """`pickup_w` is the power above which it begins to time; `instantaneous_ratio` the multiple of it that trips at once."""

    pickup_w: float
    curve: Curve = "very_inverse"
    time_multiplier: float = 1.0
    instantaneous_ratio: float = 8.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.pickup_w) and self.pickup_w > 0):
            raise InputError(f"breaker: the rating must be a positive power, not {self.pickup_w!r} W")
        if self.curve not in CURVES:
            raise InputError(f"breaker: unknown curve {self.curve!r} (known: {', '.join(CURVES)})")
        if not (math.isfinite(self.time_multiplier) and self.time_multiplier > 0 and self.instantaneous_ratio > 1):
            raise InputError("breaker: a time multiplier above 0 and an instantaneous pickup above 1 are due")

    def trip_s(self, load_w: float) -> float:
        """Time to the trip from cold at a constant load; infinite at the pickup and below."""
        ratio = load_w / self.pickup_w
        if ratio <= 1:
            return math.inf
        if ratio >= self.instantaneous_ratio:
            return 0.0
        k, alpha, _ = CURVES[self.curve]
        return self.time_multiplier * k / math.expm1(alpha * math.log(ratio))


class Breaker:
    """How far a breaker is to its trip: `filled` from 0 (cold) to 1 (it trips)."""

    __slots__ = ("filled", "spec")

    def __init__(self, spec: BreakerSpec):
        self.spec = spec
        self.filled = 0.0

    def advance(self, duration_s: float, load_w: float) -> bool:
        """Carry a constant load for so long. Whether it has tripped by then."""
        trip_s = self.spec.trip_s(load_w)
        if trip_s <= 0:
            self.filled = 1.0
        elif trip_s < math.inf:
            self.filled = min(1.0, self.filled + duration_s / trip_s)
        elif self.filled > 0:
            reset_s = self.spec.time_multiplier * CURVES[self.spec.curve][2]
            self.filled = max(0.0, self.filled - duration_s * (1 - (load_w / self.spec.pickup_w) ** 2) / reset_s)
        return self.filled >= 1 - 1e-12

    def next_change_s(self, load_w: float) -> float:
        """Time to the trip at a constant load; infinite if it never trips."""
        trip_s = self.spec.trip_s(load_w)
        return math.inf if trip_s == math.inf else (1 - self.filled) * trip_s

    def reset(self) -> None:
        """Cold, as after a trip and a reclosing."""
        self.filled = 0.0
