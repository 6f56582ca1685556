"""Sizes that must fit each other: instances into scale-up domains, models into memory, events into the run.

Works on a valid model; every check yields all that it finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from twin.catalog import Catalog, Part
from twin.errors import InputError, UnknownValueError
from twin.schema.fields import Path
from twin.schema.job_consistency import job_consistency
from twin.schema.messages import Finding
from twin.schema.own_parts import catalog_with
from twin.schema.part_needs import cooling_faults, cpu_rack_faults, lacking, rack_faults
from twin.schema.run_consistency import run_consistency
from twin.schema.sandboxes import sandboxes_of
from twin.schema.scenario import Scenario
from twin.schema.serving import Pool
from twin.schema.topology import CpuRackGroup, RackGroup, Site, Topology
from twin.units import format_si


def topology_consistency(topology: Topology, catalog: Catalog) -> Iterator[Finding]:
    """Parts whose values nobody has published, liquid loops that do not suit their racks, ratings that idle racks exceed."""
    for s, site in enumerate(topology.sites):
        for path, role, part in _named_parts(site, catalog):
            if said := lacking(part, role):
                yield ("sites", s, *path), said
            elif part.kind == "cooling":
                yield from ((("sites", s, *path), fault) for fault in cooling_faults(part, role))
        yield from _racks(site, ("sites", s), catalog)
        yield from _loop_ratings(site, ("sites", s, "cooling", "loops"), catalog)


def _named_parts(site: Site, catalog: Catalog) -> Iterator[tuple[Path, str, Part]]:
    """Every part that the site names beside its racks: its key, its role and the part."""
    fabric, cooling, electrical = site.fabric, site.cooling, site.electrical
    yield ("fabric", "switch"), "switch", catalog.part("switch", fabric.switch)
    yield ("fabric", "optic"), "optic", catalog.part("optic", fabric.optic)
    for index, loop in enumerate(cooling.loops):
        yield ("cooling", "loops", index, "cdu"), "cdu", catalog.part("cooling", loop.cdu)
    for role in ("dry_cooler", "chiller", "air_handler"):
        yield ("cooling", role), role, catalog.part("cooling", getattr(cooling, role))
    for key in ("cold_plate", "heat_sink"):
        yield ("cooling", key), "cold_plate", catalog.part("cooling", getattr(cooling, key))
    for role in ("power_shelf", "ups", "transformer"):
        yield ("electrical", role), role, catalog.part("electrical", getattr(electrical, role))
    if site.battery is not None:
        yield ("battery", "part"), "battery", catalog.part("battery", site.battery.part)


def _racks(site: Site, at: Path, catalog: Catalog) -> Iterator[Finding]:
    """Racks that cannot be simulated, their loops, and what they draw when idle against the ratings of the chain."""
    idle_w = 0.0
    for g, group in enumerate(site.racks):
        path = (*at, "racks", g)
        rack = catalog.part("rack", group.rack)
        faults = list(rack_faults(rack, catalog))
        if faults:
            yield from (((*path, "rack"), fault) for fault in faults)
            continue
        gpu = catalog.part("gpu", rack.text("gpu"))
        idle_w += group.count * (gpu.number("idle_w") * rack.number("gpus") + rack.number("other_idle_w"))
        yield from _loop(group, rack, path)
    for g, cpu_group in enumerate(site.cpu_racks):
        path = (*at, "cpu_racks", g)
        rack = catalog.part("rack", cpu_group.rack)
        faults = list(cpu_rack_faults(rack))
        yield from (((*path, "rack"), fault) for fault in faults)
        if not faults:
            idle_w += cpu_group.count * rack.number("idle_w")
            yield from _loop(cpu_group, rack, path)
    for element, carried_w, said in (
        ("ups", idle_w, "its racks draw when idle"),
        ("transformer", idle_w + site.fixed_load, "its racks and fixed load draw when idle"),
    ):
        rating_w = getattr(site.electrical, f"{element}_rating")
        if rating_w < carried_w:
            yield (
                (*at, "electrical", f"{element}_rating"),
                f"{format_si(rating_w, 'W')} is less than the {format_si(carried_w, 'W')} that {said}",
            )


def _loop(group: RackGroup | CpuRackGroup, rack: Part, path: Path) -> Iterator[Finding]:
    """A loop where there is none to take, or none where one is due."""
    if rack.number("liquid_heat_frac") > 0 and group.loop is None:
        yield (*path, "loop"), f"is missing: rack {group.rack} gives heat to a liquid loop"
    elif rack.number("liquid_heat_frac") == 0 and group.loop is not None:
        yield (*path, "loop"), f"rack {group.rack} is air-cooled and takes no loop"


def _loop_ratings(site: Site, at: Path, catalog: Catalog) -> Iterator[Finding]:
    """Loops whose CDUs cannot carry the liquid heat of their racks even when these are idle."""
    idle_w = {loop.name: 0.0 for loop in site.cooling.loops}
    groups: list[RackGroup | CpuRackGroup] = [*site.racks, *site.cpu_racks]
    for group in groups:
        rack = catalog.part("rack", group.rack)
        gpu_racks = isinstance(group, RackGroup)
        faults = rack_faults(rack, catalog) if gpu_racks else cpu_rack_faults(rack)
        if group.loop is None or group.loop not in idle_w or next(faults, None) is not None:
            continue
        if gpu_racks:
            gpu = catalog.part("gpu", rack.text("gpu"))
            rack_w = gpu.number("idle_w") * rack.number("gpus") + rack.number("other_idle_w")
        else:
            rack_w = rack.number("idle_w")
        idle_w[group.loop] += group.count * rack_w * rack.number("liquid_heat_frac")
    for index, loop in enumerate(site.cooling.loops):
        cdu = catalog.part("cooling", loop.cdu)
        if not lacking(cdu, "cdu") and loop.count * cdu.number("rated_heat_w") < idle_w[loop.name]:
            carried, given = format_si(loop.count * cdu.number("rated_heat_w"), "W"), format_si(idle_w[loop.name], "W")
            yield (*at, index, "count"), f"{carried} of {loop.cdu} is less than the {given} of heat that its racks give when idle"


def scenario_consistency(scenario: Scenario) -> Iterator[Finding]:
    """All that does not fit in a scenario, its topology included."""
    catalog = catalog_with(scenario.catalog)
    found = [(("topology", *path), message) for path, message in topology_consistency(scenario.topology, catalog)]
    yield from found
    for s, system in enumerate(scenario.pareto.systems if scenario.pareto is not None else ()):
        path = ("pareto", "systems", s, "topology")
        yield from (((*path, *place), message) for place, message in topology_consistency(system.topology, catalog))
        if reason := not_one_system(system.topology):
            yield path, reason
    yield from _represent(scenario)
    shapeless = _shapeless(scenario, catalog)
    if shapeless:
        yield ("serving", "model"), shapeless
    if not found:  # a rack without numbers has no room to speak of
        yield from _pools(scenario, catalog, shape_known=shapeless is None)
        yield from _planner(scenario)
        if shapeless is None:
            yield from job_consistency(scenario, catalog, unfit)
        yield from _tools(scenario, catalog)
    yield from _events(scenario)
    yield from run_consistency(scenario)


def _shapeless(scenario: Scenario, catalog: Catalog) -> str | None:
    """What keeps the scenario's model from being simulated, whatever it runs on; None where nothing does."""
    from twin import performance  # the models of files are read far more often than they are checked this deep

    part = catalog.part("model", scenario.serving.model)
    try:
        part.number("context_tokens")
        performance.check_windows(performance.ModelShape.from_part(part))
    except (InputError, UnknownValueError) as error:
        return str(error)
    return None


def not_one_system(topology: Topology) -> str | None:
    """Why a topology is not one system to compare with others, which is one site with one kind of rack; None if it is."""
    if len(topology.sites) > 1:
        return f"has {len(topology.sites)} sites; a system to compare is one site"
    kinds = {group.rack for group in topology.sites[0].racks}
    return f"has several kinds of racks ({', '.join(sorted(kinds))}); a system to compare has one" if len(kinds) > 1 else None


def _represent(scenario: Scenario) -> Iterator[Finding]:
    for p, pool in enumerate(scenario.serving.pools):
        if pool.instances % scenario.represent:
            yield (
                ("serving", "pools", p, "instances"),
                f"{pool.instances} instances do not divide into groups of `represent: {scenario.represent}`",
            )


def _pools(scenario: Scenario, catalog: Catalog, shape_known: bool) -> Iterator[Finding]:
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
            rack = catalog.part("rack", groups[0].rack)
            wrong = list(_layout(pool, rack)) or list(_formats(scenario, rack, catalog))
            if not wrong and shape_known:
                wrong = list(_fit(scenario, pool, site, catalog))
            for path, message in wrong:
                yield ("serving", *(("pools", p) if path[0] in ("parallelism", "kv_blocks") else ()), *path), message
            if not wrong:
                placeable.setdefault(pool.racks, []).append((p, pool))
        for names, pools in placeable.items():
            yield from _room(pools, [group for group in site.racks if group.name in names], catalog)


def _tools(scenario: Scenario, catalog: Catalog) -> Iterator[Finding]:
    """Sandboxes that are too few to stand for groups of `represent`."""
    if scenario.tools is None:
        return
    for site in scenario.topology.sites:
        sandboxes = sandboxes_of(scenario.tools, site, catalog)
        if sandboxes < scenario.represent:
            yield ("tools",), f"{sandboxes:,.0f} sandboxes cannot stand for groups of `represent: {scenario.represent}`"


def _planner(scenario: Scenario) -> Iterator[Finding]:
    """Pools between which instances cannot move."""
    if scenario.serving.planner is None:
        return
    path = ("serving", "planner")
    for site in scenario.topology.sites:
        there = [pool for pool in scenario.serving.pools if pool.site in (None, site.name)]
        prefill, decode = ([pool for pool in there if pool.role == role] for role in ("prefill", "decode"))
        if len(prefill) != 1 or len(decode) != 1:
            counted = f"site {site.name} has {len(prefill)} and {len(decode)}"
            yield path, f"moves instances between one prefill and one decode pool, and {counted}"
            continue
        (one,), (other,) = prefill, decode
        gpus = (one.parallelism.gpus, other.parallelism.gpus)
        if gpus[0] != gpus[1]:
            yield (
                path,
                f"instances that move between {one.name} and {other.name} must have as many GPUs in both, not "
                f"{gpus[0]} and {gpus[1]} (tp x dp x pp)",
            )
        racks = [{group.rack for group in site.racks if group.name in pool.racks} for pool in (one, other)]
        if racks[0] != racks[1]:
            kinds = " and ".join(", ".join(sorted(kinds)) for kinds in racks)
            yield path, f"{one.name} and {other.name} must stand in one kind of rack to exchange instances, not in {kinds}"


def unfit(scenario: Scenario, pool: Pool, site: Site, catalog: Catalog) -> str | None:
    """Why no instance of the pool can run on the racks that it names; None if it can. Its `racks` must be of one kind."""
    rack = catalog.part("rack", next(group.rack for group in site.racks if group.name in pool.racks))
    found = (*_layout(pool, rack), *_formats(scenario, rack, catalog)) or (*_fit(scenario, pool, site, catalog),)
    return found[0][1] if found else None


def _layout(pool: Pool, rack: Part) -> Iterator[Finding]:
    """Whether an instance fits into one scale-up domain or fills whole ones."""
    domain, gpus = int(rack.number("scale_up_domain_gpus")), pool.parallelism.gpus
    if gpus > domain and gpus % domain:
        said = f"an instance of {gpus} GPUs (tp x dp x pp) is no whole number of scale-up domains of {domain} GPUs of {rack.name}"
        yield ("parallelism",), said


def _formats(scenario: Scenario, rack: Part, catalog: Catalog) -> Iterator[Finding]:
    """Number formats that the rack's GPUs can neither compute with nor convert from."""
    gpu = catalog.part("gpu", rack.text("gpu"))
    for key, values, said in (("weights", "weight_formats", "weights"), ("kv", "kv_formats", "a KV cache")):
        asked, can = getattr(scenario.serving.precision, key), gpu.texts(values)
        if asked not in can:
            why = gpu.values[values]
            yield (
                ("precision", key),
                f"{gpu.name} cannot use {said} in {asked}, only in {', '.join(can)} ({why.note or why.source})",
            )


def _fit(scenario: Scenario, pool: Pool, site: Site, catalog: Catalog) -> Iterator[Finding]:
    """What keeps an instance of the pool from running on its racks: backend, parallelism or memory, the first that does."""
    # The models of files are read far more often than they are checked this deep.
    from twin.performance import Coefficients
    from twin.schema.instances import instance_of

    serving = scenario.serving
    path: Path = ("parallelism",)
    try:
        instance = instance_of(serving, pool, site, catalog)
        path = ("backend",)
        Coefficients.of(instance.backend, instance.gpu.text("generation"), serving.precision.weights)
        path = ("parallelism",)
        instance.cost()
        instance.kv_capacity_tokens(0.0, pool.max_batched_tokens, pool.max_sequences)
        path = ("kv_reserve",)  # without one it would fit
        instance.kv_capacity_tokens(serving.kv_reserve, pool.max_batched_tokens, pool.max_sequences)
        path = ("kv_blocks",)
        if pool.kv_blocks is not None:
            each, most = serving.kv_cache.block_tokens, instance.kv_capacity_tokens(0.0, 0, 0)
            if pool.kv_blocks * each > most:
                told = f"{pool.kv_blocks:,} blocks of {each} tokens"
                yield path, f"{told} are more than the {most:,} tokens that memory holds beside the weights"
    except (InputError, UnknownValueError) as error:
        yield path, str(error)


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
