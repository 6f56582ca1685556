"""What follows from the layout of an electrical chain alone: its graph, what stands outdoors, what warms the hall."""

from __future__ import annotations

import math
from collections.abc import Iterable

import networkx as nx

from twin.facility.chain_spec import ELEMENT_KINDS, ChainSpec


def elements_outdoors(spec: ChainSpec) -> frozenset[str]:
    """Elements whose losses warm no hall: at or above a transformer or what cooling or its pumps hang on."""
    above = {element.name: element.fed_from for element in spec.elements}
    found = []
    transformers = (element.name for element in spec.elements if element.kind == "transformer")
    for start in (*spec.cooling_from, *spec.pumps_from, *transformers):
        name = start
        while name in above:
            found.append(name)
            name = above[name]
    return frozenset(found)


def indoor_loss_w(spec: ChainSpec, racks_w: float) -> float:
    """What the elements in the hall lose when they carry racks that draw `racks_w`, or as much of it as they are rated for.

    A size for the hall's cooling: each takes the share of `racks_w` that its rating is of its kind's in the hall.
    """
    outdoors = elements_outdoors(spec)
    indoors = [element for element in spec.elements if element.name not in outdoors]
    rated_w = {kind: math.fsum(e.element.rated_w for e in indoors if e.kind == kind) for kind in ELEMENT_KINDS}
    return math.fsum(e.element.loss_w(min(racks_w * (e.element.rated_w / rated_w[e.kind]), e.element.rated_w)) for e in indoors)


def chain_graph(spec: ChainSpec, groups: Iterable[str] = ()) -> nx.DiGraph[str]:
    """The chain from incomers down: nodes with `kind`, `rated_w` (W, not at incomers) and `count`, edges from what feeds to what
    is fed. With the names of the rack groups, these are nodes of kind `racks` below their feeds, and `cooling` below its own."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for incomer in spec.incomers:
        graph.add_node(incomer, kind="incomer")
    for element in spec.elements:
        graph.add_node(element.name, kind=element.kind, rated_w=element.element.rated_w, count=element.count)
        if element.breaker is not None:
            graph.nodes[element.name].update(breaker_w=element.breaker.pickup_w, breaker_curve=element.breaker.curve)
    graph.add_edges_from((element.fed_from, element.name) for element in spec.elements)
    names = list(groups)
    for group, feeds in zip(names, spec.rack_feeds, strict=True) if names else ():
        graph.add_node(f"racks/{group}", kind="racks")
        graph.add_edges_from((feed, f"racks/{group}") for feed in feeds)
    if names:
        graph.add_node("cooling", kind="cooling")
        graph.add_edges_from((tap, "cooling") for tap in dict.fromkeys((*spec.cooling_from, *spec.pumps_from)))
    return graph
