"""What the factory is asked to do: where sessions come from, when they arrive, and which tier each belongs to."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from twin.schema.base import Count, FieldError, Flag, Model, Name, PluginName
from twin.schema.quantities import NonNegativeRate, NonNegativeTime, Number, PositiveRate, PositiveTime, UnitFraction

TraceFormatName = Annotated[
    str,
    PluginName(
        "twin.trace_formats",
        "trace format",
        ("auto", "azure", "mooncake", "agent_csv", "sessions", "parquet", "agent_raw", "servegen"),
    ),
]


#: Tokens of which there may be none.
TokensOrNone = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]


class RatePoint(Model):
    """A point of a piecewise-linear rate profile."""

    time: NonNegativeTime
    """Time since the start of the run."""
    rate: NonNegativeRate
    """Session arrivals from here, linearly towards the next point's."""


class PoissonArrivals(Model):
    """Independent arrivals at a constant rate."""

    process: Literal["poisson"]
    """The arrival process."""
    rate: PositiveRate
    """Mean session arrival rate of the whole factory."""


class GammaArrivals(Model):
    """Arrivals with gamma-distributed gaps: burstier (above 1) or steadier (below 1) than Poisson."""

    process: Literal["gamma"]
    """The arrival process."""
    rate: PositiveRate
    """Mean session arrival rate of the whole factory."""
    burstiness: Number = Field(ge=1e-3, le=100)
    """Coefficient of variation of the gap between arrivals; 1 is Poisson."""


class ProfileArrivals(Model):
    """Poisson arrivals whose rate follows a piecewise-linear profile."""

    process: Literal["profile"]
    """The arrival process."""
    profile: tuple[RatePoint, ...] = Field(min_length=2)
    """Points of the profile, times increasing, from 0 to the horizon or beyond."""

    @model_validator(mode="after")
    def _times_increase(self) -> Self:
        if self.profile[0].time != 0:
            raise FieldError("profile", f"begins at {self.profile[0].time:g} s; the first point must be at 0 s")
        for before, after in pairwise(self.profile):
            if after.time <= before.time:
                raise FieldError("profile", f"times must increase; {after.time:g} s follows {before.time:g} s")
        if not any(point.rate for point in self.profile):
            raise FieldError("profile", "never rises above 0; no session would arrive")
        return self


class ClosedLoopArrivals(Model):
    """A number of sessions in flight: they begin together, and each that ends lets the next one in, as in a benchmark."""

    process: Literal["closed_loop"]
    """The arrival process."""
    concurrency: Count
    """Sessions in flight in the whole factory."""


Arrivals = Annotated[
    PoissonArrivals | GammaArrivals | ProfileArrivals | ClosedLoopArrivals,
    Field(discriminator="process"),
]


#: Tenants that a number may stand for, so that a resolved scenario stays readable.
MOST_TENANTS = 1000


class Tenant(Model):
    """One of those who share the factory. In a file its share may stand for all of it."""

    share: UnitFraction
    """Share of the sessions."""
    weight: Number = Field(default=1.0, gt=0, le=1000)
    """What it is owed of an instance beside others that wait too: with 2, twice what 1 is owed."""


def _tenants(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_TENANTS:
            raise ValueError(f"{value} is out of range: it must be a number from 1 to {MOST_TENANTS}, or names with shares")
        return {f"tenant-{number}": {"share": 1 / value} for number in range(value)}
    if isinstance(value, dict):
        return {name: given if isinstance(given, dict | Tenant) else {"share": given} for name, given in value.items()}
    return value


_TENANT_SHARES = {"type": "object", "additionalProperties": {"anyOf": [{"type": ["number", "string", "object"]}]}}
Tenants = Annotated[
    dict[Name, Tenant],
    BeforeValidator(_tenants),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_TENANTS}, _TENANT_SHARES]}),
]


class _Workload(Model):
    tiers: dict[Name, UnitFraction] = Field(min_length=1)
    """Tier -> share of the sessions; the shares add up to 1."""
    tenants: Tenants = Field(default_factory=dict)
    """Tenant -> share of the sessions, which add up to 1, or keys and values; or how many there are, with equal shares. A trace's
    own tenants stay. Without it, sessions are nobody's in particular."""
    sessions: Count | None = None
    """Stop after this many sessions; without it, arrivals go on to the horizon."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = math.fsum(self.tiers.values())
        if abs(total - 1) > 1e-6:
            raise FieldError("tiers", f"the shares add up to {total:.6g}, not 1")
        total = math.fsum(tenant.share for tenant in self.tenants.values())
        if self.tenants and abs(total - 1) > 1e-6:
            raise FieldError("tenants", f"the shares add up to {total:.6g}, not 1")
        return self


class AgentWorkload(_Workload):
    """Agent sessions drawn from distributions fitted to real coding-agent sessions."""

    kind: Literal["agents"]
    """The source of sessions."""
    arrivals: Arrivals
    """When sessions begin."""
    warm_start: Flag = True
    """Begin in the middle of the day: sessions that began before the run are half-way, their context in the caches."""
    think_time_scale: Number = Field(default=1.0, gt=0, le=100)
    """Factor on every tool and think time."""
    system_prompts: Count | None = None
    """How many different system prompts the sessions have among them; without it, each session has its own."""
    fit: str | None = None
    """A file of figures that `twin trace fit` wrote, to draw from instead of the shipped ones."""
    join_first: Count | None = None
    """How many of the sub-agents that a call spawns the next one waits for; without it, all."""


class ChatWorkload(_Workload):
    """Single-call sessions with the lengths of a chat service."""

    kind: Literal["chat"]
    """The source of sessions."""
    arrivals: Arrivals
    """When requests arrive."""
    system_prompt_tokens: TokensOrNone = 0
    """Leading tokens of every prompt that are the same for all."""


class ReasoningWorkload(_Workload):
    """Single-call sessions with the lengths of a reasoning service: short prompts, long answers with their reasoning in them."""

    kind: Literal["reasoning"]
    """The source of sessions."""
    arrivals: Arrivals
    """When requests arrive."""
    system_prompt_tokens: TokensOrNone = 0
    """Leading tokens of every prompt that are the same for all."""


class FixedWorkload(_Workload):
    """Identical single-call sessions, for benchmarks and hand calculation."""

    kind: Literal["fixed"]
    """The source of sessions."""
    arrivals: Arrivals
    """When requests arrive."""
    input_tokens: Count
    """Prompt length of every request."""
    output_tokens: Count
    """Tokens generated by every request."""
    system_prompt_tokens: TokensOrNone = 0
    """Leading tokens of every prompt that are the same for all; fewer than `input_tokens`."""

    @model_validator(mode="after")
    def _system_prompt_is_not_all(self) -> Self:
        if self.system_prompt_tokens >= self.input_tokens:
            raise FieldError(
                "system_prompt_tokens",
                f"{self.system_prompt_tokens} must be less than the {self.input_tokens} input tokens of a request",
            )
        return self


class TraceWorkload(_Workload):
    """Replay of a recorded or generated trace."""

    kind: Literal["trace"]
    """The source of sessions."""
    trace: str
    """The trace: a file, or a folder of recorded agent sessions."""
    format: TraceFormatName = "auto"
    """Trace format (`twin trace info` tells), or `auto`."""
    arrivals: Arrivals | None = None
    """When sessions begin, for traces that record no absolute times (agent sessions)."""
    speedup: Number = Field(default=1.0, gt=0, le=10_000)
    """Factor by which recorded arrival times are shortened."""
    start: NonNegativeTime = 0.0
    """Offset into the trace at which the replay begins."""
    think_time_scale: Number = Field(default=1.0, gt=0, le=100)
    """Factor on every recorded tool and think time."""

    @model_validator(mode="after")
    def _recorded_times_or_given(self) -> Self:
        if self.arrivals is not None:
            for field, neutral in (("speedup", 1.0), ("start", 0.0)):
                if getattr(self, field) != neutral:
                    raise FieldError(field, "acts on recorded arrivals: leave out `arrivals`, or this")
        return self


class ServeGenWorkload(_Workload):
    """Single-call sessions drawn from the recorded clients of a service, each a tenant with its own rates and lengths."""

    kind: Literal["servegen"]
    """The source of sessions."""
    clients: str
    """The folder of clients: files `chunk-N-trace.csv` and `chunk-N-dataset.json`."""
    scale: Number = Field(default=1.0, gt=0, le=10_000)
    """Factor on the rate of every client."""
    start: NonNegativeTime = 0.0
    """Time of the recorded day at which the run begins; the day begins anew when it is over."""

    @property
    def arrivals(self) -> None:
        """None that others could set: the clients say when they ask."""
        return None


Workload = Annotated[
    AgentWorkload | ChatWorkload | ReasoningWorkload | FixedWorkload | TraceWorkload | ServeGenWorkload,
    Field(discriminator="kind"),
]


class Objectives(Model):
    """Service objectives of a tier; a request meets them all or its tokens are no goodput."""

    ttft: PositiveTime | None = None
    """Time to first token."""
    tpot: PositiveTime | None = None
    """Mean time per output token after the first."""
    completion: PositiveTime | None = None
    """Arrival to last token of a call."""
    task: PositiveTime | None = None
    """First call to last token of a session, for sessions that bring no deadline of their own. It is judged by the session: a
    late task takes nothing from goodput."""

    @model_validator(mode="after")
    def _later_ones_are_longer(self) -> Self:
        for name, spoken in (("completion", "call"), ("task", "task")):
            bound = getattr(self, name)
            if bound is not None and self.ttft is not None and bound < self.ttft:
                raise FieldError(
                    name, f"{bound:g} s is less than the {self.ttft:g} s to the first token: no {spoken} ends before it begins"
                )
        return self


class Price(Model):
    """What a tier's customers pay, in USD per million tokens."""

    input: Number = Field(ge=0)
    """Per million input tokens."""
    output: Number = Field(ge=0)
    """Per million output tokens."""
    cached_input: Number | None = Field(default=None, ge=0)
    """Per million input tokens that were found in a cache; without it, as other input."""
    credit: UnitFraction = 0.0
    """Share of a call's price that is given back where it broke an objective of its tier."""


class Tier(Model):
    """A class of service."""

    name: Name
    """Name in tables and shares."""
    objectives: Objectives = Objectives()
    """Service objectives."""
    price: Price | None = None
    """Price list, where revenue is asked for."""
    patience: PositiveTime | None = None
    """How long a person waits for the first token of an answer before leaving the session; without it, for ever."""
    curtailment: Literal["slow", "defer"] = "slow"
    """The most that a policy may do to this tier: slow it down with the pools it shares, or defer its new calls as well."""
