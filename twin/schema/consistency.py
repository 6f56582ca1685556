"""Sizes that must fit each other: instances into scale-up domains, models into memory, events into the run.

Works on a valid model; every check yields all that it finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from twin.catalog import Catalog, Part, load_catalog
from twin.errors import InputError, UnknownValueError
from twin.schema.messages import Finding
from twin.schema.run_consistency import run_consistency
from twin.schema.scenario import Pool, Scenario
from twin.schema.topology import RackGroup, Site, Topology
from twin.units import format_si

#: what the engine needs to know of a rack, of its GPU and of switches; a part that lacks one cannot be simulated.
_RACK_KEYS = ("gpus", "scale_up_domain_gpus", "nodes", "other_idle_w", "other_busy_w", "rated_w", "liquid_heat_frac")
_SWITCH_KEYS = ("port_bytes_per_s", "typical_w", "hop_latency_s")
_GPU_KEYS = ("memory_bytes", "memory_bytes_per_s", "tdp_w", "idle_w", "nvlink_bytes_per_s", "nic_bytes_per_s")
_UNKNOWN = "cannot be simulated: nobody has published"


def topology_consistency(topology: Topology) -> Iterator[Finding]:
    """Parts whose values nobody has published, liquid loops that do not suit their racks, ratings that idle racks exceed."""
    catalog = load_catalog()
    for s, site in enumerate(topology.sites):
        switch = catalog.part("switch", site.fabric.switch)
        unknown = [key for key in _SWITCH_KEYS if not switch.has(key)]
        if unknown:
            yield ("sites", s, "fabric", "switch"), f"switch {switch.name} {_UNKNOWN} {', '.join(unknown)}"
        idle_w = 0.0
        for g, group in enumerate(site.racks):
            path = ("sites", s, "racks", g)
            rack = catalog.part("rack", group.rack)
            unknown = [key for key in _RACK_KEYS if not rack.has(key)]
            gpu = catalog.part("gpu", rack.text("gpu"))
            unknown += [f"{gpu.name} {key}" for key in _GPU_KEYS if not gpu.has(key)]
            if unknown:
                yield (*path, "rack"), f"rack {group.rack} {_UNKNOWN} {', '.join(unknown)}"
                continue
            idle_w += group.count * (gpu.number("idle_w") * rack.number("gpus") + rack.number("other_idle_w"))
            if rack.number("liquid_heat_frac") > 0 and group.loop is None:
                yield (*path, "loop"), f"is missing: rack {group.rack} gives heat to a liquid loop"
            elif rack.number("liquid_heat_frac") == 0 and group.loop is not None:
                yield (*path, "loop"), f"rack {group.rack} is air-cooled and takes no loop"
        for element, carried_w, said in (
            ("ups", idle_w, "its racks draw when idle"),
            ("transformer", idle_w + site.fixed_load, "its racks and fixed load draw when idle"),
        ):
            rating_w = getattr(site.electrical, f"{element}_rating")
            if rating_w < carried_w:
                yield (
                    ("sites", s, "electrical", f"{element}_rating"),
                    f"{format_si(rating_w, 'W')} is less than the {format_si(carried_w, 'W')} that {said}",
                )


def scenario_consistency(scenario: Scenario) -> Iterator[Finding]:
    """All that does not fit in a scenario, its topology included."""
    found = [(("topology", *path), message) for path, message in topology_consistency(scenario.topology)]
    yield from found
    yield from _represent(scenario)
    if not found:  # a rack without numbers has no room to speak of
        yield from _pools(scenario)
    yield from _events(scenario)
    yield from run_consistency(scenario)


def _represent(scenario: Scenario) -> Iterator[Finding]:
    for p, pool in enumerate(scenario.serving.pools):
        if pool.instances % scenario.represent:
            yield (
                ("serving", "pools", p, "instances"),
                f"{pool.instances} instances do not divide into groups of `represent: {scenario.represent}`",
            )


def _pools(scenario: Scenario) -> Iterator[Finding]:
    catalog = load_catalog()
    for site in scenario.topology.sites:
        there = [(p, pool) for p, pool in enumerate(scenario.serving.pools) if pool.site in (None, site.name)]
        placeable: dict[tuple[str, ...], list[tuple[int, Pool]]] = {}
        taken: dict[str, tuple[str, ...]] = {}
        for p, pool in there:
            groups = [group for group in site.racks if group.name in pool.racks]
            if len({group.rack for group in groups}) > 1:
                yield ("serving", "pools", p, "racks"), "the rack groups of a pool must be of one kind of rack"
                continue
            shared = {taken.setdefault(name, pool.racks) for name in pool.racks}
            if shared != {pool.racks}:
                yield ("serving", "pools", p, "racks"), "pools that share a rack group must name the same groups"
                continue
            reason = _unfit(scenario, pool, catalog.part("rack", groups[0].rack), site, catalog)
            if reason is None:
                placeable.setdefault(pool.racks, []).append((p, pool))
            elif reason[0] == "kv_reserve":
                yield ("serving", "kv_reserve"), reason[1]
            else:
                yield ("serving", "pools", p, "parallelism"), reason[1]
        for names, pools in placeable.items():
            yield from _room(pools, [group for group in site.racks if group.name in names], catalog)


def _unfit(scenario: Scenario, pool: Pool, rack: Part, site: Site, catalog: Catalog) -> tuple[str, str] | None:
    """What keeps an instance of the pool from running on the rack (its "parallelism" or the "kv_reserve") and why; or None."""
    from twin import performance  # the models of files are read far more often than they are checked this deep

    key = "parallelism"
    domain, gpus = int(rack.number("scale_up_domain_gpus")), pool.parallelism.gpus
    if gpus <= domain and domain % gpus:
        return key, f"an instance of {gpus} GPUs (tp x dp) does not divide the scale-up domain of {domain} GPUs of {rack.name}"
    if gpus > domain and gpus % domain:
        return (
            key,
            f"an instance of {gpus} GPUs (tp x dp) is no whole number of scale-up domains of {domain} GPUs of {rack.name}",
        )
    serving = scenario.serving
    gpu, backend = catalog.part("gpu", rack.text("gpu")), catalog.part("backend", serving.backend)
    try:
        shape = performance.ModelShape.from_part(catalog.part("model", serving.model))
        precision = performance.Precision(serving.precision.weights, serving.precision.kv)
        layout = performance.Parallelism(pool.parallelism.tp, pool.parallelism.dp, pool.parallelism.ep)
        links = performance.interconnect_of(gpu, site.fabric.efficiency, domain)
        performance.step_cost(shape, precision, layout, gpu, backend, links)
        performance.kv_capacity_tokens(shape, precision, layout, gpu, 0.0)
        key = "kv_reserve"  # without one it would fit
        performance.kv_capacity_tokens(shape, precision, layout, gpu, serving.kv_reserve)
    except (InputError, UnknownValueError) as error:
        return key, str(error)
    return None


def _room(pools: list[tuple[int, Pool]], groups: list[RackGroup], catalog: Catalog) -> Iterator[Finding]:
    """Places the largest instances first, each inside one scale-up domain or over whole ones."""
    rack = catalog.part("rack", groups[0].rack)
    domain = int(rack.number("scale_up_domain_gpus"))
    total = sum(group.count for group in groups) * int(rack.number("gpus"))
    free = Counter({domain: total // domain})  # GPUs left in a domain -> how many such domains
    for p, pool in sorted(pools, key=lambda item: -item[1].parallelism.gpus):
        left = _place(free, pool.parallelism.gpus, pool.instances, domain)
        if left:
            asked = sum(pool.instances * pool.parallelism.gpus for _, pool in pools)
            yield (
                ("serving", "pools", p, "instances"),
                f"{left} of {pool.instances} instances of {pool.parallelism.gpus} GPUs find no room in "
                f"{', '.join(group.name for group in groups)}: "
                f"its pools ask for {asked} GPUs and it has {total} in scale-up domains of {domain}",
            )


def _place(free: Counter[int], gpus: int, instances: int, domain: int) -> int:
    """Takes room for the instances out of `free`, as the engine does: where most GPUs are free. Returns how many found none."""
    if gpus >= domain:
        fits = min(instances, free[domain] // (gpus // domain))
        free[domain] -= fits * (gpus // domain)
        return instances - fits
    while instances:
        level = max((level for level, domains in free.items() if domains), default=0)
        if level < gpus:
            break
        taken = min(instances, free[level])
        free[level] -= taken
        free[level - gpus] += taken
        instances -= taken
    return instances


def _events(scenario: Scenario) -> Iterator[Finding]:
    contracts = {site.feed.name: site.feed.contract for site in scenario.topology.sites}
    for e, event in enumerate(scenario.grid.events):
        path = ("grid", "events", e)
        if event.start >= scenario.horizon:
            yield (*path, "start"), f"begins at {event.start:g} s, after the run of {scenario.horizon:g} s: it never happens"
        contract = contracts[event.feed] if event.feed is not None else next(iter(contracts.values()))
        if event.target.power_w is not None and event.target.power_w > contract:
            yield (
                (*path, "target"),
                f"{format_si(event.target.power_w, 'W')} is above the feed's contract of {format_si(contract, 'W')}",
            )
