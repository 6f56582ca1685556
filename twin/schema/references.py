"""Names that must lead somewhere: loops, racks, sites, tiers, feeds and files, and names that must differ.

Works on plain data that need not be valid otherwise, so that a wrong name is reported beside a wrong unit, not after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from twin.errors import did_you_mean
from twin.schema.fields import Path, get
from twin.schema.messages import Finding
from twin.schema.own_parts import own_parts_findings


def scenario_references(data: dict[str, Any]) -> Iterator[Finding]:
    """Everything wrong with the references of a scenario whose topology stands in its place."""
    sites = _items(data, ("topology", "sites"))
    yield from _differ(data, ("tiers",))
    yield from _differ(data, ("serving", "pools"))
    yield from _differ(data, ("grid", "events"))
    yield from _differ(data, ("pareto", "systems"))
    for path, system in _items(data, ("pareto", "systems")):
        if isinstance(system.get("topology"), dict):
            yield from topology_references(data, (*path, "topology"))
    if isinstance(data.get("topology"), dict):
        yield from topology_references(data, ("topology",))
        yield from _pools(data, sites)
        yield from _events(data, sites)
    yield from _tiers(data)
    yield from _file(data, ("workload", "trace"))
    yield from _file(data, ("workload", "fit"))
    yield from own_parts_findings(data)


def topology_references(data: dict[str, Any], prefix: Path = ()) -> Iterator[Finding]:
    """Everything wrong with the references of the topology at `prefix`."""
    yield from _differ(data, (*prefix, "sites"))
    feeds: set[str] = set()
    for path, site in _items(data, (*prefix, "sites")):
        yield from _differ(data, (*path, "racks"))
        yield from _differ(data, (*path, "cooling", "loops"))
        loops = _names(data, (*path, "cooling", "loops"))
        for group_path, group in _items(data, (*path, "racks")):
            yield from _known(group, "loop", group_path, loops, "loop")
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


def _tiers(data: dict[str, Any]) -> Iterator[Finding]:
    tiers = _names(data, ("tiers",))
    shares = get(data, ("workload", "tiers"))
    for name in shares if isinstance(shares, dict) and tiers else ():
        if name not in tiers:
            yield ("workload", "tiers", name), f"unknown tier {name!r}{did_you_mean(name, tiers)}"


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


def _file(data: dict[str, Any], path: Path) -> Iterator[Finding]:
    file = get(data, path)
    if isinstance(file, str):
        if not file:
            yield path, "the path of a file is due"
        elif not os.path.exists(file):
            yield path, f"no such file: {file}"
        elif os.path.isdir(file):
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
