"""The fabric of a site of the topology: its plan, its graph with the racks, its rates."""

from __future__ import annotations

import networkx as nx

from twin.catalog import Catalog, Part
from twin.errors import InputError
from twin.fabric.network import NetworkSpec
from twin.fabric.plan import FabricPlan, nic_radix, plan_fabric
from twin.fabric.power import end_w, optics_w
from twin.fabric.scale_out import switch_graph
from twin.schema.topology import Site

#: share of NVLink's line rate that transfers reach: 370 of 450 GB/s measured in an all-reduce over eight H100.
NVLINK_EFFICIENCY_FRAC = 370 / 450

#: what stays in the NICs when the switches have co-packaged optics.
NIC_OPTIC = "pluggable_1600g"


def site_plan(site: Site, catalog: Catalog) -> FabricPlan:
    """The scale-out fabric of all NICs of the site's racks.

    Raises InputError for racks whose nodes differ in NICs and for more NICs than the fabric holds, UnknownValueError for racks
    whose nodes or NICs nobody has published.
    """
    nodes, per_node = 0, set()
    for group in site.racks:
        rack = catalog.part("rack", group.rack)
        each = round(rack.number("nodes"))
        nodes += group.count * each
        per_node.add(rack.number("nics") / each)
    nic_rates = {_nic_bytes_per_s(group.rack, catalog) for group in site.racks}
    if len(per_node) > 1 or len(nic_rates) > 1 or not next(iter(per_node)).is_integer():
        names = ", ".join(sorted({group.rack for group in site.racks}))
        raise InputError(f"site {site.name}: one fabric needs nodes with the same NICs in all racks ({names})")
    switch = catalog.part("switch", site.fabric.switch)
    radix = nic_radix(round(switch.number("ports")), switch.number("port_bytes_per_s"), nic_rates.pop())
    return plan_fabric(site.fabric.kind, nodes, int(per_node.pop()), radix, site.fabric.oversubscription)


def site_optics_w(site: Site, plan: FabricPlan, catalog: Catalog) -> float:
    """Optical modules at all ends, in W."""
    return optics_w(plan, *end_powers_w(site, catalog))


def end_powers_w(site: Site, catalog: Catalog) -> tuple[float, float]:
    """Optics at the NIC end and at the switch end of a link at NIC speed, in W.

    NICs keep pluggable ones where the switches have theirs co-packaged.
    """
    nic_rate = _nic_bytes_per_s(site.racks[0].rack, catalog)
    co_packaged = catalog.part("switch", site.fabric.switch).flag("co_packaged_optics")
    nic_optic = catalog.part("optic", NIC_OPTIC if co_packaged else site.fabric.optic)
    return _end_w(nic_optic, nic_rate), _end_w(catalog.part("optic", site.fabric.optic), nic_rate)


def network_spec(site: Site, gpu: Part, catalog: Catalog) -> NetworkSpec:
    """Rates and latencies for instances on `gpu`. Raises UnknownValueError for what nobody has published."""
    return NetworkSpec(
        scale_up_bytes_per_s=gpu.number("nvlink_bytes_per_s"),
        scale_up_efficiency_frac=NVLINK_EFFICIENCY_FRAC,
        scale_up_latency_s=gpu.number("nvlink_latency_s"),
        scale_out_bytes_per_s=gpu.number("nic_bytes_per_s"),
        scale_out_efficiency_frac=site.fabric.efficiency,
        scale_out_latency_s=gpu.number("nic_latency_s"),
        hop_latency_s=catalog.part("switch", site.fabric.switch).number("hop_latency_s"),
        nic_bytes_per_s=_nic_bytes_per_s(site.racks[0].rack, catalog),
    )


def site_graph(site: Site, catalog: Catalog) -> nx.Graph:
    """Switches, and racks as `rack/GROUP/i` with `role` "rack" on the leaves of their NICs (edges: number of `links`)."""
    plan = site_plan(site, catalog)
    graph = switch_graph(plan)
    first = 0
    for group in site.racks:
        nodes = round(catalog.part("rack", group.rack).number("nodes"))
        for i in range(group.count):
            name = f"rack/{group.name}/{i}"
            graph.add_node(name, role="rack", rack=group.rack)
            for node in range(first, first + nodes):
                for nic in range(plan.nics_per_node):
                    leaf = f"leaf/{plan.leaf_of(node, nic)}"
                    links = graph.edges[name, leaf]["links"] if graph.has_edge(name, leaf) else 0
                    graph.add_edge(name, leaf, links=links + 1)
            first += nodes
    return graph


def _nic_bytes_per_s(rack: str, catalog: Catalog) -> float:
    return catalog.part("nic", catalog.part("rack", rack).text("nic")).number("bytes_per_s")


def _end_w(optic: Part, nic_bytes_per_s: float) -> float:
    power_w = optic.number("power_w")
    return end_w(power_w, optic.number("bytes_per_s"), nic_bytes_per_s) if power_w else 0.0
