"""The scale-out fabric of a plan as a networkx graph."""

from __future__ import annotations

import networkx as nx

from twin.fabric.plan import FabricPlan


def switch_graph(plan: FabricPlan) -> nx.Graph:
    """The switches alone: nodes `leaf/i`, `spine/j`, `core/k` with `role`, edges with the number of parallel `links`."""
    graph: nx.Graph[str] = nx.Graph(kind=plan.kind)
    graph.add_nodes_from((f"leaf/{i}" for i in range(plan.leaves)), role="leaf")
    graph.add_nodes_from((f"spine/{i}" for i in range(plan.spines)), role="spine")
    graph.add_nodes_from((f"core/{i}" for i in range(plan.cores)), role="core")
    if plan.tiers == 2:
        for leaf in range(plan.leaves):
            # the next leaf goes on where the last one stopped, so spines fill evenly even when up-links do not divide
            _spread(graph, f"leaf/{leaf}", "spine", 0, plan.spines, plan.leaf_up, leaf * plan.leaf_up)
    elif plan.tiers == 3:
        _connect_pods(graph, plan)
    return graph


def full_graph(plan: FabricPlan) -> nx.Graph:
    """Switches and NICs: nodes `nic/NODE/I` with `role` "nic" on their leaves. For small fabrics and pictures."""
    graph = switch_graph(plan)
    for node in range(plan.nodes):
        for nic in range(plan.nics_per_node):
            name = f"nic/{node}/{nic}"
            graph.add_node(name, role="nic")
            graph.add_edge(name, f"leaf/{plan.leaf_of(node, nic)}", links=1)
    return graph


def _connect_pods(graph: nx.Graph, plan: FabricPlan) -> None:
    half = plan.radix // 2
    for leaf in range(plan.leaves):
        first = plan.pod_of(leaf) * plan.leaf_up
        _spread(graph, f"leaf/{leaf}", "spine", first, plan.leaf_up, plan.leaf_up, 0)
    group = plan.cores // plan.leaf_up
    for spine in range(plan.spines):
        pod, member = divmod(spine, plan.leaf_up)
        _spread(graph, f"spine/{spine}", "core", member * group, group, half, pod * half)


def _spread(graph: nx.Graph, source: str, role: str, first: int, count: int, links: int, offset: int) -> None:
    """`links` of `source` dealt out in turn over the `count` switches from `role`/`first`, beginning at `offset`."""
    each, extra = divmod(links, count)
    for turn in range(count if each else extra):
        target = first + (offset + turn) % count
        graph.add_edge(source, f"{role}/{target}", links=each + (turn < extra))
