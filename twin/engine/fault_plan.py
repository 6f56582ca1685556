"""From what a scenario says of faults to the faults of each site: which units fail, when, and until when.

Nothing here depends on how the run goes, so that a plan is checked, and drawn, before anything begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twin.catalog import Catalog
from twin.engine.fabric_builder import build_network
from twin.engine.outage_builder import site_hardware
from twin.engine.placement import place
from twin.engine.plant_builder import plant_spec, start_draws
from twin.errors import InputError, did_you_mean
from twin.facility import Plant
from twin.facility.component import Component
from twin.rng import stream
from twin.schema import LoadedScenario, catalog_with
from twin.schema.faults import ALL_KINDS, DrawnFaults
from twin.schema.messages import Finding
from twin.schema.scenario import Scenario
from twin.schema.topology import Site


@dataclass(frozen=True, slots=True)
class Fault:
    """Units of a component, by number, that fail at `start_s` and are repaired at `end_s` (infinity: never)."""

    name: str
    component: str
    units: tuple[int, ...]
    start_s: float
    end_s: float
    drawn: bool = False


def components_of(scenario: Scenario, site: Site) -> tuple[Component, ...]:
    """Everything at a site that can fail: the plant's first. Raises InputError for a site that cannot be built."""
    catalog = catalog_with(scenario.catalog)
    pools = [pool for pool in scenario.serving.pools if pool.site in (None, site.name)]
    network, *_ = build_network(site, pools, place(site, pools, catalog), catalog, scenario.represent)
    hardware = site_hardware(site, catalog, network.plan)
    return (*Plant(plant_spec(site, catalog), draws=start_draws(site, scenario.seed)).components(), *hardware.components())


def check_faults(loaded: LoadedScenario) -> None:
    """Raises InputError with everything that is wrong with the scenario's faults, at the places of their keys."""
    scenario = loaded.scenario
    if not scenario.faults.any:
        return
    components = {site.name: components_of(scenario, site) for site in scenario.topology.sites}
    found = [*_scheduled_findings(scenario, components), *_drawn_findings(scenario, components)]
    if found:
        raise InputError(loaded.problems(found))


def faults_of(scenario: Scenario, site: Site, components: Sequence[Component], catalog: Catalog) -> tuple[Fault, ...]:
    """The faults of a site that begin in the run, in order of their start. The scenario must have passed `check_faults`."""
    if not scenario.faults.any:
        return ()
    units = {component.key: component.units for component in components}
    faults = [fault for _, fault in _scheduled(scenario, site, units)]
    for entry, component in _drawn_components(scenario, site, components, catalog):
        mtbf_s, mttr_s = _figures(entry, component.kind, catalog)
        for unit in range(component.units):
            faults += drawn_faults(scenario, site.name, component, unit, mtbf_s / entry.accelerate, mttr_s)
    return tuple(sorted(faults, key=lambda fault: fault.start_s))


def drawn_faults(scenario: Scenario, site: str, component: Component, unit: int, mtbf_s: float, mttr_s: float) -> Iterator[Fault]:
    """The faults of one unit within the run, from a random stream of its own: times to failure and to repair in turn."""
    random = stream(scenario.seed, f"faults/{site}/{component.key}/{unit}")
    now_s, number = float(random.exponential(mtbf_s)), 0
    while now_s < scenario.horizon:
        end_s = now_s + float(random.exponential(mttr_s))
        name = f"{component.key}.{unit}#{number}" if component.units > 1 else f"{component.key}#{number}"
        yield Fault(name, component.key, (unit,), now_s, end_s, drawn=True)
        now_s, number = end_s + float(random.exponential(mtbf_s)), number + 1


# --- scheduled -----------------------------------------------------------------------------------------------------------


def _scheduled(scenario: Scenario, site: Site, units: dict[str, int]) -> Iterator[tuple[int, Fault]]:
    """(number in the scenario, fault) of each scheduled fault of a site, in order of start: the lowest units that no other has
    failed. One that finds too few fails those that it finds, and none where the component never has as many."""
    end_s: dict[tuple[str, int], float] = {}
    order = sorted(enumerate(scenario.faults.scheduled), key=lambda item: item[1].start)
    for number, fault in order:
        if fault.site not in (None, site.name):
            continue
        count = units.get(fault.component, 0)
        there = range(count if fault.units <= count else 0)
        free = [unit for unit in there if end_s.get((fault.component, unit), 0.0) <= fault.start][: fault.units]
        until_s = math.inf if fault.duration is None else fault.start + fault.duration
        end_s |= {(fault.component, unit): until_s for unit in free}
        yield number, Fault(fault.name, fault.component, tuple(free), fault.start, until_s)


def _scheduled_findings(scenario: Scenario, components: dict[str, tuple[Component, ...]]) -> Iterator[Finding]:
    for site in scenario.topology.sites:
        units = {component.key: component.units for component in components[site.name]}
        for number, fault in sorted(_scheduled(scenario, site, units), key=lambda item: item[0]):
            asked, path = scenario.faults.scheduled[number].units, ("faults", "scheduled", number)
            key = fault.component
            if key not in units:
                yield (*path, "component"), f"site {site.name} has no component {key!r}{_near(key, list(units))}"
            elif asked > units[key]:
                yield (*path, "units"), f"{asked} units of {key} cannot fail: there {_are(units[key])}"
            elif len(fault.units) < asked:
                left = f"{len(fault.units)} of {units[key]} work" if len(fault.units) != 1 else f"1 of {units[key]} works"
                said = f"overlaps other faults of {key}: at {fault.start_s:g} s only {left}, and {asked} should fail"
                yield (*path, "start"), said


def _near(key: str, keys: list[str]) -> str:
    """The nearest keys of the same kind, or else the nearest kind."""
    kind = key.partition("/")[0]
    alike = [each for each in keys if each.partition("/")[0] == kind]
    return (
        did_you_mean(key, alike or keys) or f" (of this kind: {alike[0]} ... {alike[-1]})" if alike else did_you_mean(key, keys)
    )


def _are(units: int) -> str:
    return "is 1" if units == 1 else f"are {units}"


# --- drawn ---------------------------------------------------------------------------------------------------------------


def _drawn_components(
    scenario: Scenario, site: Site, components: Sequence[Component], catalog: Catalog
) -> Iterator[tuple[DrawnFaults, Component]]:
    """Each component of a site that fails at random, with the entry that says so: one of its kind before `all`."""
    entries = {entry.kind: entry for entry in scenario.faults.drawn if entry.site in (None, site.name)}
    known = catalog.names("reliability")
    for component in components:
        entry = entries.get(component.kind) or (entries.get(ALL_KINDS) if component.kind in known else None)
        if entry is not None:
            yield entry, component


def _figures(entry: DrawnFaults, kind: str, catalog: Catalog) -> tuple[float, float]:
    """(mean time between failures, mean time to repair) of a unit of `kind`."""
    given = (entry.mtbf, entry.mttr)
    if None not in given:
        return given[0] or 0.0, given[1] or 0.0
    part = catalog.part("reliability", kind)
    return entry.mtbf or part.number("mtbf_s"), entry.mttr or part.number("mttr_s")


def _drawn_findings(scenario: Scenario, components: dict[str, tuple[Component, ...]]) -> Iterator[Finding]:
    catalog = catalog_with(scenario.catalog)
    known = catalog.names("reliability")
    taken: dict[tuple[str, str], int] = {}
    for number, entry in enumerate(scenario.faults.drawn):
        path = ("faults", "drawn", number)
        sites = [name for name in components if entry.site in (None, name)]
        kinds = list(dict.fromkeys(component.kind for name in sites for component in components[name]))
        if entry.kind not in (ALL_KINDS, *kinds):
            where = f"site {entry.site}" if entry.site is not None else "the factory"
            yield (
                (*path, "kind"),
                f"{where} has no component of kind {entry.kind!r}{did_you_mean(entry.kind, [ALL_KINDS, *kinds])}",
            )
            continue
        if entry.kind not in (ALL_KINDS, *known):
            for key in ("mtbf", "mttr"):
                if getattr(entry, key) is None:
                    yield (
                        (*path, key),
                        f"is missing: the catalogue has no figures of {entry.kind}{did_you_mean(entry.kind, known)}",
                    )
        for name in sites:
            first = taken.setdefault((name, entry.kind), number)
            if first != number:
                yield (*path, "kind"), f"{entry.kind} of site {name} is drawn already, by entry {first}"
