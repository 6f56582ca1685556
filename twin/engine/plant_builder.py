"""A site of the topology and the catalogue's parts to the specification of its plant, every part sized for its load."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import networkx as nx
import numpy as np

from twin.catalog import Catalog
from twin.facility import (
    BreakerSpec,
    ChainElementSpec,
    ChainSpec,
    CircuitSpec,
    GpuHeatSpec,
    LoopSpec,
    PlantSpec,
    RackSpec,
    SupplySpec,
    Weather,
    chain_graph,
    indoor_loss_w,
    read_weather,
)
from twin.facility.sizing import (
    air_loop,
    air_water_supply_c,
    battery,
    capacity_rate_w_per_k,
    chiller,
    circuit,
    die,
    element,
    generators,
    liquid_loop,
    power_shelf,
    ups_store,
)
from twin.rng import stream
from twin.schema.electrical import cooling_feeds, elements_of, incomers_of, rack_feeds
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
        sink = site.cooling.cold_plate if group.loop is not None else site.cooling.heat_sink
        racks.append(_rack_spec(site, group, die(gpu, catalog.part("cooling", sink)), catalog))
    racks += [_rack_spec(site, cpu_group, None, catalog) for cpu_group in site.cpu_racks]
    for rack in racks:
        heat_w = rack.count * (rated_w[rack.name] + rack.shelf.loss_w(rated_w[rack.name]))
        if rack.loop is not None:
            loop_w[rack.loop] += rack.liquid_heat_frac * heat_w
        air_w += (1 - rack.liquid_heat_frac) * heat_w
    liquid_w = sum(loop_w.values())
    chain = chain_spec(site, catalog)
    air_w += indoor_loss_w(chain, liquid_w + air_w) + site.fixed_load

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
    return PlantSpec(
        name=site.name,
        racks=tuple(racks),
        loops=tuple(loops),
        air=air,
        circuits=tuple(circuits),
        chain=chain,
        battery=store,
        other_w=site.fixed_load,
        supply=_supply(site, chain, catalog),
    )


def _supply(site: Site, chain: ChainSpec, catalog: Catalog) -> SupplySpec:
    """What stands behind the chain of `site`."""
    ratings = {each.name: each.element for each in chain.elements}
    stores = [
        ups_store(catalog.part("battery", own.part), ratings[written.name], own.time, own.recharge, own.reserve)
        for written in elements_of(site.electrical, site.feed.name)
        if (own := written.store) is not None
    ]
    banks = [
        generators(catalog.part("generator", g.part), g.name, g.count, g.rating, g.tank, g.return_hold, g.for_grid)
        for g in site.generators
    ]
    return SupplySpec(tuple(stores), tuple(banks), site.battery is not None and site.battery.islanding)


def start_draws(site: Site, seed: int) -> dict[str, Iterator[float]]:
    """Uniform numbers for the starts of each bank of generators, each from a stream of its own."""
    return {bank.name: _uniform(stream(seed, f"{site.name}/generators/{bank.name}")) for bank in site.generators}


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield float(rng.random())


def chain_spec(site: Site, catalog: Catalog) -> ChainSpec:
    """The electrical chain of `site`, in whichever form it is written."""
    electrical, feed = site.electrical, site.feed.name
    elements = []
    short = not electrical.chain
    for written in elements_of(electrical, feed):
        part, breaker = catalog.part("electrical", written.part), None
        rated_w = written.rating * written.count
        if written.breaker is not None:
            said = written.breaker
            breaker = BreakerSpec(said.rating or rated_w, said.curve, said.time_multiplier, said.instantaneous)
        kind = written.name if short else part.text("element")
        made = element(part, written.name, rated_w)
        elements.append(ChainElementSpec(made, kind, written.fed_from, written.count, breaker))
    groups: list[RackGroup | CpuRackGroup] = [*site.racks, *site.cpu_racks]
    return ChainSpec(
        incomers=incomers_of(electrical, feed),
        elements=tuple(elements),
        rack_feeds=tuple(rack_feeds(electrical, feed, group.feeds) for group in groups),
        cooling_from=cooling_feeds(electrical, feed),
        pumps_from=electrical.pumps_from,
    )


def site_chain_graph(site: Site, catalog: Catalog) -> nx.DiGraph[str]:
    """`chain_graph` of a site without a run, its groups of racks and cooling included."""
    return chain_graph(
        chain_spec(site, catalog), [*(group.name for group in site.racks), *(group.name for group in site.cpu_racks)]
    )


def _rack_spec(site: Site, group: RackGroup | CpuRackGroup, heat: GpuHeatSpec | None, catalog: Catalog) -> RackSpec:
    part, supply = catalog.part("rack", group.rack), catalog.part("electrical", site.electrical.power_shelf)
    shelf = power_shelf(supply, part.number("rated_w"))
    return RackSpec(
        name=group.name,
        count=group.count,
        shelf=shelf,
        loop=group.loop,
        liquid_heat_frac=part.number("liquid_heat_frac"),
        gpu=heat,
        psus=round(shelf.rated_w / supply.number("psu_rated_w")),
    )


def weather(climate: Climate, horizon_s: float) -> Weather:
    """The outdoor air of a site over the run. Raises InputError where a file does not cover it."""
    if climate.weather is None:
        assert climate.dry_bulb is not None
        assert climate.wet_bulb is not None
        return Weather.constant(climate.dry_bulb, climate.wet_bulb)
    assert climate.start is not None
    return read_weather(climate.weather, datetime.fromisoformat(climate.start), horizon_s)
