"""The scale-out fabric of a site, with the simulated engine instances as its end points."""

from __future__ import annotations

from twin.catalog import Catalog
from twin.engine.placement import Place
from twin.fabric import Endpoint, FabricPlan, Network, fabric_w, network_spec, optics_w, site_plan
from twin.fabric.site import end_powers_w
from twin.schema.serving import Pool
from twin.schema.topology import Site


def build_network(
    site: Site, pools: list[Pool], places: dict[str, list[Place]], catalog: Catalog, represent: int
) -> tuple[Network, float, float]:
    """Transfers between the simulated instances, in the order of the pools; what the whole fabric draws, and of that its optics,
    in W.

    Raises UnknownValueError for a switch whose power or latency nobody has published.
    """
    plan = site_plan(site, catalog)
    gpu = catalog.part("gpu", catalog.part("rack", site.racks[0].rack).text("gpu"))
    endpoints = [
        Endpoint(f"{pool.name}-{number}", pool.parallelism.gpus, at.domain, at.node, pool.parallelism.tp)
        for pool in pools
        for number, at in enumerate(places[pool.name][: pool.instances // represent])
    ]
    of_optics_w = optics_w(plan, *end_powers_w(site, catalog))
    return Network(network_spec(site, gpu, catalog), plan, endpoints), site_fabric_w(site, plan, catalog), of_optics_w


def site_fabric_w(site: Site, plan: FabricPlan, catalog: Catalog) -> float:
    """What the switches and optics of a site draw, in W. Raises UnknownValueError for a switch whose power is unpublished."""
    return fabric_w(plan, catalog.part("switch", site.fabric.switch).number("typical_w"), *end_powers_w(site, catalog))
