"""Smooths the power of a site's GPUs: what is burnt for it reaches the racks, and what it holds back becomes a cap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twin.engine.job_process import JobLoads
from twin.engine.site_runtime import SiteRuntime
from twin.performance.smoothing import PowerSmoothing
from twin.schema.jobs import ALL_JOBS
from twin.schema.power_smoothing import PowerSmoothing as Settings
from twin.serving import Job, JobProgress

Floats = NDArray[np.float64]

#: A cap that has moved by no more than this is left as it is, in W.
_STEADY_W = 1.0


class SmoothingProcess:
    """The smoothed stations and jobs of one site. A station keeps its setting when a planner moves it to another pool.

    GPUs that a job gives back are no longer its own: they fall to idle at once.
    """

    def __init__(self, site: SiteRuntime, settings: Settings):
        def smoothed(name: str) -> bool:
            return settings.pools is None or name in settings.pools

        self._site = site
        self._places = [place for place, station in enumerate(site.stations) if smoothed(station.pool)]
        self._jobs: tuple[Job, ...] = tuple(site.queue.jobs) if site.queue is not None and smoothed(ALL_JOBS) else ()
        powers = [site.stations[place].worker.spec.power for place in self._places]
        powers += [job.spec.step.power for job in self._jobs]
        self._tdp_w = np.array([power.tdp_w for power in powers])
        self._part = PowerSmoothing(
            settings.floor * self._tdp_w,
            np.array([power.idle_w for power in powers]),
            settings.ramp_up,
            settings.ramp_down,
            settings.hysteresis,
        )
        self._gpus_on = site.loads.gpus_on.sum(axis=0)[self._places]
        self._seen = [JobProgress(0.0, 0.0) for _ in self._jobs]
        self._limits_w = np.full(len(powers), np.inf)

    def step(self, to_s: float, span_s: float, station_w: Floats, jobs: JobLoads | None) -> tuple[Floats, JobLoads | None, float]:
        """A plant step in which each station's GPUs needed `station_w` (stations,), and jobs did `jobs`: both with what was burnt
        on top, and the watts burnt in all."""
        places = self._places
        need_w = np.concatenate((station_w[places], self._job_needs(to_s)))
        burnt_w = self._part.advance(span_s, need_w) - need_w
        # what has failed burns nothing
        burnt_w[: len(places)] *= [self._site.stations[place].up for place in places]
        smoothed_w = station_w.copy()
        smoothed_w[places] += burnt_w[: len(places)]
        total_w = float(self._gpus_on @ burnt_w[: len(places)])
        if jobs is not None:
            rack_w = np.zeros(len(jobs.gpu_w))
            hottest_w = jobs.hottest_w.copy()
            own = slice(len(places), None)
            for job, watts, needed_w in zip(self._jobs, burnt_w[own].tolist(), need_w[own].tolist(), strict=True):
                for rack, gpus in self._racks(job):
                    rack_w[rack] += gpus * watts
                    hottest_w[rack] = max(hottest_w[rack], needed_w + watts)
            jobs = replace(jobs, gpu_w=jobs.gpu_w + rack_w, hottest_w=hottest_w)
            total_w += float(rack_w.sum())
        return smoothed_w, jobs, total_w

    def hold_back(self, now_s: float, span_s: float) -> None:
        """Cap what may rise no faster, for the next `span_s`."""
        limits_w = self._part.limit_w(span_s)
        limits_w = np.where(limits_w < self._tdp_w, limits_w, np.inf)
        # inf - inf is no change
        with np.errstate(invalid="ignore"):
            moved = np.abs(limits_w - self._limits_w) > _STEADY_W
        for place in np.flatnonzero(moved).tolist():
            ramp_w = self._limits_w[place] = float(limits_w[place])
            if place < len(self._places):
                station = self._site.stations[self._places[place]]
                station.worker.set_power(now_s, ramp_w=ramp_w)
                station.touched()
            else:
                assert self._site.jobs is not None
                self._site.jobs.hold_back(self._jobs[place - len(self._places)], now_s, ramp_w)

    def _racks(self, job: Job) -> list[tuple[int, int]]:
        assert self._site.queue is not None
        return self._site.queue.floor.racks(job.spec.name) if job.holds_gpus else []

    def _job_needs(self, to_s: float) -> Floats:
        """Mean W of a GPU of each job since the last step; 0 where it holds none now."""
        needs_w = np.zeros(len(self._jobs))
        for number, job in enumerate(self._jobs):
            now = job.progress(to_s)
            last, self._seen[number] = self._seen[number], now
            held_s = now.held_gpu_s - last.held_gpu_s
            if held_s > 0.0 and job.holds_gpus:
                needs_w[number] = (now.energy_j - last.energy_j) / held_s
        return needs_w
