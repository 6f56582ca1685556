"""A site of a scenario to its runtime: instances on GPUs, racks, fabric, plant and feed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from twin.catalog import Catalog, Part
from twin.engine.clock import Clock
from twin.engine.dispatcher import Dispatcher
from twin.engine.fabric_builder import build_network
from twin.engine.placement import place
from twin.engine.plant_builder import plant_spec, weather
from twin.engine.session_runner import SessionRunner
from twin.engine.site_runtime import PoolRuntime, RackLoads, SiteRuntime
from twin.engine.station import Station
from twin.errors import InputError
from twin.facility import Plant
from twin.grid import FeedSchedule, LoadTargetEvent
from twin.performance import (
    ModelShape,
    Parallelism,
    Precision,
    gpu_power,
    interconnect_of,
    kv_capacity_tokens,
    step_cost,
)
from twin.recording import RunDirectory
from twin.schema.scenario import Pool, Scenario
from twin.schema.topology import Site
from twin.serving import Worker, WorkerSpec, router


def build_site(
    scenario: Scenario, site: Site, catalog: Catalog, clock: Clock, ids: Iterator[int], output: RunDirectory
) -> SiteRuntime:
    """Everything of `site`, ready to run. Raises InputError or UnknownValueError for what cannot be built."""
    serving = scenario.serving
    pools = [pool for pool in serving.pools if pool.site in (None, site.name)]
    if not pools:
        raise InputError(f"site {site.name} has no serving pool")
    represent = scenario.represent
    places = place(site, pools, catalog)
    shape = ModelShape.from_part(catalog.part("model", serving.model))
    network, fabric_w = build_network(site, pools, places, catalog, represent)
    dispatcher = Dispatcher(clock, network, router(serving.router), shape.kv_bytes_per_token(serving.precision.kv))
    runtimes: list[PoolRuntime] = []
    stations: list[Station] = []
    for pool in pools:
        simulated = pool.instances // represent
        gpu = catalog.part("gpu", _rack_of(site, pool, catalog).text("gpu"))
        of_pool: list[Station] = []
        for number in range(simulated):
            racks: dict[int, int] = {}
            # One instance stands for every `simulated`-th real one, so it is spread over the racks as they are.
            for real in places[pool.name][number::simulated]:
                for rack, gpus in real.racks:
                    racks[rack] = racks.get(rack, 0) + gpus
            worker = Worker(worker_spec(f"{pool.name}-{number}", scenario, pool, site, catalog))
            station = Station(worker, pool.name, tuple(racks.items()), len(stations), clock, dispatcher.take_output)
            dispatcher.add(station)
            of_pool.append(station)
            stations.append(station)
        gpus = pool.parallelism.gpus * pool.instances
        runtimes.append(PoolRuntime(pool.name, of_pool, gpu_power(gpu), gpu.number("cap_min_w"), gpus))
    front_end_s = max(s.worker.spec.cost.request_overhead_s for s in stations if s.worker.spec.role != "decode")
    model = catalog.part("model", serving.model)
    runner = SessionRunner(
        clock,
        dispatcher,
        site.name,
        ids,
        front_end_s,
        output.writer("requests"),
        output.writer("sessions"),
        scenario.horizon,
        model.number("context_tokens"),
    )
    dispatcher.on_finished = runner.finished
    return SiteRuntime(
        name=site.name,
        pools=runtimes,
        stations=stations,
        dispatcher=dispatcher,
        runner=runner,
        network=network,
        plant=Plant(plant_spec(site, catalog)),
        weather=weather(site.climate, scenario.horizon),
        feed=feed_schedule(scenario, site),
        loads=_rack_loads(site, stations, catalog, fabric_w),
        represent=represent,
    )


def _rack_of(site: Site, pool: Pool, catalog: Catalog) -> Part:
    group = next(group for group in site.racks if group.name == pool.racks[0])
    return catalog.part("rack", group.rack)


def worker_spec(name: str, scenario: Scenario, pool: Pool, site: Site, catalog: Catalog) -> WorkerSpec:
    """What an instance of `pool` is: its step cost, power, KV room and limits."""
    serving = scenario.serving
    rack = _rack_of(site, pool, catalog)
    gpu = catalog.part("gpu", rack.text("gpu"))
    shape = ModelShape.from_part(catalog.part("model", serving.model))
    precision = Precision(serving.precision.weights, serving.precision.kv)
    layout = Parallelism(tp=pool.parallelism.tp, dp=pool.parallelism.dp, ep=pool.parallelism.ep)
    links = interconnect_of(gpu, site.fabric.efficiency, int(rack.number("scale_up_domain_gpus")))
    return WorkerSpec(
        name=name,
        role=pool.role,
        cost=step_cost(shape, precision, layout, gpu, catalog.part("backend", serving.backend), links),
        power=gpu_power(gpu),
        gpus=layout.gpus,
        kv_capacity_tokens=kv_capacity_tokens(shape, precision, layout, gpu, serving.kv_reserve),
        max_sequences=pool.max_sequences,
        max_batched_tokens=pool.max_batched_tokens,
        prefill_first=pool.scheduling == "prefill_first",
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


def _rack_loads(site: Site, stations: list[Station], catalog: Catalog, fabric_w: float) -> RackLoads:
    gpus, idle_gpu_w, gpu_tdp_w, other_idle_w, other_busy_w = [], [], [], [], []
    for group in site.racks:
        part = catalog.part("rack", group.rack)
        gpus += [part.number("gpus")] * group.count
        gpu = catalog.part("gpu", part.text("gpu"))
        idle_gpu_w += [gpu.number("idle_w")] * group.count
        gpu_tdp_w += [gpu.number("tdp_w")] * group.count
        other_idle_w += [part.number("other_idle_w")] * group.count
        other_busy_w += [part.number("other_busy_w")] * group.count
    gpus_on = np.zeros((len(gpus), len(stations)))
    for column, station in enumerate(stations):
        for rack, count in station.racks:
            gpus_on[rack, column] += count
    return RackLoads(
        gpus=np.array(gpus),
        gpus_on=gpus_on,
        idle_gpu_w=np.array(idle_gpu_w),
        gpu_tdp_w=np.array(gpu_tdp_w),
        other_idle_w=np.array(other_idle_w),
        other_busy_w=np.array(other_busy_w),
        # Leaves and spines stand among the racks: their power is spread over them evenly.
        fabric_w=np.full(len(gpus), fabric_w / len(gpus)),
    )
