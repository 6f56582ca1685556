"""Places a site's electrical chain as a one-line diagram: columns by distance from the utility, parents beside what they feed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Node:
    """Something on the diagram. `fed_from` are the names of nodes, the first of them the one that it is placed by."""

    name: str
    kind: str
    title: str
    detail: str
    fed_from: tuple[str, ...]
    breaker: str | None = None
    column: int = 0
    row: float = 0.0
    below: list[Node] = field(default_factory=list)


def one_line(site: dict[str, Any], watts: Any) -> list[Node]:
    """The nodes of a site's facts (`site_facts`), placed; `watts` says a power. Rows count from 0, no two ends share one."""
    electrical, contract = site["electrical"], watts(site["feed"]["contract_w"])
    of_all = "contract" if len(electrical["incomers"]) == 1 else "contract of all"
    nodes = [Node(name, "incomer", f"incomer {name}", f"{of_all} {contract}", ()) for name in electrical["incomers"]]
    for element in electrical["elements"]:
        count, rated = element["count"], watts(element["rated_w"])
        each = f"{count} x {watts(element['rated_w'] / count)}" if count > 1 else rated
        breaker = None if element["breaker_w"] is None else f"breaker {watts(element['breaker_w'])}"
        nodes.append(Node(element["name"], element["kind"], element["name"], each, (element["fed_from"],), breaker))
    for rack in (*site["racks"], *site["cpu_racks"]):
        what = f"{rack['gpus']:,} GPUs" if "gpus" in rack else f"{rack['cpus']:,} CPUs"
        title = f"{rack['count']:,} x {rack['rack']}"
        detail = f"{rack['name']}: {what}, {watts(rack['rated_w'])}"
        nodes.append(Node(f"racks/{rack['name']}", "racks", title, detail, tuple(rack["feeds"])))
    tap = tuple(electrical["cooling_from"])
    nodes.append(Node("cooling", "cooling", "cooling and building", f"fixed load {watts(site['fixed_load_w'])}", tap))
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        if node.fed_from:
            by_name[node.fed_from[0]].below.append(node)
    row = 0.0
    for node in nodes:
        if not node.fed_from:
            row = _place(node, 0, row)
    ends = max(node.column for node in nodes)
    for node in nodes:
        if node.kind in ("racks", "cooling"):
            node.column = ends
    return nodes


def _place(node: Node, column: int, row: float) -> float:
    """Put a node and all below it from `row` on; returns the next free row."""
    node.column = column
    if not node.below:
        node.row = row
        return row + 1
    for child in node.below:
        row = _place(child, column + 1, row)
    node.row = (node.below[0].row + node.below[-1].row) / 2
    return row
