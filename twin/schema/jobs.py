"""Work that can wait: jobs that run on the GPUs that serving leaves, are paused at checkpoints and resumed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from twin.schema.base import Count, FieldError, Model, Name
from twin.schema.quantities import NonNegativeTime, Number, PositiveFraction, PositiveTime, quantity_text, share_or_power
from twin.schema.serving import Parallelism, RackNames
from twin.units import UnitError, parse_quantity

#: What a policy calls all jobs together; no pool may have this name where there are jobs.
ALL_JOBS = "jobs"


def _level(value: object) -> object:
    return share_or_power(value, "tdp_frac", "a share of the TDP such as '85 %'")


class PowerLevel(Model):
    """Power of a GPU: a share of its TDP or watts. In a file: "85 %" or "600 W"."""

    tdp_frac: Number | None = Field(default=None, gt=0, le=1)
    """Share of the TDP."""
    power_w: Number | None = Field(default=None, gt=0)
    """Watts."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.tdp_frac is None) == (self.power_w is None):
            raise ValueError("one of tdp_frac and power_w is due")
        return self

    @model_serializer(when_used="json")
    def _as_written(self) -> str | float:
        return self.tdp_frac if self.tdp_frac is not None else quantity_text(self.power_w or 0.0, "power")

    def watts(self, tdp_w: float) -> float:
        """The level for a GPU of this TDP."""
        return self.power_w if self.power_w is not None else tdp_w * (self.tdp_frac or 0.0)


PowerLevelText = Annotated[PowerLevel, BeforeValidator(_level)]


def _interval(value: object) -> object:
    if isinstance(value, dict | Interval):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"steps": value}
    try:
        return {"time": parse_quantity(value, "time")}
    except UnitError as error:
        raise ValueError(f"{error}; or a whole number of steps") from None


class Interval(Model):
    """How often: every so many steps, or at the first end of a step after some time. In a file: 200 or "15 min"."""

    steps: Count | None = None
    """Steps."""
    time: Number | None = Field(default=None, gt=0)
    """Seconds."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.steps is None) == (self.time is None):
            raise ValueError("one of steps and time is due")
        return self

    @model_serializer(when_used="json")
    def _as_written(self) -> str | int:
        return self.steps if self.steps is not None else str(quantity_text(self.time or 0.0, "time"))


def _range(value: object) -> object:
    return {"min": value, "max": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


class CountRange(Model):
    """A number that may change between two bounds; in a file a bare number where it may not."""

    min: Count
    """Least with which the job runs."""
    max: Count
    """Most that it takes."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise FieldError("min", f"{self.min} is above the max of {self.max}")
        return self

    @model_serializer(when_used="json")
    def _as_written(self) -> int | dict[str, int]:
        return self.min if self.min == self.max else {"min": self.min, "max": self.max}


CountOrRange = Annotated[CountRange, BeforeValidator(_range)]


class TrainingStep(Model):
    """A step of training at full clock on a number of GPUs."""

    time: PositiveTime
    """How long it takes."""
    gpus: Count
    """GPUs on which it takes that long."""
    compute_share: PositiveFraction
    """Share of it that is arithmetic, which slows with the clock; memory, collectives and the host take the rest."""
    power: PowerLevelText
    """What each GPU draws meanwhile, on the mean: "85 %" of its TDP, or "600 W"."""
    scaling: Number = Field(default=1.0, gt=0.5, le=1.0)
    """Share of the ideal speed-up that each doubling of GPUs keeps; 1 is linear."""


class Checkpoint(Model):
    """How a job saves its state."""

    interval: Annotated[Interval, BeforeValidator(_interval)]
    """Every so many steps (200), or at the first end of a step after a time ("15 min")."""
    cost: PositiveTime
    """How long it takes; no step is made meanwhile."""
    power: PowerLevelText | None = None
    """What each GPU draws meanwhile, and while the job starts; without it, as much as an idle one."""


class _Job(Model):
    name: Name
    """Name in tables and events."""
    site: Name | None = None
    """Site that it runs at; may be left out where there is one site."""
    racks: RackNames | None = None
    """Rack groups whose GPUs it may use, of one kind of rack; without it, all of the site."""
    priority: int = Field(default=0, ge=-1000, le=1000, strict=True)
    """Jobs of a higher one get GPUs first and are paused last."""
    arrival: NonNegativeTime = 0.0
    """When it may begin."""
    deadline: PositiveTime | None = None
    """When it should be done."""
    restart: NonNegativeTime = 60.0
    """From getting its GPUs to its first step, at each start, resumption and change of size."""

    @model_validator(mode="after")
    def _deadline_after_arrival(self) -> Self:
        if self.deadline is not None and self.deadline <= self.arrival:
            raise FieldError("deadline", f"{self.deadline:g} s is not after the arrival at {self.arrival:g} s")
        return self


class TrainingJob(_Job):
    """Training or fine-tuning: steps in lockstep over all of its GPUs, saved by checkpoints."""

    kind: Literal["training", "fine_tuning"]
    """What it is."""
    gpus: CountOrRange
    """How many GPUs; `{min, max}` for an elastic job, which changes its size at checkpoints."""
    step: TrainingStep
    """A step: time, arithmetic, power."""
    checkpoint: Checkpoint
    """How it saves its state."""
    steps: Count | None = None
    """Steps to make; without it, it goes on to its deadline."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.steps is None and self.deadline is None:
            raise FieldError("steps", "is missing: a job makes a number of `steps`, or goes on to its `deadline`")
        return self


class TokenJob(_Job):
    """Batch inference, synthetic data or evaluation: answers made by instances of the served model on GPUs of their own."""

    kind: Literal["batch_inference", "synthetic_data", "evaluation"]
    """What it is."""
    instances: CountOrRange = CountRange(min=1, max=1)
    """How many instances; `{min, max}` for an elastic job."""
    parallelism: Parallelism
    """GPUs of one instance and how they share the model."""
    batch: Count
    """Sequences that each instance keeps in flight: as one ends, the next begins."""
    input_tokens: Count
    """Prompt length of each."""
    output_tokens: Count
    """Tokens generated by each."""
    tokens: Annotated[int, Field(ge=1, le=10**15, strict=True)]
    """Output tokens to make in all."""


Job = Annotated[TrainingJob | TokenJob, Field(discriminator="kind")]
