"""The row of a job in jobs.parquet."""

from __future__ import annotations

from typing import Any

from twin.serving import Job


def job_row(job: Job, site: str, horizon_s: float) -> tuple[Any, ...]:
    """The job as it stands at the horizon, in the order of the table's columns."""
    spec, steps, time = job.spec, job.steps(horizon_s), job.gpu_time(horizon_s)
    begun = "completed" if job.status == "done" else "in_flight"
    return (
        spec.name,
        spec.kind,
        site,
        spec.priority,
        spec.arrival_s,
        job.start_s,
        job.finish_s,
        spec.deadline_s,
        "not_started" if job.start_s is None else begun,
        _deadline(job, horizon_s),
        steps.done,
        steps.kept,
        steps.lost,
        steps.open,
        job.checkpoints,
        job.pauses,
        sum(time) / 3600.0,
        *(gpu_s / 3600.0 for gpu_s in time),
        job.progress(horizon_s).energy_j,
        steps.kept * spec.step.tokens,
    )


def _deadline(job: Job, horizon_s: float) -> str | None:
    """Whether the job made its steps in time; None where it need not."""
    deadline_s = job.spec.deadline_s
    if deadline_s is None or job.spec.steps is None:
        return None
    if job.finish_s is not None:
        return "met" if job.finish_s <= deadline_s else "missed"
    return "open" if horizon_s < deadline_s else "missed"
