"""A site of the topology and the catalogue's parts to the specification of its plant, every part sized for its load."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np

from twin.catalog import Catalog
from twin.facility import CircuitSpec, GpuHeatSpec, LoopSpec, PlantSpec, RackSpec, SupplySpec, Weather, read_weather
from twin.facility.sizing import (
    air_loop,
    air_water_supply_c,
    battery,
    capacity_rate_w_per_k,
    chiller,
    circuit,
    element,
    generators,
    liquid_loop,
    power_shelf,
    ups_store,
)
from twin.rng import stream
from twin.schema.topology import Climate, CpuRackGroup, RackGroup, Site

_WARM, _CHILLED, _AIR = "facility_water", "chilled_water", "air"


def plant_spec(site: Site, catalog: Catalog) -> PlantSpec:
    """The plant of `site`, its racks with GPUs first. Raises InputError where parts do not go together, UnknownValueError where
    a value is unpublished."""
    racks: list[RackSpec] = []
    loop_w = {loop.name: 0.0 for loop in site.cooling.loops}
    air_w = 0.0
    groups: list[RackGroup | CpuRackGroup] = [*site.racks, *site.cpu_racks]
    rated_w = {group.name: catalog.part("rack", group.rack).number("rated_w") for group in groups}
    for group in site.racks:
        gpu = catalog.part("gpu", catalog.part("rack", group.rack).text("gpu"))
        die = GpuHeatSpec(
            resistance_k_per_w=gpu.number("thermal_resistance_k_per_w"),
            throttle_c=gpu.number("die_throttle_c"),
            clock_min_frac=gpu.number("clock_min_frac"),
        )
        racks.append(_rack_spec(site, group, die, catalog))
    racks += [_rack_spec(site, cpu_group, None, catalog) for cpu_group in site.cpu_racks]
    for rack in racks:
        heat_w = rack.count * (rated_w[rack.name] + rack.shelf.loss_w(rated_w[rack.name]))
        if rack.loop is not None:
            loop_w[rack.loop] += rack.liquid_heat_frac * heat_w
        air_w += (1 - rack.liquid_heat_frac) * heat_w
    liquid_w = sum(loop_w.values())
    electrical = site.electrical
    ups = element(catalog.part("electrical", electrical.ups), "ups", electrical.ups_rating)
    transformer = element(catalog.part("electrical", electrical.transformer), "transformer", electrical.transformer_rating)
    air_w += ups.loss_w(min(liquid_w + air_w, electrical.ups_rating)) + site.fixed_load

    cooling = site.cooling
    cooler, chilling = catalog.part("cooling", cooling.dry_cooler), catalog.part("cooling", cooling.chiller)
    handler = catalog.part("cooling", cooling.air_handler)
    loops: list[LoopSpec] = []
    circuits: list[CircuitSpec] = []
    if cooling.loops:
        cdus = [catalog.part("cooling", loop.cdu) for loop in cooling.loops]
        fed = list(zip(cooling.loops, cdus, strict=True))
        loops = [liquid_loop(cdu, loop.name, loop.count, loop.supply, _WARM) for loop, cdu in fed]
        supply_c = min(loop.supply - cdu.number("approach_k") for loop, cdu in fed)
        # as much water as coolant, which is more than the racks' range asks for where few of them share a CDU
        range_k = liquid_w / sum(capacity_rate_w_per_k(loop, loop_w[loop.name]) for loop in loops)
        trim = chiller(chilling, liquid_w * chilling.number("trim_capacity_frac"))
        circuits.append(circuit(cooler, _WARM, supply_c, range_k, liquid_w, trim))
    air = air_loop(handler, _AIR, air_w, _CHILLED)
    chilled_c = air_water_supply_c(handler)
    assist = chiller(chilling, air_w * chilling.number("air_capacity_frac"))
    circuits.append(circuit(cooler, _CHILLED, chilled_c, handler.number("water_range_k"), air_w, assist))
    store = None
    if site.battery is not None:
        part = catalog.part("battery", site.battery.part)
        store = battery(part, site.battery.capacity, site.battery.power, site.battery.floor, site.battery.initial)
    banks = [
        generators(catalog.part("generator", g.part), g.name, g.count, g.rating, g.tank, g.return_hold, g.for_grid)
        for g in site.generators
    ]
    own = electrical.ups_store
    bridge = None
    if own is not None:
        bridge = ups_store(catalog.part("battery", own.part), ups, own.time, own.recharge, own.reserve)
    return PlantSpec(
        name=site.name,
        racks=tuple(racks),
        loops=tuple(loops),
        air=air,
        circuits=tuple(circuits),
        ups=ups,
        transformer=transformer,
        battery=store,
        other_w=site.fixed_load,
        supply=SupplySpec(bridge, tuple(banks), site.battery is not None and site.battery.islanding),
        incomer=site.feed.name,
    )


def start_draws(site: Site, seed: int) -> dict[str, Iterator[float]]:
    """Uniform numbers for the starts of each bank of generators, each from a stream of its own."""
    return {bank.name: _uniform(stream(seed, f"{site.name}/generators/{bank.name}")) for bank in site.generators}


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield float(rng.random())


def _rack_spec(site: Site, group: RackGroup | CpuRackGroup, die: GpuHeatSpec | None, catalog: Catalog) -> RackSpec:
    part = catalog.part("rack", group.rack)
    return RackSpec(
        name=group.name,
        count=group.count,
        shelf=power_shelf(catalog.part("electrical", site.electrical.power_shelf), part.number("rated_w")),
        loop=group.loop,
        liquid_heat_frac=part.number("liquid_heat_frac"),
        gpu=die,
    )


def weather(climate: Climate, horizon_s: float) -> Weather:
    """The outdoor air of a site over the run. Raises InputError where a file does not cover it."""
    if climate.weather is None:
        assert climate.dry_bulb is not None
        assert climate.wet_bulb is not None
        return Weather.constant(climate.dry_bulb, climate.wet_bulb)
    assert climate.start is not None
    return read_weather(climate.weather, datetime.fromisoformat(climate.start), horizon_s)
