"""What the power of racks goes into: GPU cores and memory, CPUs, adapters, switches, optics, fans and the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.catalog import Catalog, Part
from twin.schema.rack_parts import RACK_PARTS
from twin.schema.topology import Site

if TYPE_CHECKING:
    from twin.engine.site_runtime import RackLoads

Floats = NDArray[np.float64]


class Shares(NamedTuple):
    """Watts of a site's IT equipment by where they go, or joules of them; they add up to all of it.

    `gpu_core` is what GPUs draw less `memory` (the traffic to HBM) and `smoothing` (power burnt to smooth theirs): idle power of
    the HBM is in it. `fabric_switch` and `optic` are those of the scale-out fabric, `nvswitch` those in the racks.
    """

    gpu_core: float
    memory: float
    cpu: float
    nic: float
    nvswitch: float
    fabric_switch: float
    optic: float
    fan: float
    rest: float
    cpu_racks: float
    smoothing: float


class RackShares:
    """Splits the power that racks were found to draw; it changes none of it.

    What a rack draws beside its GPUs and its share of the fabric stands at a load between idle (0) and full (1): its CPUs, NICs
    and NVSwitches stand at the same between their own two powers. Fans move air in proportion to the load, on top of what they
    move when idle, and draw by the cube of the flow. The rest is what remains. Of a rack that draws less than when idle, all
    parts shrink alike.
    """

    def __init__(self, loads: RackLoads, idle_w: Floats, busy_w: Floats, optic_frac: float):
        """`idle_w` and `busy_w` (parts, racks) in the order of RACK_PARTS; `optic_frac` of the fabric's power is optics."""
        other_idle_w, other_busy_w = loads.other_idle_w, loads.other_busy_w
        self._fabric_w = loads.fabric_w
        self._optic_frac = optic_frac
        self._idle_w = other_idle_w
        with np.errstate(divide="ignore"):
            self._level_per_w = np.where(other_idle_w > 0, 1.0 / other_idle_w, 0.0)
            self._load_per_w = np.where(other_busy_w > other_idle_w, 1.0 / (other_busy_w - other_idle_w), 0.0)
        self._level_at_0 = np.where(other_idle_w > 0, 0.0, 1.0)
        linear, fan = [i for i, part in enumerate(RACK_PARTS) if part != "fan"], RACK_PARTS.index("fan")
        self._parts_w = np.concatenate((idle_w[linear], busy_w[linear] - idle_w[linear]), axis=1)
        with np.errstate(invalid="ignore"):
            self._flow_idle_frac = np.where(busy_w[fan] > 0, np.cbrt(idle_w[fan] / busy_w[fan]), 0.0)
        self._fan_busy_w = busy_w[fan]

    def split(self, gpu_w: Floats, it_w: Floats, memory_w: float, smoothing_w: float, cpu_racks_w: float) -> Shares:
        """The shares of racks that draw `it_w`, of it `gpu_w` in their GPUs (racks,); of that `memory_w` and `smoothing_w` in all
        go into memory traffic and smoothing. CPU racks come on top."""
        beside_w = it_w - gpu_w
        fabric_w = np.minimum(self._fabric_w, beside_w)
        other_w = beside_w - fabric_w
        level = np.minimum(other_w * self._level_per_w + self._level_at_0, 1.0)
        load = np.maximum(other_w - self._idle_w, 0.0) * self._load_per_w
        cpu_w, nic_w, nvswitch_w = (self._parts_w @ np.concatenate((level, load))).tolist()
        flow = self._flow_idle_frac + (1.0 - self._flow_idle_frac) * load
        fan_w = float(self._fan_busy_w @ (level * flow * flow * flow))
        all_fabric_w = float(fabric_w.sum())
        optic_w = self._optic_frac * all_fabric_w
        return Shares(
            gpu_core=float(gpu_w.sum()) - memory_w - smoothing_w,
            memory=memory_w,
            cpu=cpu_w,
            nic=nic_w,
            nvswitch=nvswitch_w,
            fabric_switch=all_fabric_w - optic_w,
            optic=optic_w,
            fan=fan_w,
            rest=float(other_w.sum()) - cpu_w - nic_w - nvswitch_w - fan_w,
            cpu_racks=cpu_racks_w,
            smoothing=smoothing_w,
        )


def rack_shares(site: Site, loads: RackLoads, catalog: Catalog, optic_frac: float) -> RackShares:
    """The shares of a site's racks, from the catalogue; a part whose power it does not know is in the rest."""
    parts = [catalog.part("rack", group.rack) for group in site.racks for _ in range(group.count)]
    idle_w, busy_w = (
        np.array([[_watts(part, f"{name}_{state}_w") for part in parts] for name in RACK_PARTS]) for state in ("idle", "busy")
    )
    return RackShares(loads, idle_w, busy_w, optic_frac)


def _watts(part: Part, key: str) -> float:
    return part.number(key) if part.has(key) else 0.0
