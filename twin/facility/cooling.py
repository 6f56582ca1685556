"""Loops and circuits together: heat from the racks to the sky, what moving it costs, and what is left when parts of it fail."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError, did_you_mean
from twin.facility.circuit import Circuit
from twin.facility.component import Component
from twin.facility.dies import Dies
from twin.facility.loops import Loops
from twin.facility.spec import CircuitSpec, LoopSpec, PlantSpec

Floats = npt.NDArray[np.float64]


class CoolingStep(NamedTuple):
    """Means over a step, in W; `water_kg_per_s` is what the outdoor equipment uses.

    `rejected_w` leaves the circuits for the outdoor air; the heat of `outdoor_fan_w` and `chiller_w` goes there directly,
    while the heat of pumps and hall fans is in the loops and circuits.
    """

    pump_w: float
    hall_fan_w: float
    outdoor_fan_w: float
    chiller_w: float
    rejected_w: float
    water_kg_per_s: float

    @property
    def total_w(self) -> float:
        """Everything that cooling draws."""
        return self.pump_w + self.hall_fan_w + self.outdoor_fan_w + self.chiller_w


class Cooling:
    """The loops (liquid loops in order, then the hall's air), the circuits behind them and the dies that they keep cool.

    Verbs (`fail`, `repair`, `set_powered`) hold from the next step on.
    """

    def __init__(self, spec: PlantSpec):
        self.circuits = tuple(Circuit(circuit) for circuit in spec.circuits)
        self.loops = Loops((*spec.loops, spec.air), self.circuits)
        self.dies = Dies(spec)
        everything: list[LoopSpec | CircuitSpec] = [*self.loops.specs, *spec.circuits]
        #: Liquid loops, the hall's air, circuits: names, and full flows (loops and circuits,).
        self.names = tuple(each.name for each in everything)
        self.flow_max_kg_per_s = np.array([each.flow_max_kg_per_s for each in everything])
        self._name = spec.name
        self._coupling_step_s = spec.coupling_step_s
        self._units = {component.key: component.units for component in self.components()}
        self._left = dict(self._units)
        self._powered = self._pumps_powered = 1.0

    @property
    def rack_tripped(self) -> npt.NDArray[np.bool_]:
        """(racks,): off because a die was too hot."""
        return self.dies.tripped

    def components(self) -> tuple[Component, ...]:
        """Everything of it that can fail: `cdu`, `cdu_pump` and `leak` of each loop, `pump`, `cooler` and `chiller` of each
        circuit, `air_handler` of the hall."""
        *liquid, air = self.loops.specs
        parts = [
            part
            for loop in liquid
            for part in (
                Component("cdu", loop.name, loop.units.units),
                Component("cdu_pump", loop.name, loop.pumps.units),
                Component("leak", loop.name),
            )
        ]
        parts.append(Component("air_handler", air.name, air.units.units))
        for circuit in self.circuits:
            spec = circuit.spec
            parts += [Component("pump", spec.name, spec.pumps.units), Component("cooler", spec.name, spec.coolers.units)]
            if spec.chiller is not None:
                parts.append(Component("chiller", spec.name, spec.chiller.bank.units))
        return tuple(parts)

    def fail(self, key: str, units: int = 1) -> None:
        """Take `units` of a component away. Raises SimulationError for an unknown one or more units than are left."""
        self._change(key, -units)

    def repair(self, key: str, units: int = 1) -> None:
        """Give `units` of a component back. Raises SimulationError for an unknown one or more units than are missing."""
        self._change(key, units)

    def set_powered(self, share: float, pump_share: float) -> None:
        """How much of fans and chillers, and of all pumps, has electrical power, as shares from 0 to 1."""
        if not (0 <= share <= 1 and 0 <= pump_share <= 1):
            raise SimulationError(f"plant {self._name}: shares of power from 0 to 1 are due, not {share!r} and {pump_share!r}")
        if (share, pump_share) != (self._powered, self._pumps_powered):
            self._powered, self._pumps_powered = share, pump_share
            self._limit()

    def stored_j(self) -> float:
        """Heat in all loops and circuits, from 0 C."""
        stored_j = float(self.loops.capacity_j_per_k.dot(self.loops.return_c))
        for circuit in self.circuits:
            stored_j += circuit.spec.heat_capacity_j_per_k * circuit.return_c
        return stored_j

    def advance(self, duration_s: float, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> CoolingStep:
        """Take `heat_w` (loops,), constant over `duration_s`."""
        parts = math.ceil(duration_s / self._coupling_step_s)
        if parts <= 1:
            return self._advance(duration_s, heat_w, dry_bulb_c, wet_bulb_c)
        steps = [self._advance(duration_s / parts, heat_w, dry_bulb_c, wet_bulb_c) for _ in range(parts)]
        return CoolingStep(*(math.fsum(values) / parts for values in zip(*steps, strict=True)))

    def settle(self, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> None:
        """Go to the steady state of constant heat and air. The longest chain is loop -> circuit, each relaxing within hours."""
        for _ in range(48):
            self._advance(3600.0, heat_w, dry_bulb_c, wet_bulb_c)

    def heat_up(self, duration_s: float, gpu_max_w: Floats) -> Floats:
        """Die temperatures after a step at this power of each rack's hottest GPU (racks,); see `Dies.advance`."""
        return self.dies.advance(duration_s, gpu_max_w, self.loops.supply_c, self.loops.flow_met_frac)

    def _advance(self, duration_s: float, heat_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> CoolingStep:
        loops = self.loops
        mover_w, moved_w = loops.advance(duration_s, heat_w)
        air_fan_w = float(mover_w[-1])
        pump_w = loops.liquid_mover_w()
        fan_w = chiller_w = rejected = water_kg_per_s = 0.0
        into, drawn = loops.by_circuit(moved_w), loops.by_circuit(loops.water_w_per_k)
        for circuit, circuit_heat_w, drawn_w_per_k in zip(self.circuits, into, drawn, strict=True):
            power = circuit.advance(duration_s, circuit_heat_w, drawn_w_per_k, dry_bulb_c, wet_bulb_c)
            pump_w += power.pump_w
            fan_w += power.fan_w
            chiller_w += power.chiller_w
            rejected += power.rejected_w
            water_kg_per_s += power.water_kg_per_s
        return CoolingStep(pump_w, air_fan_w, fan_w, chiller_w, rejected, water_kg_per_s)

    def _change(self, key: str, units: int) -> None:
        if key not in self._units:
            raise SimulationError(f"plant {self._name}: no cooling component {key!r}{did_you_mean(key, self._units)}")
        left = self._left[key] + units
        if not 0 <= left <= self._units[key]:
            raise SimulationError(
                f"plant {self._name}: {self._left[key]} of {self._units[key]} units of {key} are up; {abs(units)} cannot "
                f"{'come back' if units > 0 else 'fail'}"
            )
        self._left[key] = left
        self._limit()

    def _limit(self) -> None:
        """Hand on what the units left and the power give. A loop's unit that is down takes its share of exchanger and flow."""
        left, powered, pumping = self._left, self._powered, self._pumps_powered
        for circuit in self.circuits:
            spec = circuit.spec
            name = spec.name
            pumps = left[f"pump/{name}"]
            chillers = left[f"chiller/{name}"] if spec.chiller is not None else 0
            circuit.limit(
                pumping * spec.pumps.share(pumps),
                pumping * min(1.0, pumps / spec.pumps.needed),
                powered * spec.coolers.share(left[f"cooler/{name}"]),
                chillers if powered == 1 else math.floor(powered * chillers),
            )
        shares = []
        *liquid, air = self.loops.specs
        for loop in liquid:
            units, pumps = loop.units.share(left[f"cdu/{loop.name}"]), left[f"cdu_pump/{loop.name}"]
            whole = pumping * left[f"leak/{loop.name}"]
            shares.append(
                (
                    units,
                    whole * min(units, loop.pumps.share(pumps)),
                    whole * min(units, pumps / loop.pumps.needed, 1.0),
                )
            )
        handlers = air.units.share(left[f"air_handler/{air.name}"])
        shares.append((handlers, powered * handlers, powered * handlers))
        self.loops.limit(*np.array(shares).T)
