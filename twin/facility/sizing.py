"""Parts of the catalogue, sized for a site: catalogue part and design heat or rating in, spec out."""

from __future__ import annotations

import math

from twin.catalog import Part
from twin.errors import InputError
from twin.facility.bank import Bank, PumpBank
from twin.facility.battery import BatterySpec
from twin.facility.coolant import WATER, coolant
from twin.facility.electrical import ElectricalElement
from twin.facility.exchanger import wall_w_per_k
from twin.facility.generator import GeneratorSpec
from twin.facility.spec import ChillerSpec, CircuitSpec, GpuHeatSpec, HeatSinkSpec, LoopSpec, PadSpec
from twin.facility.store import StoreSpec
from twin.facility.tower import TowerSpec

#: specific heat of air at 20 to 40 C and 1 atm (ASHRAE Handbook, Fundamentals).
AIR_J_PER_KG_K = 1006.0


#: values of a chiller part that its specification has under the same names.
_CHILLER = ("carnot_frac", "evaporator_approach_k", "condenser_approach_k", "lift_min_k", "load_min_frac")


def element(part: Part, name: str, rated_w: float) -> ElectricalElement:
    """A UPS or transformer of this total rating."""
    return ElectricalElement.from_efficiencies(name, rated_w, part.numbers("load_frac"), part.numbers("efficiency_frac"))


def generators(
    part: Part, name: str, count: int, rated_w: float, tank_s: float | None, return_hold_s: float, for_grid: bool
) -> GeneratorSpec:
    """A bank of `count` units of `rated_w` each, with fuel for `tank_s` of all of them at their rating."""
    return GeneratorSpec(
        name=name,
        count=count,
        rated_w=rated_w,
        start_s=part.number("start_s"),
        start_probability_frac=part.number("start_probability_frac"),
        start_attempts=round(part.number("start_attempts")),
        ramp_w_per_s=rated_w / part.number("ramp_s"),
        least_load_frac=part.number("least_load_frac"),
        run_min_s=part.number("run_min_s"),
        efficiency_half_frac=part.number("efficiency_half_frac"),
        efficiency_full_frac=part.number("efficiency_full_frac"),
        fuel_j=math.inf if tank_s is None else tank_s * count * rated_w / part.number("efficiency_full_frac"),
        fuel_j_per_l=part.number("fuel_j_per_l") if part.has("fuel_j_per_l") else 0.0,
        return_hold_s=return_hold_s,
        for_grid=for_grid,
    )


def ups_store(part: Part, ups: ElectricalElement, time_s: float, recharge_frac: float, reserve_frac: float) -> StoreSpec:
    """Batteries that carry the UPS at its rating, its loss included, for `time_s` from full to empty."""
    link_w = ups.rated_w + ups.loss_w(ups.rated_w)
    discharge_frac = part.number("discharge_efficiency_frac")
    return StoreSpec(
        name=ups.name,
        capacity_j=link_w * time_s / discharge_frac,
        discharge_max_w=link_w,
        charge_max_w=recharge_frac * ups.rated_w,
        discharge_efficiency_frac=discharge_frac,
        charge_efficiency_frac=part.number("charge_efficiency_frac"),
        reserve_frac=reserve_frac,
    )


def power_shelf(part: Part, rack_rated_w: float) -> ElectricalElement:
    """All power shelves of one rack: as many whole units as its rating times the part's redundancy needs."""
    units = math.ceil(rack_rated_w * part.number("oversize_ratio") / part.number("rated_w") - 1e-9)
    return element(part, part.name, units * part.number("rated_w"))


def _bank(part: Part, rated_w: float) -> Bank:
    """As many whole units as `rated_w` needs, and the part's spare ones."""
    needed = max(1, math.ceil(rated_w / part.number("unit_rated_w") - 1e-9))
    return Bank(needed + int(part.number("spare_units")), needed)


def _pumps(part: Part, count: int) -> PumpBank:
    """The pumps of `count` units of the part."""
    pumps, needed = int(part.number("pumps")), int(part.number("pumps_needed"))
    return PumpBank(count * pumps, count * needed, part.number("shutoff_head_ratio"))


def die(gpu: Part, sink: Part) -> GpuHeatSpec:
    """A GPU's die on a cold plate or under a heat sink."""
    return GpuHeatSpec(
        resistance_k_per_w=gpu.number("thermal_resistance_k_per_w"),
        throttle_c=gpu.number("die_throttle_c"),
        clock_min_frac=gpu.number("clock_min_frac"),
        trip_c=gpu.number("die_max_c"),
        sink=HeatSinkSpec(
            heat_j_per_k=sink.number("heat_j_per_k"),
            convection_frac=sink.number("convection_frac"),
            still_frac=sink.number("still_frac"),
            restart_s=sink.number("restart_s"),
        ),
    )


def liquid_loop(part: Part, name: str, count: int, supply_c: float, circuit: str) -> LoopSpec:
    """The rack side of `count` CDUs. Their circuit must supply `supply_c` less the part's approach at rated heat.

    The capacity rates of their two sides are equal then, and so are the differences at the exchanger's two ends.
    """
    return_c = part.number("return_intercept_c") + part.number("return_slope") * supply_c
    range_k = return_c - supply_c
    if range_k <= 0:
        raise InputError(f"loop {name}: a supply of {supply_c:g} C is above what {part.name}'s racks give back ({return_c:g} C)")
    specific_heat = coolant(part.text("coolant")).specific_heat_j_per_kg_k((supply_c + return_c) / 2)
    approach_k = part.number("approach_k")
    heat_w, pump_w = count * part.number("rated_heat_w"), count * part.number("pump_rated_w")
    conductance_w_per_k = heat_w / range_k
    return LoopSpec(
        name=name,
        circuit=circuit,
        supply_c=supply_c,
        return_intercept_c=part.number("return_intercept_c"),
        return_slope=part.number("return_slope"),
        flow_max_kg_per_s=conductance_w_per_k / specific_heat,
        flow_min_frac=part.number("flow_min_frac"),
        specific_heat_j_per_kg_k=specific_heat,
        heat_capacity_j_per_k=conductance_w_per_k * part.number("time_constant_s"),
        mover_rated_w=pump_w,
        exchanger_w_per_k=wall_w_per_k(heat_w + pump_w, approach_k, approach_k),
        water_max_w_per_k=conductance_w_per_k,
        return_approach_k=approach_k,
        units=Bank(count, count),
        pumps=_pumps(part, count),
    )


def capacity_rate_w_per_k(loop: LoopSpec, heat_w: float) -> float:
    """The loop's flow x specific heat where it takes `heat_w` at its setpoint, its least flow at least."""
    least = loop.flow_min_frac * loop.flow_max_kg_per_s * loop.specific_heat_j_per_kg_k
    return max(least, heat_w / (loop.return_intercept_c + (loop.return_slope - 1) * loop.supply_c))


def air_loop(part: Part, name: str, heat_w: float, circuit: str) -> LoopSpec:
    """The hall's air through air handlers for `heat_w`. Its circuit must supply `air_water_supply_c(part)`.

    With the fans' heat on top, air and water warm by that much more than their ranges, and the coil is sized for it. Raises
    InputError where the water would leave the coil warmer than the air enters.
    """
    supply_c, range_k, approach_k = part.number("supply_c"), part.number("range_k"), part.number("approach_k")
    water_range_k, fan_frac = part.number("water_range_k"), part.number("fan_power_frac")
    return_approach_k = range_k + approach_k - water_range_k
    if return_approach_k <= 0:
        raise InputError(
            f"loop {name}: water that warms by {water_range_k:g} K in {part.name} would leave it warmer than the air enters"
        )
    conductance_w_per_k = heat_w / range_k
    hot_end_k = return_approach_k + fan_frac * (range_k - water_range_k)
    return LoopSpec(
        name=name,
        circuit=circuit,
        supply_c=supply_c,
        return_intercept_c=range_k,
        return_slope=1.0,
        flow_max_kg_per_s=conductance_w_per_k / AIR_J_PER_KG_K,
        flow_min_frac=part.number("flow_min_frac"),
        specific_heat_j_per_kg_k=AIR_J_PER_KG_K,
        heat_capacity_j_per_k=conductance_w_per_k * part.number("time_constant_s"),
        mover_rated_w=heat_w * fan_frac,
        exchanger_w_per_k=wall_w_per_k(heat_w * (1 + fan_frac), hot_end_k, approach_k),
        water_max_w_per_k=heat_w / water_range_k,
        return_approach_k=return_approach_k,
        units=_bank(part, heat_w),
    )


def air_water_supply_c(part: Part) -> float:
    """Water temperature that the air handlers' circuit must supply."""
    return part.number("supply_c") - part.number("approach_k")


def chiller(part: Part, capacity_w: float) -> ChillerSpec:
    """A chiller, or several, of this capacity."""
    values = {name: part.number(name) for name in _CHILLER}
    condenser = part.text("condenser")
    if condenser == "water":
        values |= {name: part.number(name) for name in ("condenser_power_frac", "concentration_cycles")}
    return ChillerSpec(
        capacity_w,
        **values,
        bank=_bank(part, capacity_w),
        part_load=tuple(part.numbers("part_load")),
        condenser=condenser,
    )


def circuit(part: Part, name: str, supply_c: float, range_k: float, heat_w: float, assist: ChillerSpec | None) -> CircuitSpec:
    """Facility water with dry coolers or towers of `part` for `heat_w` at `range_k`, and a chiller to assist.

    A part with a `design_wet_bulb_c` is a tower. Raises InputError without heat, or where a tower's air cannot carry it.
    """
    if heat_w <= 0:
        raise InputError(f"circuit {name}: no rack gives heat to any of its loops")
    specific_heat = WATER.specific_heat_j_per_kg_k(supply_c + range_k / 2)
    conductance_w_per_k = heat_w / range_k
    approach_k = part.number("approach_k")
    tower = pads = None
    wetting_frac, wetting_start_c = 0.0, 0.0
    if part.has("design_wet_bulb_c"):
        tower = TowerSpec.sized(
            conductance_w_per_k,
            range_k,
            approach_k,
            part.number("design_wet_bulb_c"),
            conductance_w_per_k / specific_heat / part.number("water_to_air_ratio"),
            part.number("drift_frac"),
            part.number("concentration_cycles"),
        )
    else:
        wetting_frac, wetting_start_c = part.number("wetting_frac"), part.number("wetting_start_c")
        if wetting_frac > 0:
            pads = PadSpec(heat_w / part.number("air_range_k"), part.number("concentration_cycles"))
    return CircuitSpec(
        name=name,
        supply_c=supply_c,
        flow_max_kg_per_s=conductance_w_per_k / specific_heat,
        flow_min_frac=part.number("flow_min_frac"),
        specific_heat_j_per_kg_k=specific_heat,
        heat_capacity_j_per_k=conductance_w_per_k * part.number("time_constant_s"),
        pump_rated_w=heat_w * part.number("pump_power_frac"),
        effectiveness_frac=range_k / (range_k + approach_k),
        fan_rated_w=heat_w * part.number("fan_power_frac"),
        wetting_frac=wetting_frac,
        wetting_start_c=wetting_start_c,
        chiller=assist,
        pumps=_pumps(part, 1),
        coolers=_bank(part, heat_w),
        pads=pads,
        tower=tower,
    )


def battery(part: Part, capacity_j: float, power_w: float, floor_frac: float, initial_frac: float) -> BatterySpec:
    """A site battery of this size; `power_w` is the limit in either direction at the site bus."""
    return BatterySpec(
        capacity_j,
        power_w,
        power_w,
        part.number("discharge_efficiency_frac"),
        part.number("charge_efficiency_frac"),
        floor_frac,
        initial_frac,
    )
