"""All racks of a site as arrays: shelf losses and heat by loop."""

from __future__ import annotations

import numpy as np

from twin.errors import SimulationError
from twin.facility.exchanger import Floats
from twin.facility.spec import PlantSpec, RackSpec


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
        self._groups = groups
        self._rated_w = each([group.shelf.rated_w for group in groups])
        self._shelf_fixed_w = each([group.shelf.rated_w * group.shelf.loss_fixed_frac for group in groups])
        self._shelf_linear = each([1 + group.shelf.loss_linear_frac for group in groups])
        self._shelf_quadratic_per_w = each([group.shelf.loss_quadratic_frac / group.shelf.rated_w for group in groups])
        self._liquid_frac = each([group.liquid_heat_frac for group in groups])
        self._loop = np.repeat([loops[g.loop] if g.loop is not None else len(loops) for g in groups], counts)

    def heat(self, it_w: Floats) -> tuple[Floats, float, float]:
        """(heat into each loop, sum of DC power, sum of what the shelves draw) for the racks' DC power (racks,), in W.

        Raises SimulationError for a wrong shape, a power below zero or not finite, or one above its shelves' rating.
        """
        if it_w.shape != (self.count,):
            raise SimulationError(f"plant {self._name}: {self.count} rack powers are due, not an array of shape {it_w.shape}")
        if not ((it_w >= 0) & (it_w <= self._rated_w)).all():
            self._refuse(it_w)
        drawn_w = (it_w * self._shelf_quadratic_per_w + self._shelf_linear) * it_w + self._shelf_fixed_w
        liquid_w = drawn_w * self._liquid_frac
        heat_w: Floats = np.asarray(np.bincount(self._loop, liquid_w, self._loop_count), dtype=np.float64)
        total_w = float(np.add.reduce(drawn_w))
        heat_w[-1] = total_w - float(np.add.reduce(heat_w))  # the air takes what no liquid does
        return heat_w, float(np.add.reduce(it_w)), total_w

    def _refuse(self, it_w: Floats) -> None:
        rack = int(np.flatnonzero(~((it_w >= 0) & (it_w <= self._rated_w)))[0])
        raise SimulationError(
            f"plant {self._name}: rack {rack} ({self._group_of(rack).name}) draws {it_w[rack]:,.0f} W of DC power, outside 0 to "
            f"the {self._rated_w[rack]:,.0f} W of its power shelves"
        )

    def _group_of(self, rack: int) -> RackSpec:
        for group in self._groups:
            if rack < group.count:
                return group
            rack -= group.count
        raise AssertionError("more racks than groups have")
