"""A scenario played from its first second to its horizon."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any

import numpy as np

from twin.analysis import GridEventRecord, RunTotals, SiteEnergy, TierObjectives
from twin.catalog import load_catalog
from twin.control import policy_of
from twin.engine.clock import Clock
from twin.engine.control_process import ControlProcess
from twin.engine.plant_process import PlantProcess, StepTime, step_times
from twin.engine.records import SiteRecorder
from twin.engine.site_builder import build_site
from twin.engine.site_runtime import SiteRuntime
from twin.engine.workload_source import sessions
from twin.errors import InputError, SimulationError
from twin.recording import RunDirectory
from twin.rng import stream
from twin.schema.scenario import Scenario
from twin.units import format_si
from twin.workload import Session

#: Called as the run goes with the simulated time and the requests finished.
OnProgress = Callable[[float, int], None]

#: Instances of a pool below which thinning changes how often a KV-aware router finds a call's prefix (seen on curtail_80: 5-9 %
#: of the energy with 3 instances for 12).
_ENOUGH_INSTANCES = 8

#: Residuals that rounding may leave: of energies that were each integrated exactly, and of heat in the loops' exponentials.
_ENERGY_TOLERANCE = 1e-9
_HEAT_TOLERANCE = 1e-6


@dataclass(slots=True)
class _Site:
    runtime: SiteRuntime
    recorder: SiteRecorder
    plant: PlantProcess
    control: ControlProcess
    emitted: int = 0


class Simulation:
    """One run. Use once: `run()` plays it and returns what the tables do not hold."""

    def __init__(self, scenario: Scenario, output: RunDirectory, on_progress: OnProgress | None = None):
        self._scenario = scenario
        self._on_progress = on_progress
        self._clock = Clock()
        self._ids = count()
        catalog = load_catalog()
        self._sites = [
            self._site(build_site(scenario, s, catalog, self._clock, self._ids, output), output) for s in scenario.topology.sites
        ]
        self._arrivals = self._checked(sessions(scenario))
        self._site_draws = stream(scenario.seed, "engine.site_of_session")
        gpus = np.array([sum(pool.real_gpus for pool in site.runtime.pools) for site in self._sites], float)
        self._site_shares = np.cumsum(gpus / gpus.sum())

    def _site(self, runtime: SiteRuntime, output: RunDirectory) -> _Site:
        scenario, control = self._scenario, self._scenario.control
        recorder = SiteRecorder(runtime.name, output, runtime.feed.contract_w)
        horizon_s = scenario.horizon
        times = step_times(
            horizon_s,
            scenario.records.interval,
            scenario.records.worker_interval,
            control.step,
            runtime.feed.boundaries_s(),
        )
        plant = PlantProcess(self._clock, runtime, recorder, times, horizon_s)
        acting = ControlProcess(self._clock, runtime, plant, recorder, policy_of(control), control, scenario.tiers)
        site = _Site(runtime, recorder, plant, acting)
        plant.after_step = lambda due: self._after_step(site, due)
        return site

    def run(self) -> RunTotals:
        """Play the run. Raises SimulationError for a state it must not go on from, InputError for a trace that is wrong."""
        for site in self._sites:
            self._announce(site)
            site.plant.begin()
        self._next_arrival()
        # Nothing in the request path makes reference cycles, so the collector would only look, again and again.
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._clock.run(self._scenario.horizon)
        finally:
            if collecting:
                gc.enable()
        self._miss_the_rest()
        for site in self._sites:
            site.plant.finish()
            self._book_unfinished(site)
        return self._totals()

    # --- arrivals ----------------------------------------------------------------------------------------------------

    def _checked(self, source: Iterator[Session]) -> Iterator[Session]:
        """The first session now, so that a workload without any is an error before anything runs; then the others."""
        first = next(source, None)
        if first is None:
            raise InputError(
                f"scenario {self._scenario.name}: no session arrives before the horizon of {self._scenario.horizon:g} s"
            )
        return chain([first], source)

    def _next_arrival(self) -> None:
        session = next(self._arrivals, None)
        if session is not None and session.arrival_s < self._scenario.horizon:
            self._site_of_next().runtime.runner.expect(session, self._next_arrival)

    def _site_of_next(self) -> _Site:
        """The site that the next session enters, drawn by the sites' GPUs."""
        sites = self._sites
        if len(sites) == 1:
            return sites[0]
        place = int(np.searchsorted(self._site_shares, self._site_draws.random(), side="right"))
        return sites[min(place, len(sites) - 1)]

    def _miss_the_rest(self) -> None:
        """Sessions that arrive before the horizon behind one that was still in the front end there."""
        for session in self._arrivals:
            if session.arrival_s >= self._scenario.horizon:
                return
            self._site_of_next().runtime.runner.miss(session)

    # --- as it goes --------------------------------------------------------------------------------------------------

    def _after_step(self, site: _Site, due: StepTime) -> None:
        if due.control:
            site.control.act(due.time_s)
        if self._on_progress is not None and due.record:
            self._on_progress(due.time_s, sum(s.runtime.runner.completed for s in self._sites))

    def _announce(self, site: _Site) -> None:
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
    def _record_grid_event(site: _Site, kind: str, name: str, detail: str, event: Any) -> None:
        site.recorder.event(event.value, kind, name, detail)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _book_unfinished(self, site: _Site) -> None:
        horizon_s = self._scenario.horizon
        runtime = site.runtime
        for request, worker in runtime.dispatcher.in_flight():
            emitted = worker.emitted(request, horizon_s) if worker else request.generated
            site.emitted += emitted
            runtime.runner.still_in_flight(request, emitted, worker.spent_j(request) if worker else request.energy_j)
        runtime.runner.close()
        site.emitted += runtime.runner.finished_tokens

    def _totals(self) -> RunTotals:
        scenario = self._scenario
        represent, horizon_s = scenario.represent, scenario.horizon
        progress = [(station, station.worker.progress(horizon_s)) for site in self._sites for station in site.runtime.stations]
        gpu_s = sum(station.worker.spec.gpus for station, _ in progress) * represent
        runners = [site.runtime.runner for site in self._sites]
        return RunTotals(
            scenario=scenario.name,
            seed=scenario.seed,
            horizon_s=horizon_s,
            represent=represent,
            gpus=gpu_s,
            tiers={tier.name: _objectives(tier) for tier in scenario.tiers},
            energy={site.runtime.name: _energy(site) for site in self._sites},
            requests_arrived=sum(runner.accepted + runner.rejected for runner in runners),
            output_tokens_total=sum(site.emitted for site in self._sites),
            gpu_busy_s=represent * sum(station.worker.spec.gpus * done.busy_s for station, done in progress),
            gpu_available_s=gpu_s * horizon_s,
            ideal_s=represent * sum(station.worker.spec.gpus * done.ideal_s for station, done in progress),
            events=tuple(
                GridEventRecord(e.name, site.runtime.name, e.start_s, e.end_s, e.ramp_end_s, e.target_w, e.announced_s)
                for site in self._sites
                for e in site.runtime.feed.events
            ),
            invariants=self._invariants(),
            energy_price_usd_per_j=scenario.grid.energy_price,
            warnings=self._warnings(),
        )

    def _warnings(self) -> tuple[str, ...]:
        """Where the run went outside what its models were made for."""
        runners = [site.runtime.runner for site in self._sites]
        calls = sum(runner.accepted + runner.rejected for runner in runners)
        said = []
        if too_long := sum(runner.too_long for runner in runners):
            window = int(load_catalog().part("model", self._scenario.serving.model).number("context_tokens"))
            said.append(
                f"{too_long:,} of {calls:,} calls ({too_long / calls:.1%}) are longer than the {window:,} tokens that "
                f"{self._scenario.serving.model} was made for; they were served as if it could"
            )
        fewest = min(len(pool.stations) for site in self._sites for pool in site.runtime.pools)
        if self._scenario.represent > 1 and self._scenario.serving.router == "kv_affinity" and fewest < _ENOUGH_INSTANCES:
            said.append(
                f"one instance stands for {self._scenario.represent}, which leaves a pool with {fewest}: with so few to choose "
                f"from, calls find their prefix more often than in the real pool, so prefill work and power come out too low"
            )
        if hashed := sum(runner.hashed for runner in runners):
            said.append(
                f"{hashed:,} calls carry block hashes; prefixes are reused inside a session only, so what the trace shares "
                f"across sessions was computed again"
            )
        return tuple(said)

    def _invariants(self) -> dict[str, bool]:
        """What must hold in every run. A run in which one does not ends with a SimulationError that names it."""
        horizon_s, represent = self._scenario.horizon, self._scenario.represent
        held: dict[str, bool] = {}

        def check(name: str, holds: bool) -> None:
            held[name] = held.get(name, True) and bool(holds)

        for site in self._sites:
            runtime = site.runtime
            workers = [station.worker for station in runtime.stations]
            runner = runtime.runner
            in_flight = len(runtime.dispatcher.in_flight())
            check("requests_conserved", runner.accepted == runner.completed + in_flight + runner.in_front_end)
            check("tokens_conserved", site.emitted == sum(worker.emitted_total(horizon_s) for worker in workers))
            energy = runtime.plant.energy
            check("energy_balances", energy.balance_residual_frac <= _ENERGY_TOLERANCE)
            check("heat_balances", energy.heat_residual_frac <= _HEAT_TOLERANCE)
            attributed = all(abs(w.unattributed_j()) <= _ENERGY_TOLERANCE * max(w.meter.step_energy_j, 1.0) for w in workers)
            check("request_energy_adds_up", attributed)
            loads = runtime.loads
            spare_j = float((loads.gpus - loads.gpus_on.sum(axis=1)) @ loads.idle_gpu_w) * horizon_s
            gpu_j = represent * sum(worker.progress(horizon_s).energy_j for worker in workers) + spare_j
            check("gpu_energy_reaches_the_plant", abs(gpu_j - site.recorder.gpu_j) <= _ENERGY_TOLERANCE * gpu_j)
        failed = [name for name, holds in held.items() if not holds]
        if failed:
            raise SimulationError(f"scenario {self._scenario.name}: the run broke its own books: {', '.join(failed)}")
        return held


def _objectives(tier: Any) -> TierObjectives:
    goals, price = tier.objectives, tier.price
    return TierObjectives(
        ttft_s=goals.ttft,
        tpot_s=goals.tpot,
        e2e_s=goals.completion,
        price_usd_per_million_output=None if price is None else price.output,
        price_usd_per_million_input=None if price is None else price.input,
    )


def _energy(site: _Site) -> SiteEnergy:
    energy = site.runtime.plant.energy
    return SiteEnergy(
        utility_j=energy.utility_j,
        it_j=energy.it_j,
        cooling_j=energy.cooling_j,
        conversion_loss_j=energy.conversion_loss_j,
        shelf_loss_j=site.recorder.shelf_loss_j,
        battery_j=energy.battery_j,
        generator_j=energy.generator_j,
        other_j=energy.other_j,
        balance_residual_frac=energy.balance_residual_frac,
    )
