"""Who is served first and who is let in: the order of an instance's queue, and limits of tiers and tenants."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from twin.schema.base import Count, FieldError, Model, Name, PluginName
from twin.schema.quantities import Number, PositiveTime

OrderName = Annotated[str, PluginName("twin.queue_orders", "queue order", ("fifo", "priority", "fair"))]


class Queue(Model):
    """The order in which requests wait for an instance. In a file the name of the order may stand for all of it."""

    order: OrderName = "fifo"
    """`fifo` as they come; `priority` by tier, with ageing; `fair` between tenants (virtual token counter); or a plug-in."""
    tiers: tuple[Name, ...] | None = None
    """With `priority`: all tiers, most urgent first; without it, in the order of the scenario."""
    ageing: PositiveTime = 30.0
    """With `priority`: a call is served as if it had come this much later for each tier above its own, so that none starves."""
    input_weight: Number = Field(default=1.0, gt=0, le=1000)
    """What a prompt token that is computed counts in what a tenant is served."""
    output_weight: Number = Field(default=2.0, gt=0, le=1000)
    """What a token that is generated counts in it."""

    @model_validator(mode="after")
    def _settings_of_the_order(self) -> Self:
        if self.order in ("fifo", "priority", "fair"):
            # The weights also say how a report counts what tenants are served, so any order may have them.
            for name in ("tiers", "ageing"):
                given = getattr(self, name) != type(self).model_fields[name].default
                if given and self.order != "priority":
                    raise FieldError(name, f"acts on the order priority, and this is {self.order}")
        return self


def _queue(value: object) -> object:
    return {"order": value} if isinstance(value, str) else value


QueueOrName = Annotated[Queue, BeforeValidator(_queue)]


class Limits(Model):
    """What a tier or a tenant may ask for, in the whole factory. A session's first call is refused beyond it."""

    wait: PositiveTime | None = None
    """Longest wait to be expected at the instance with the shortest one."""
    tokens_per_minute: Number | None = Field(default=None, gt=0)
    """Rate of a token bucket, input and output tokens together."""
    burst: int | None = Field(default=None, ge=1, le=1_000_000_000_000, strict=True)
    """Size of the bucket in tokens; without it, what a minute fills."""
    in_flight: Count | None = None
    """Calls accepted and not finished."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.burst is not None and self.tokens_per_minute is None:
            raise FieldError("burst", "is the size of a bucket that nothing fills: give `tokens_per_minute` as well")
        if self.wait is None and self.tokens_per_minute is None and self.in_flight is None:
            raise ValueError("limits nothing: give wait, tokens_per_minute or in_flight")
        return self


class Admission(Model):
    """Which calls are refused before they are accepted."""

    context: Literal["serve", "refuse"] = "serve"
    """What becomes of calls longer than the model was made for: served with a warning, or refused."""
    wait: PositiveTime | None = None
    """Longest wait to be expected at the instance with the shortest one, for everybody."""
    tiers: dict[Name, Limits] = Field(default_factory=dict)
    """Tier -> its limits."""
    tenants: dict[Name, Limits] = Field(default_factory=dict)
    """Tenant -> its limits."""
    each_tenant: Limits | None = None
    """Limits of each tenant that has none of its own."""

    @property
    def limits_load(self) -> bool:
        """Whether it refuses calls that could be served at another time."""
        return self.wait is not None or bool(self.tiers or self.tenants) or self.each_tenant is not None
