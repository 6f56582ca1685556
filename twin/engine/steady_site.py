"""A site in steady state: what stands at its meter when all its racks do the same work for hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from twin.catalog import Catalog
from twin.engine.cpu_racks import cpu_racks
from twin.engine.fabric_builder import site_fabric_w
from twin.engine.plant_builder import plant_spec, weather
from twin.engine.rack_loads import rack_gpus, rack_loads
from twin.fabric import site_plan
from twin.facility import BatteryOrder, Plant
from twin.schema.topology import Site

#: Mean weather is taken at this many even steps of the run.
_WEATHER_STEPS = 240
#: Of a settled plant any step gives the same means.
_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class SteadyPower:
    """Mean powers of a site over its GPUs, in W a GPU, and the lowest clock that heat allows (1 where no die is too hot)."""

    utility_w: float
    it_w: float
    cooling_w: float
    conversion_loss_w: float
    clock_limit: float

    @property
    def pue(self) -> float:
        """Everything drawn over IT power."""
        return self.utility_w / self.it_w


class SteadySite:
    """The racks, fabric and plant of a site whose GPUs all share the same kinds of work evenly. CPU racks are idle.

    Air is the mean of the site's climate over `horizon_s`.
    """

    def __init__(self, site: Site, catalog: Catalog, horizon_s: float):
        self._site, self._catalog = site, catalog
        self._spec = plant_spec(site, catalog)
        self._fabric_w = site_fabric_w(site, site_plan(site, catalog), catalog)
        self._rack_gpus = rack_gpus(site, catalog)
        air = weather(site.climate, horizon_s)
        drawn = [air.at(horizon_s * step / _WEATHER_STEPS) for step in range(_WEATHER_STEPS + 1)]
        self._dry_c, self._wet_c = (fmean(values) for values in zip(*drawn, strict=True))

    @property
    def gpus(self) -> int:
        """GPUs of the site."""
        return int(self._rack_gpus.sum())

    def power(self, work: Sequence[tuple[float, float]]) -> SteadyPower:
        """The site's power with its GPUs shared by kinds of `work`: (share of each rack's GPUs, mean W of such a GPU).

        The shares add up to 1. Raises SimulationError for a load beyond a rating.
        """
        shares, per_gpu_w = np.array(work).T
        loads = rack_loads(self._site, np.outer(self._rack_gpus, shares), self._catalog, self._fabric_w)
        _, rack_it_w, hottest_w = loads.power(per_gpu_w)
        idle_w = cpu_racks(self._site, None, self._catalog).power(0.0)
        rack_it_w, hottest_w = np.concatenate((rack_it_w, idle_w)), np.concatenate((hottest_w, np.zeros(len(idle_w))))
        plant = Plant(self._spec)
        plant.settle(rack_it_w, self._dry_c, self._wet_c)
        step = plant.advance(_STEP_S, rack_it_w, hottest_w, self._dry_c, self._wet_c, BatteryOrder.hold())
        return SteadyPower(
            utility_w=step.utility_w / self.gpus,
            it_w=step.it_w / self.gpus,
            cooling_w=step.cooling_w / self.gpus,
            conversion_loss_w=step.conversion_loss_w / self.gpus,
            clock_limit=float(step.rack_clock_limit.min()),
        )
