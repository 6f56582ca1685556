"""How many leaves, aggregation and core switches a scale-out fabric needs, by rule; all in closed form.

Counts are at the speed of a NIC port: a switch of 144 ports at 800 Gb/s has a radix of 288 for NICs of 400 Gb/s.

One tier: a single switch. Two tiers: every leaf spreads its up-links evenly over the spines. Three tiers: pods of leaves and
aggregation switches, whose up-links spread over core groups. Non-blocking limits of radix k: k^2/2 and k^3/4 endpoints
(M. Al-Fares et al., SIGCOMM 2008). Rail-optimised: leaf (block, r) takes NIC r of every node of its block of nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from twin.errors import InputError

Kind = Literal["rail_optimized", "fat_tree"]


@dataclass(frozen=True, slots=True)
class FabricPlan:
    """Switch and link counts. Up-links of a leaf are `leaf_up`; `spines` is the middle tier, `cores` the top one of three."""

    kind: Kind
    nodes: int
    nics_per_node: int
    radix: int
    tiers: int
    leaf_down: int
    leaf_up: int
    leaves: int
    pods: int
    spines: int
    cores: int

    @property
    def nics(self) -> int:
        """End points, each with one transceiver."""
        return self.nodes * self.nics_per_node

    @property
    def switches(self) -> int:
        """Switches of all tiers."""
        return self.leaves + self.spines + self.cores

    @property
    def switch_links(self) -> int:
        """Links between switches, at the speed of a NIC port."""
        leaf_links = self.leaves * self.leaf_up if self.tiers > 1 else 0
        core_links = self.spines * (self.radix // 2) if self.tiers > 2 else 0
        return leaf_links + core_links

    @property
    def switch_ends(self) -> int:
        """Transceivers in switches: one for each NIC's link, two for each link between switches."""
        return self.nics + 2 * self.switch_links

    def leaf_of(self, node: int, nic: int) -> int:
        """The leaf that this NIC hangs on."""
        if self.kind == "rail_optimized":
            return node // self.leaf_down * self.nics_per_node + nic
        return (node * self.nics_per_node + nic) // self.leaf_down

    @property
    def block_leaves(self) -> int:
        """Leaves that the same nodes hang on: one for each NIC of a node on rails, else one."""
        return self.nics_per_node if self.kind == "rail_optimized" else 1

    def block_of(self, leaf: int) -> int:
        """Number of the block of leaves that the same nodes hang on."""
        return leaf // self.block_leaves

    def nodes_on(self, leaf: int) -> range:
        """The nodes with a NIC on this leaf."""
        per_leaf = self.leaf_down
        if self.kind == "rail_optimized":
            block = self.block_of(leaf)
            return range(block * per_leaf, min((block + 1) * per_leaf, self.nodes))
        last = min((leaf + 1) * per_leaf, self.nics) - 1
        return range(leaf * per_leaf // self.nics_per_node, last // self.nics_per_node + 1)

    def pod_of(self, leaf: int) -> int:
        """The pod of a leaf; 0 with fewer than three tiers."""
        return leaf // (self.radix // 2) if self.tiers > 2 else 0

    def hops(self, node: int, other: int) -> int:
        """Switches on the shortest way between two nodes that use the same NIC number at both ends; 0 for the same node."""
        if node == other:
            return 0
        leaf, other_leaf = self.leaf_of(node, 0), self.leaf_of(other, 0)
        if leaf == other_leaf:
            return 1
        return 3 if self.pod_of(leaf) == self.pod_of(other_leaf) else 5


def nic_radix(ports: int, port_bytes_per_s: float, nic_bytes_per_s: float) -> int:
    """Ports of a switch at NIC speed, faster ports broken out. Raises InputError for NICs faster than the ports."""
    breakout = math.floor(port_bytes_per_s / nic_bytes_per_s + 1e-9)
    if breakout < 1:
        raise InputError(f"a NIC of {nic_bytes_per_s * 8e-9:g} Gb/s does not fit a port of {port_bytes_per_s * 8e-9:g} Gb/s")
    return ports * breakout


def plan_fabric(kind: Kind, nodes: int, nics_per_node: int, radix: int, oversubscription: float = 1.0) -> FabricPlan:
    """The smallest fabric of `radix` for these end points with the leaves' down : up bandwidth at `oversubscription`.

    Raises InputError for impossible sizes and for more end points than three tiers hold.
    """
    if nodes < 1 or nics_per_node < 1 or radix < 2 or radix % 2 or not 1 <= oversubscription <= radix - 1:
        raise InputError(
            f"no fabric has {nodes} nodes x {nics_per_node} NICs, radix {radix} (even) and oversubscription {oversubscription:g}"
        )
    if kind == "fat_tree" and nodes * nics_per_node <= radix:
        return FabricPlan(kind, nodes, nics_per_node, radix, 1, radix, 0, 1, 1, 0, 0)
    up = max(1, math.floor(radix / (1 + oversubscription) + 1e-9))
    down = radix - up
    leaves = math.ceil(nodes / down) * nics_per_node if kind == "rail_optimized" else math.ceil(nodes * nics_per_node / down)
    if leaves == 1:
        return FabricPlan(kind, nodes, nics_per_node, radix, 1, down, 0, 1, 1, 0, 0)
    if leaves <= radix:
        return FabricPlan(kind, nodes, nics_per_node, radix, 2, down, up, leaves, 1, math.ceil(leaves * up / radix), 0)
    half = radix // 2
    pods = math.ceil(leaves / half)
    if pods > radix:
        limit = down * half * radix
        raise InputError(f"{nodes * nics_per_node:,} NICs do not fit three tiers of radix {radix}, which hold {limit:,}")
    cores = up * math.ceil(pods * half / radix)
    return FabricPlan(kind, nodes, nics_per_node, radix, 3, down, up, leaves, pods, pods * up, cores)
