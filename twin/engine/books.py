"""The end of a run: what it came to, what must hold, and what the reader must know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twin.analysis import (
    CacheTotals,
    ElementEnergy,
    GridEventRecord,
    PoolTime,
    RunTotals,
    SiteEnergy,
    SiteGpus,
    SiteHardware,
    TierObjectives,
)
from twin.engine.control_process import ControlProcess
from twin.engine.fault_process import FaultProcess
from twin.engine.planner_process import PlannerProcess
from twin.engine.plant_process import PlantProcess
from twin.engine.records import SiteRecorder
from twin.engine.site_runtime import PoolRuntime, SiteRuntime
from twin.engine.task_records import TaskRecorder
from twin.errors import SimulationError
from twin.schema import catalog_with
from twin.schema.instances import instance_of
from twin.schema.scenario import Scenario
from twin.schema.topology import Site
from twin.schema.workload import Tier
from twin.serving import PHASES, Admission, CacheCounts, KvTier, Progress, Worker

#: Instances of a pool below which thinning changes how often a KV-aware router finds a call's prefix (seen on curtail_80: 5-9 %
#: of the energy with 3 instances for 12).
_ENOUGH_INSTANCES = 8

#: Residuals that rounding may leave: of energies that were each integrated exactly, and of heat in the loops' exponentials.
_ENERGY_TOLERANCE = 1e-9
_HEAT_TOLERANCE = 1e-6


@dataclass(slots=True)
class SiteRun:
    """A site and its processes. `emitted` counts the tokens that its requests were sent, once the run is over."""

    runtime: SiteRuntime
    recorder: SiteRecorder
    plant: PlantProcess
    control: ControlProcess
    tasks: TaskRecorder
    faults: FaultProcess
    planner: PlannerProcess | None = None
    emitted: int = 0


def totals(scenario: Scenario, sites: Sequence[SiteRun], admission: Admission | None) -> RunTotals:
    """What the run came to; `admission` are its limits. Raises SimulationError if it broke its own books."""
    runners = [site.runtime.runner for site in sites]
    planners = [site.planner for site in sites if site.planner is not None]
    return RunTotals(
        scenario=scenario.name,
        seed=scenario.seed,
        horizon_s=scenario.horizon,
        represent=scenario.represent,
        tiers={tier.name: _objectives(tier) for tier in scenario.tiers},
        energy={site.runtime.name: _energy(site) for site in sites},
        requests_arrived=sum(runner.accepted + runner.rejected for runner in runners),
        output_tokens_total=sum(site.emitted for site in sites),
        pools=_pool_times(scenario, sites),
        events=tuple(
            GridEventRecord(e.name, site.runtime.name, e.start_s, e.end_s, e.ramp_end_s, e.target_w, e.announced_s)
            for site in sites
            for e in site.runtime.feed.events
        ),
        invariants=_invariants(scenario, sites, admission),
        faults=tuple(fault for site in sites for fault in site.faults.records(site.runtime.name)),
        hardware={site.runtime.name: _hardware(site, place) for site, place in zip(sites, scenario.topology.sites, strict=True)},
        energy_price_usd_per_j=scenario.grid.energy_price,
        cache=_cache(scenario, sites),
        planner_moves=scenario.represent * sum(planner.moves for planner in planners) if planners else None,
        job_sites={site.runtime.name: _gpus(site) for site in sites if site.runtime.jobs is not None},
        sandboxes=_sandboxes(scenario, sites),
        warnings=tuple(_warnings(scenario, sites)),
        tenants={name: tenant.weight for name, tenant in scenario.workload.tenants.items()},
        elements={site.runtime.name: _elements(site) for site in sites},
        token_weights=(scenario.serving.queue.input_weight, scenario.serving.queue.output_weight),
    )


def _pool_times(scenario: Scenario, sites: Sequence[SiteRun]) -> dict[str, PoolTime]:
    """Time of each pool over all sites, as much as the simulated instances stand for."""
    by_name: dict[str, list[PoolRuntime]] = {}
    for site in sites:
        for pool in site.runtime.pools:
            by_name.setdefault(pool.name, []).append(pool)
    times = {}
    for name, pools in by_name.items():
        spans = [span for pool in pools for span in pool.spans(scenario.horizon)]
        lost = {
            cause: scenario.represent * math.fsum(span.gpus * getattr(span.split, f"{cause}_s") for span in spans)
            for cause in ("memory", "compute", "network", "launches", "batching", "clocks", "drafts")
        }
        available_s = scenario.represent * math.fsum(span.gpus * span.span_s for span in spans)
        busy_s = scenario.represent * math.fsum(span.gpus * span.progress.busy_s for span in spans)
        phases = {
            phase: (
                scenario.represent * math.fsum(span.gpus * span.phases.time_s[i] for span in spans),
                scenario.represent * math.fsum(span.phases.energy_j[i] for span in spans),
            )
            for i, phase in enumerate(PHASES)
        }
        worked_j = math.fsum(energy_j for _, energy_j in phases.values())
        idle_j = scenario.represent * math.fsum(span.progress.energy_j for span in spans) - worked_j
        times[name] = PoolTime(
            gpus=sum(pool.real_gpus for pool in pools),
            available_s=available_s,
            light_s=scenario.represent * math.fsum(span.gpus * span.split.light_s for span in spans),
            lost_s={**lost, "idle": available_s - busy_s},
            output_tokens=scenario.represent * math.fsum(span.progress.output_tokens for span in spans),
            prompt_tokens=scenario.represent * math.fsum(span.progress.prefill_tokens for span in spans),
            down_s=scenario.represent * math.fsum(span.gpus * span.down_s for span in spans),
            phases={**phases, "idle": (available_s - busy_s, idle_j)},
            tdp_w=pools[0].power.tdp_w,
        )
    return times


def _cache(scenario: Scenario, sites: Sequence[SiteRun]) -> CacheTotals:
    """What became of KV that no sequence used; storage is a site's, host memory an instance's."""
    workers = [station.worker for site in sites for station in site.runtime.stations]
    counts = CacheCounts()
    for worker in workers:
        counts = counts.plus(worker.cache_counts)
    storages = [tier for site in sites if (tier := _storage(site)) is not None]
    n = scenario.represent
    return CacheTotals(
        evicted_tokens=n * counts.evicted,
        offloaded_tokens=n * counts.offloaded,
        dropped_tokens=n * counts.dropped,
        written_tokens=n * counts.written,
        lost_tokens=n * (counts.lost + sum(tier.dropped_tokens for tier in storages)),
        read_back_tokens=n * (counts.read + sum(tier.read_tokens for tier in storages)),
        recompute_gpu_s=n * math.fsum(_recomputing_s(worker, scenario.horizon) * worker.spec.gpus for worker in workers),
        recompute_j=n * math.fsum(worker.meter.recomputed_j for worker in workers),
    )


def _recomputing_s(worker: Worker, now_s: float) -> float:
    """Busy time of an instance for what was computed once more: as much of it as of the energy of its steps."""
    meter = worker.meter
    return worker.progress(now_s).busy_s * meter.recomputed_j / meter.step_energy_j if meter.recomputed_j else 0.0


def _storage(site: SiteRun) -> KvTier | None:
    """The tier below host memory, which all instances of a site share."""
    hosts = (station.worker.memory.lower for station in site.runtime.stations)
    return next((host.below for host in hosts if host is not None and host.below is not None), None)


def _sandboxes(scenario: Scenario, sites: Sequence[SiteRun]) -> float | None:
    """Sandboxes of all sites, as many as the simulated ones stand for."""
    pools = [site.runtime.runner.tools.pool for site in sites if site.runtime.runner.tools is not None]
    return scenario.represent * math.fsum(pool.sandboxes for pool in pools) if pools else None


def _warnings(scenario: Scenario, sites: Sequence[SiteRun]) -> Iterator[str]:
    """Where the run went outside what its models were made for."""
    runners = [site.runtime.runner for site in sites]
    calls = sum(runner.accepted + runner.rejected for runner in runners)
    if too_long := sum(runner.too_long for runner in runners):
        window = int(catalog_with(scenario.catalog).part("model", scenario.serving.model).number("context_tokens"))
        treated = "refused" if scenario.serving.admission.context == "refuse" else "served as if it could"
        yield (
            f"{too_long:,} of {calls:,} calls ({too_long / calls:.1%}) are longer than the {window:,} tokens that "
            f"{scenario.serving.model} was made for; they were {treated}"
        )
    fewest = min(len(pool.stations) for site in sites for pool in site.runtime.pools)
    if scenario.represent > 1 and scenario.serving.router == "kv_affinity" and fewest < _ENOUGH_INSTANCES:
        yield (
            f"one instance stands for {scenario.represent}, which leaves a pool with {fewest}: with so few to choose "
            f"from, calls find their prefix more often than in the real pool, so prefill work and power come out too low"
        )
    yield from _outside_fit(scenario, sites)


def _outside_fit(scenario: Scenario, sites: Sequence[SiteRun]) -> Iterator[str]:
    """Pools whose use lies outside the measurements that their coefficients were fitted to."""
    catalog = catalog_with(scenario.catalog)
    by_name = {pool.name: pool for pool in scenario.serving.pools}
    said = set()
    for site, place in zip(sites, scenario.topology.sites, strict=True):
        for runtime in site.runtime.pools:
            pool = by_name[runtime.name]
            instance = instance_of(scenario.serving, pool, place, catalog)
            fit = instance.fit_range()
            sequences = max(
                span.largest_batch if pool.role != "prefill" else fit.sequences[0] for span in runtime.spans(scenario.horizon)
            )
            longest = site.runtime.runner.longest_tokens
            reasons = list(fit.outside(scenario.serving.model, instance.layout.gpus, sequences, longest))
            if reasons and runtime.name not in said:
                said.add(runtime.name)
                where = (
                    f"{scenario.serving.backend} on {instance.gpu.text('generation')} with {instance.precision.weights} weights"
                )
                yield (
                    f"pool {runtime.name} is outside what {where} was fitted on ({fit.points} points, median error "
                    f"{fit.tpot_median_ape:.1%} in time per token, {fit.ttft_median_ape:.1%} in time to first token): "
                    f"{'; '.join(reasons)}"
                )


def _invariants(scenario: Scenario, sites: Sequence[SiteRun], admission: Admission | None) -> dict[str, bool]:
    """What must hold in every run. Raises a SimulationError that names what does not."""
    horizon_s, represent = scenario.horizon, scenario.represent
    held: dict[str, bool] = {}

    def check(name: str, holds: bool) -> None:
        held[name] = held.get(name, True) and bool(holds)

    for site in sites:
        runtime = site.runtime
        workers = [station.worker for station in runtime.stations]
        runner = runtime.runner
        in_flight = len(runtime.dispatcher.in_flight())
        check("requests_conserved", runner.accepted == runner.completed + in_flight + runner.in_front_end)
        check("sessions_conserved", runner.begun == sum(runner.ended.values()) + runner.in_flight.now)
        check("task_time_adds_up", runner.unexplained_s <= _ENERGY_TOLERANCE * max(horizon_s, 1.0))
        if runner.tools is not None:
            check("tool_runs_conserved", runner.tools.pool.books_balance(horizon_s))
            check("sandbox_power_reaches_the_plant", _sandbox_power_counted(site, horizon_s))
        if admission is not None:
            check("admission_counts_balance", admission.in_flight[runtime.name] == in_flight)
        check("tokens_conserved", site.emitted == sum(worker.emitted_total(horizon_s) for worker in workers))
        energy = runtime.plant.energy
        check("energy_balances", energy.balance_residual_frac <= _ENERGY_TOLERANCE)
        check("heat_balances", energy.heat_residual_frac <= _HEAT_TOLERANCE)
        check("stores_and_tanks_balance", runtime.plant.supply.books_balance)
        below_j = site.recorder.shelf_loss_j + site.recorder.battery_loss_j
        lost_j = below_j + math.fsum(element.loss_j for element in runtime.plant.chain.totals())
        check("chain_losses_add_up", abs(lost_j - energy.conversion_loss_j) <= _ENERGY_TOLERANCE * max(lost_j, 1.0))
        attributed = all(abs(w.unattributed_j()) <= _ENERGY_TOLERANCE * max(w.meter.step_energy_j, 1.0) for w in workers)
        check("request_energy_adds_up", attributed)
        loads = runtime.loads
        spare_j = float((loads.gpus - loads.gpus_on.sum(axis=1)) @ loads.idle_gpu_w) * horizon_s
        outages = runtime.outages
        spare_j -= float(outages.spare_lost_gpu_s(horizon_s) @ loads.idle_gpu_w)
        spans = [span for pool in runtime.pools for span in pool.spans(horizon_s)]
        slack_s = _ENERGY_TOLERANCE * max(horizon_s, 1.0)
        check("no_work_while_down", all(span.progress.busy_s <= span.span_s + slack_s for span in spans))
        gpu_s = math.fsum(span.gpus * (span.span_s + span.down_s) for span in spans)
        whole_s = horizon_s * sum(worker.spec.gpus for worker in workers)
        check("instance_time_adds_up", abs(gpu_s - whole_s) <= _ENERGY_TOLERANCE * whole_s)
        down = [station for station in runtime.stations if not station.up]
        check("nothing_held_while_down", all(station.worker.is_empty for station in down))
        check("instances_conserved", outages.downs == outages.ups + len(down))
        check("failovers_counted", runner.failovers == runtime.dispatcher.failovers)
        if runtime.jobs is not None:
            spare_j -= float(runtime.jobs.gpu_s @ loads.idle_gpu_w)
            spare_j += math.fsum(job.progress(horizon_s).energy_j for job in runtime.jobs.queue.jobs)
            for job in runtime.jobs.queue.jobs:
                steps, spent, held_s = job.steps(horizon_s), job.gpu_time(horizon_s), job.progress(horizon_s).held_gpu_s
                check("job_steps_conserved", steps.done == steps.kept + steps.lost + steps.open)
                check("job_time_adds_up", abs(math.fsum(spent) - held_s) <= _ENERGY_TOLERANCE * max(held_s, 1.0))
        done = [worker.progress(horizon_s) for worker in workers]
        check("steps_make_the_tokens", all(_tokens_made(w, d, horizon_s) for w, d in zip(workers, done, strict=True)))
        gpu_j = represent * sum(each.energy_j for each in done) + spare_j + site.recorder.shares_j.smoothing
        check("gpu_energy_reaches_the_plant", abs(gpu_j - site.recorder.gpu_j) <= _ENERGY_TOLERANCE * gpu_j)
        shares_j = site.recorder.shares_j
        it_j = runtime.plant.energy.it_j
        check("it_shares_add_up", abs(math.fsum(shares_j) - it_j) <= _ENERGY_TOLERANCE * it_j)
        check("no_it_share_below_zero", min(shares_j) >= -_ENERGY_TOLERANCE * it_j)
        splits = [math.fsum(worker.time_split(horizon_s)) for worker in workers]
        split_adds_up = all(
            abs(s - d.busy_s) <= _ENERGY_TOLERANCE * max(d.busy_s, 1.0) for s, d in zip(splits, done, strict=True)
        )
        check("losses_add_up", split_adds_up)
        phases_s = [math.fsum(worker.phases(horizon_s).time_s) for worker in workers]
        check(
            "phases_add_up",
            all(abs(s - d.busy_s) <= _ENERGY_TOLERANCE * max(d.busy_s, 1.0) for s, d in zip(phases_s, done, strict=True)),
        )
        below = [worker.memory.lower for worker in workers] + [_storage(site)]
        check("kv_tokens_conserved", all(worker.memory.books_balance for worker in workers))
        check("kv_tiers_conserved", all(tier.books_balance for tier in below if tier is not None))
    failed = [name for name, holds in held.items() if not holds]
    if failed:
        raise SimulationError(f"scenario {scenario.name}: the run broke its own books: {', '.join(failed)}")
    return held


def _tokens_made(worker: Worker, done: Progress, horizon_s: float) -> bool:
    """Whether the output tokens of an instance's steps are those sent and those of steps that broke off. The step under way may
    have made a part of its own, and sequences that speculate may be that much off the mean gain which steps count."""
    made, drafted = worker.emitted_total(horizon_s) + worker.meter.broken_output_tokens, worker.meter.drafted
    open_tokens = len(worker.batch) * (drafted + 1 if drafted > 1 else 1)
    return abs(done.output_tokens - made) <= open_tokens + _ENERGY_TOLERANCE * made


def _sandbox_power_counted(site: SiteRun, horizon_s: float) -> bool:
    """Whether the energy of the CPU racks, had none been dark, is that of idle racks and of every second that a sandbox was in
    use."""
    runtime, tools = site.runtime, site.runtime.runner.tools
    assert tools is not None
    used_s = runtime.represent * tools.pool.busy.integral(horizon_s)
    due_j = float((runtime.cpu_racks.idle_w * horizon_s + runtime.cpu_racks.per_sandbox_w * used_s).sum())
    return abs(site.plant.cpu_j + site.plant.cpu_dark_j - due_j) <= _ENERGY_TOLERANCE * max(due_j, 1.0)


def _objectives(tier: Tier) -> TierObjectives:
    goals, price = tier.objectives, tier.price
    return TierObjectives(
        ttft_s=goals.ttft,
        tpot_s=goals.tpot,
        e2e_s=goals.completion,
        price_usd_per_million_output=None if price is None else price.output,
        price_usd_per_million_input=None if price is None else price.input,
        price_usd_per_million_cached_input=None if price is None else price.cached_input,
        credit_frac=0.0 if price is None else price.credit,
        task_s=goals.task,
    )


def _gpus(site: SiteRun) -> SiteGpus:
    loads = site.runtime.loads
    return SiteGpus(int(loads.gpus.sum()), int(loads.gpus_on.sum()))


def _hardware(site: SiteRun, place: Site) -> SiteHardware:
    racks = tuple(f"{group.name}/{index}" for group in place.racks for index in range(group.count))
    instances = {station.worker.name: station.worker.spec.gpus for station in site.runtime.stations}
    return SiteHardware(racks, instances)


def _elements(site: SiteRun) -> dict[str, ElementEnergy]:
    totals = site.runtime.plant.chain.totals()
    return {e.name: ElementEnergy(e.kind, e.loss_j, e.peak_loading_frac, e.trips) for e in totals}


def _energy(site: SiteRun) -> SiteEnergy:
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
        water_kg=energy.water_kg,
        free_cooling_s=energy.free_cooling_s,
        span_s=energy.span_s,
        fuel_j=energy.fuel_j,
        fuel_l=site.runtime.plant.supply.fuel_l,
        stores=site.runtime.plant.supply.contents,
        it_shares_j=site.recorder.shares_j._asdict(),
    )
