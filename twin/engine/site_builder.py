"""A site of a scenario to its runtime: instances on GPUs, racks, fabric, plant and feed."""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf

import numpy as np

from twin.catalog import Catalog
from twin.engine.clock import Clock
from twin.engine.cpu_racks import cpu_racks
from twin.engine.dispatcher import Dispatcher
from twin.engine.doorkeeper import queue_spec
from twin.engine.fabric_builder import build_network
from twin.engine.job_builder import build_jobs
from twin.engine.placement import place
from twin.engine.plant_builder import plant_spec, start_draws, weather
from twin.engine.rack_loads import rack_gpus, rack_loads
from twin.engine.rack_shares import rack_shares
from twin.engine.session_run import TierRules
from twin.engine.session_runner import SessionRunner
from twin.engine.site_runtime import Floats, PoolRuntime, SiteRuntime
from twin.engine.station import Station
from twin.engine.tool_process import NO_FAILURES, ToolFailures, ToolProcess
from twin.engine.turn_keeper import TurnKeeper
from twin.errors import InputError
from twin.facility import Plant
from twin.grid import FeedSchedule, LoadTargetEvent
from twin.performance import ModelShape, gpu_power
from twin.recording import RunDirectory
from twin.schema.instances import instance_of, rack_of
from twin.schema.sandboxes import sandboxes_of
from twin.schema.scenario import Scenario
from twin.schema.serving import KvCache, Pool
from twin.schema.topology import Site
from twin.serving import Admission, KvTier, KvTierSpec, SandboxPool, Worker, WorkerSpec, router, turn_policy


def build_site(
    scenario: Scenario,
    site: Site,
    catalog: Catalog,
    clock: Clock,
    ids: Iterator[int],
    output: RunDirectory,
    admission: Admission | None,
) -> SiteRuntime:
    """Everything of `site`, ready to run; `admission` are the limits of the whole factory. Raises InputError or UnknownValueError
    for what cannot be built."""
    serving = scenario.serving
    pools = [pool for pool in serving.pools if pool.site in (None, site.name)]
    if not pools:
        raise InputError(f"site {site.name} has no serving pool")
    represent = scenario.represent
    places = place(site, pools, catalog)
    shape = ModelShape.from_part(catalog.part("model", serving.model))
    network, fabric_w, optics_w = build_network(site, pools, places, catalog, represent)
    token_bytes = shape.kv_bytes_per_token(serving.precision.kv)
    storage, swap = _storage(scenario, token_bytes), serving.preemption == "swap"
    turns = _turn_keeper(serving.kv_cache, clock)
    dispatcher = Dispatcher(clock, network, router(serving.router), token_bytes, site.name, admission, turns)
    runtimes: list[PoolRuntime] = []
    stations: list[Station] = []
    for pool in pools:
        simulated = pool.instances // represent
        gpu = catalog.part("gpu", rack_of(pool, site, catalog).text("gpu"))
        of_pool: list[Station] = []
        for number in range(simulated):
            racks: dict[int, int] = {}
            slots: list[tuple[int, int, int]] = []
            # One instance stands for every `simulated`-th real one, so it is spread over the racks as they are.
            for real in places[pool.name][number::simulated]:
                slots += real.slots
                for rack, gpus in real.racks:
                    racks[rack] = racks.get(rack, 0) + gpus
            # Decode instances get their contexts over the fabric each time: what could be kept is on the prefill side.
            host = None if pool.role == "decode" and not swap else _host(scenario, pool.parallelism.gpus, token_bytes, storage)
            worker = Worker(worker_spec(f"{pool.name}-{number}", scenario, pool, site, catalog), host)
            where = tuple(racks.items())
            station = Station(worker, pool.name, where, len(stations), clock, dispatcher.take_output, tuple(slots))
            dispatcher.add(station)
            of_pool.append(station)
            stations.append(station)
        gpus = pool.parallelism.gpus * pool.instances
        runtimes.append(PoolRuntime(pool.name, of_pool, gpu_power(gpu), gpu.number("cap_min_w"), gpus))
    costs = [s.worker.spec.cost for s in stations if s.worker.role != "decode"]
    fronts = list({(cost.request_overhead_s, cost.input_token_overhead_s): cost for cost in costs}.values())
    model = catalog.part("model", serving.model)
    runner = SessionRunner(
        clock,
        dispatcher,
        site.name,
        ids,
        lambda input_tokens: max(cost.front_end_s(input_tokens) for cost in fronts),
        output.writer("requests"),
        output.writer("sessions"),
        scenario.horizon,
        model.number("context_tokens"),
        {tier.name: TierRules(tier.objectives.task, tier.patience) for tier in scenario.tiers},
        _tools(scenario, site, catalog, clock, output),
    )
    dispatcher.on_finished = runner.finished
    loads = rack_loads(site, _gpus_on(site, stations, catalog), catalog, fabric_w)
    return SiteRuntime(
        name=site.name,
        pools=runtimes,
        stations=stations,
        dispatcher=dispatcher,
        runner=runner,
        network=network,
        plant=Plant(plant_spec(site, catalog), draws=start_draws(site, scenario.seed)),
        weather=weather(site.climate, scenario.horizon),
        feed=feed_schedule(scenario, site),
        loads=loads,
        shares=rack_shares(site, loads, catalog, optics_w / fabric_w if fabric_w else 0.0),
        cpu_racks=cpu_racks(site, scenario.tools, catalog),
        represent=represent,
        queue=build_jobs(scenario, site, pools, catalog),
    )


def _tools(scenario: Scenario, site: Site, catalog: Catalog, clock: Clock, output: RunDirectory) -> ToolProcess | None:
    """What runs the tools of the site's sessions, with its share of the sandboxes; None where nothing is said of them."""
    tools = scenario.tools
    if tools is None:
        return None
    sandboxes = sandboxes_of(tools, site, catalog)
    pool = SandboxPool(sandboxes if isinf(sandboxes) else sandboxes // scenario.represent)
    failure = tools.failure
    failures = NO_FAILURES if failure is None else ToolFailures(failure.probability, failure.retries, failure.backoff)
    return ToolProcess(clock, pool, failures, scenario.seed, site.name, output.writer("tool_runs"), scenario.horizon)


def worker_spec(name: str, scenario: Scenario, pool: Pool, site: Site, catalog: Catalog) -> WorkerSpec:
    """What an instance of `pool` is: its step cost, power, KV room and limits."""
    serving = scenario.serving
    instance = instance_of(serving, pool, site, catalog)
    blocks, wait = pool.kv_blocks, pool.prompt_wait
    capacity = (
        instance.kv_capacity_tokens(serving.kv_reserve, pool.max_batched_tokens, pool.max_sequences)
        if blocks is None
        else blocks * serving.kv_cache.block_tokens
    )
    return WorkerSpec(
        name=name,
        role=pool.role,
        cost=instance.cost(),
        power=gpu_power(instance.gpu),
        gpus=instance.layout.gpus,
        kv_capacity_tokens=capacity,
        max_sequences=pool.max_sequences,
        max_batched_tokens=pool.max_batched_tokens,
        prefill_first=pool.scheduling == "prefill_first",
        prompt_wait_steps=0 if wait is None else wait.steps,
        prompt_wait_tokens=0 if wait is None or wait.tokens is None else wait.tokens,
        reserve_answers=pool.admission == "answers",
        swap=serving.preemption == "swap",
        block_tokens=serving.kv_cache.block_tokens,
        seed=scenario.seed,
        queue=queue_spec(scenario),
    )


def _turn_keeper(cache: KvCache, clock: Clock) -> TurnKeeper | None:
    """Who looks after contexts between turns; None where they are kept in any case."""
    if cache.keeps_all:
        return None
    for_people = cache.while_person_thinks or cache.between_turns
    return TurnKeeper(clock, *(turn_policy(each.policy, each.after or 0.0) for each in (cache.between_turns, for_people)))


def _storage(scenario: Scenario, token_bytes: float) -> KvTier | None:
    """The storage that keeps KV for the instances of a site, as much of it as the simulated ones have of the real ones."""
    cache = scenario.serving.kv_cache
    tier = cache.storage
    if tier is None:
        return None
    capacity, rate = (value / token_bytes / scenario.represent for value in (tier.capacity, tier.bandwidth))
    return KvTier(KvTierSpec(int(capacity), rate, tier.latency), cache.block_tokens)


def _host(scenario: Scenario, gpus: int, token_bytes: float, storage: KvTier | None) -> KvTier | None:
    """Host memory of an instance of so many GPUs; each holds its share of every token."""
    cache = scenario.serving.kv_cache
    tier = cache.host
    if tier is None:
        return None
    return KvTier(
        KvTierSpec(int(gpus * tier.capacity / token_bytes), gpus * tier.bandwidth / token_bytes), cache.block_tokens, storage
    )


def feed_schedule(scenario: Scenario, site: Site) -> FeedSchedule:
    """The contract of the site's feed and the load targets on it, in watts and seconds."""
    contract_w = site.feed.contract
    events = []
    for event in scenario.grid.events:
        if event.feed not in (None, site.feed.name):
            continue
        target = event.target
        target_w = target.power_w if target.power_w is not None else contract_w * (target.contract_frac or 0.0)
        events.append(
            LoadTargetEvent(
                name=event.name,
                announced_s=max(0.0, event.start - event.notice),
                start_s=event.start,
                ramp_end_s=event.start + event.ramp,
                end_s=event.start + event.duration,
                target_w=target_w,
                mandatory=event.force == "mandatory",
            )
        )
    return FeedSchedule(contract_w, tuple(events))


def _gpus_on(site: Site, stations: list[Station], catalog: Catalog) -> Floats:
    """GPUs that each station, with all it stands for, has on each rack: shape (racks, stations)."""
    gpus_on = np.zeros((len(rack_gpus(site, catalog)), len(stations)))
    for column, station in enumerate(stations):
        for rack, count in station.racks:
            gpus_on[rack, column] += count
    return gpus_on
