"""What a site's plant is made of, as frozen dataclasses of plain values in SI; every inconsistency is an InputError."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from twin.errors import InputError, did_you_mean
from twin.facility.bank import ONE_PUMP, ONE_UNIT, Bank, PumpBank
from twin.facility.battery import BatterySpec
from twin.facility.chain_spec import ChainSpec
from twin.facility.chiller import ChillerSpec
from twin.facility.electrical import ElectricalElement
from twin.facility.supply import SupplySpec
from twin.facility.tower import TowerSpec, evaporation_heat_j_per_kg

_NO_SUPPLY = SupplySpec()


def _check(owner: str, item: object, positive: tuple[str, ...], fraction: tuple[str, ...]) -> None:
    for field in fields(item):  # type: ignore[arg-type]  # every caller passes a dataclass
        value = getattr(item, field.name)
        if isinstance(value, float | int) and not math.isfinite(value):
            raise InputError(f"{owner}: {field.name} is {value!r}")
    for name in positive:
        if not getattr(item, name) > 0:
            raise InputError(f"{owner}: {name} must be above zero, not {getattr(item, name)!r}")
    for name in fraction:
        if not 0 <= getattr(item, name) <= 1:
            raise InputError(f"{owner}: {name} must be a share from 0 to 1, not {getattr(item, name)!r}")


def _check_temperature(owner: str, temperature_c: float) -> None:
    if not 0 <= temperature_c <= 100:
        raise InputError(f"{owner}: a setpoint of {temperature_c:g} C is out of any plant's range (is it in another unit?)")


@dataclass(frozen=True, slots=True)
class HeatSinkSpec:
    """What carries a die's heat: a cold plate with its package, or a heat sink in air.

    `heat_j_per_k` is its heat capacity. `convection_frac` of the rated resistance is convection and grows as flow falls;
    `still_frac` of the rated conductance is left without flow. A rack that tripped comes back `restart_s` after it is cool again.
    """

    heat_j_per_k: float
    convection_frac: float
    still_frac: float
    restart_s: float

    def __post_init__(self) -> None:
        _check("heat sink", self, ("heat_j_per_k", "still_frac"), ("convection_frac", "still_frac"))
        if self.restart_s < 0:
            raise InputError(f"heat sink: restart_s must be at least 0 s, not {self.restart_s!r}")


@dataclass(frozen=True, slots=True)
class GpuHeatSpec:
    """A GPU's die: at rest at supply temperature + resistance x GPU power; it slows down above `throttle_c`, but not below
    `clock_min_frac`, and its rack trips above `trip_c`."""

    resistance_k_per_w: float
    throttle_c: float
    clock_min_frac: float
    trip_c: float
    sink: HeatSinkSpec

    def __post_init__(self) -> None:
        _check("GPU", self, ("resistance_k_per_w",), ("clock_min_frac",))
        if self.trip_c < self.throttle_c:
            raise InputError(f"GPU: it would trip at {self.trip_c:g} C before it slows down at {self.throttle_c:g} C")


@dataclass(frozen=True, slots=True)
class RackSpec:
    """`count` identical racks in a row, with the power shelves of one of them: `psus` rectifiers in all.

    `liquid_heat_frac` of what a rack draws (shelf loss included, as datasheets split it) goes into `loop`, the rest into the
    hall's air. A rack without liquid cooling has `loop` None; its GPUs breathe hall air. `gpu` is None in racks without any.
    """

    name: str
    count: int
    shelf: ElectricalElement
    loop: str | None
    liquid_heat_frac: float
    gpu: GpuHeatSpec | None
    psus: int = 1

    def __post_init__(self) -> None:
        _check(f"racks {self.name}", self, ("count", "psus"), ("liquid_heat_frac",))
        if (self.loop is None) != (self.liquid_heat_frac == 0):
            raise InputError(f"racks {self.name}: a share of {self.liquid_heat_frac:g} in liquid does not fit loop {self.loop!r}")


@dataclass(frozen=True, slots=True)
class LoopSpec:
    """A loop that carries heat from racks to a circuit: the rack side of CDUs, or the hall's air through its air handlers.

    The mover (pump or fan) turns as fast as keeps the return at `return_intercept_c + return_slope x supply`, between
    `flow_min_frac` and full speed; its power goes with the cube of the flow (affinity law) and ends up in the loop.

    Its counterflow exchanger has a wall of `exchanger_w_per_k` (UA). The valve on the circuit's side lets through, up to a
    capacity rate of `water_max_w_per_k`, what holds the supply at `supply_c`, and at least what leaves the exchanger
    `return_approach_k` colder than the loop's return.

    `units` CDUs or air handlers share it evenly; `pumps` are those of all CDUs together (the fans of air handlers go with them).
    """

    name: str
    circuit: str
    supply_c: float
    return_intercept_c: float
    return_slope: float
    flow_max_kg_per_s: float
    flow_min_frac: float
    specific_heat_j_per_kg_k: float
    heat_capacity_j_per_k: float
    mover_rated_w: float
    exchanger_w_per_k: float
    water_max_w_per_k: float
    return_approach_k: float
    units: Bank = ONE_UNIT
    pumps: PumpBank = ONE_PUMP

    def __post_init__(self) -> None:
        owner = f"loop {self.name}"
        flow = ("flow_max_kg_per_s", "flow_min_frac", "specific_heat_j_per_kg_k", "heat_capacity_j_per_k")
        positive = (*flow, "exchanger_w_per_k", "water_max_w_per_k", "return_approach_k")
        _check(owner, self, positive, ("flow_min_frac", "return_slope"))
        _check_temperature(owner, self.supply_c)
        if self.mover_rated_w < 0:
            raise InputError(f"{owner}: mover_rated_w must be at least 0 W, not {self.mover_rated_w!r}")
        if self.return_intercept_c + self.return_slope * self.supply_c <= self.supply_c:
            raise InputError(f"{owner}: the return must be warmer than the supply of {self.supply_c:g} C")


@dataclass(frozen=True, slots=True)
class PadSpec:
    """Water of wetted pads: it cools air of this capacity rate (at full fans), and thickens `concentration_cycles` times."""

    air_w_per_k: float
    concentration_cycles: float

    def __post_init__(self) -> None:
        _check("pads", self, ("air_w_per_k",), ())
        if self.concentration_cycles <= 1:
            raise InputError(f"pads: more than one cycle of concentration is due, not {self.concentration_cycles!r}")

    def water_kg_per_s(self, fan_frac: float, fall_k: float, wet_bulb_c: float) -> float:
        """Water that brings the air down by `fall_k`."""
        evaporated = self.air_w_per_k * fan_frac * fall_k / evaporation_heat_j_per_kg(wet_bulb_c)
        return evaporated * self.concentration_cycles / (self.concentration_cycles - 1)


@dataclass(frozen=True, slots=True)
class CircuitSpec:
    """Facility water from the loops to the sky: pump, dry cooler and, where needed, a chiller in series.

    The pump gives what the loops' valves let through, and at least `flow_min_frac`, the rest of it through a bypass. Its heat
    is in the water.
    The dry cooler's sink is the dry bulb, or, with pads wetted above `wetting_start_c`, the dry bulb less `wetting_frac` of the
    wet-bulb depression. Its heat is proportional to its air flow, its fan power goes with the cube of it. `pads` says
    what water that takes.
    With a `tower` instead, the sink is the wet bulb and the tower's effectiveness holds in place of `effectiveness_frac`.
    """

    name: str
    supply_c: float
    flow_max_kg_per_s: float
    flow_min_frac: float
    specific_heat_j_per_kg_k: float
    heat_capacity_j_per_k: float
    pump_rated_w: float
    effectiveness_frac: float
    fan_rated_w: float
    wetting_frac: float
    wetting_start_c: float
    chiller: ChillerSpec | None
    pumps: PumpBank = ONE_PUMP
    coolers: Bank = ONE_UNIT
    pads: PadSpec | None = None
    tower: TowerSpec | None = None

    def __post_init__(self) -> None:
        owner = f"circuit {self.name}"
        positive = ("flow_max_kg_per_s", "flow_min_frac", "specific_heat_j_per_kg_k", "heat_capacity_j_per_k")
        _check(owner, self, positive, ("flow_min_frac", "wetting_frac"))
        _check_temperature(owner, self.supply_c)
        if not (0 < self.effectiveness_frac < 1 and self.pump_rated_w >= 0 and self.fan_rated_w >= 0):
            raise InputError(f"{owner}: an effectiveness between 0 and 1 and powers of at least 0 W are due")
        if self.wetting_frac > 0 and self.pads is None:
            raise InputError(f"{owner}: wetted pads need water; what they use is not said")


@dataclass(frozen=True, slots=True)
class PlantSpec:
    """A site's plant. Racks are numbered through `racks` in order; `air` is the loop of the hall's air.

    `coupling_step_s` is how long loops and circuits go on without hearing of each other; longer steps are divided.
    """

    name: str
    racks: tuple[RackSpec, ...]
    loops: tuple[LoopSpec, ...]
    air: LoopSpec
    circuits: tuple[CircuitSpec, ...]
    chain: ChainSpec
    battery: BatterySpec | None
    other_w: float
    coupling_step_s: float = 10.0
    supply: SupplySpec = _NO_SUPPLY

    def __post_init__(self) -> None:
        _check(f"plant {self.name}", self, ("coupling_step_s",), ())
        if self.other_w < 0:
            raise InputError(f"plant {self.name}: other_w must be at least 0 W, not {self.other_w!r}")
        if not self.racks:
            raise InputError(f"plant {self.name}: no racks")
        if self.supply.islanding and self.battery is None:
            raise InputError(f"plant {self.name}: there is no battery to carry it as an island")
        loop_names = [loop.name for loop in (*self.loops, self.air)]
        circuit_names = [circuit.name for circuit in self.circuits]
        for names in ([rack.name for rack in self.racks], [*loop_names, *circuit_names]):
            if len(set(names)) != len(names):
                raise InputError(f"plant {self.name}: names must differ: {', '.join(names)}")
        for rack in self.racks:
            if rack.loop is not None and rack.loop not in loop_names[:-1]:
                near = did_you_mean(rack.loop, loop_names[:-1])
                raise InputError(f"plant {self.name}: racks {rack.name} are on no known loop: {rack.loop!r}{near}")
        if len(self.chain.rack_feeds) != len(self.racks):
            raise InputError(
                f"plant {self.name}: feeds of {len(self.chain.rack_feeds)} groups for {len(self.racks)} groups of racks"
            )
        for rack, feeds in zip(self.racks, self.chain.rack_feeds, strict=True):
            if rack.psus < len(feeds):
                raise InputError(f"plant {self.name}: racks {rack.name} have {rack.psus} rectifiers for {len(feeds)} feeds")
        for loop in (*self.loops, self.air):
            if loop.circuit not in circuit_names:
                near = did_you_mean(loop.circuit, circuit_names)
                raise InputError(f"plant {self.name}: loop {loop.name} is on no known circuit: {loop.circuit!r}{near}")
            water_c = self.circuits[circuit_names.index(loop.circuit)].supply_c
            if water_c >= loop.supply_c:
                raise InputError(
                    f"plant {self.name}: circuit {loop.circuit} supplies {water_c:g} C, too warm for loop {loop.name} at "
                    f"{loop.supply_c:g} C"
                )
