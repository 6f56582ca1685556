"""Loops and circuits together: heat from the racks to the sky, and what moving it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError
from twin.facility import exchanger
from twin.facility.circuit import Circuit
from twin.facility.spec import PlantSpec
from twin.facility.thermal import rejected_w, rejection, relax

Floats = npt.NDArray[np.float64]

#: the least warming that the flow controller reckons with, so that a supply above the return's target means full speed.
_RANGE_MIN_K = 0.01
#: the least heat that the valves of the exchangers reckon with, so that a loop at rest has a (tiny) flow of water too.
_HEAT_MIN_W = 1e-6


@dataclass(frozen=True, slots=True)
class CoolingStep:
    """Means over a step, in W.

    `rejected_w` leaves the circuits for the outdoor air; the heat of `outdoor_fan_w` and `chiller_w` goes there directly,
    while the heat of pumps and hall fans is in the loops and circuits.
    """

    pump_w: float
    hall_fan_w: float
    outdoor_fan_w: float
    chiller_w: float
    rejected_w: float

    @property
    def total_w(self) -> float:
        """Everything that cooling draws."""
        return self.pump_w + self.hall_fan_w + self.outdoor_fan_w + self.chiller_w


class Cooling:
    """The loops as arrays (liquid loops in order, then the hall's air) and the circuits behind them."""

    def __init__(self, spec: PlantSpec):
        loops = (*spec.loops, spec.air)
        self.loops = loops
        self.circuits = tuple(Circuit(circuit) for circuit in spec.circuits)
        self._coupling_step_s = spec.coupling_step_s
        names = [circuit.name for circuit in spec.circuits]
        self._circuit_of = np.array([names.index(loop.circuit) for loop in loops])
        self._setpoint_c = np.array([loop.supply_c for loop in loops])
        self._intercept_c = np.array([loop.return_intercept_c for loop in loops])
        self._closing = 1 - np.array([loop.return_slope for loop in loops])
        self._conductance = np.array([loop.specific_heat_j_per_kg_k * loop.flow_max_kg_per_s for loop in loops])
        self._flow_min = np.array([loop.flow_min_frac for loop in loops])
        self._capacity = np.array([loop.heat_capacity_j_per_k for loop in loops])
        self._mover_w = np.array([loop.mover_rated_w for loop in loops])
        self._wall = np.array([loop.exchanger_w_per_k for loop in loops])
        self._water_max = np.array([loop.water_max_w_per_k for loop in loops])
        self._return_approach_k = np.array([loop.return_approach_k for loop in loops])
        self._powered = True
        self.return_c: Floats = self._setpoint_c.copy()
        self.supply_c: Floats = self._setpoint_c.copy()
        self.flow_frac: Floats = self._flow_min.copy()
        self.heat_w: Floats = np.zeros(len(loops))
        self.water_w_per_k: Floats = np.zeros(len(loops))

    def set_powered(self, share: float, pump_share: float) -> None:
        """How much of fans and chillers, and of all pumps, has electrical power: all or nothing."""
        if share != pump_share or share not in (0.0, 1.0):
            raise SimulationError(f"cooling has power or has none, not {share!r} and {pump_share!r}")
        self._powered = share > 0

    def stored_j(self) -> float:
        """Heat in all loops and circuits, from 0 C."""
        in_loops = float(np.dot(self._capacity, self.return_c))
        return in_loops + math.fsum(c.spec.heat_capacity_j_per_k * c.return_c for c in self.circuits)

    def advance(self, duration_s: float, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> CoolingStep:
        """Take `heat_w` (loops,), constant over `duration_s`."""
        if not self._powered:
            self.return_c = self.supply_c = self.return_c + heat_w * duration_s / self._capacity
            self.flow_frac, self.heat_w = np.zeros(len(self.loops)), heat_w
            return CoolingStep(0.0, 0.0, 0.0, 0.0, 0.0)
        parts = math.ceil(duration_s / self._coupling_step_s)
        if parts <= 1:
            return self._advance(duration_s, heat_w, dry_bulb_c, wet_bulb_c)
        steps = [self._advance(duration_s / parts, heat_w, dry_bulb_c, wet_bulb_c) for _ in range(parts)]
        return CoolingStep(
            math.fsum(s.pump_w for s in steps) / parts,
            math.fsum(s.hall_fan_w for s in steps) / parts,
            math.fsum(s.outdoor_fan_w for s in steps) / parts,
            math.fsum(s.chiller_w for s in steps) / parts,
            math.fsum(s.rejected_w for s in steps) / parts,
        )

    def settle(self, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> None:
        """Go to the steady state of constant heat and air. The longest chain is loop -> circuit, each relaxing within hours."""
        for _ in range(48):
            self._advance(3600.0, heat_w, dry_bulb_c, wet_bulb_c)

    def _advance(self, duration_s: float, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> CoolingStep:
        mover_w, moved_w = self._advance_loops(duration_s, heat_w)
        count = len(self.circuits)
        air_fan_w = float(mover_w[-1])
        pump_w = float(np.add.reduce(mover_w)) - air_fan_w
        fan_w = chiller_w = rejected = 0.0
        into = np.bincount(self._circuit_of, moved_w, count).tolist()
        water = np.bincount(self._circuit_of, self.water_w_per_k, count).tolist()
        for circuit, circuit_heat_w, water_w_per_k in zip(self.circuits, into, water, strict=True):
            power = circuit.advance(duration_s, circuit_heat_w, water_w_per_k, dry_bulb_c, wet_bulb_c)
            pump_w += power.pump_w
            fan_w += power.fan_w
            chiller_w += power.chiller_w
            rejected += power.rejected_w
        return CoolingStep(pump_w, air_fan_w, fan_w, chiller_w, rejected)

    def _advance_loops(self, duration_s: float, heat_w: Floats) -> tuple[Floats, Floats]:
        """All loops at once. Returns (mover power, heat handed to the circuits), both (loops,).

        A loop that stays on one straight piece of its rejection (held setpoint, or exchanger at its limit) is stepped with the
        others; the few that cross from one to another, or are shut, go through the exact scalar form.
        """
        range_k = np.maximum(self._intercept_c - self._closing * self.supply_c, _RANGE_MIN_K)
        flow = np.minimum(np.maximum(heat_w / (range_k * self._conductance), self._flow_min), 1.0)
        mover_w = self._mover_w * flow * flow * flow
        heat = heat_w + mover_w
        conductance = flow * self._conductance
        sink_c = np.array([circuit.supply_c for circuit in self.circuits])[self._circuit_of]
        before_c = self.return_c
        transfer_units = self._wall / conductance
        water_limit = self._water_limit(conductance)
        ratio_limit = exchanger.ratio(transfer_units, self._wall / water_limit)
        margin_k = self._setpoint_c - sink_c
        switch_c = self._setpoint_c + margin_k * ratio_limit
        strained = before_c > switch_c
        effectiveness = ratio_limit / (1 + ratio_limit)
        share = np.where(strained, effectiveness, 1.0)
        base_c = np.where(strained, sink_c, self._setpoint_c)
        slope = conductance * share
        rest_c = base_c + heat / slope
        after_c = rest_c + (before_c - rest_c) * np.exp(slope * (-duration_s) / self._capacity)
        supply_c = after_c - share * (after_c - base_c)
        shut_c = np.maximum(self._setpoint_c, sink_c)
        plain = ((after_c > switch_c) == strained) & (np.minimum(before_c, after_c) > shut_c)
        if not plain.all():
            for i in np.flatnonzero(~plain).tolist():
                pieces = rejection(float(conductance[i]), float(effectiveness[i]), *self._ends(i, sink_c), 0.0)
                after = relax(float(before_c[i]), duration_s, float(heat[i]), self.loops[i].heat_capacity_j_per_k, pieces)
                after_c[i] = after
                supply_c[i] = after - rejected_w(after, pieces) / float(conductance[i])
        self.return_c = after_c
        self.supply_c = supply_c
        self.flow_frac = flow
        self.heat_w = heat
        moved_w = heat - self._capacity * (after_c - before_c) / duration_s
        self.water_w_per_k = self._water(moved_w, conductance, transfer_units, water_limit, ratio_limit, margin_k)
        return mover_w, moved_w

    def _water_limit(self, conductance: Floats) -> Floats:
        """The most water that each loop's exchanger can have: its valve wide open, or its share of the pump's full flow.

        Shares go with the loops' own capacity rates, for balanced exchangers need as much water as there is coolant.
        """
        wanted = np.bincount(self._circuit_of, conductance, len(self.circuits)).tolist()
        per_coolant = np.array(
            [circuit.full_w_per_k / loops for circuit, loops in zip(self.circuits, wanted, strict=True) if loops]
        )
        return np.minimum(self._water_max, conductance * per_coolant[self._circuit_of])

    def _water(
        self,
        moved_w: Floats,
        conductance: Floats,
        transfer_units: Floats,
        limit: Floats,
        ratio_limit: Floats,
        margin_k: Floats,
    ) -> Floats:
        """Capacity rate of the water through each exchanger for its mean heat: what the supply needs, or the return's approach.

        More than the heat needs goes to waste only as flow: the valve beside the exchanger's other side mixes the supply.
        """
        moved_w = np.maximum(moved_w, _HEAT_MIN_W)
        fall_k = moved_w / conductance
        cold_end_k = np.maximum(margin_k, fall_k / ratio_limit)
        needed = exchanger.wall_over_cold(transfer_units, fall_k / cold_end_k)
        for_supply = self._wall / np.maximum(needed, self._wall / limit)
        for_return = moved_w / np.maximum(fall_k + cold_end_k - self._return_approach_k, moved_w / limit)
        return np.maximum(for_supply, for_return)

    def _ends(self, loop: int, sink_c: Floats) -> tuple[float, float]:
        return self.loops[loop].supply_c, float(sink_c[loop])
