"""Compression chillers: power by load and lift, several units in steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.errors import InputError
from twin.facility.bank import ONE_UNIT, Bank
from twin.facility.tower import evaporation_heat_j_per_kg

#: power over full-load power by load over capacity, lowest power first: no loss at part load.
_PROPORTIONAL = (0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class ChillerSpec:
    """Chillers in series after the heat rejection.

    Full-load COP = `carnot_frac` x T_evaporator / (condensing - evaporating temperature), kelvin, with the lift at least
    `lift_min_k`; it evaporates `evaporator_approach_k` below the supply setpoint and condenses `condenser_approach_k` above the
    outdoor air: its dry bulb, or its wet bulb where the `condenser` is cooled by water of its own tower, whose fans and pumps
    draw `condenser_power_frac` of the heat they carry and whose water thickens `concentration_cycles` times.

    `capacity_w` is that of the units that are needed. As few run as carry the load. Of a unit's full-load power at the same lift
    it draws `part_load` (c0, c1, c2) as c0 + c1 x + c2 x^2 at x of its capacity; below `load_min_frac` it cycles on and off.
    """

    capacity_w: float
    carnot_frac: float
    evaporator_approach_k: float
    condenser_approach_k: float
    lift_min_k: float
    bank: Bank = ONE_UNIT
    part_load: tuple[float, ...] = _PROPORTIONAL
    load_min_frac: float = 0.1
    condenser: str = "air"
    condenser_power_frac: float = 0.0
    concentration_cycles: float = 4.0

    def __post_init__(self) -> None:
        for name in ("capacity_w", "carnot_frac", "evaporator_approach_k", "condenser_approach_k", "lift_min_k", "load_min_frac"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"chiller: {name} must be above zero, not {getattr(self, name)!r}")
        for name in ("carnot_frac", "load_min_frac", "condenser_power_frac"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"chiller: {name} must be a share from 0 to 1, not {getattr(self, name)!r}")
        if self.condenser not in ("air", "water"):
            raise InputError(f"chiller: its condenser is cooled by air or water, not {self.condenser!r}")
        if not 1 < self.concentration_cycles < math.inf:
            raise InputError(f"chiller: more than one cycle of concentration is due, not {self.concentration_cycles!r}")
        self._check_part_load()

    def _check_part_load(self) -> None:
        curve = self.part_load
        if len(curve) != 3 or not all(math.isfinite(c) for c in curve) or abs(sum(curve) - 1) > 1e-6:
            raise InputError(f"chiller: part_load must be three coefficients that add up to 1 (full load), not {list(curve)!r}")
        least, (_, linear, quadratic) = self.load_min_frac, curve
        if min(linear + 2 * quadratic * least, linear + 2 * quadratic) < 0 or self._share(least) <= 0:
            raise InputError(f"chiller: part_load {list(curve)!r} must be above zero and not fall from {least:g} to full load")
        best = max(least, min(1.0, math.sqrt(max(0.0, curve[0] / quadratic)))) if quadratic > 0 else least
        best_frac = self.carnot_frac * max(x / self._share(x) for x in (least, best, 1.0))
        if best_frac > 1:
            raise InputError(f"chiller: at part load it would be {best_frac:.3f} of Carnot's machine; no machine is above 1")

    def _share(self, load_frac: float) -> float:
        """Power over full-load power of one unit."""
        load = max(load_frac, self.load_min_frac)
        power = self.part_load[0] + load * (self.part_load[1] + load * self.part_load[2])
        return power * load_frac / load

    def cop(self, supply_c: float, outdoor_c: float) -> float:
        """Heat moved per electrical energy at full load."""
        evaporating_k = supply_c - self.evaporator_approach_k + 273.15
        lift_k = max(self.lift_min_k, outdoor_c + self.condenser_approach_k + 273.15 - evaporating_k)
        return self.carnot_frac * evaporating_k / lift_k

    def power_w(self, heat_w: float, units: int, supply_c: float, dry_bulb_c: float, wet_bulb_c: float) -> float:
        """Electrical power that moves `heat_w` with `units` chillers up, those of the condensers' tower included."""
        unit_w = self.capacity_w / self.bank.needed
        running = min(units, max(1, math.ceil(heat_w / unit_w - 1e-9)))
        full_w = unit_w / self.cop(supply_c, dry_bulb_c if self.condenser == "air" else wet_bulb_c)
        power_w = running * full_w * self._share(heat_w / (running * unit_w))
        return power_w + self.condenser_power_frac * (heat_w + power_w)

    def water_kg_per_s(self, heat_w: float, power_w: float, wet_bulb_c: float) -> float:
        """Water that its condensers' tower uses, as if all of their heat evaporated water; none where air cools them."""
        if self.condenser == "air":
            return 0.0
        evaporated = (heat_w + power_w) / evaporation_heat_j_per_kg(wet_bulb_c)
        return evaporated * self.concentration_cycles / (self.concentration_cycles - 1)
