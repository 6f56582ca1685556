"""The scale-out fabric of a site from its rules, with the engine instances as its end points."""

from __future__ import annotations

from twin.catalog import Catalog
from twin.engine.placement import Place
from twin.errors import InputError
from twin.fabric import Endpoint, FabricPlan, Network, NetworkSpec, end_w, fabric_w, nic_radix, plan_fabric
from twin.schema.scenario import Pool
from twin.schema.topology import Site

#: Share of NVLink's line rate that a large transfer reaches: ~370 of 450 GB/s, measured in an all-reduce over 8 H100.
SCALE_UP_EFFICIENCY = 0.82


def site_plan(site: Site, catalog: Catalog) -> tuple[FabricPlan, float]:
    """The scale-out plan of a site and what its switches and optics draw, in W.

    Raises InputError for racks whose nodes have different NICs, UnknownValueError for a switch with no published power.
    """
    racks = [(catalog.part("rack", group.rack), group.count) for group in site.racks]
    nodes = sum(int(part.number("nodes")) * count for part, count in racks)
    shapes = {(part.number("nics") / part.number("nodes"), catalog.part("nic", part.text("nic")).name) for part, _ in racks}
    if len(shapes) > 1:
        raise InputError(f"site {site.name}: all racks of a fabric must have the same NICs per node, not {sorted(shapes)}")
    gpu = catalog.part("gpu", racks[0][0].text("gpu"))
    nic_bytes_per_s = gpu.number("nic_bytes_per_s")
    switch = catalog.part("switch", site.fabric.switch)
    optic = catalog.part("optic", site.fabric.optic)
    radix = nic_radix(int(switch.number("ports")), switch.number("port_bytes_per_s"), nic_bytes_per_s)
    nics_per_node = int(racks[0][0].number("nics") / racks[0][0].number("nodes"))
    plan = plan_fabric(site.fabric.kind, nodes, nics_per_node, radix, site.fabric.oversubscription)
    one_end_w = end_w(optic.number("power_w"), optic.number("bytes_per_s"), nic_bytes_per_s)
    return plan, fabric_w(plan, switch.number("typical_w"), one_end_w, one_end_w)


def build_network(
    site: Site, pools: list[Pool], places: dict[str, list[Place]], catalog: Catalog, represent: int
) -> tuple[Network, float]:
    """Transfers between the simulated instances, in the order of the pools, and the power of the whole fabric in W."""
    plan, power_w = site_plan(site, catalog)
    gpu = catalog.part("gpu", catalog.part("rack", site.racks[0].rack).text("gpu"))
    switch = catalog.part("switch", site.fabric.switch)
    spec = NetworkSpec(
        scale_up_bytes_per_s=gpu.number("nvlink_bytes_per_s"),
        scale_up_efficiency_frac=SCALE_UP_EFFICIENCY,
        scale_up_latency_s=gpu.number("nvlink_latency_s"),
        scale_out_bytes_per_s=gpu.number("nic_bytes_per_s"),
        scale_out_efficiency_frac=site.fabric.efficiency,
        scale_out_latency_s=gpu.number("nic_latency_s"),
        hop_latency_s=switch.number("hop_latency_s"),
    )
    endpoints = [
        Endpoint(f"{pool.name}-{number}", pool.parallelism.gpus, at.domain, at.node)
        for pool in pools
        for number, at in enumerate(places[pool.name][: pool.instances // represent])
    ]
    return Network(spec, plan, endpoints), power_w
