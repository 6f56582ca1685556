"""A store that carries a load by itself when its input is dead, and is charged again afterwards: the batteries of a UPS.

Powers are at the DC link of the UPS. Giving P takes P / discharge_efficiency from the store; taking P puts
P x charge_efficiency into it. Below the reserve the store opens: it carries nothing more until it has been charged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.errors import InputError, SimulationError


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """`capacity_j` is the content when full; `reserve_frac` of it is the cut-off."""

    name: str
    capacity_j: float
    discharge_max_w: float
    charge_max_w: float
    discharge_efficiency_frac: float
    charge_efficiency_frac: float
    reserve_frac: float = 0.05

    def __post_init__(self) -> None:
        for name in ("capacity_j", "discharge_max_w", "charge_max_w"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"store {self.name}: {name} must be above zero, not {value!r}")
        for name in ("discharge_efficiency_frac", "charge_efficiency_frac"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"store {self.name}: {name} must be above 0 and at most 1, not {getattr(self, name)!r}")
        if not 0 <= self.reserve_frac < 1:
            raise InputError(f"store {self.name}: the reserve is a share from 0 to below 1, not {self.reserve_frac!r}")


class Store:
    """Full at first. Its books: `taken_j` - `given_j` - `lost_j` = `stored_j` - capacity."""

    __slots__ = ("given_j", "lost_j", "spec", "stored_j", "taken_j")

    def __init__(self, spec: StoreSpec):
        self.spec = spec
        self.stored_j = spec.capacity_j
        self.taken_j = self.given_j = self.lost_j = 0.0

    @property
    def soc_frac(self) -> float:
        """Content over capacity, 0..1."""
        return self.stored_j / self.spec.capacity_j

    @property
    def full(self) -> bool:
        """Whether it takes nothing more."""
        return self.stored_j >= self.spec.capacity_j * (1 - 1e-12)

    @property
    def open(self) -> bool:
        """Down to its reserve: it carries nothing."""
        return self.stored_j <= self.spec.reserve_frac * self.spec.capacity_j * (1 + 1e-12)

    @property
    def books_balance(self) -> bool:
        """Whether what went in and out explains the content."""
        spec = self.spec
        residual_j = self.taken_j - self.given_j - self.lost_j - (self.stored_j - spec.capacity_j)
        return 0 <= self.stored_j <= spec.capacity_j and abs(residual_j) <= 1e-9 * (spec.capacity_j + self.taken_j)

    def left_s(self, power_w: float) -> float:
        """How long it can give `power_w`, above 0, before it opens."""
        above_j = max(0.0, self.stored_j - self.spec.reserve_frac * self.spec.capacity_j)
        return above_j * self.spec.discharge_efficiency_frac / power_w

    def feasible_range(self, duration_s: float) -> tuple[float, float]:
        """(lowest, highest) power that can be held for all of `duration_s` above the reserve; charging is below zero."""
        if not duration_s > 0:
            raise SimulationError(f"store {self.spec.name}: a range is asked for a positive duration, not {duration_s!r} s")
        spec = self.spec
        above_j = max(0.0, self.stored_j - spec.reserve_frac * spec.capacity_j)
        room_j = max(0.0, spec.capacity_j - self.stored_j)
        highest = min(spec.discharge_max_w, above_j * spec.discharge_efficiency_frac / duration_s)
        return -min(spec.charge_max_w, room_j / spec.charge_efficiency_frac / duration_s), highest

    def carry(self, power_w: float, duration_s: float) -> float:
        """Give `power_w`, which is not asked but drawn, for `duration_s`; the loss in W. The reserve bridges the step in which it
        is reached. Raises SimulationError for a power above the limit and for a step that would empty the store."""
        spec = self.spec
        if not 0 <= power_w <= spec.discharge_max_w * (1 + 1e-9):
            raise SimulationError(f"store {spec.name}: {power_w:,.0f} W is outside 0 to {spec.discharge_max_w:,.0f} W")
        store_w = power_w / spec.discharge_efficiency_frac
        left_j = self.stored_j - store_w * duration_s
        if left_j < 0:
            lasts_s = self.stored_j / store_w
            raise SimulationError(
                f"store {spec.name}: {power_w:,.0f} W for {duration_s:g} s would take it below zero in {lasts_s:.3g} s; its "
                f"reserve of {spec.reserve_frac:.0%} needs steps of at most {spec.reserve_frac * spec.capacity_j / store_w:.3g} s"
            )
        self.stored_j = left_j
        self.given_j += power_w * duration_s
        self.lost_j += (store_w - power_w) * duration_s
        return store_w - power_w

    def charge(self, power_w: float, duration_s: float) -> float:
        """Take `power_w` for `duration_s`; the loss in W. Raises SimulationError outside `feasible_range(duration_s)`."""
        spec = self.spec
        most_w = -self.feasible_range(duration_s)[0]
        if not 0 <= power_w <= most_w * (1 + 1e-9):
            raise SimulationError(
                f"store {spec.name}: charging with {power_w:,.0f} W for {duration_s:g} s is above {most_w:,.0f} W"
            )
        kept_w = power_w * spec.charge_efficiency_frac
        self.stored_j = min(spec.capacity_j, self.stored_j + kept_w * duration_s)
        self.taken_j += power_w * duration_s
        self.lost_j += (power_w - kept_w) * duration_s
        return power_w - kept_w
