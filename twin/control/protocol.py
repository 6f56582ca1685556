"""What a policy sees and what it may say; it can do nothing else.

Observations and commands are frozen and name things by id: a policy holds no live part of the factory. Times in s since
the start of the run, powers in W (drawn from the grid: positive), shares 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from twin.performance import GpuPower
from twin.schema.jobs import ALL_JOBS


@dataclass(frozen=True, slots=True)
class AnnouncedTarget:
    """A load target that the factory has been told of and that has not ended."""

    name: str
    start_s: float
    ramp_end_s: float
    end_s: float
    target_w: float
    mandatory: bool


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool over the last control step, and what sets its speed and power.

    The step terms are means over its busy instances and the last seconds, in seconds at relative clock 1: five that set the
    step's time (`twin.performance.StepCost`), two for how long the mean GPU is busy in it. So is `busy_frac`. `sequences_frac` is
    its batch over the largest batch allowed; `power` the model of one of its `gpus` GPUs.
    """

    name: str
    role: Literal["aggregated", "prefill", "decode"]
    gpus: int
    clock: float
    clock_min: float
    cap_w: float
    tdp_w: float
    cap_min_w: float
    gpu_w: float
    busy_frac: float
    output_tokens_per_s: float
    sequences_frac: float
    waiting: int
    gemm_compute_s: float
    gemm_memory_s: float
    attention_compute_s: float
    attention_memory_s: float
    overhead_s: float
    compute_busy_s: float
    memory_busy_s: float
    power: GpuPower
    #: Some of its GPUs draw more than their cap at the lowest clock there is.
    cap_unmet: bool = False

    def step_s(self, clock: float) -> float:
        """Mean step time at relative `clock`; 0 for a pool that did nothing."""
        return (
            max(self.gemm_compute_s / clock, self.gemm_memory_s)
            + max(self.attention_compute_s / clock, self.attention_memory_s)
            + self.overhead_s
        )

    def busy_at(self, clock: float) -> float:
        """Share of the time that the same work would take at `clock`; above 1 it would not get done."""
        now_s = self.step_s(self.clock)
        return self.busy_frac * self.step_s(clock) / now_s if now_s > 0 else 0.0

    def power_at(self, clock: float) -> float:
        """GPU power of the pool at `clock` under the same demand, in W."""
        idle_w = self.power.idle_w
        step_s = self.step_s(clock)
        if step_s == 0:
            return self.gpus * idle_w
        stepping_w = self.power.step_energy_j(step_s, self.compute_busy_s, self.memory_busy_s, clock) / step_s
        return self.gpus * (idle_w + min(1.0, self.busy_at(clock)) * (min(stepping_w, self.tdp_w) - idle_w))


@dataclass(frozen=True, slots=True)
class BatteryState:
    """A site battery: its charge, what it could deliver for the next minute, and what it delivered in the last step."""

    soc_frac: float
    discharge_max_w: float
    battery_w: float


@dataclass(frozen=True, slots=True)
class TierState:
    """A class of service, most important first in the observation."""

    name: str
    curtailment: Literal["slow", "defer"]
    tpot_objective_s: float | None
    held: bool
    held_calls: int


@dataclass(frozen=True, slots=True)
class JobState:
    """A job that has arrived and is not done, in the order of the scenario. Its GPUs are those it holds, or would now get.

    `gpu_w` is what it drew over the last control step, `extra_w` what of it was more than idle GPUs would have; `other_frac` is
    what CPUs, switches and fans of its racks draw more for each such watt. `step_w` is what each GPU draws in a step at the
    present clock. A call for a pause costs no work if it comes `save_s` before its time.
    """

    name: str
    kind: str
    priority: int
    status: Literal["waiting", "starting", "stepping", "saving", "paused", "done"]
    pausing: bool
    gpus: int
    gpu_w: float
    extra_w: float
    step_w: float
    idle_w: float
    tdp_w: float
    cap_min_w: float
    other_frac: float
    save_s: float
    restart_s: float

    @property
    def runs(self) -> bool:
        """Whether it holds GPUs."""
        return self.status in ("starting", "stepping", "saving")

    @property
    def above_idle_w(self) -> float:
        """IT watts that it takes in its steps above its GPUs idle: what a pause saves and a start costs."""
        return self.gpus * (self.step_w - self.idle_w) * (1.0 + self.other_frac)


@dataclass(frozen=True, slots=True)
class AllJobs:
    """The jobs of a site that hold GPUs, as one load: what a cap for all of them acts on."""

    name: str
    gpus: int
    gpu_w: float
    tdp_w: float
    cap_min_w: float


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a policy knows at `time_s`. Powers are means over the control step that just ended.

    `limit_w` is the level that the meter must not exceed now (the contract outside events), `limit_ahead_w` the level one
    actuation delay and one step from now.
    """

    time_s: float
    step_s: float
    site: str
    contract_w: float
    limit_w: float
    limit_ahead_w: float
    utility_w: float
    it_w: float
    gpu_w: float
    announced: tuple[AnnouncedTarget, ...]
    pools: tuple[PoolState, ...]
    tiers: tuple[TierState, ...]
    battery: BatteryState | None
    jobs: tuple[JobState, ...] = ()

    @property
    def all_jobs(self) -> AllJobs | None:
        """Jobs that hold GPUs, together; None where there are none."""
        running = [job for job in self.jobs if job.runs]
        if not running:
            return None
        return AllJobs(
            ALL_JOBS,
            sum(job.gpus for job in running),
            sum(job.gpu_w for job in running),
            max(job.tdp_w for job in running),
            max(job.cap_min_w for job in running),
        )

    @property
    def overhead_ratio(self) -> float:
        """Watts at the meter per watt of IT: the factor by which a saved GPU watt counts. 1 while all racks are dark."""
        if not self.it_w:
            return 1.0
        return (self.utility_w + (self.battery.battery_w if self.battery else 0.0)) / self.it_w

    @property
    def load_w(self) -> float:
        """What the site would draw from the feed without its battery."""
        return self.utility_w + (self.battery.battery_w if self.battery else 0.0)

    @property
    def event(self) -> AnnouncedTarget | None:
        """The event in force, the one with the lowest target where there are several."""
        running = [e for e in self.announced if e.start_s <= self.time_s]
        return min(running, key=lambda e: e.target_w, default=None)


@dataclass(frozen=True, slots=True)
class SetClock:
    """Lock a pool's GPU clock at `clock` relative to its maximum; the pool `ALL_JOBS` is every job of the site."""

    pool: str
    clock: float
    reason: str


@dataclass(frozen=True, slots=True)
class SetCap:
    """Cap each GPU of a pool at `cap_w`; the pool `ALL_JOBS` is every job of the site, whether it runs or not."""

    pool: str
    cap_w: float
    reason: str


@dataclass(frozen=True, slots=True)
class HoldTier:
    """Accept new calls of a tier but keep them at the door."""

    tier: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseTier:
    """Let the calls of a held tier in again, spread evenly over `over_s`."""

    tier: str
    over_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class FollowLimit:
    """Let the battery's inverter discharge whatever exceeds the level in force, and recharge with up to `recharge_w` below it."""

    recharge_w: float
    reason: str


@dataclass(frozen=True, slots=True)
class RestBattery:
    """Neither charge nor discharge."""

    reason: str


@dataclass(frozen=True, slots=True)
class PauseJob:
    """A job gives its GPUs back by `by_s`: at its next checkpoint if that is done by then, else at one made at once if there is
    time, else at once, with its work since the last checkpoint lost."""

    job: str
    by_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class ResumeJob:
    """A paused job may start again as soon as there are GPUs for it."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class HoldJobs:
    """Let no job begin or grow but those that are resumed."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseJobs:
    """Let jobs begin and grow again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Say something that belongs in the record, such as a target that cannot be met, with the shortfall."""

    subject: str
    message: str


Command = (
    SetClock
    | SetCap
    | HoldTier
    | ReleaseTier
    | FollowLimit
    | RestBattery
    | PauseJob
    | ResumeJob
    | HoldJobs
    | ReleaseJobs
    | Report
)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What a scenario's `control` section says to any policy."""

    margin_frac: float
    ramp_back_frac_per_min: float
    clock_delay_s: float
    cap_delay_s: float
    extra: dict[str, object]


class Policy(Protocol):
    """A controller of one site. Made anew for each run, so no state is left from another."""

    def decide(self, seen: Observation) -> list[Command]:
        """Commands to carry out, each with its own actuation delay. Deterministic in the observations so far."""
        ...
