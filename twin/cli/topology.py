"""`twin topology show FILE --format table|json|graphml|svg`: what a topology file builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twin.analysis.loading import Loading, loadings
from twin.catalog import Catalog, load_catalog
from twin.errors import InputError, UnknownValueError, did_you_mean
from twin.schema.electrical import cooling_feeds, elements_of, incomers_of, rack_feeds
from twin.schema.topology import CpuRackGroup, RackGroup, Site, Topology
from twin.units import format_si

FORMATS = ("table", "json", "graphml", "svg")


def topology_show(topology: Topology, fmt: str, run_dir: Path | None = None) -> str:
    """The topology as text of one of FORMATS; an SVG with the loads of the run in `run_dir`.

    Raises ValueError for another format, InputError for parts that don't fit, and for a run with another format or of another
    topology.
    """
    if fmt not in FORMATS:
        raise ValueError(f"unknown format {fmt!r}{did_you_mean(fmt, FORMATS)}")
    if run_dir is not None and fmt != "svg":
        raise InputError(f"the loads of a run go into a picture: --run needs --format svg, not {fmt}")
    catalog = load_catalog()
    if fmt == "graphml":
        return _graphml(topology, catalog)
    facts = [site_facts(site, catalog) for site in topology.sites]
    if fmt == "json":
        document = {"name": topology.name, "description": topology.description, "sites": facts}
        return json.dumps(document, indent=2) + "\n"
    if fmt == "svg":
        from twin.cli.topology_svg import draw

        return draw(topology, facts, [_loads(site, run_dir) for site in facts])
    return _table(topology, facts)


def site_facts(site: Site, catalog: Catalog) -> dict[str, Any]:
    """What a site consists of, in SI, ready for JSON; None stands for what nobody has published."""
    racks = []
    for group in site.racks:
        part = catalog.part("rack", group.rack)
        racks.append(
            {
                "name": group.name,
                "rack": group.rack,
                "count": group.count,
                "gpus": group.count * round(part.number("gpus")),
                "scale_up_domain_gpus": round(part.number("scale_up_domain_gpus")),
                "rated_w": group.count * part.number("rated_w"),
                "liquid_heat_frac": part.number("liquid_heat_frac"),
                "loop": group.loop,
                "feeds": list(rack_feeds(site.electrical, site.feed.name, group.feeds)),
            }
        )
    cpu_racks = []
    for cpu_group in site.cpu_racks:
        part = catalog.part("rack", cpu_group.rack)
        cpu_racks.append(
            {
                "name": cpu_group.name,
                "rack": cpu_group.rack,
                "count": cpu_group.count,
                "cpus": cpu_group.count * round(part.number("cpus")),
                "rated_w": cpu_group.count * part.number("rated_w"),
                "liquid_heat_frac": part.number("liquid_heat_frac"),
                "loop": cpu_group.loop,
                "feeds": list(rack_feeds(site.electrical, site.feed.name, cpu_group.feeds)),
            }
        )
    return {
        "name": site.name,
        "feed": {"name": site.feed.name, "contract_w": site.feed.contract},
        "gpus": sum(rack["gpus"] for rack in racks),
        "racks_rated_w": sum(rack["rated_w"] for rack in (*racks, *cpu_racks)),
        "racks": racks,
        "cpu_racks": cpu_racks,
        "fabric": _fabric_facts(site, catalog),
        "electrical": _electrical_facts(site, catalog),
        "battery": None
        if site.battery is None
        else {"part": site.battery.part, "capacity_j": site.battery.capacity, "power_w": site.battery.power},
        "cooling": {
            "loops": [
                {"name": loop.name, "cdu": loop.cdu, "count": loop.count, "supply_c": loop.supply} for loop in site.cooling.loops
            ],
            "dry_cooler": site.cooling.dry_cooler,
            "chiller": site.cooling.chiller,
            "air_handler": site.cooling.air_handler,
        },
        "fixed_load_w": site.fixed_load,
    }


def _electrical_facts(site: Site, catalog: Catalog) -> dict[str, Any]:
    """The chain from the incomers down; an element's rating is that of all its units."""
    electrical, feed = site.electrical, site.feed.name
    elements = []
    short = {
        role: {"part": part, "rated_w": rated_w}
        for role, part, rated_w in (
            ("transformer", electrical.transformer, electrical.transformer_rating),
            ("ups", electrical.ups, electrical.ups_rating),
        )
        if part is not None
    }
    for element in elements_of(electrical, feed):
        part = catalog.part("electrical", element.part)
        breaker = element.breaker
        rated_w = element.rating * element.count
        elements.append(
            {
                "name": element.name,
                "part": element.part,
                "kind": part.text("element") if electrical.chain else element.name,
                "rated_w": rated_w,
                "count": element.count,
                "fed_from": element.fed_from,
                "breaker_w": None if breaker is None else breaker.rating or rated_w,
            }
        )
    return {
        "power_shelf": electrical.power_shelf,
        **short,
        "incomers": list(incomers_of(electrical, feed)),
        "elements": elements,
        "cooling_from": list(cooling_feeds(electrical, feed)),
        "pumps_from": list(electrical.pumps_from),
    }


def _fabric_facts(site: Site, catalog: Catalog) -> dict[str, Any]:
    from twin.fabric import site_optics_w, site_plan

    plan = site_plan(site, catalog)
    switch = catalog.part("switch", site.fabric.switch)
    try:
        optics: float | None = site_optics_w(site, plan, catalog)
    except UnknownValueError:
        optics = None
    return {
        "kind": site.fabric.kind,
        "switch": site.fabric.switch,
        "optic": site.fabric.optic,
        "oversubscription": site.fabric.oversubscription,
        "tiers": plan.tiers,
        "nics": plan.nics,
        "nics_per_node": plan.nics_per_node,
        "leaves": plan.leaves,
        "spines": plan.spines,
        "cores": plan.cores,
        "switch_links": plan.switch_links,
        "transceivers": plan.nics + plan.switch_ends,
        "optics_w": optics,
        "switches_w": plan.switches * switch.number("typical_w") if switch.has("typical_w") else None,
    }


def _loads(site: dict[str, Any], run_dir: Path | None) -> dict[str, Loading]:
    """What the run in `run_dir` loaded the elements of a site with. Raises InputError where it is not a run of this site."""
    if run_dir is None:
        return {}
    loads = loadings(run_dir, site["name"])
    due = [element["name"] for element in site["electrical"]["elements"]]
    if missing := [name for name in due if name not in loads]:
        raise InputError(f"{run_dir}: no loads of {', '.join(missing)} at site {site['name']}: it is a run of another topology")
    return loads


def _watts(value: float | None) -> str:
    return "not published" if value is None else format_si(value, "W")


def _heat(rack: dict[str, Any]) -> str:
    return "air" if rack["loop"] is None else f"loop {rack['loop']}, {rack['liquid_heat_frac']:.0%} of heat in liquid"


def _table(topology: Topology, facts: list[dict[str, Any]]) -> str:
    lines = [topology.name + (f": {topology.description}" if topology.description else "")]
    for site in facts:
        fabric, electrical, cooling, battery = site["fabric"], site["electrical"], site["cooling"], site["battery"]
        rows = [("feed", f"{site['feed']['name']}, contract {_watts(site['feed']['contract_w'])}")]
        for rack in site["racks"]:
            loop = _heat(rack)
            domain = f"scale-up domains of {rack['scale_up_domain_gpus']}"
            size = f"{rack['count']} x {rack['rack']}, {rack['gpus']} GPUs in {domain}"
            rows.append((f"racks {rack['name']}", f"{size}, rated {_watts(rack['rated_w'])}, {loop}"))
        for rack in site["cpu_racks"]:
            size = f"{rack['count']} x {rack['rack']}, {rack['cpus']} CPUs"
            rows.append((f"racks {rack['name']}", f"{size}, rated {_watts(rack['rated_w'])}, {_heat(rack)}"))
        tiers = f"{fabric['leaves']} leaves, {fabric['spines']} spines, {fabric['cores']} cores"
        shape = f"{fabric['kind']}, {fabric['tiers']} tier{'s' if fabric['tiers'] > 1 else ''} of {fabric['switch']}"
        rows.append(("fabric", f"{shape}: {tiers}, {fabric['nics']} NICs, {fabric['switch_links']} links between switches"))
        power = f"optics {_watts(fabric['optics_w'])}, switches {_watts(fabric['switches_w'])}"
        rows.append(("", f"{fabric['transceivers']} transceivers; {power}"))
        for element in electrical["elements"]:
            units = f"{element['count']} x " if element["count"] > 1 else ""
            breaker = "" if element["breaker_w"] is None else f", breaker {_watts(element['breaker_w'])}"
            size = f"{units}{element['part']}, {_watts(element['rated_w'])}, from {element['fed_from']}{breaker}"
            rows.append((element["name"], size))
        rows.append(("power shelves", electrical["power_shelf"]))
        if battery is not None:
            rows.append(("battery", f"{battery['part']}, {battery['capacity_j'] / 3.6e6:,.0f} kWh, {_watts(battery['power_w'])}"))
        for loop in cooling["loops"]:
            rows.append((f"loop {loop['name']}", f"{loop['count']} x {loop['cdu']}, supply {loop['supply_c']:g} C"))
        rows.append(("heat rejection", f"{cooling['dry_cooler']}, {cooling['chiller']}, {cooling['air_handler']}"))
        rows.append(("fixed load", _watts(site["fixed_load_w"])))
        lines += ["", f"site {site['name']}: {site['gpus']} GPUs, racks rated {_watts(site['racks_rated_w'])}"]
        lines += [f"  {name:<16}{text}" for name, text in rows]
    return "\n".join(lines) + "\n"


def _graphml(topology: Topology, catalog: Catalog) -> str:
    """Feeds, chain, racks, loops and switches of all sites as one graph; node names begin with their site."""
    import networkx as nx

    from twin.fabric import site_graph

    whole: nx.Graph[str] = nx.Graph(name=topology.name)
    for site in topology.sites:
        graph = site_graph(site, catalog)
        nx.set_edge_attributes(graph, dict.fromkeys(graph.edges, "network"), "carries")
        electrical = _electrical_facts(site, catalog)
        top = {name: f"feed/{name}" for name in electrical["incomers"]}
        for node in top.values():
            graph.add_node(node, role="feed", rated_w=site.feed.contract)
        for element in electrical["elements"]:
            graph.add_node(element["name"], role=element["kind"], rated_w=element["rated_w"])
            graph.add_edge(top.get(element["fed_from"], element["fed_from"]), element["name"], carries="power")
        if site.battery is not None:
            graph.add_node("battery", role="battery", rated_w=site.battery.power)
            graph.add_edge("battery", electrical["cooling_from"][0], carries="power")
        graph.add_node("heat_rejection", role="heat_rejection", part=site.cooling.dry_cooler)
        graph.add_node("hall_air", role="loop", part=site.cooling.air_handler)
        graph.add_edge("hall_air", "heat_rejection", carries="heat")
        for loop in site.cooling.loops:
            graph.add_node(f"loop/{loop.name}", role="loop", part=loop.cdu)
            graph.add_edge(f"loop/{loop.name}", "heat_rejection", carries="heat")
        groups: list[RackGroup | CpuRackGroup] = [*site.racks, *site.cpu_racks]
        for group in groups:
            feeds = rack_feeds(site.electrical, site.feed.name, group.feeds)
            for i in range(group.count):
                rack = f"rack/{group.name}/{i}"
                graph.add_edges_from(((rack, feed) for feed in feeds), carries="power")
                graph.add_edge(rack, "hall_air" if group.loop is None else f"loop/{group.loop}", carries="heat")
        prefix = f"{site.name}/" if len(topology.sites) > 1 else ""
        whole.update(nx.relabel_nodes(graph, {name: prefix + name for name in graph}))
    return "\n".join(nx.generate_graphml(whole)) + "\n"
