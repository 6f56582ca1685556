"""From a pool of a scenario to the instance that the performance model knows."""

from __future__ import annotations

from twin.catalog import Catalog, Part
from twin.performance import NO_SPECULATION, Instance, ModelShape, Parallelism, Precision, Speculation, interconnect_of
from twin.schema.serving import Pool, Serving
from twin.schema.topology import Site


def instance_of(serving: Serving, pool: Pool, site: Site, catalog: Catalog) -> Instance:
    """The instance of a pool on the racks of a site. Raises Unfit or UnknownValueError with the reason."""
    rack = rack_of(pool, site, catalog)
    gpu = catalog.part("gpu", rack.text("gpu"))
    layout, speculation = pool.parallelism, pool.speculation
    return Instance(
        shape=ModelShape.from_part(catalog.part("model", serving.model)),
        precision=Precision(serving.precision.weights, serving.precision.kv),
        layout=Parallelism(tp=layout.tp, dp=layout.dp, ep=layout.ep, pp=layout.pp),
        gpu=gpu,
        backend=catalog.part("backend", serving.backend),
        links=interconnect_of(gpu, site.fabric.efficiency, int(rack.number("scale_up_domain_gpus"))),
        speculation=NO_SPECULATION if speculation is None else Speculation(speculation.draft_tokens, speculation.acceptance),
        expert_imbalance=serving.expert_imbalance,
    )


def rack_of(pool: Pool, site: Site, catalog: Catalog) -> Part:
    """The kind of rack that a pool stands in."""
    group = next(group for group in site.racks if group.name == pool.racks[0])
    return catalog.part("rack", group.rack)
