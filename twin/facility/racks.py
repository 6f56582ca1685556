"""All racks of a site as arrays: shelf losses, heat by loop, die temperatures, throttling."""

from __future__ import annotations

import math

import numpy as np

from twin.errors import SimulationError
from twin.facility.cooling import Floats
from twin.facility.shelves import Shelves
from twin.facility.spec import GpuHeatSpec, PlantSpec

#: how fast the firmware moves the clock towards what the die temperature allows; assumed, die time constants are near it.
THROTTLE_RESPONSE_S = 2.0

#: what a rack without GPUs has instead: at 0 W it never gets too hot.
_NO_GPU = GpuHeatSpec(1.0, 1e6, 1.0)


class Racks:
    """Racks in the order of the spec's groups. Loop numbers are those of the liquid loops, then the hall's air."""

    def __init__(self, spec: PlantSpec):
        groups = spec.racks
        counts = [group.count for group in groups]
        self.count = sum(counts)
        loops = {loop.name: i for i, loop in enumerate(spec.loops)}
        self._loop_count = len(loops) + 1

        def each(value: list[float]) -> Floats:
            return np.repeat(np.array(value, dtype=np.float64), counts)

        self._name = spec.name
        elements = {element.name: i for i, element in enumerate(spec.chain.elements)}
        #: The rectifiers between the chain and the racks.
        self.shelves = Shelves(
            [group.name for group in groups],
            counts,
            [group.shelf for group in groups],
            [group.psus for group in groups],
            [[elements[feed] for feed in feeds] for feeds in spec.chain.rack_feeds],
        )
        self._liquid_frac = each([group.liquid_heat_frac for group in groups])
        self._loop = np.repeat([loops[g.loop] if g.loop is not None else len(loops) for g in groups], counts)
        gpus = [group.gpu or _NO_GPU for group in groups]
        self._resistance = each([gpu.resistance_k_per_w for gpu in gpus])
        self._throttle_c = each([gpu.throttle_c for gpu in gpus])
        self._clock_min = each([gpu.clock_min_frac for gpu in gpus])
        with_gpus = np.flatnonzero(np.repeat([group.gpu is not None for group in groups], counts))
        #: Racks with GPUs by loop, and of these the loops, where each begins and how many racks it has.
        self._order = with_gpus[np.argsort(self._loop[with_gpus], kind="stable")]
        self._used_loops, self._starts, self._racks_on = np.unique(self._loop[self._order], return_index=True, return_counts=True)
        self.clock_limit: Floats = np.ones(self.count)
        self._throttling = False

    def heat(self, it_w: Floats) -> tuple[Floats, Floats, float, float]:
        """(heat into each loop, what each rack's shelves draw (racks,), sum of DC power, sum of what the shelves draw) for the
        racks' DC power (racks,), in W.

        Raises SimulationError for a wrong shape, a power below zero or not finite, one above its shelves' rating, and one where
        no rectifier has power.
        """
        if it_w.shape != (self.count,):
            raise SimulationError(f"plant {self._name}: {self.count} rack powers are due, not an array of shape {it_w.shape}")
        shelves = self.shelves
        if not ((it_w >= 0) & (it_w <= shelves.rated_w)).all() and (wrong := shelves.beyond(it_w)):
            raise SimulationError(f"plant {self._name}: {wrong}")
        drawn_w = (it_w * shelves.quadratic_per_w + shelves.linear) * it_w + shelves.fixed_w
        liquid_w = drawn_w * self._liquid_frac
        heat_w: Floats = np.asarray(np.bincount(self._loop, liquid_w, self._loop_count), dtype=np.float64)
        total_w = float(np.add.reduce(drawn_w))
        heat_w[-1] = total_w - float(np.add.reduce(heat_w))  # the air takes what no liquid does
        return heat_w, drawn_w, float(np.add.reduce(it_w)), total_w

    def heat_up(self, duration_s: float, gpu_max_w: Floats, supply_c: Floats) -> Floats:
        """Die temperature of each rack's hottest GPU (racks,), and the clock limits that follow from it.

        While a die is too hot its clock limit moves by the square root of allowed over actual power, which converges for any
        power law between the first and the fourth power of the clock. Raises SimulationError for a bad GPU power.
        """
        if gpu_max_w.shape != (self.count,) or not 0 <= np.minimum.reduce(gpu_max_w) <= np.maximum.reduce(gpu_max_w) < math.inf:
            raise SimulationError(f"plant {self._name}: the hottest GPU's power of {self.count} racks is due, at least 0 W each")
        coolant_c = supply_c[self._loop]
        gpu_c = coolant_c + self._resistance * gpu_max_w
        if self._throttling or (gpu_c > self._throttle_c).any():
            allowed_w = np.maximum(self._throttle_c - coolant_c, 0.0) / self._resistance
            ratio = np.minimum(np.sqrt(allowed_w / np.maximum(gpu_max_w, 1.0)), 2.0)
            limit = self.clock_limit
            moved = limit * (1 + (ratio - 1) * -math.expm1(-duration_s / THROTTLE_RESPONSE_S))
            # a new array: the last step still hands out the old one
            self.clock_limit = np.minimum(np.maximum(moved, self._clock_min), 1.0)
            self._throttling = bool((self.clock_limit < 1).any())
        return gpu_c

    def by_loop(self, gpu_c: Floats, clock_limit: Floats) -> tuple[list[float | None], list[float]]:
        """(hottest die, share of racks with GPUs held down for heat) by loop; None and 0 for a loop without GPUs."""
        hottest: list[float | None] = [None] * self._loop_count
        throttled = [0.0] * self._loop_count
        if not len(self._order):
            return hottest, throttled
        hottest_used = np.maximum.reduceat(gpu_c[self._order], self._starts).tolist()
        slow = np.bincount(self._loop, clock_limit < 1, self._loop_count)
        for loop, temperature, racks in zip(self._used_loops.tolist(), hottest_used, self._racks_on.tolist(), strict=True):
            hottest[loop] = temperature
            throttled[loop] = float(slow[loop]) / racks
        return hottest, throttled
