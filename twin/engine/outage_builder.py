"""From a site of a scenario to its hardware that can fail."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from twin.catalog import Catalog
from twin.engine.clock import Clock
from twin.engine.hardware import Hardware, RackHardware
from twin.engine.outages import Outages
from twin.engine.records import SiteRecorder
from twin.engine.site_runtime import SiteRuntime
from twin.fabric import FabricPlan
from twin.performance import StepCost
from twin.schema.instances import instance_of
from twin.schema.scenario import Scenario
from twin.schema.topology import Site


def build_outages(
    scenario: Scenario, site: Site, catalog: Catalog, clock: Clock, runtime: SiteRuntime, recorder: SiteRecorder
) -> Outages:
    """What can fail under serving at `site`."""
    serving = scenario.serving
    pools = {pool.name: pool for pool in serving.pools}

    @cache
    def cost_at(pool: str, scale_up_frac: float, scale_out_frac: float) -> StepCost:
        instance = instance_of(serving, pools[pool], site, catalog)
        links = instance.links
        left = replace(
            links,
            scale_up_bytes_per_s=scale_up_frac * links.scale_up_bytes_per_s,
            scale_out_bytes_per_s=scale_out_frac * links.scale_out_bytes_per_s,
        )
        return replace(instance, links=left).cost()

    return Outages(clock, runtime, recorder, site_hardware(site, catalog, runtime.network.plan), serving.restart, cost_at)


def site_hardware(site: Site, catalog: Catalog, plan: FabricPlan) -> Hardware:
    """What computes and connects at `site`, on the fabric of `plan`."""
    racks: list[RackHardware] = []
    node = 0
    for group in site.racks:
        part = catalog.part("rack", group.rack)
        gpus, trays, domain = (int(part.number(key)) for key in ("gpus", "nodes", "scale_up_domain_gpus"))
        switches = int(part.number("nvswitches")) if part.has("nvswitches") else 0
        for index in range(group.count):
            racks.append(RackHardware(f"{group.name}/{index}", gpus, trays, domain, switches, node))
            node += trays
    return Hardware(racks, plan)
