"""A scenario played from its first second to its horizon."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from twin.analysis import RunTotals
from twin.control import policy_of
from twin.engine.books import SiteRun, totals
from twin.engine.clock import Clock
from twin.engine.control_process import ControlProcess
from twin.engine.doorkeeper import admission
from twin.engine.entrance import Entrance
from twin.engine.fault_plan import faults_of
from twin.engine.fault_process import FaultProcess
from twin.engine.job_process import JobProcess
from twin.engine.outage_builder import build_outages
from twin.engine.planner_process import PlannerProcess
from twin.engine.plant_process import PlantProcess, StepTime, step_times
from twin.engine.rack_records import RackRecorder
from twin.engine.records import SiteRecorder
from twin.engine.site_builder import build_site
from twin.engine.site_runtime import SiteRuntime
from twin.engine.smoothing_process import SmoothingProcess
from twin.engine.task_records import TaskRecorder
from twin.engine.workload_source import sessions
from twin.recording import RunDirectory
from twin.schema import catalog_with
from twin.schema.scenario import Scenario
from twin.schema.topology import Site
from twin.units import format_si

#: Called as the run goes with the simulated time and the requests finished.
OnProgress = Callable[[float, int], None]


class Simulation:
    """One run. Use once: `run()` plays it and returns what the tables do not hold."""

    def __init__(self, scenario: Scenario, output: RunDirectory, on_progress: OnProgress | None = None):
        self._scenario = scenario
        self._on_progress = on_progress
        self._clock = Clock()
        self._ids = count()
        self._catalog = catalog_with(scenario.catalog)
        self._admission = admission(scenario, self._catalog)
        self._sites = [
            self._site(s, build_site(scenario, s, self._catalog, self._clock, self._ids, output, self._admission), output)
            for s in scenario.topology.sites
        ]
        self._entrance = Entrance(scenario, self._clock, [site.runtime for site in self._sites], sessions(scenario))

    def _site(self, place: Site, runtime: SiteRuntime, output: RunDirectory) -> SiteRun:
        scenario, control = self._scenario, self._scenario.control
        recorder = SiteRecorder(runtime.name, output, runtime.feed.contract_w)
        horizon_s = scenario.horizon
        if runtime.queue is not None:
            racks = len(runtime.loads.gpus)
            runtime.jobs = JobProcess(self._clock, runtime.queue, runtime.name, racks, recorder, output.writer("jobs"))
        runtime.outages = build_outages(scenario, place, self._catalog, self._clock, runtime, recorder)
        components = (*runtime.plant.components(), *runtime.outages.components()) if scenario.faults.any else ()
        planned = faults_of(scenario, place, components, self._catalog)
        faults = FaultProcess(planned, (runtime.plant, runtime.outages), recorder, horizon_s)
        times = step_times(
            horizon_s,
            scenario.records.interval,
            scenario.records.worker_interval,
            control.step,
            [*runtime.feed.boundaries_s(), *faults.boundaries_s()],
        )
        groups = [(group.name, group.count) for group in runtime.plant.spec.racks]
        interval_s = scenario.records.rack_interval
        by_rack = RackRecorder(runtime.name, groups, len(runtime.loads.gpus), output.writer("racks"), interval_s, horizon_s)
        smoothing = None if scenario.power_smoothing is None else SmoothingProcess(runtime, scenario.power_smoothing)
        plant = PlantProcess(self._clock, runtime, recorder, by_rack, times, horizon_s, smoothing)
        acting = ControlProcess(self._clock, runtime, plant, recorder, policy_of(control), control, scenario.tiers)
        planner = None
        if scenario.serving.planner is not None:
            tpot_s = min((tier.objectives.tpot for tier in scenario.tiers if tier.objectives.tpot is not None), default=None)
            planner = PlannerProcess(self._clock, runtime, recorder, scenario.serving.planner, tpot_s)
            runtime.outages.on_down = planner.call_off
        tasks = TaskRecorder(runtime.name, runtime.runner, output.writer("tasks"), scenario.represent)
        site = SiteRun(runtime, recorder, plant, acting, tasks, faults, planner)
        plant.after_step = lambda due: self._after_step(site, due)
        return site

    def run(self) -> RunTotals:
        """Play the run. Raises SimulationError for a state it must not go on from, InputError for a trace that is wrong."""
        for site in self._sites:
            self._announce(site)
            site.plant.begin()
            if site.runtime.jobs is not None:
                site.runtime.jobs.begin()
            if site.planner is not None:
                site.planner.begin()
        self._entrance.begin()
        # Nothing in the request path makes reference cycles, so the collector would only look, again and again.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._clock.run(self._scenario.horizon)
        finally:
            if collecting:
                gc.enable()
        for site in self._sites:
            site.plant.finish()
            self._book_unfinished(site)
            if site.runtime.jobs is not None:
                site.runtime.jobs.finish(self._scenario.horizon)
        return totals(self._scenario, self._sites, self._admission)

    # --- as it goes --------------------------------------------------------------------------------------------------

    def _after_step(self, site: SiteRun, due: StepTime) -> None:
        if site.faults.act(due.time_s):
            site.plant.watch_racks(due.time_s)
        if due.record_workers:
            site.tasks.write(due.time_s, site.plant.cpu_j)
        if due.control:
            site.control.act(due.time_s)
        if self._on_progress is not None and due.record:
            self._on_progress(due.time_s, sum(s.runtime.runner.completed for s in self._sites))

    def _announce(self, site: SiteRun) -> None:
        """Put what the utility does into the record when it happens."""
        for event in site.runtime.feed.events:
            level = format_si(event.target_w, "W")
            for time_s, kind, detail in (
                (event.announced_s, "target_announced", f"{level} from {event.start_s:g} s to {event.end_s:g} s"),
                (event.start_s, "target_start", f"ramp to {level} until {event.ramp_end_s:g} s"),
                (event.ramp_end_s, "target_in_force", level),
                (event.end_s, "target_lifted", level),
            ):
                if time_s < self._scenario.horizon:
                    self._clock.at(time_s, partial(self._record_grid_event, site, kind, event.name, detail))

    @staticmethod
    def _record_grid_event(site: SiteRun, kind: str, name: str, detail: str, event: Any) -> None:
        site.recorder.event(event.value, kind, name, detail)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _book_unfinished(self, site: SiteRun) -> None:
        horizon_s = self._scenario.horizon
        runtime = site.runtime
        for request, worker in runtime.dispatcher.in_flight():
            emitted = worker.emitted(request, horizon_s) if worker else request.generated
            site.emitted += emitted
            runtime.runner.still_in_flight(request, emitted, worker.spent_j(request) if worker else request.energy_j)
        runtime.runner.close()
        if runtime.runner.tools is not None:
            runtime.runner.tools.close()
        site.emitted += runtime.runner.finished_tokens
