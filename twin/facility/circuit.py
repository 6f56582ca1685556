"""Facility water from the loops to the sky."""

from __future__ import annotations

from dataclasses import dataclass

from twin.facility.spec import CircuitSpec
from twin.facility.thermal import rejected_w, rejection, relax


@dataclass(frozen=True, slots=True)
class CircuitPower:
    """Means over a step; `rejected_w` leaves the water for the outdoor air (fan and compressor heat come on top)."""

    pump_w: float
    fan_w: float
    chiller_w: float
    rejected_w: float


class Circuit:
    """Water with its pump, dry cooler and chiller; scalar, since a site has one or two."""

    __slots__ = ("flow_frac", "full_w_per_k", "heat_w", "return_c", "spec", "supply_c")

    def __init__(self, spec: CircuitSpec):
        self.spec = spec
        self.full_w_per_k = spec.flow_max_kg_per_s * spec.specific_heat_j_per_kg_k
        self.return_c = spec.supply_c
        self.supply_c = spec.supply_c
        self.flow_frac = spec.flow_min_frac
        self.heat_w = 0.0

    def sink_c(self, dry_bulb_c: float, wet_bulb_c: float) -> float:
        """Temperature of the air on the dry cooler's coil."""
        wetting = self.spec.wetting_frac if dry_bulb_c > self.spec.wetting_start_c else 0.0
        return dry_bulb_c - wetting * (dry_bulb_c - wet_bulb_c)

    def advance(
        self, duration_s: float, heat_w: float, water_w_per_k: float, dry_bulb_c: float, wet_bulb_c: float
    ) -> CircuitPower:
        """Take `heat_w` from the loops, whose exchangers let through a capacity rate of `water_w_per_k`, for `duration_s`.

        The dry cooler does what it can and the chiller the rest; the shares are taken at the mean of the return's two ends.
        """
        spec = self.spec
        chiller = spec.chiller
        # the loops share the full flow out among them: above 1 is rounding only
        flow = self.flow_frac = min(1.0, max(spec.flow_min_frac, water_w_per_k / self.full_w_per_k))
        pump_w = spec.pump_rated_w * flow * flow * flow
        self.heat_w = heat_w = heat_w + pump_w
        conductance = flow * self.full_w_per_k
        sink_c = self.sink_c(dry_bulb_c, wet_bulb_c)
        boost_w = chiller.capacity_w if chiller is not None else 0.0
        pieces = rejection(conductance, spec.effectiveness_frac, spec.supply_c, sink_c, boost_w)
        before_c = self.return_c
        self.return_c = after_c = relax(before_c, duration_s, heat_w, spec.heat_capacity_j_per_k, pieces)
        self.supply_c = after_c - rejected_w(after_c, pieces) / conductance
        moved_w = heat_w - spec.heat_capacity_j_per_k * (after_c - before_c) / duration_s
        free_w = spec.effectiveness_frac * conductance * max(0.0, (before_c + after_c) / 2 - sink_c)
        chilled_w = min(boost_w, max(0.0, moved_w - free_w))
        chiller_w = chilled_w / chiller.cop(spec.supply_c, dry_bulb_c) if chiller is not None and chilled_w else 0.0
        fan = min(1.0, max(0.0, moved_w - chilled_w) / free_w) if free_w > 0 else 0.0
        return CircuitPower(pump_w, spec.fan_rated_w * fan * fan * fan, chiller_w, moved_w)
