"""A site battery behind the meter: what it can give for how long, what it has given, what it lost on the way.

Powers are at the site bus (AC) unless named `store`. The inverter's loss lies between the two: giving P at the bus takes
P / discharge_efficiency from the store; taking P from the bus puts P x charge_efficiency into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from twin.errors import InputError, SimulationError

#: An islanding battery carries the site down to this share of its capacity.
RESERVE_FRAC = 0.05


@dataclass(frozen=True, slots=True)
class BatterySpec:
    """Size and limits. `floor_frac` of the capacity is kept for ride-through and never sold."""

    capacity_j: float
    discharge_max_w: float
    charge_max_w: float
    discharge_efficiency_frac: float
    charge_efficiency_frac: float
    floor_frac: float
    initial_frac: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.capacity_j) and self.capacity_j > 0):
            raise InputError(f"battery: the capacity must be a positive energy, not {self.capacity_j!r} J")
        for name in ("discharge_max_w", "charge_max_w"):
            power = getattr(self, name)
            if not (math.isfinite(power) and power >= 0):
                raise InputError(f"battery: {name} must be a power of at least 0 W, not {power!r}")
        for name in ("discharge_efficiency_frac", "charge_efficiency_frac"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"battery: {name} must be above 0 and at most 1, not {getattr(self, name)!r}")
        if not 0 <= self.floor_frac <= self.initial_frac <= 1:
            raise InputError(
                f"battery: 0 <= floor <= initial <= 1 is due, not floor {self.floor_frac!r} and initial {self.initial_frac!r}"
            )


@dataclass(frozen=True, slots=True)
class BatteryOrder:
    """What the battery is told to do until the next order; use `hold`, `follow` or `power`."""

    mode: Literal["hold", "follow", "power"]
    limit_w: float = 0.0
    recharge_w: float = 0.0
    power_w: float = 0.0

    @classmethod
    def hold(cls) -> BatteryOrder:
        """Neither charge nor discharge."""
        return cls("hold")

    @classmethod
    def follow(cls, limit_w: float, recharge_w: float = 0.0) -> BatteryOrder:
        """Keep what the feed delivers at or below `limit_w` by discharging; the inverter's own loop, faster than any step.

        While the feed is below the limit the battery charges with up to `recharge_w`, never beyond the limit.
        """
        if not (math.isfinite(limit_w) and limit_w >= 0 and math.isfinite(recharge_w) and recharge_w >= 0):
            raise SimulationError(f"battery: cannot follow a limit of {limit_w!r} W with a recharge of {recharge_w!r} W")
        return cls("follow", limit_w=limit_w, recharge_w=recharge_w)

    @classmethod
    def power(cls, power_w: float) -> BatteryOrder:
        """Give `power_w` at the bus (below zero: take it)."""
        if not math.isfinite(power_w):
            raise SimulationError(f"battery: cannot give {power_w!r} W")
        return cls("power", power_w=power_w)


class Battery:
    """State of charge under the orders of a plant."""

    __slots__ = ("given_j", "lost_j", "spec", "stored_j", "taken_j")

    def __init__(self, spec: BatterySpec):
        self.spec = spec
        self.stored_j = spec.capacity_j * spec.initial_frac
        #: At the bus: what it gave and took, and what was lost on the way.
        self.given_j = self.taken_j = self.lost_j = 0.0

    @property
    def soc_frac(self) -> float:
        """State of charge, 0..1 of the capacity."""
        return self.stored_j / self.spec.capacity_j

    def feasible_range(self, duration_s: float) -> tuple[float, float]:
        """(lowest, highest) power at the bus that can be held for all of `duration_s`; charging is below zero."""
        if not duration_s > 0:
            raise SimulationError(f"battery: a range is asked for a positive duration, not {duration_s!r} s")
        spec = self.spec
        above_floor_j = max(0.0, self.stored_j - spec.floor_frac * spec.capacity_j)
        room_j = max(0.0, spec.capacity_j - self.stored_j)
        highest = min(spec.discharge_max_w, above_floor_j * spec.discharge_efficiency_frac / duration_s)
        lowest = -min(spec.charge_max_w, room_j / spec.charge_efficiency_frac / duration_s)
        return lowest, highest

    @property
    def at_reserve(self) -> bool:
        """Whether it is too empty to carry the site."""
        return self.stored_j <= RESERVE_FRAC * self.spec.capacity_j * (1 + 1e-12)

    def carry(self, power_w: float, duration_s: float) -> tuple[float, float]:
        """Carry an islanded site, floor or not; as `set_power`. The reserve bridges the step in which it is reached, and the
        inverter's overload the step in which a load exceeds its limit: whoever chooses looks at both before the next.

        Raises SimulationError for a step that would empty the battery.
        """
        spec = self.spec
        store_w = power_w / spec.discharge_efficiency_frac
        if not 0 <= store_w * duration_s <= self.stored_j:
            raise SimulationError(
                f"battery: it cannot carry {power_w:,.0f} W for {duration_s:g} s with {self.stored_j:,.0f} J left; shorter steps "
                "would let it open in time"
            )
        return self._count(power_w, store_w, duration_s)

    def set_power(self, power_w: float, duration_s: float) -> tuple[float, float]:
        """Hold `power_w` at the bus for `duration_s`. Returns (power out of the store, inverter loss), both in W.

        power out of the store = power at the bus + loss. Raises SimulationError outside `feasible_range(duration_s)`.
        """
        if not power_w:
            return 0.0, 0.0
        lowest, highest = self.feasible_range(duration_s)
        if not lowest * (1 + 1e-9) <= power_w <= highest * (1 + 1e-9):
            raise SimulationError(f"battery: {power_w:,.0f} W for {duration_s:g} s is outside {lowest:,.0f} to {highest:,.0f} W")
        spec = self.spec
        store_w = power_w / spec.discharge_efficiency_frac if power_w > 0 else power_w * spec.charge_efficiency_frac
        return self._count(power_w, store_w, duration_s)

    def _count(self, power_w: float, store_w: float, duration_s: float) -> tuple[float, float]:
        self.stored_j -= store_w * duration_s
        if power_w > 0:
            self.given_j += power_w * duration_s
        else:
            self.taken_j -= power_w * duration_s
        self.lost_j += (store_w - power_w) * duration_s
        return store_w, store_w - power_w

    @property
    def books_balance(self) -> bool:
        """Whether taken - given - lost is the change of its content, and that is within 0 and the capacity but for rounding."""
        spec = self.spec
        change_j = self.stored_j - spec.initial_frac * spec.capacity_j
        residual_j = self.taken_j - self.given_j - self.lost_j - change_j
        rounding_j = 1e-9 * (spec.capacity_j + self.taken_j + self.given_j)
        return abs(residual_j) <= rounding_j and -rounding_j <= self.stored_j <= spec.capacity_j + rounding_j
