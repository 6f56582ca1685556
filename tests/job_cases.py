"""Jobs made by hand for tests: steps of round numbers on GPUs whose power is easy to add up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twin.performance import GpuPower
from twin.serving import CheckpointRule, Job, JobSpec, JobStep

#: 100 W idle, and in a step that is half arithmetic: 100 + 200 + 0.5 x 400 + 0.5 x 200 = 600 W at full clock.
POWER = GpuPower(idle_w=100.0, compute_w=400.0, memory_w=200.0, exponent=3.0, tdp_w=1000.0, clock_min_frac=0.2, active_w=200.0)
#: 10 s on 8 GPUs, of which 5 s follow the clock.
STEP = JobStep(8, 5.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, POWER)
#: A checkpoint of 4 s every 10 steps, 20 s to start.
SPEC = JobSpec(
    name="tune",
    kind="fine_tuning",
    step=STEP,
    min_gpus=8,
    max_gpus=8,
    unit_gpus=1,
    checkpoint=CheckpointRule(4.0, steps=10),
    wait_w=150.0,
    restart_s=20.0,
    steps=1000,
    racks=("racks",),
)


def spec(**changes: Any) -> JobSpec:
    """SPEC with changes."""
    return replace(SPEC, **changes)


def started(gpus: int = 8, **changes: Any) -> Job:
    """A job that got its GPUs at 0."""
    job = Job(spec(**changes))
    job.start(0.0, gpus)
    return job
