"""Whether the elements of a chain can be what they are said to be: loss curves that exist, ratings that carry what idles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from twin.catalog import Catalog
from twin.catalog.losses import loss_shares
from twin.errors import InputError
from twin.schema.electrical import cooling_feeds, elements_of, incomers_of, rack_feeds
from twin.schema.fields import Path
from twin.schema.messages import Finding
from twin.schema.topology import CpuRackGroup, RackGroup, Site
from twin.units import format_si

_KINDS = ("transformer", "switchboard", "ups", "busway", "rectifier")


def chain_consistency(site: Site, idle_w: Mapping[str, float], at: Path, catalog: Catalog) -> Iterator[Finding]:
    """Curves that no loss can have, kinds that nobody knows, racks with fewer rectifiers than feeds, and ratings below the
    `idle_w` of each group of racks together with the fixed load. The parts must have all values that are due."""
    electrical, feed = site.electrical, site.feed.name
    elements = elements_of(electrical, feed)
    full = bool(electrical.chain)
    parts: list[tuple[Path, str]] = [(("power_shelf",), electrical.power_shelf)]
    for place, element in enumerate(elements):
        parts.append((("chain", place, "part") if full else (element.name,), element.part))
    for key, name in parts:
        part = catalog.part("electrical", name)
        try:
            loss_shares(name, part.numbers("load_frac"), part.numbers("efficiency_frac"))
        except InputError as error:
            yield (*at, "electrical", *key), str(error)
        if key[0] == "chain" and part.text("element") not in _KINDS:
            yield (*at, "electrical", *key), f"{name} is no element of a chain: its `element` is none of {', '.join(_KINDS)}"
    yield from _feeds(site, at, catalog)
    carried_w = {element.name: 0.0 for element in elements}
    groups: list[RackGroup | CpuRackGroup] = [*site.racks, *site.cpu_racks]
    for group in groups:
        feeds = rack_feeds(electrical, feed, group.feeds)
        for name in feeds:
            carried_w[name] += idle_w.get(group.name, 0.0) / len(feeds)
    taps = cooling_feeds(electrical, feed)
    for name in taps:
        carried_w[name] += site.fixed_load / len(taps)
    above = {element.name: element.fed_from for element in elements}
    incomers = incomers_of(electrical, feed)

    def depth(name: str) -> int:
        return 0 if above[name] in incomers else 1 + depth(above[name])

    for name in sorted(above, key=depth, reverse=True):
        if above[name] in carried_w:
            carried_w[above[name]] += carried_w[name]
    for place, element in enumerate(elements):
        rating_w, least_w = element.rating * element.count, carried_w[element.name]
        if rating_w < least_w:
            what = "its racks draw" if not full and element.name == "ups" else "its racks and fixed load draw"
            key = ("chain", place, "rating") if full else (f"{element.name}_rating",)
            said = f"{format_si(rating_w, 'W')} is less than the {format_si(least_w, 'W')} that {what} when idle"
            yield (*at, "electrical", *key), said


def _feeds(site: Site, at: Path, catalog: Catalog) -> Iterator[Finding]:
    """Racks whose rectifiers cannot be spread over all of their feeds."""
    shelf = catalog.part("electrical", site.electrical.power_shelf)
    kinds: tuple[tuple[str, tuple[RackGroup | CpuRackGroup, ...]], ...] = (("racks", site.racks), ("cpu_racks", site.cpu_racks))
    for kind, groups in kinds:
        for place, group in enumerate(groups):
            rated_w = catalog.part("rack", group.rack).number("rated_w") * shelf.number("oversize_ratio")
            shelves = math.ceil(rated_w / shelf.number("rated_w") - 1e-9)
            rectifiers = round(shelves * shelf.number("rated_w") / shelf.number("psu_rated_w"))
            if rectifiers < len(group.feeds):
                said = f"a rack {group.rack} has {rectifiers} rectifiers, which cannot be spread over {len(group.feeds)} feeds"
                yield (*at, kind, place, "feeds"), said
