"""Jobs that do not fit the site: GPUs that serving leaves, power levels, instances, times outside the run.

Works on a valid model; every check yields all that it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twin.catalog import Catalog
from twin.schema.fields import Path
from twin.schema.jobs import Job, TokenJob, TrainingJob
from twin.schema.messages import Finding
from twin.schema.scenario import Scenario
from twin.schema.serving import Pool
from twin.schema.topology import RackGroup, Site
from twin.units import format_si

#: Why no instance of a pool can run on the racks of a site; None if it can.
Unfit = Callable[[Scenario, Pool, Site, Catalog], str | None]


def job_consistency(scenario: Scenario, catalog: Catalog, unfit: Unfit) -> Iterator[Finding]:
    """All that does not fit of a scenario's jobs. Its pools are sound."""
    for j, job in enumerate(scenario.jobs):
        path: Path = ("jobs", j)
        if job.arrival >= scenario.horizon:
            yield (*path, "arrival"), f"at {job.arrival:g} s is after the run of {scenario.horizon:g} s: it never begins"
        site = job_site(job, scenario)
        groups = job_groups(job, site)
        if len({group.rack for group in groups}) > 1:
            yield (*path, "racks"), "the rack groups of a job must be of one kind of rack; name some of them"
            continue
        yield from _room(scenario, job, path, site, groups, catalog)
        if isinstance(job, TrainingJob):
            yield from _levels(job, path, groups[0], catalog)
        elif said := unfit(scenario, job_pool(job, groups), site, catalog):
            yield (*path, "parallelism"), said
        else:
            yield from _batch(scenario, job, path, site, groups, catalog)


def job_site(job: Job, scenario: Scenario) -> Site:
    """The site that a job runs at."""
    return next(site for site in scenario.topology.sites if job.site in (None, site.name))


def job_groups(job: Job, site: Site) -> list[RackGroup]:
    """The rack groups whose GPUs it may use."""
    return [group for group in site.racks if job.racks is None or group.name in job.racks]


def job_pool(job: TokenJob, groups: list[RackGroup]) -> Pool:
    """Its instances as a pool that serves would have them: steps of its batch and of the prompts that come in meanwhile."""
    return Pool(
        name=job.name,
        role="aggregated",
        racks=tuple(group.name for group in groups),
        parallelism=job.parallelism,
        instances=job.instances.max,
        max_sequences=job.batch,
        max_batched_tokens=min(1_000_000, job.batch + prompt_tokens(job)),
    )


def prompt_tokens(job: TokenJob) -> int:
    """Prompt tokens of a step of one instance on the mean: a sequence ends, and the next begins, every `output_tokens` / `batch`
    steps."""
    return max(1, round(job.batch * job.input_tokens / job.output_tokens))


def _room(scenario: Scenario, job: Job, path: Path, site: Site, groups: list[RackGroup], catalog: Catalog) -> Iterator[Finding]:
    """Whether serving leaves enough GPUs in its racks; pools that share a rack group share all of their groups."""
    least = job.gpus.min if isinstance(job, TrainingJob) else job.instances.min * job.parallelism.gpus
    gpus = sum(group.count * int(catalog.part("rack", group.rack).number("gpus")) for group in groups)
    names = {group.name for group in groups}
    there = [pool for pool in scenario.serving.pools if pool.site in (None, site.name)]
    serving = sum(pool.instances * pool.parallelism.gpus for pool in there if set(pool.racks) <= names)
    if least > gpus - serving:
        key = "gpus" if isinstance(job, TrainingJob) else "instances"
        where = ", ".join(group.name for group in groups)
        yield (*path, key), f"needs {least} GPUs, and {where} has {gpus}, of which serving takes {serving}: it would never begin"


def _levels(job: TrainingJob, path: Path, group: RackGroup, catalog: Catalog) -> Iterator[Finding]:
    """Power levels that the GPU does not have."""
    gpu = catalog.part("gpu", catalog.part("rack", group.rack).text("gpu"))
    idle_w, tdp_w = gpu.number("idle_w"), gpu.number("tdp_w")
    for key, level, least_w in (("step", job.step.power, idle_w), ("checkpoint", job.checkpoint.power, 0.0)):
        if level is None:
            continue
        watts = level.watts(tdp_w)
        if watts > tdp_w or watts <= least_w or watts < idle_w:
            bounds = f"between {format_si(idle_w, 'W')} (idle) and {format_si(tdp_w, 'W')} (TDP)"
            yield (*path, key, "power"), f"{format_si(watts, 'W')} per GPU: a {gpu.name} draws {bounds}"


def _batch(
    scenario: Scenario, job: TokenJob, path: Path, site: Site, groups: list[RackGroup], catalog: Catalog
) -> Iterator[Finding]:
    """Sequences that the memory of an instance cannot hold."""
    from twin.schema.instances import instance_of  # the models of files are read far more often than they are checked this deep

    pool = job_pool(job, groups)
    instance = instance_of(scenario.serving, pool, site, catalog)
    room = instance.kv_capacity_tokens(scenario.serving.kv_reserve, pool.max_batched_tokens, pool.max_sequences)
    held = job.batch * (job.input_tokens + job.output_tokens // 2)
    if held > room:
        yield (
            (*path, "batch"),
            f"{job.batch} sequences of {job.input_tokens} + {job.output_tokens} tokens hold {held:,} on the mean, and an "
            f"instance has room for {room:,}",
        )
