"""From the tools of a scenario to the sandboxes of a site."""

from __future__ import annotations

from math import inf

from twin.catalog import Catalog
from twin.schema.tools import Tools
from twin.schema.topology import CpuRackGroup, Site


def tool_racks(tools: Tools, site: Site) -> CpuRackGroup | None:
    """The CPU racks on which a site's tools run, if they are told."""
    return next((group for group in site.cpu_racks if group.name == tools.racks), None)


def sandboxes_of(tools: Tools, site: Site, catalog: Catalog) -> float:
    """Sandboxes of a site; infinite where no number of them is told."""
    group = tool_racks(tools, site)
    if tools.sandboxes is not None:
        return tools.sandboxes
    if group is None:
        return inf
    rack = catalog.part("rack", group.rack)
    if tools.sandboxes_per_cpu is not None:
        return group.count * rack.number("cpus") * tools.sandboxes_per_cpu
    return group.count * rack.number("sandboxes")
