"""A scenario: a topology, what it is asked to do, how it serves, who controls it, and what the grid does meanwhile."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_serializer, model_validator

from twin.schema.base import Count, FieldError, Model, Name, PluginName
from twin.schema.faults import Faults
from twin.schema.jobs import Job
from twin.schema.own_parts import OwnParts
from twin.schema.pareto import Pareto
from twin.schema.power_smoothing import PowerSmoothing
from twin.schema.quantities import (
    EnergyPrice,
    NonNegativeTime,
    Number,
    PositiveFraction,
    PositiveTime,
    UnitFraction,
    quantity_text,
    share_or_power,
)
from twin.schema.serving import Serving
from twin.schema.tools import Tools
from twin.schema.topology import Topology
from twin.schema.workload import Tier, Workload

PolicyName = Annotated[str, PluginName("twin.policies", "policy", ("none", "uniform_cap", "ladder"))]


class Control(Model):
    """Who reacts to the grid."""

    policy: PolicyName = "ladder"
    """Policy plug-in: `none`, `uniform_cap` or `ladder`."""
    step: PositiveTime = 1.0
    """Time between two observations."""
    margin: UnitFraction = 0.01
    """Share of the target that the policy keeps below it."""
    ramp_back: PositiveFraction = 0.05
    """Most that power may rise per minute after an event, as a share of the contract."""
    clock_delay: NonNegativeTime = 0.1
    """From command to effect of a clock lock (about 97 ms median end to end, measured on V100)."""
    cap_delay: NonNegativeTime = 2.0
    """From command to effect of an out-of-band power cap (seconds on big clusters, commonly quoted)."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Further settings of a policy from elsewhere."""


def _target(value: object) -> object:
    return share_or_power(value, "contract_frac", "a share of the contract such as '80 %'")


class TargetLevel(Model):
    """A level the meter must stay at or below: a share of the contract or watts. In a file: "80 %" or "800 kW"."""

    contract_frac: Number | None = Field(default=None, gt=0, le=1)
    """Share of the feed's contract."""
    power_w: Number | None = Field(default=None, gt=0)
    """Watts."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.contract_frac is None) == (self.power_w is None):
            raise ValueError("one of contract_frac and power_w is due")
        return self

    @model_serializer(when_used="json")
    def _as_written(self) -> str | float:
        return self.contract_frac if self.contract_frac is not None else quantity_text(self.power_w or 0.0, "power")


class LoadTarget(Model):
    """The utility asks a feed to stay at or below a level for a while."""

    name: Name
    """Name of the event."""
    feed: Name | None = None
    """Feed that it concerns; may be left out where there is one."""
    start: NonNegativeTime
    """When the ramp begins."""
    notice: NonNegativeTime = 0.0
    """How long before the start it is announced."""
    ramp: NonNegativeTime = 0.0
    """Time in which the limit falls from the contract to the target, from the start on."""
    duration: PositiveTime
    """From the start to the end, the ramp included."""
    target: Annotated[TargetLevel, BeforeValidator(_target)]
    """The level: "80 %" of the contract, or "800 kW"."""
    force: Literal["mandatory", "best_effort"] = "mandatory"
    """`mandatory`: the last rung of a policy may be used to meet it; `best_effort`: the service objectives go first."""

    @model_validator(mode="after")
    def _ramp_inside(self) -> Self:
        if self.ramp > self.duration:
            raise FieldError("ramp", f"a ramp of {self.ramp:g} s is longer than the event's {self.duration:g} s")
        return self


class Grid(Model):
    """What the utility does."""

    events: tuple[LoadTarget, ...] = ()
    """Load targets."""
    energy_price: EnergyPrice | None = None
    """Price of energy, where its cost is asked for."""


class Records(Model):
    """How finely time series are written."""

    interval: PositiveTime = 1.0
    """Step of the plant and of a row in power.parquet and thermal.parquet."""
    worker_interval: PositiveTime = 10.0
    """Time between rows of workers.parquet and fabric.parquet."""
    rack_interval: PositiveTime = 60.0
    """Time between rows of racks.parquet; a row ends with the first step at or after each multiple."""


class Limit(Model):
    """A bound on a figure of the summary; a run outside it ends with exit code 1."""

    value: str
    """Dotted path in summary.json, such as `energy.pue` or `curtailment.0.overshoot_w_max`."""
    min: Number | None = None
    """Least allowed value."""
    max: Number | None = None
    """Most allowed value."""

    @model_validator(mode="after")
    def _some_value_passes(self) -> Self:
        if self.min is None and self.max is None:
            raise FieldError("value", "needs `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise FieldError("min", f"{self.min:g} is above the max of {self.max:g}")
        return self


class Scenario(Model):
    """Everything a run needs."""

    name: Name
    """Name of the scenario."""
    description: str = ""
    """What it shows, in a sentence."""
    topology: Topology
    """The factory: a path to a topology file, replaced by its content on loading."""
    catalog: tuple[OwnParts, ...] = ()
    """Paths of catalogue files with parts of your own, replaced by their content on loading; every name of the scenario and its
    topology may be one of theirs."""
    tiers: tuple[Tier, ...] = Field(min_length=1)
    """Classes of service, most important first."""
    workload: Workload
    """Where sessions come from."""
    serving: Serving
    """Model, engine, pools."""
    tools: Tools | None = None
    """Where agents' tools run; without it every tool runs at once."""
    control: Control = Control()
    """Policy and actuators."""
    grid: Grid = Grid()
    """Events and prices."""
    faults: Faults = Faults()
    """What breaks, at stated times or at random."""
    power_smoothing: PowerSmoothing | None = None
    """Smooths the power of GPUs; without it, it is as their work makes it."""
    jobs: tuple[Job, ...] = ()
    """Work that can wait: a list of jobs, or the path of a job list (CSV or YAML), replaced by its content on loading."""
    records: Records = Records()
    """Resolution of the time series."""
    limits: tuple[Limit, ...] = ()
    """Bounds on the summary."""
    horizon: PositiveTime
    """Length of the run."""
    seed: int = Field(default=1, ge=0, le=2**63 - 1, strict=True)
    """Seed of every random stream."""
    represent: Count = 1
    """One simulated instance and request stands for this many."""
    pareto: Pareto | None = None
    """What `twin pareto` tries; a run does not ask for it."""
