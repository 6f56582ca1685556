"""What the racks of a site hold and draw, from its topology and the catalogue."""

from __future__ import annotations

import numpy as np

from twin.catalog import Catalog
from twin.engine.site_runtime import Floats, RackLoads
from twin.schema.topology import Site


def rack_gpus(site: Site, catalog: Catalog) -> Floats:
    """GPUs of each rack of the site, in order: shape (racks,)."""
    counts = [[catalog.part("rack", group.rack).number("gpus")] * group.count for group in site.racks]
    return np.array([gpus for group in counts for gpus in group])


def rack_loads(site: Site, gpus_on: Floats, catalog: Catalog, fabric_w: float) -> RackLoads:
    """The loads of a site's racks with `gpus_on` (racks, stations) GPUs in use and a fabric that draws `fabric_w` in all."""
    idle_gpu_w, gpu_tdp_w, other_idle_w, other_busy_w = [], [], [], []
    for group in site.racks:
        part = catalog.part("rack", group.rack)
        gpu = catalog.part("gpu", part.text("gpu"))
        idle_gpu_w += [gpu.number("idle_w")] * group.count
        gpu_tdp_w += [gpu.number("tdp_w")] * group.count
        other_idle_w += [part.number("other_idle_w")] * group.count
        other_busy_w += [part.number("other_busy_w")] * group.count
    gpus = rack_gpus(site, catalog)
    return RackLoads(
        gpus=gpus,
        gpus_on=gpus_on,
        idle_gpu_w=np.array(idle_gpu_w),
        gpu_tdp_w=np.array(gpu_tdp_w),
        other_idle_w=np.array(other_idle_w),
        other_busy_w=np.array(other_busy_w),
        # Leaves and spines stand among the racks: their power is spread over them evenly.
        fabric_w=np.full(len(gpus), fabric_w / len(gpus)),
    )
