"""Names that must lead somewhere: loops, racks, sites, tiers, feeds and files, and names that must differ.

Works on plain data that need not be valid otherwise, so that a wrong name is reported beside a wrong unit, not after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from twin.errors import did_you_mean
from twin.schema.chain_references import chain_references
from twin.schema.fields import Path, get
from twin.schema.jobs import ALL_JOBS
from twin.schema.messages import Finding
from twin.schema.own_parts import own_parts_findings
from twin.schema.workload import MOST_TENANTS


def scenario_references(data: dict[str, Any]) -> Iterator[Finding]:
    """Everything wrong with the references of a scenario whose topology stands in its place."""
    sites = _items(data, ("topology", "sites"))
    yield from _differ(data, ("tiers",))
    yield from _differ(data, ("serving", "pools"))
    yield from _differ(data, ("grid", "events"))
    yield from _differ(data, ("faults", "scheduled"))
    yield from _differ(data, ("jobs",))
    yield from _differ(data, ("pareto", "systems"))
    for path, system in _items(data, ("pareto", "systems")):
        if isinstance(system.get("topology"), dict):
            yield from topology_references(data, (*path, "topology"))
    if isinstance(data.get("topology"), dict):
        yield from topology_references(data, ("topology",))
        yield from _pools(data, sites)
        yield from _events(data, sites)
        yield from _faults(data, sites)
        yield from _jobs(data, sites)
        yield from _tools(data, sites)
    yield from _smoothing(data)
    yield from _tiers(data)
    yield from _tenants(data)
    yield from _file(data, ("workload", "trace"), or_folder=True)
    yield from _folder(data, ("workload", "clients"))
    yield from _file(data, ("workload", "fit"))
    yield from own_parts_findings(data)


def topology_references(data: dict[str, Any], prefix: Path = ()) -> Iterator[Finding]:
    """Everything wrong with the references of the topology at `prefix`."""
    yield from _differ(data, (*prefix, "sites"))
    feeds: set[str] = set()
    for path, site in _items(data, (*prefix, "sites")):
        yield from _differ(data, (*path, "racks"))
        yield from _differ(data, (*path, "cpu_racks"))
        yield from _differ(data, (*path, "generators"))
        yield from _differ(data, (*path, "cooling", "loops"))
        loops = _names(data, (*path, "cooling", "loops"))
        for kind in ("racks", "cpu_racks"):
            for group_path, group in _items(data, (*path, kind)):
                yield from _known(group, "loop", group_path, loops, "loop")
        taken = _names(data, (*path, "racks"))
        for group_path, group in _items(data, (*path, "cpu_racks")):
            if group.get("name") in taken:
                yield (*group_path, "name"), f"the name {group['name']!r} is taken by a group of `racks`; names must differ"
        yield from chain_references(site, path)
        feed = get(site, ("feed", "name"))
        if isinstance(feed, str):
            if feed in feeds:
                yield (*path, "feed", "name"), f"another site has a feed {feed!r}; names must differ"
            feeds.add(feed)
        yield from _file(data, (*path, "climate", "weather"))


def _pools(data: dict[str, Any], sites: list[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    pools = _items(data, ("serving", "pools"))
    by_name = {site.get("name"): path for path, site in sites}
    roles: dict[object, dict[str, Path]] = {}
    for path, pool in pools:
        yield from _known(pool, "site", path, [name for name in by_name if isinstance(name, str)], "site")
        if pool.get("site") is None and len(sites) > 1:
            yield (*path, "site"), f"is missing, and there are {len(sites)} sites: {_listed(by_name)}"
            continue
        if pool.get("site") is not None and pool["site"] not in by_name:
            continue
        site_path = by_name[pool["site"]] if pool.get("site") is not None else sites[0][0] if sites else None
        if site_path is not None:
            yield from _known(pool, "racks", path, _names(data, (*site_path, "racks")), "rack group")
        if isinstance(pool.get("role"), str):
            roles.setdefault(site_path, {}).setdefault(pool["role"], path)
    for found in roles.values():
        for role, other in (("prefill", "decode"), ("decode", "prefill")):
            if role in found and other not in found:
                yield (*found[role], "role"), f"a {role} pool needs a {other} pool at its site"


def _events(data: dict[str, Any], sites: list[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    feeds = [name for _, site in sites if isinstance(name := get(site, ("feed", "name")), str)]
    for path, event in _items(data, ("grid", "events")):
        yield from _known(event, "feed", path, feeds, "feed")
        if event.get("feed") is None and len(feeds) > 1:
            yield (*path, "feed"), f"is missing, and there are {len(feeds)} feeds: {_listed(feeds)}"


def _faults(data: dict[str, Any], sites: list[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    names = [name for _, site in sites if isinstance(name := site.get("name"), str)]
    for path, fault in (*_items(data, ("faults", "scheduled")), *_items(data, ("faults", "drawn"))):
        yield from _known(fault, "site", path, names, "site")
        if path[1] == "scheduled" and fault.get("site") is None and len(sites) > 1:
            yield (*path, "site"), f"is missing, and there are {len(sites)} sites: {_listed(names)}"


def _jobs(data: dict[str, Any], sites: list[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    jobs = _items(data, ("jobs",))
    by_name = {site.get("name"): path for path, site in sites}
    for path, job in jobs:
        yield from _known(job, "site", path, [name for name in by_name if isinstance(name, str)], "site")
        if job.get("site") is None and len(sites) > 1:
            yield (*path, "site"), f"is missing, and there are {len(sites)} sites: {_listed(by_name)}"
        elif job.get("site") in by_name or (job.get("site") is None and sites):
            site_path = by_name[job["site"]] if job.get("site") is not None else sites[0][0]
            yield from _known(job, "racks", path, _names(data, (*site_path, "racks")), "rack group")
    for path, pool in _items(data, ("serving", "pools")):
        if jobs and pool.get("name") == ALL_JOBS:
            yield (*path, "name"), f"{ALL_JOBS!r} is what policies call all jobs of a site; a pool needs another name"


def _smoothing(data: dict[str, Any]) -> Iterator[Finding]:
    """The pools whose power is smoothed."""
    names = _names(data, ("serving", "pools"))
    given = get(data, ("power_smoothing", "pools"))
    for place, name in enumerate(given if isinstance(given, list) and names else ()):
        path = ("power_smoothing", "pools", place)
        if name == ALL_JOBS and name not in names:
            if not data.get("jobs"):
                yield path, "the scenario has no jobs"
        elif isinstance(name, str) and name not in names:
            yield path, f"unknown pool {name!r}{did_you_mean(name, [*names, ALL_JOBS])}"


def _tools(data: dict[str, Any], sites: list[tuple[Path, dict[str, Any]]]) -> Iterator[Finding]:
    """The CPU racks of the tools, at every site."""
    racks = get(data, ("tools", "racks"))
    for path, site in sites if isinstance(racks, str) else ():
        names = _names(data, (*path, "cpu_racks"))
        if racks not in names:
            near = did_you_mean(racks, names)
            yield ("tools", "racks"), f"site {site.get('name')} has no group {racks!r} among its cpu_racks{near}"


def _tiers(data: dict[str, Any]) -> Iterator[Finding]:
    tiers = _names(data, ("tiers",))
    shares = get(data, ("workload", "tiers"))
    for name in shares if isinstance(shares, dict) and tiers else ():
        if name not in tiers:
            yield ("workload", "tiers", name), f"unknown tier {name!r}{did_you_mean(name, tiers)}"
    admission = get(data, ("serving", "admission", "tiers"))
    for name in admission if isinstance(admission, dict) and tiers else ():
        if name not in tiers:
            yield ("serving", "admission", "tiers", name), f"unknown tier {name!r}{did_you_mean(name, tiers)}"
    order = get(data, ("serving", "queue", "tiers"))
    if isinstance(order, list) and tiers:
        path = ("serving", "queue", "tiers")
        for place, name in enumerate(order):
            if not isinstance(name, str):
                continue
            if name not in tiers:
                yield (*path, place), f"unknown tier {name!r}{did_you_mean(name, tiers)}"
            elif name in order[:place]:
                yield (*path, place), f"the tier {name!r} has a place already"
        if missing := [name for name in tiers if name not in order]:
            yield path, f"must name every tier, and leaves out {_listed(missing)}"


def _tenants(data: dict[str, Any]) -> Iterator[Finding]:
    """Limits of tenants that no session belongs to; a trace may have tenants of its own."""
    limited, tenants = get(data, ("serving", "admission", "tenants")), get(data, ("workload", "tenants"))
    if not isinstance(limited, dict) or get(data, ("workload", "kind")) == "trace":
        return
    if isinstance(tenants, int) and not isinstance(tenants, bool):
        tenants = [f"tenant-{number}" for number in range(min(tenants, MOST_TENANTS))]
    names = [name for name in tenants or () if isinstance(name, str)] if isinstance(tenants, dict | list | None) else []
    for name in limited:
        if name not in names:
            said = did_you_mean(name, names) if names else ": the workload names no tenants"
            yield ("serving", "admission", "tenants", name), f"unknown tenant {name!r}{said}"


def _known(owner: dict[str, Any], key: str, path: Path, names: list[str], kind: str) -> Iterator[Finding]:
    given = owner.get(key)
    for name in given if isinstance(given, list | tuple) else (given,):
        if isinstance(name, str) and name not in names:
            yield (*path, key), f"unknown {kind} {name!r}{did_you_mean(name, names)}"


def _differ(data: dict[str, Any], path: Path) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for item_path, item in _items(data, path):
        name = item.get("name")
        if isinstance(name, str):
            if name in seen:
                yield (*item_path, "name"), f"the name {name!r} is taken by item {seen[name]}; names must differ"
            seen.setdefault(name, int(item_path[-1]))


def _folder(data: dict[str, Any], path: Path) -> Iterator[Finding]:
    folder = get(data, path)
    if isinstance(folder, str):
        if not folder:
            yield path, "the path of a folder is due"
        elif not os.path.isdir(folder):
            yield path, f"{folder} is a file, not a folder" if os.path.exists(folder) else f"no such folder: {folder}"
        elif not os.access(folder, os.R_OK | os.X_OK):
            yield path, f"{folder} cannot be read: permission denied"


def _file(data: dict[str, Any], path: Path, or_folder: bool = False) -> Iterator[Finding]:
    file = get(data, path)
    if isinstance(file, str):
        if not file:
            yield path, "the path of a file is due"
        elif not os.path.exists(file):
            yield path, f"no such file: {file}"
        elif os.path.isdir(file) and not or_folder:
            yield path, f"{file} is a folder, not a file"
        elif not os.access(file, os.R_OK):
            yield path, f"{file} cannot be read: permission denied"


def _items(data: dict[str, Any], path: Path) -> list[tuple[Path, dict[str, Any]]]:
    items = get(data, path)
    if not isinstance(items, list):
        return []
    return [((*path, index), item) for index, item in enumerate(items) if isinstance(item, dict)]


def _names(data: dict[str, Any], path: Path) -> list[str]:
    return list(dict.fromkeys(item["name"] for _, item in _items(data, path) if isinstance(item.get("name"), str)))


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names)
