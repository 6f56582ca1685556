"""Names inside the electrical chain that must lead somewhere: who feeds whom, and who hangs on what.

Works on plain data that need not be valid otherwise, as `twin.schema.references` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twin.errors import did_you_mean
from twin.schema.electrical import SHORT_FORM
from twin.schema.fields import Path, get
from twin.schema.messages import Finding


def chain_references(site: dict[str, Any], path: Path) -> Iterator[Finding]:
    """Everything wrong with the references of the electrical chain of the site at `path`."""
    electrical = site.get("electrical")
    if not isinstance(electrical, dict):
        return
    at: Path = (*path, "electrical")
    if not electrical.get("chain"):
        yield from _short_form(site, electrical, path)
        return
    for key in (*SHORT_FORM, "ups_store"):
        if electrical.get(key) is not None:
            yield (*at, key), "belongs to the short form of the chain; a site with `chain` does without it"
    feed = get(site, ("feed", "name"))
    given = electrical.get("incomers")
    incomers = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    incomers = incomers or ([feed] if isinstance(feed, str) else [])
    elements = [
        (place, element)
        for place, element in enumerate(electrical["chain"] if isinstance(electrical["chain"], list) else ())
        if isinstance(element, dict) and isinstance(element.get("name"), str)
    ]
    names = list(dict.fromkeys(element["name"] for _, element in elements))
    for place, incomer in enumerate(incomers):
        if incomer in incomers[:place]:
            yield (*at, "incomers", place), f"the name {incomer!r} is taken; names must differ"
    yield from _parents(elements, incomers, names, at)
    fed = {element["fed_from"] for _, element in elements if isinstance(element.get("fed_from"), str)}
    for place, incomer in enumerate(incomers):
        if incomer not in fed:
            yield (*at, "incomers", place) if given else (*at, "chain"), f"the incomer {incomer!r} feeds no element"
    hung = set(fed)
    tail = [name for name in names if name not in fed]
    yield from _listed(electrical.get("cooling_from"), names, (*at, "cooling_from"), hung)
    yield from _listed(electrical.get("pumps_from"), names, (*at, "pumps_from"), hung)
    apart = (*(electrical.get("cooling_from") or ()), *(electrical.get("pumps_from") or ()))
    ends = [name for name in tail if name not in apart] or tail
    for kind in ("racks", "cpu_racks"):
        groups = site.get(kind)
        for place, group in enumerate(groups if isinstance(groups, list) else ()):
            if not isinstance(group, dict):
                continue
            here = (*path, kind, place, "feeds")
            if group.get("feeds"):
                yield from _listed(group["feeds"], names, here, hung)
            elif len(ends) > 1:
                yield here, f"is missing, and the chain ends in {', '.join(ends)}: these racks are on no feed"
            else:
                hung.update(ends)
    told = set()
    for place, element in elements:
        if element["name"] not in hung and element["name"] not in told:
            told.add(element["name"])
            yield (*at, "chain", place, "name"), f"{element['name']!r} feeds nothing: no element, no racks, no cooling"


def _short_form(site: dict[str, Any], electrical: dict[str, Any], path: Path) -> Iterator[Finding]:
    at: Path = (*path, "electrical")
    for key in SHORT_FORM:
        if electrical.get(key) is None:
            yield (*at, key), "is missing (or describe the chain element by element in `chain`)"
    incomers = electrical.get("incomers")
    if isinstance(incomers, list) and len(incomers) > 1:
        yield (*at, "incomers"), "the short form has one incomer; describe the others' elements in `chain`"
    for key in ("cooling_from", "pumps_from"):
        if electrical.get(key):
            yield (*at, key), "needs `chain`"
    for kind in ("racks", "cpu_racks"):
        groups = site.get(kind)
        for place, group in enumerate(groups if isinstance(groups, list) else ()):
            if isinstance(group, dict) and group.get("feeds"):
                yield (*path, kind, place, "feeds"), "needs `electrical.chain`, whose elements it names"


def _parents(elements: list[tuple[int, dict[str, Any]]], incomers: list[str], names: list[str], at: Path) -> Iterator[Finding]:
    """Two parents, unknown parents, names taken and circles."""
    first: dict[str, tuple[int, dict[str, Any]]] = {}
    above: dict[str, str] = {}
    known = [*incomers, *names]
    for place, element in elements:
        name, parent, here = element["name"], element.get("fed_from"), (*at, "chain", place)
        if name in incomers:
            yield (*here, "name"), f"the name {name!r} is taken by an incomer; names must differ"
        if name in first:
            earlier, other = first[name]
            if other.get("fed_from") != parent:
                yield (
                    (*here, "fed_from"),
                    f"{name!r} has two parents, {parent!r} here and {other.get('fed_from')!r} in item {earlier}: an element "
                    f"is fed from one; what needs two feeds is a rack (`feeds`)",
                )
            else:
                yield (*here, "name"), f"the name {name!r} is taken by item {earlier}; names must differ"
            continue
        first[name] = (place, element)
        if isinstance(parent, list):
            yield (
                (*here, "fed_from"),
                f"{name!r} has {len(parent)} parents: an element is fed from one; what needs two feeds is a rack (`feeds`)",
            )
        elif isinstance(parent, str) and parent not in known:
            yield (*here, "fed_from"), f"unknown incomer or element {parent!r}{did_you_mean(parent, known)}"
        elif isinstance(parent, str) and parent not in incomers:
            above[name] = parent
    told: set[str] = set()
    for name in above:
        line = [name]
        while (parent := above.get(line[-1])) is not None and parent not in line:
            line.append(parent)
        if parent == name and name not in told:
            told.update(line)
            circle = " <- ".join((*line, name))
            yield (*at, "chain", first[name][0], "fed_from"), f"{name!r} is fed in a circle, from no incomer: {circle}"


def _listed(given: Any, names: list[str], here: Path, hung: set[str]) -> Iterator[Finding]:
    for place, name in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(name, str):
            continue
        if name not in names:
            yield (*here, place), f"unknown element {name!r}{did_you_mean(name, names)}"
        elif name in given[:place]:
            yield (*here, place), f"the element {name!r} is named already"
        hung.add(name)
