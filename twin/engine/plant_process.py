"""Steps a site's plant: from what the GPUs used since the last step to the meter, and from the heat back to the clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin.engine.clock import Clock
from twin.engine.rack_records import RackRecorder
from twin.engine.records import SiteRecorder
from twin.engine.site_runtime import SiteRuntime
from twin.engine.smoothing_process import SmoothingProcess
from twin.errors import SimulationError
from twin.facility import BatteryOrder, PlantStep

#: Times no further apart are one.
_SAME_TIME_S = 1e-9


@dataclass(slots=True)
class Means:
    """Time integrals since a policy last looked: joules at the meter and inside; joules, tokens, busy and all instance-seconds by
    pool."""

    span_s: float = 0.0
    utility_j: float = 0.0
    it_j: float = 0.0
    gpu_j: float = 0.0
    battery_j: float = 0.0
    generator_j: float = 0.0
    pool_gpu_j: dict[str, float] = field(default_factory=dict)
    pool_busy_s: dict[str, float] = field(default_factory=dict)
    pool_tokens: dict[str, float] = field(default_factory=dict)
    pool_instance_s: dict[str, float] = field(default_factory=dict)


class StepTime(NamedTuple):
    """The end of a plant step, and what is due there."""

    time_s: float
    record: bool
    record_workers: bool
    control: bool


def step_times(
    horizon_s: float, record_s: float, workers_s: float, control_s: float, boundaries_s: list[float]
) -> Iterator[StepTime]:
    """Every multiple of the three intervals and every boundary in (0, horizon], in order; all is recorded at the horizon.

    Multiples are formed by multiplication, so they do not drift; times within a nanosecond of each other are one.
    """
    marks = [t for t in sorted(boundaries_s) if 1e-9 < t < horizon_s - 1e-9]
    counts = [1, 1, 1]
    while True:
        candidates = [n * interval for n, interval in zip(counts, (record_s, workers_s, control_s), strict=True)]
        upcoming = min([*candidates, *marks[:1], horizon_s])
        if upcoming > horizon_s - 1e-9:
            yield StepTime(horizon_s, True, True, False)
            return
        at_mark = False
        while marks and marks[0] <= upcoming + 1e-9:
            # Of times that are one, the last boundary counts: what ends or begins there has done so when the next step begins.
            upcoming, at_mark = max(upcoming, marks.pop(0)), True
        due = [candidate <= upcoming + 1e-9 for candidate in candidates]
        counts = [n + is_due for n, is_due in zip(counts, due, strict=True)]
        yield StepTime(upcoming, due[0] or at_mark, due[1], due[2])


class PlantProcess:
    """Owns the plant's steps of one site.

    Each worker's energy is an exact integral, so the mean power of a step conserves energy whatever happened inside it; steps
    end at each grid boundary, so no step straddles a change of the limit.
    """

    def __init__(
        self,
        clock: Clock,
        site: SiteRuntime,
        recorder: SiteRecorder,
        racks: RackRecorder,
        times: Iterator[StepTime],
        horizon_s: float,
        smoothing: SmoothingProcess | None = None,
    ):
        self._smoothing = smoothing
        self._clock = clock
        self._site = site
        self._recorder = recorder
        self._racks = racks
        self._times = times
        self._horizon_s = horizon_s
        #: Called after each step with what was due; set before the run.
        self.after_step: Callable[[StepTime], None]
        self._last_s = 0.0
        self._sandbox_s = 0.0
        #: Energy of the CPU racks so far, and what more they would have drawn had none been dark.
        self.cpu_j = self.cpu_dark_j = 0.0
        self._power_w = np.zeros(len(site.stations))
        self._settled = False
        self.means = Means()
        # The racks of all stations one after another, and where each station's begin.
        racks_of = [[rack for rack, _ in station.racks] for station in site.stations]
        self._station_racks = np.array([rack for racks in racks_of for rack in racks], dtype=np.intp)
        self._station_starts = np.cumsum([0, *map(len, racks_of[:-1])])
        self._limits = [1.0] * len(site.stations)
        self._breach = False
        self._tripped = site.plant.cooling.rack_tripped

    def begin(self) -> None:
        """Ask for the first step."""
        self._schedule()

    def _schedule(self) -> None:
        upcoming = next(self._times)
        self._upcoming = upcoming
        self._ask_for_next()

    def _ask_for_next(self) -> None:
        """The upcoming step, or one before it where the supply changes earlier (a generator is up, the utility is back for long
        enough): no step straddles that."""
        change_s = self._last_s + self._site.plant.next_change_s()
        if change_s < self._upcoming.time_s - 1e-6:
            self._clock.at(max(change_s, self._clock.now_s), self._change_event)
        elif self._upcoming.time_s < self._horizon_s:
            self._clock.at(self._upcoming.time_s, self._step_event)

    def _change_event(self, _: Any) -> None:
        self.step(self._clock.now_s)
        self._ask_for_next()

    def _step_event(self, _: Any) -> None:
        self._step_and_record(self._upcoming)
        self._schedule()

    def finish(self) -> None:
        """The last step, to the horizon, once everything before it has been played."""
        self._step_and_record(self._upcoming)

    def _step_and_record(self, due: StepTime) -> None:
        self.step(due.time_s)
        if due.record:
            self._recorder.write_power()
        if due.record_workers:
            self._recorder.write_workers(due.time_s, self._site.stations, self._site.network)
            self._recorder.write_elements(due.time_s, self._site.plant.chain)
        self.after_step(due)

    def step(self, to_s: float) -> None:
        """Advance the plant to `to_s` on what the stations have used since the last step; one that ends there already stays."""
        site = self._site
        span_s = to_s - self._last_s
        if span_s <= _SAME_TIME_S:
            return
        tokens_out = memory_j = 0.0
        means = self.means
        for place, station in enumerate(site.stations):
            now = station.worker.progress(to_s)
            last, station.last = station.last, now
            used_j = now.energy_j - last.energy_j
            busy_s = now.busy_s - last.busy_s
            tokens = now.output_tokens - last.output_tokens
            self._power_w[place] = used_j / span_s / station.worker.spec.gpus
            tokens_out += tokens
            memory_j += now.memory_j - last.memory_j
            pool = station.pool
            means.pool_gpu_j[pool] = means.pool_gpu_j.get(pool, 0.0) + used_j
            means.pool_busy_s[pool] = means.pool_busy_s.get(pool, 0.0) + busy_s
            means.pool_tokens[pool] = means.pool_tokens.get(pool, 0.0) + tokens
            means.pool_instance_s[pool] = means.pool_instance_s.get(pool, 0.0) + span_s
        jobs = None if site.jobs is None else site.jobs.loads(to_s)
        station_w, smoothing_w = self._power_w, 0.0
        if self._smoothing is not None:
            station_w, jobs, smoothing_w = self._smoothing.step(to_s, span_s, station_w, jobs)
        rack_gpu_w, rack_it_w, hottest_w = site.loads.power(station_w, jobs)
        memory_w = site.represent * memory_j / span_s + (0.0 if jobs is None else jobs.memory_w)
        # racks of CPUs without power draw none; their tools are taken to go on elsewhere
        asked_w, cpu_up = self._cpu_w(to_s), site.plant.rack_up[len(rack_it_w) :]
        cpu_w = asked_w * cpu_up
        shares = site.shares.split(rack_gpu_w, rack_it_w, memory_w, smoothing_w, float(cpu_w.sum()))
        if len(cpu_w):
            rack_it_w, hottest_w = np.concatenate((rack_it_w, cpu_w)), np.concatenate((hottest_w, np.zeros(len(cpu_w))))
            self.cpu_j += float(cpu_w.sum()) * span_s
            self.cpu_dark_j += float(asked_w[~cpu_up].sum()) * span_s
        dry_c, wet_c = site.weather.at(to_s)
        if not self._settled:
            site.plant.settle(rack_it_w, dry_c, wet_c)
            self._settled = True
        limit_w = site.feed.limit_w(self._last_s)
        target_w = site.feed.target_w(self._last_s, to_s)
        level_w = limit_w if target_w is None else min(limit_w, target_w)
        order = BatteryOrder.follow(level_w, site.recharge_w) if site.following else BatteryOrder.hold()
        step = site.plant.advance(to_s, rack_it_w, hottest_w, dry_c, wet_c, order)
        gpu_w = float(rack_gpu_w.sum())
        means.span_s += span_s
        means.utility_j += step.utility_w * span_s
        means.it_j += step.it_w * span_s
        means.gpu_j += gpu_w * span_s
        means.battery_j += step.battery_w * span_s
        means.generator_j += step.generator_w * span_s
        self._last_s = to_s
        held = (0.0, 0.0) if jobs is None else (float(jobs.gpus.sum()), float(jobs.gpu_w.sum()))
        self._recorder.add(step, gpu_w, tokens_out * site.represent, target_w, held, shares)
        self._racks.add(step, rack_it_w, rack_gpu_w, site.plant.rack_up)
        self._report_events(to_s)
        self._watch_limit(to_s, step, level_w)
        self._throttle(to_s, step)
        if self._smoothing is not None:
            self._smoothing.hold_back(to_s, span_s)
        if (tripped := site.plant.cooling.rack_tripped) is not self._tripped:
            self._report_trips(to_s, step, tripped)
        self.watch_racks(to_s)

    def watch_racks(self, now_s: float) -> None:
        """Tell what runs on the racks which of them are up; after each step, and after each verb on the plant."""
        self._report_events(now_s)
        self._site.outages.racks(now_s, self._site.plant.rack_up)

    def _report_events(self, now_s: float) -> None:
        for event in self._site.plant.take_events():
            self._recorder.event(now_s, *event)

    def _cpu_w(self, to_s: float) -> np.ndarray:
        """Mean power of each CPU rack since the last step."""
        tools = self._site.runner.tools
        if tools is None:
            return self._site.cpu_racks.power(0.0)
        before_s, self._sandbox_s = self._sandbox_s, tools.pool.busy.integral(to_s)
        return self._site.cpu_racks.power(self._site.represent * (self._sandbox_s - before_s) / (to_s - self._last_s))

    def _watch_limit(self, now_s: float, step: PlantStep, level_w: float) -> None:
        above = step.utility_w > level_w * (1 + 1e-6)
        if above != self._breach:
            self._breach = above
            kind = "limit_exceeded" if above else "limit_kept_again"
            detail = f"meter {step.utility_w / 1e3:.1f} kW, limit {level_w / 1e3:.1f} kW"
            if step.battery_short_w > 0:
                detail += f", the battery gives {step.battery_short_w / 1e3:.1f} kW less than asked"
            self._recorder.event(now_s, kind, "feed", detail)

    def _report_trips(self, now_s: float, step: PlantStep, tripped: npt.NDArray[np.bool_]) -> None:
        """`tripped` is another array once racks trip or come back."""
        for rack in np.flatnonzero(tripped != self._tripped).tolist():
            kind = "thermal_trip" if tripped[rack] else "thermal_back"
            detail = f"hottest die {step.rack_die_c[rack]:.0f} C"
            self._recorder.event(now_s, kind, self._site.plant.cooling.dies.names[rack], detail)
        self._tripped = tripped

    def _throttle(self, now_s: float, step: PlantStep) -> None:
        """Heat takes the clock: each station runs no faster than the hottest of its racks allows."""
        allowed = step.rack_clock_limit[: len(self._site.loads.gpus)]
        if not np.all(np.isfinite(allowed)):
            raise SimulationError(f"site {self._site.name}: no clock limit is known for a rack at {now_s:g} s")
        limits = np.minimum.reduceat(allowed[self._station_racks], self._station_starts).tolist()
        for place, (station, limit) in enumerate(zip(self._site.stations, limits, strict=True)):
            if abs(limit - self._limits[place]) > 1e-3 or (limit == 1.0 and self._limits[place] != 1.0):
                if (limit < 1.0) != (self._limits[place] < 1.0):
                    kind = "thermal_throttle" if limit < 1.0 else "thermal_release"
                    self._recorder.event(now_s, kind, station.worker.name, f"clock limited to {limit:.3f}" if limit < 1.0 else "")
                self._limits[place] = limit
                station.worker.set_power(now_s, thermal_limit=limit)
                station.touched()
        if self._site.jobs is not None:
            self._site.jobs.throttle(now_s, allowed)
