"""Where the tools of agents run, and how they fail."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from twin.schema.base import Count, FieldError, Model, Name
from twin.schema.quantities import FractionBelowOne, NonNegativeTime, Number


class ToolFailure(Model):
    """Runs of tools that fail and are begun again; when the retries are used up, the session fails."""

    probability: FractionBelowOne
    """Share of the runs that fail, each after its full time."""
    retries: Annotated[int, Field(ge=0, le=100, strict=True)] = 2
    """How often a tool is run again."""
    backoff: NonNegativeTime = 1.0
    """Pause between a failure and the next run."""


class Tools(Model):
    """CPU sandboxes in which tools run, one each, in order of arrival. Without a number of them, tools never wait."""

    racks: Name | None = None
    """Group of CPU racks of the topology on which they run, at every site; without it their power is not simulated."""
    sandboxes: Count | None = None
    """Sandboxes of a site; without it as many as the catalogue says of its racks."""
    sandboxes_per_cpu: Count | None = None
    """Sandboxes of each CPU of the racks, which share its cores, instead of `sandboxes`."""
    cores_per_sandbox: Number = Field(default=1.0, gt=0, le=1000)
    """Cores that a sandbox in use keeps busy, which sets the power of the racks."""
    failure: ToolFailure | None = None
    """How tools fail; without it they don't."""

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.sandboxes_per_cpu is not None:
            if self.racks is None:
                raise FieldError("sandboxes_per_cpu", "needs `racks`")
            if self.sandboxes is not None:
                raise FieldError("sandboxes_per_cpu", "is given beside `sandboxes`; keep one of them")
        return self
