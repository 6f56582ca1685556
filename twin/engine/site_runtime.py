"""One site at run time: its stations, their GPUs on racks, its plant, its feed and the battery's orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twin.engine.cpu_racks import CpuRacks
from twin.engine.dispatcher import Dispatcher
from twin.engine.job_process import JobLoads, JobProcess
from twin.engine.session_runner import SessionRunner
from twin.engine.station import Span, Station
from twin.fabric import Network
from twin.facility import Plant, Weather
from twin.grid import FeedSchedule
from twin.performance import GpuPower
from twin.serving import JobQueue

if TYPE_CHECKING:
    from twin.engine.outages import Outages

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Live:
    """What of the racks works while not all does: GPUs, and those of each station, as `RackLoads` has them; the share of a rack's
    trays, and whether the rack as a whole does (1 or 0)."""

    gpus: Floats
    gpus_on: Floats
    trays_frac: Floats
    up: Floats

    @classmethod
    def all_of(cls, loads: RackLoads) -> Live:
        """Everything works."""
        racks = len(loads.gpus)
        return cls(loads.gpus.copy(), loads.gpus_on.copy(), np.ones(racks), np.ones(racks))


@dataclass(slots=True)
class RackLoads:
    """What the racks of a site draw besides what their stations do: arrays of shape (racks,).

    `gpus_on` (racks, stations) counts the GPUs that each station, with all it stands for, has on each rack. What does not work
    draws nothing (`live`; None: all works).
    """

    gpus: Floats
    gpus_on: Floats
    idle_gpu_w: Floats
    gpu_tdp_w: Floats
    other_idle_w: Floats
    other_busy_w: Floats
    fabric_w: Floats
    live: Live | None = None

    def power(self, per_gpu_w: Floats, jobs: JobLoads | None = None) -> tuple[Floats, Floats, Floats]:
        """GPU power, IT power and hottest GPU power of each rack, from each station's mean power per GPU and what jobs do.

        CPUs, switches, NICs and fans are taken to follow the GPUs' load: idle with them, at their maximum at the TDP.
        """
        live, gpus, gpus_on = self.live, self.gpus, self.gpus_on
        if live is not None:
            # A station's power is that of its GPUs that work.
            per_gpu_w = per_gpu_w * gpus_on.sum(axis=0) / np.maximum(live.gpus_on.sum(axis=0), 1.0)
            gpus, gpus_on = live.gpus, live.gpus_on
        unused = gpus - gpus_on.sum(axis=1)
        if jobs is not None:
            unused = unused - jobs.gpus
        gpu_w = gpus_on @ per_gpu_w + unused * self.idle_gpu_w
        if jobs is not None:
            gpu_w = gpu_w + jobs.gpu_w
        if live is not None:
            gpu_w = np.where(gpus > 0, gpu_w, 0.0)  # of sums that cancel out something may be left
            gpus = np.where(gpus > 0, gpus, np.inf)
        load = (gpu_w / gpus - self.idle_gpu_w) / (self.gpu_tdp_w - self.idle_gpu_w)
        other_w = self.other_idle_w + load * (self.other_busy_w - self.other_idle_w) + self.fabric_w
        hottest_w = np.maximum(np.max(np.where(gpus_on > 0, per_gpu_w, 0.0), axis=1), self.idle_gpu_w)
        if live is not None:
            load_w = np.where(live.gpus > 0, load, 0.0) * (self.other_busy_w - self.other_idle_w)
            other_w = live.trays_frac * (self.other_idle_w + load_w) + live.up * self.fabric_w
            hottest_w = np.where(live.gpus > 0, hottest_w, 0.0)
        if jobs is not None:
            hottest_w = np.maximum(hottest_w, jobs.hottest_w)
        return gpu_w, gpu_w + other_w, hottest_w


@dataclass(slots=True)
class PoolRuntime:
    """The stations of a pool and the power model of their GPUs; `real_gpus` counts all that they stand for. `gone` are the spans
    of stations that have left it."""

    name: str
    stations: list[Station]
    power: GpuPower
    cap_min_w: float
    real_gpus: int
    gone: list[Span] = field(default_factory=list)

    def spans(self, now_s: float) -> list[Span]:
        """What its stations did in it up to `now_s`."""
        return [*self.gone, *(station.span(now_s) for station in self.stations)]

    def hand_over(self, station: Station, to: PoolRuntime, represent: int, now_s: float) -> None:
        """A station, and all it stands for, counts for another pool from now on."""
        gpus = station.worker.spec.gpus * represent
        self.stations.remove(station)
        self.gone.append(station.join_pool(to.name, now_s))
        self.real_gpus -= gpus
        to.stations.append(station)
        to.real_gpus += gpus


@dataclass(slots=True)
class SiteRuntime:
    """Everything of one site that the engine's processes work on."""

    name: str
    pools: list[PoolRuntime]
    stations: list[Station]
    dispatcher: Dispatcher
    runner: SessionRunner
    network: Network
    plant: Plant
    weather: Weather
    feed: FeedSchedule
    loads: RackLoads
    cpu_racks: CpuRacks
    represent: int
    #: The battery's standing order: follow the level in force, or rest.
    following: bool = False
    recharge_w: float = 0.0
    #: The jobs on what serving leaves.
    queue: JobQueue | None = None
    jobs: JobProcess | None = None
    #: What can fail under serving; set before the run.
    outages: Outages = field(init=False)
