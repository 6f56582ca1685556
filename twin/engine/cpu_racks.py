"""What CPU racks draw: idle, and more with each sandbox that is in use."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf

import numpy as np
from numpy.typing import NDArray

from twin.catalog import Catalog
from twin.schema.sandboxes import sandboxes_of, tool_racks
from twin.schema.tools import Tools
from twin.schema.topology import Site

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CpuRacks:
    """The CPU racks of a site, in order: arrays of shape (racks,). The sandboxes of the tools are spread evenly over theirs.

    A sandbox in use keeps so many cores busy as the scenario says, and power is linear in the cores that are; where there are not
    as many as all sandboxes would need, they share them, and with all in use the racks are at full load.
    """

    idle_w: Floats
    #: W that each rack draws more for each sandbox of the site in use.
    per_sandbox_w: Floats

    def power(self, sandboxes_busy: float) -> Floats:
        """Power of each rack with so many sandboxes of the site in use, real ones."""
        return self.idle_w + sandboxes_busy * self.per_sandbox_w


def cpu_racks(site: Site, tools: Tools | None, catalog: Catalog) -> CpuRacks:
    """The CPU racks of a site, in the order of its groups."""
    used = None if tools is None else tool_racks(tools, site)
    idle_w: list[float] = []
    per_sandbox_w: list[float] = []
    for group in site.cpu_racks:
        part = catalog.part("rack", group.rack)
        idle_w += [part.number("idle_w")] * group.count
        more_w = 0.0
        if tools is not None and group is used:
            sandboxes = sandboxes_of(tools, site, catalog)
            assert not isinf(sandboxes)
            cores = group.count * part.number("sandboxes")  # one each
            wanted = sandboxes * tools.cores_per_sandbox
            more_w = (part.number("busy_w") - part.number("idle_w")) * tools.cores_per_sandbox / max(cores, wanted)
        per_sandbox_w += [more_w] * group.count
    return CpuRacks(np.array(idle_w), np.array(per_sandbox_w))
