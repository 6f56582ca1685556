"""Moves of KV caches between engine instances: when does a transfer that starts now arrive?

Alpha-beta cost with shared links: a transfer takes the latency of its way plus its bytes over the narrowest link on it, and each
link serves its transfers first in, first out, at its full rate (a fluid queue: a link that is `b` bytes behind delays what
comes by b / rate). So no link ever carries more than its bandwidth, and a transfer costs one visit to each link on its way.

Links: an instance's NVLink ports (inside its scale-up domain) or NICs (outside), out and in; and a leaf block's up-links to
the other blocks, which bind only where the fabric is oversubscribed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from twin.errors import InputError, SimulationError
from twin.fabric.plan import FabricPlan


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine instance: its GPUs, the scale-up domain and the first node (host of NICs) it stands on.

    `lanes` GPUs hold the KV of one sequence (None: all of them): a transfer goes over their links alone.
    """

    name: str
    gpus: int
    domain: int
    node: int
    lanes: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Rates per GPU and one way, with the share that transfers reach; latencies of a transfer and of a switch on its way.

    `nic_bytes_per_s` is the rate of one NIC and of each link between switches; a GPU may have several NICs.
    """

    scale_up_bytes_per_s: float
    scale_up_efficiency_frac: float
    scale_up_latency_s: float
    scale_out_bytes_per_s: float
    scale_out_efficiency_frac: float
    scale_out_latency_s: float
    hop_latency_s: float
    nic_bytes_per_s: float

    def __post_init__(self) -> None:
        for name in ("scale_up", "scale_out"):
            rate, share = getattr(self, f"{name}_bytes_per_s"), getattr(self, f"{name}_efficiency_frac")
            if not (rate > 0 and math.isfinite(rate) and 0 < share <= 1):
                raise InputError(f"network: {name} of {rate!r} B/s at a share of {share!r} is impossible")
        if not 0 < self.nic_bytes_per_s < math.inf:
            raise InputError(f"network: a NIC of {self.nic_bytes_per_s!r} B/s is impossible")
        if min(self.scale_up_latency_s, self.scale_out_latency_s, self.hop_latency_s) < 0:
            raise InputError("network: a latency is below zero")


class Handoff(NamedTuple):
    """When the first byte leaves and the last one arrives."""

    start_s: float
    finish_s: float


@dataclass(slots=True)
class LinkClass:
    """Totals of all links of a kind since the start; `capacity_bytes_per_s` is what they could carry together, one way."""

    name: str
    capacity_bytes_per_s: float
    bytes: float = 0.0
    transfers: int = 0

    @property
    def busy_s(self) -> float:
        """How long all the links together, at full rate, would have taken for the bytes so far."""
        return self.bytes / self.capacity_bytes_per_s


class _Port:
    """An endpoint's state: rates, and when each of its four link directions will have sent all it was given."""

    __slots__ = (
        "block",
        "domain",
        "down_s",
        "full_out_rate",
        "full_up_rate",
        "in_s",
        "lanes_frac",
        "lanes_out_rate",
        "lanes_up_rate",
        "leaf_node",
        "out_s",
        "scale_out_rate",
        "scale_up_rate",
        "up_s",
    )

    def __init__(self, endpoint: Endpoint, spec: NetworkSpec, block: int):
        self.domain = endpoint.domain
        self.leaf_node = endpoint.node
        self.block = block
        self.full_up_rate = endpoint.gpus * spec.scale_up_bytes_per_s * spec.scale_up_efficiency_frac
        self.full_out_rate = endpoint.gpus * spec.scale_out_bytes_per_s * spec.scale_out_efficiency_frac
        self.lanes_frac = 1.0 if endpoint.lanes is None else endpoint.lanes / endpoint.gpus
        self.set_rates(self.full_up_rate, self.full_out_rate)
        self.up_s = self.down_s = self.out_s = self.in_s = -math.inf

    def set_rates(self, up_rate: float, out_rate: float) -> None:
        self.scale_up_rate, self.scale_out_rate = up_rate, out_rate
        self.lanes_up_rate, self.lanes_out_rate = self.lanes_frac * up_rate, self.lanes_frac * out_rate


class _Block:
    """Up-links of the leaves that serve a block of nodes."""

    __slots__ = ("full_rate", "in_s", "out_s", "rate")

    def __init__(self, rate: float):
        self.rate = self.full_rate = rate
        self.out_s = self.in_s = -math.inf


class Network:
    """Transfers between the endpoints of one site. It knows no clock but the `now_s` it is given, which may not go back."""

    def __init__(self, spec: NetworkSpec, plan: FabricPlan, endpoints: Sequence[Endpoint]):
        """Raises InputError for an endpoint without GPUs or on a node that the fabric does not have."""
        for endpoint in endpoints:
            lanes = endpoint.gpus if endpoint.lanes is None else endpoint.lanes
            if not 1 <= lanes <= endpoint.gpus or not 0 <= endpoint.node < plan.nodes:
                raise InputError(f"network: {endpoint.name} has {endpoint.gpus} GPUs on node {endpoint.node} of {plan.nodes}")
        self.plan = plan
        self.endpoints = tuple(endpoints)
        block_of = [plan.block_of(plan.leaf_of(endpoint.node, 0)) for endpoint in endpoints]
        self._ports = [_Port(endpoint, spec, block) for endpoint, block in zip(endpoints, block_of, strict=True)]
        self._blocks = {block: _Block(_block_rate(plan, spec)) for block in sorted(set(block_of))}
        self._scale_up_latency_s = spec.scale_up_latency_s
        self._latency_s = {hops: spec.scale_out_latency_s + hops * spec.hop_latency_s for hops in (0, 1, 3, 5)}
        self._now_s = -math.inf
        self.scale_up = LinkClass("scale_up", math.fsum(port.scale_up_rate for port in self._ports))
        self.scale_out = LinkClass("scale_out", math.fsum(port.scale_out_rate for port in self._ports))
        self.uplinks = LinkClass("uplinks", math.fsum(block.rate for block in self._blocks.values()))

    @property
    def link_classes(self) -> tuple[LinkClass, ...]:
        """Totals by kind of link: endpoints' NVLink ports, their NICs, and up-links between leaf blocks if there are any."""
        classes = (self.scale_up, self.scale_out, self.uplinks)
        return classes if self.plan.tiers > 1 else classes[:2]

    def lay_out_as(self, number: int, other: int) -> None:
        """Endpoint `number` spreads a sequence's KV over its GPUs from now on as endpoint `other`, of as many GPUs, does."""
        port, model = self._ports[number], self._ports[other]
        port.lanes_frac = model.lanes_frac
        port.set_rates(port.scale_up_rate, port.scale_out_rate)

    def set_ports(self, number: int, up_frac: float, out_frac: float) -> None:
        """Shares of endpoint `number`'s NVLink ports and of its NICs that work, above 0, for transfers that begin from now on."""
        port = self._ports[number]
        port.set_rates(up_frac * port.full_up_rate, out_frac * port.full_out_rate)

    def set_uplinks(self, block: int, frac: float) -> None:
        """Share of a leaf block's up-links that work, above 0, for transfers that begin from now on."""
        if block in self._blocks:
            self._blocks[block].rate = frac * self._blocks[block].full_rate

    def handoff(self, now_s: float, src: int, dst: int, size_bytes: float) -> Handoff:
        """Send `size_bytes` from endpoint number `src` to `dst`, starting at `now_s` or when the links are free.

        Raises SimulationError for a time before the last call's, a transfer to itself, or a size that is no size.
        """
        if not (now_s >= self._now_s and size_bytes >= 0 and src != dst and size_bytes < math.inf):
            raise SimulationError(f"network: cannot send {size_bytes!r} B from {src} to {dst} at {now_s!r} s")
        self._now_s = now_s
        source, target = self._ports[src], self._ports[dst]
        if source.domain == target.domain:
            out_rate, in_rate = source.scale_up_rate, target.scale_up_rate
            rate = source.lanes_up_rate if source.lanes_up_rate < target.lanes_up_rate else target.lanes_up_rate
            latency_s = self._scale_up_latency_s
            source.up_s = out_s = (source.up_s if source.up_s > now_s else now_s) + size_bytes / out_rate
            target.down_s = in_s = (target.down_s if target.down_s > now_s else now_s) + size_bytes / in_rate
            sent_s = out_s if out_s > in_s else in_s
            kind = self.scale_up
        else:
            out_rate, in_rate = source.scale_out_rate, target.scale_out_rate
            rate = source.lanes_out_rate if source.lanes_out_rate < target.lanes_out_rate else target.lanes_out_rate
            source.out_s = out_s = (source.out_s if source.out_s > now_s else now_s) + size_bytes / out_rate
            target.in_s = in_s = (target.in_s if target.in_s > now_s else now_s) + size_bytes / in_rate
            sent_s = out_s if out_s > in_s else in_s
            latency_s = self._latency_s[self.plan.hops(source.leaf_node, target.leaf_node)]
            if source.block != target.block:
                block_s, block_rate = self._cross(now_s, source.block, target.block, size_bytes)
                sent_s = block_s if block_s > sent_s else sent_s
                rate = block_rate if block_rate < rate else rate
            kind = self.scale_out
        kind.bytes += size_bytes
        kind.transfers += 1
        alone_s = size_bytes / rate
        earliest_s = now_s + alone_s
        sent_s = sent_s if sent_s > earliest_s else earliest_s
        return Handoff(sent_s - alone_s, sent_s + latency_s)

    def _cross(self, now_s: float, src: int, dst: int, size_bytes: float) -> tuple[float, float]:
        source, target = self._blocks[src], self._blocks[dst]
        lasts_s = size_bytes / source.rate
        source.out_s = (source.out_s if source.out_s > now_s else now_s) + lasts_s
        target.in_s = (target.in_s if target.in_s > now_s else now_s) + lasts_s
        self.uplinks.bytes += size_bytes
        self.uplinks.transfers += 1
        return max(source.out_s, target.in_s), source.rate


def _block_rate(plan: FabricPlan, spec: NetworkSpec) -> float:
    """What a block's leaves can send up, or infinity with a single tier."""
    if plan.tiers == 1:
        return math.inf
    return plan.block_leaves * plan.leaf_up * spec.nic_bytes_per_s * spec.scale_out_efficiency_frac
