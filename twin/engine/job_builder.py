"""Jobs of a scenario to the parts that run on what serving leaves."""

from __future__ import annotations

from math import ceil, log2

from twin.catalog import Catalog, Part
from twin.engine.placement import spare_domains
from twin.errors import InputError
from twin.performance import gpu_power, power_at_level
from twin.schema.instances import instance_of
from twin.schema.job_consistency import job_groups, job_pool, job_site, prompt_tokens
from twin.schema.jobs import Job as JobText
from twin.schema.jobs import TokenJob, TrainingJob
from twin.schema.scenario import Scenario
from twin.schema.serving import Pool
from twin.schema.topology import Site
from twin.serving import CheckpointRule, GpuFloor, Job, JobQueue, JobSpec, JobStep


def build_jobs(scenario: Scenario, site: Site, pools: list[Pool], catalog: Catalog) -> JobQueue | None:
    """The jobs of `site` and the GPUs that its `pools` leave; None without jobs. Raises InputError for one that could never
    begin."""
    specs = [job_spec(scenario, job, catalog) for job in scenario.jobs if job_site(job, scenario) is site]
    if not specs:
        return None
    floor = GpuFloor(spare_domains(site, pools, catalog))
    for spec in specs:
        if (room := floor.room(spec)) < spec.min_gpus:
            units = f" in instances of {spec.unit_gpus}" if spec.unit_gpus > 1 else ""
            left = f"serving leaves room for {room}{units} in {', '.join(spec.racks)}"
            raise InputError(f"job {spec.name} needs {spec.min_gpus} GPUs and {left}: it would never begin")
    return JobQueue([Job(spec) for spec in specs], floor)


def job_spec(scenario: Scenario, job: JobText, catalog: Catalog) -> JobSpec:
    """What a job of the scenario is."""
    site = job_site(job, scenario)
    groups = job_groups(job, site)
    rack = catalog.part("rack", groups[0].rack)
    gpu = catalog.part("gpu", rack.text("gpu"))
    idle_w, tdp_w = gpu.number("idle_w"), gpu.number("tdp_w")
    others_w = rack.number("other_busy_w") - rack.number("other_idle_w")
    if isinstance(job, TrainingJob):
        rule = job.checkpoint
        step, unit, least, most, steps = training_step(job, gpu), 1, job.gpus.min, job.gpus.max, job.steps
        wait_w = idle_w if rule.power is None else rule.power.watts(tdp_w)
        checkpoint = CheckpointRule(rule.cost, rule.interval.steps, rule.interval.time)
    else:
        step, unit, wait_w, checkpoint = token_step(scenario, job, site, catalog), job.parallelism.gpus, idle_w, None
        least, most, steps = job.instances.min * unit, job.instances.max * unit, ceil(job.tokens / step.tokens)
    return JobSpec(
        name=job.name,
        kind=job.kind,
        step=step,
        min_gpus=least,
        max_gpus=most,
        unit_gpus=unit,
        checkpoint=checkpoint,
        wait_w=wait_w,
        restart_s=job.restart,
        steps=steps,
        racks=tuple(group.name for group in groups),
        cap_min_w=gpu.number("cap_min_w"),
        other_frac=others_w / (rack.number("gpus") * (tdp_w - idle_w)),
        arrival_s=job.arrival,
        deadline_s=job.deadline,
        priority=job.priority,
    )


def training_step(job: TrainingJob, gpu: Part) -> JobStep:
    """A step of training.

    Its arithmetic slows with the clock, the rest does not: step time = share / f + (1 - share). Above idle, the catalogued power
    model is scaled such that the GPU draws the level asked for at full clock; its parts keep their proportions, and with them
    their answers to the clock. Each doubling of GPUs keeps `scaling` of the ideal speed-up: time falls as n^-(1 + log2 scaling).
    """
    step, model = job.step, gpu_power(gpu)
    share = step.compute_share
    power = power_at_level(model, step.power.watts(model.tdp_w), share)
    compute_s = share * step.time
    return JobStep(
        gpus=step.gpus,
        gemm_compute_s=compute_s,
        gemm_memory_s=0.0,
        attention_compute_s=0.0,
        attention_memory_s=0.0,
        overhead_s=step.time - compute_s,
        compute_busy_s=compute_s,
        memory_busy_s=step.time - compute_s,
        power=power,
        scaling=1.0 + log2(step.scaling),
    )


def token_step(scenario: Scenario, job: TokenJob, site: Site, catalog: Catalog) -> JobStep:
    """The mean step of an instance in full work: its batch at half of the answers, and the prompts that come in meanwhile.

    Several instances step one after the other, evenly spaced, so that n of them make a step in 1 / n of its time.
    """
    instance = instance_of(scenario.serving, job_pool(job, job_groups(job, site)), site, catalog)
    cost, batch, prompts = instance.cost(), job.batch, prompt_tokens(job)
    contexts = batch * (job.input_tokens + 0.5 * job.output_tokens)
    gemm_compute_s, gemm_memory_s, network_s = cost.token_terms(batch + prompts)
    attention_s = contexts * cost.decode_attention_compute_s
    attention_s += prompts * 0.5 * job.input_tokens * cost.prefill_attention_compute_s
    reading_s = contexts * cost.attention_memory_s
    idle = cost.idle_stages(batch)  # of a pipe with fewer sequences than stages
    return JobStep(
        gpus=job.parallelism.gpus,
        gemm_compute_s=gemm_compute_s,
        gemm_memory_s=gemm_memory_s,
        attention_compute_s=attention_s + idle * contexts * cost.decode_attention_compute_s,
        attention_memory_s=(1.0 + idle) * reading_s,
        overhead_s=network_s + cost.host_s(batch, prompts=True),
        compute_busy_s=gemm_compute_s + attention_s,
        memory_busy_s=gemm_memory_s + reading_s,
        power=gpu_power(instance.gpu),
        tokens=batch,
    )
