"""Loops and circuits together: heat from the racks to the sky, and what moving it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twin.facility.circuit import Circuit
from twin.facility.spec import PlantSpec
from twin.facility.thermal import rejected_w, rejection, relax

Floats = npt.NDArray[np.float64]

#: the least warming that the flow controller reckons with, so that a supply above the return's target means full speed.
_RANGE_MIN_K = 0.01


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
        self._effectiveness = np.array([loop.effectiveness_frac for loop in loops])
        self._switch_base_c = self._setpoint_c / (1 - self._effectiveness)
        self._switch_slope = self._effectiveness / (1 - self._effectiveness)
        self.return_c: Floats = self._setpoint_c.copy()
        self.supply_c: Floats = self._setpoint_c.copy()
        self.flow_frac: Floats = self._flow_min.copy()
        self.heat_w: Floats = np.zeros(len(loops))

    def stored_j(self) -> float:
        """Heat in all loops and circuits, from 0 C."""
        in_loops = float(np.dot(self._capacity, self.return_c))
        return in_loops + math.fsum(c.spec.heat_capacity_j_per_k * c.return_c for c in self.circuits)

    def advance(self, duration_s: float, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> CoolingStep:
        """Take `heat_w` (loops,), constant over `duration_s`."""
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
        air_fan_w = float(mover_w[-1])
        pump_w = float(np.add.reduce(mover_w)) - air_fan_w
        fan_w = chiller_w = rejected = 0.0
        into = np.bincount(self._circuit_of, moved_w, len(self.circuits)).tolist()
        for circuit, circuit_heat_w in zip(self.circuits, into, strict=True):
            power = circuit.advance(duration_s, circuit_heat_w, dry_bulb_c, wet_bulb_c)
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
        switch_c = self._switch_base_c - self._switch_slope * sink_c
        strained = before_c > switch_c
        share = np.where(strained, self._effectiveness, 1.0)
        base_c = np.where(strained, sink_c, self._setpoint_c)
        slope = conductance * share
        rest_c = base_c + heat / slope
        after_c = rest_c + (before_c - rest_c) * np.exp(slope * (-duration_s) / self._capacity)
        supply_c = after_c - share * (after_c - base_c)
        shut_c = np.maximum(self._setpoint_c, sink_c)
        plain = ((after_c > switch_c) == strained) & (np.minimum(before_c, after_c) > shut_c)
        if not plain.all():
            for i in np.flatnonzero(~plain).tolist():
                pieces = rejection(float(conductance[i]), self.loops[i].effectiveness_frac, *self._ends(i, sink_c), 0.0)
                after = relax(float(before_c[i]), duration_s, float(heat[i]), self.loops[i].heat_capacity_j_per_k, pieces)
                after_c[i] = after
                supply_c[i] = after - rejected_w(after, pieces) / float(conductance[i])
        self.return_c = after_c
        self.supply_c = supply_c
        self.flow_frac = flow
        self.heat_w = heat
        return mover_w, heat - self._capacity * (after_c - before_c) / duration_s

    def _ends(self, loop: int, sink_c: Floats) -> tuple[float, float]:
        return self.loops[loop].supply_c, float(sink_c[loop])
