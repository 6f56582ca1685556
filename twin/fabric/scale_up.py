"""Scale-up domains: GPUs and the NVSwitches that join each to each."""

from __future__ import annotations

import networkx as nx

from twin.errors import InputError


def scale_up_graph(gpus: int, switches: int, gpu_bytes_per_s: float) -> nx.Graph:
    """One domain as a bipartite graph `gpu/i` - `nvswitch/j`: every GPU has an equal share of its links on every switch.

    Edges carry `bytes_per_s`, one way; a GPU's edges add up to `gpu_bytes_per_s`. Raises InputError for sizes below one.
    """
    if gpus < 1 or switches < 1 or not gpu_bytes_per_s > 0:
        raise InputError(f"a scale-up domain of {gpus} GPUs and {switches} switches at {gpu_bytes_per_s:g} B/s is impossible")
    graph: nx.Graph[str] = nx.Graph(kind="scale_up")
    graph.add_nodes_from((f"gpu/{i}" for i in range(gpus)), role="gpu")
    for j in range(switches):
        graph.add_node(f"nvswitch/{j}", role="nvswitch")
        graph.add_edges_from(((f"gpu/{i}", f"nvswitch/{j}") for i in range(gpus)), bytes_per_s=gpu_bytes_per_s / switches)
    return graph
