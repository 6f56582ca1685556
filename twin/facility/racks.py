"""All racks of a site as arrays: shelf losses and heat by loop."""

from __future__ import annotations

import numpy as np

from twin.errors import SimulationError
from twin.facility.exchanger import Floats
from twin.facility.shelves import Shelves
from twin.facility.spec import PlantSpec


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

    def heat(self, it_w: Floats) -> tuple[Floats, Floats, float, float]:
        """(heat into each loop, what each rack's shelves draw (racks,), sum of DC power, sum of what the shelves draw) for the
        racks' DC power (racks,), in W.

        Raises SimulationError for a wrong shape, a power below zero or not finite, one above its shelves' rating, and one where
        no rectifier has power.
        """
        if it_w.shape != (self.count,):
            raise SimulationError(f"plant {self._name}: {self.count} rack powers are due, not an array of shape {it_w.shape}")
        shelves = self.shelves
        if np.count_nonzero((it_w >= 0) & (it_w <= shelves.rated_w)) != self.count and (wrong := shelves.beyond(it_w)):
            raise SimulationError(f"plant {self._name}: {wrong}")
        drawn_w = (it_w * shelves.quadratic_per_w + shelves.linear) * it_w + shelves.fixed_w
        liquid_w = drawn_w * self._liquid_frac
        heat_w: Floats = np.asarray(np.bincount(self._loop, liquid_w, self._loop_count), dtype=np.float64)
        total_w = float(np.add.reduce(drawn_w))
        heat_w[-1] = total_w - float(np.add.reduce(heat_w))  # the air takes what no liquid does
        return heat_w, drawn_w, float(np.add.reduce(it_w)), total_w
