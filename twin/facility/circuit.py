"""Facility water from the loops to the sky."""

from __future__ import annotations

import math
from typing import NamedTuple

from twin.facility.spec import CircuitSpec
from twin.facility.thermal import rejected_w, rejection, relax


class CircuitPower(NamedTuple):
    """Means over a step; `rejected_w` leaves the water for the outdoor air (fan and compressor heat come on top),
    `water_kg_per_s` is what towers and pads use."""

    pump_w: float
    fan_w: float
    chiller_w: float
    rejected_w: float
    water_kg_per_s: float


STANDING = CircuitPower(0.0, 0.0, 0.0, 0.0, 0.0)


class Circuit:
    """Water with its pumps, heat rejection and chillers; scalar, since a site has one or two. `power`: of the last step."""

    __slots__ = (
        "_chiller_w",
        "_chillers",
        "_cooler_share",
        "_pump_share",
        "flow_frac",
        "flow_share",
        "full_w_per_k",
        "heat_w",
        "power",
        "return_c",
        "spec",
        "supply_c",
    )

    def __init__(self, spec: CircuitSpec):
        self.spec = spec
        self.full_w_per_k = spec.flow_max_kg_per_s * spec.specific_heat_j_per_kg_k
        self.return_c = spec.supply_c
        self.supply_c = spec.supply_c
        self.flow_frac = spec.flow_min_frac
        self.heat_w = 0.0
        self.power = STANDING
        self.limit(1.0, 1.0, 1.0, spec.chiller.bank.units if spec.chiller is not None else 0)

    def limit(self, flow_share: float, pump_share: float, cooler_share: float, chillers: int) -> None:
        """What is left: the greatest flow, the pumps' power and the coolers as shares of the rating, and how many chillers."""
        self.flow_share = flow_share
        self._pump_share = pump_share
        self._cooler_share = cooler_share
        chiller = self.spec.chiller
        self._chillers = chillers
        self._chiller_w = chiller.capacity_w * chiller.bank.share(chillers) if chiller is not None else 0.0

    def sink_c(self, dry_bulb_c: float, wet_bulb_c: float) -> float:
        """Temperature of the air on the dry cooler's coil, or of the water that a tower comes near to."""
        if self.spec.tower is not None:
            return wet_bulb_c
        wetting = self.spec.wetting_frac if dry_bulb_c > self.spec.wetting_start_c else 0.0
        return dry_bulb_c - wetting * (dry_bulb_c - wet_bulb_c)

    def advance(
        self, duration_s: float, heat_w: float, water_w_per_k: float, dry_bulb_c: float, wet_bulb_c: float
    ) -> CircuitPower:
        """Take `heat_w` from the loops, whose exchangers let through a capacity rate of `water_w_per_k`, for `duration_s`.

        The heat rejection does what it can and the chiller the rest; the shares are taken at the mean of the return's two ends.
        Cells that are down take their share of air and wall along. A tower's effectiveness is that at the start of the step.
        """
        spec = self.spec
        if self.flow_share == 0:  # the water stands; no loop has given it anything
            self.flow_frac = self.heat_w = 0.0
            self.power = STANDING
            return STANDING
        full_w_per_k = self.full_w_per_k * self.flow_share
        # the loops share the full flow out among them: above 1 is rounding only
        flow = min(1.0, max(spec.flow_min_frac, water_w_per_k / full_w_per_k))
        self.flow_frac = flow * self.flow_share
        pump_w = spec.pump_rated_w * self._pump_share * flow * flow * flow
        self.heat_w = heat_w = heat_w + pump_w
        conductance = flow * full_w_per_k
        sink_c = self.sink_c(dry_bulb_c, wet_bulb_c)
        before_c = self.return_c
        effectiveness = spec.effectiveness_frac
        if spec.tower is not None:
            effectiveness = spec.tower.effectiveness_frac(self.flow_frac, conductance, before_c, wet_bulb_c)
        effectiveness *= self._cooler_share
        after_c = self._relax(duration_s, heat_w, conductance, effectiveness, sink_c)
        moved_w = heat_w - spec.heat_capacity_j_per_k * (after_c - before_c) / duration_s
        free_w = effectiveness * conductance * max(0.0, (before_c + after_c) / 2 - sink_c)
        chilled_w = min(self._chiller_w, max(0.0, moved_w - free_w))
        fan = min(1.0, max(0.0, moved_w - chilled_w) / free_w) if free_w > 0 else 0.0
        chiller_w = water_kg_per_s = 0.0
        if spec.chiller is not None and chilled_w:
            chiller_w = spec.chiller.power_w(chilled_w, self._chillers, spec.supply_c, dry_bulb_c, wet_bulb_c)
            water_kg_per_s = spec.chiller.water_kg_per_s(chilled_w, chiller_w, wet_bulb_c)
        if fan and (spec.tower is not None or spec.pads is not None):
            water_kg_per_s += self._evaporative_kg_per_s(fan, moved_w - chilled_w, dry_bulb_c, wet_bulb_c, sink_c)
        fan_w = spec.fan_rated_w * self._cooler_share * fan * fan * fan
        self.power = CircuitPower(pump_w, fan_w, chiller_w, moved_w, water_kg_per_s)
        return self.power

    def _relax(self, duration_s: float, heat_w: float, conductance: float, effectiveness: float, sink_c: float) -> float:
        """The return after the step, with the supply that goes with it. A circuit that holds its setpoint throughout, as most do
        most of the time, needs none of the other pieces."""
        before_c, held_c = self.return_c, self.spec.supply_c
        boosted_c = held_c + self._chiller_w / conductance
        rest_c = held_c + heat_w / conductance
        after_c = rest_c + (before_c - rest_c) * math.exp(-conductance * duration_s / self.spec.heat_capacity_j_per_k)
        limit_c = (boosted_c - effectiveness * sink_c) / (1 - effectiveness)
        if boosted_c > sink_c and held_c < min(before_c, after_c) and max(before_c, after_c) <= limit_c:
            self.supply_c = held_c
        else:
            pieces = rejection(conductance, effectiveness, held_c, sink_c, self._chiller_w)
            after_c = relax(before_c, duration_s, heat_w, self.spec.heat_capacity_j_per_k, pieces)
            self.supply_c = after_c - rejected_w(after_c, pieces) / conductance
        self.return_c = after_c
        return after_c

    def _evaporative_kg_per_s(self, fan: float, heat_w: float, dry_bulb_c: float, wet_bulb_c: float, sink_c: float) -> float:
        spec = self.spec
        tower = spec.tower
        if tower is None:
            assert spec.pads is not None
            return spec.pads.water_kg_per_s(fan * self._cooler_share, dry_bulb_c - sink_c, wet_bulb_c)
        air_kg_per_s = tower.air_kg_per_s * fan * self._cooler_share
        evaporated = tower.evaporated_kg_per_s(heat_w, air_kg_per_s, dry_bulb_c, wet_bulb_c)
        return tower.water_kg_per_s(evaporated, self.flow_frac * spec.flow_max_kg_per_s)
