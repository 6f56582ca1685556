"""Shows a policy what it may see and carries out what it says, each actuator with its own delay."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from twin.control import (
    AnnouncedTarget,
    BatteryState,
    Command,
    FollowLimit,
    GeneratorState,
    HoldJobs,
    HoldTier,
    Observation,
    PauseJob,
    Policy,
    PoolState,
    ReleaseJobs,
    ReleaseTier,
    Report,
    RestBattery,
    ResumeJob,
    SetCap,
    SetClock,
    StartGenerators,
    StopGenerators,
    TierState,
)
from twin.engine.clock import Clock
from twin.engine.job_process import JobProcess
from twin.engine.plant_process import Means, PlantProcess
from twin.engine.records import SiteRecorder
from twin.engine.site_runtime import PoolRuntime, SiteRuntime
from twin.errors import SimulationError
from twin.schema.jobs import ALL_JOBS
from twin.schema.scenario import Control
from twin.schema.workload import Tier

#: Weight of the newest observation in the means of step terms that policies see: batches change faster than policies act.
_FRESH = 0.1


class ControlProcess:
    """The loop of one site: observation, decision, actuation, and the record of all three."""

    def __init__(
        self,
        clock: Clock,
        site: SiteRuntime,
        plant: PlantProcess,
        recorder: SiteRecorder,
        policy: Policy,
        control: Control,
        tiers: tuple[Tier, ...],
    ):
        self._clock = clock
        self._site = site
        self._plant = plant
        self._recorder = recorder
        self._policy = policy
        self._control = control
        self._tiers = tiers
        self._terms: dict[str, list[float]] = {pool.name: [0.0] * 7 for pool in site.pools}
        self._busy: dict[str, float] = {}
        self._caps_unmet: set[str] = set()
        self._pools = {pool.name: pool for pool in site.pools}

    def act(self, now_s: float) -> None:
        """One round."""
        seen = self.observe(now_s)
        for command in self._policy.decide(seen):
            self._carry_out(command, now_s)

    def observe(self, now_s: float) -> Observation:
        """What a policy may know now; starts the next span of means."""
        site = self._site
        means, self._plant.means = self._plant.means, Means()
        span_s = means.span_s
        ahead_s = now_s + self._control.clock_delay + self._control.step
        battery = site.plant.battery
        return Observation(
            time_s=now_s,
            step_s=self._control.step,
            site=site.name,
            contract_w=site.feed.contract_w,
            limit_w=site.feed.limit_w(now_s),
            limit_ahead_w=min(site.feed.limit_w(now_s), site.feed.known_limit_w(ahead_s, now_s)),
            utility_w=means.utility_j / span_s,
            it_w=means.it_j / span_s,
            gpu_w=means.gpu_j / span_s,
            announced=tuple(
                AnnouncedTarget(e.name, e.start_s, e.ramp_end_s, e.end_s, e.target_w, e.mandatory)
                for e in site.feed.announced(now_s)
            ),
            pools=tuple(self._pool_state(pool, means) for pool in site.pools),
            tiers=tuple(self._tier_state(tier) for tier in self._tiers),
            jobs=() if site.jobs is None else site.jobs.states(now_s),
            battery=None
            if battery is None
            else BatteryState(battery.soc_frac, battery.feasible_range(60.0)[1], means.battery_j / span_s),
            generators=self._generators(means),
        )

    def _generators(self, means: Means) -> GeneratorState | None:
        banks = [bank for bank in self._site.plant.supply.banks if bank.spec.for_grid and bank.usable]
        if not banks:
            return None
        rated_w = sum(bank.usable * bank.spec.rated_w for bank in banks)
        return GeneratorState(rated_w, max(bank.ramped_s for bank in banks), means.generator_j / means.span_s)

    def _tier_state(self, tier: Tier) -> TierState:
        held = self._site.dispatcher.held_calls(tier.name)
        return TierState(tier.name, tier.curtailment, tier.objectives.tpot, held is not None, held or 0)

    def _pool_state(self, pool: PoolRuntime, means: Means) -> PoolState:
        stations = pool.stations
        steps = [terms for station in stations if (terms := station.worker.step_terms()) is not None]
        smooth = self._terms[pool.name]
        if steps:
            newest = [sum(terms) / len(steps) for terms in zip(*steps, strict=True)]
            weight = _FRESH if any(smooth) else 1.0
            smooth = self._terms[pool.name] = [(1 - weight) * old + weight * new for old, new in zip(smooth, newest, strict=True)]
        busy = means.pool_busy_s[pool.name] / means.pool_instance_s[pool.name]
        previous = self._busy.get(pool.name, busy)
        self._busy[pool.name] = busy = (1 - _FRESH) * previous + _FRESH * busy
        represent = self._site.represent
        power = pool.power
        steppers = [station.worker.stepper for station in stations]
        return PoolState(
            name=pool.name,
            role=stations[0].worker.role,
            gpus=pool.real_gpus,
            clock=sum(s.clock for s in steppers) / len(steppers),
            clock_min=power.clock_min_frac,
            cap_w=steppers[0].cap_w,
            tdp_w=power.tdp_w,
            cap_min_w=pool.cap_min_w,
            gpu_w=means.pool_gpu_j[pool.name] * represent / means.span_s,
            busy_frac=busy,
            output_tokens_per_s=means.pool_tokens[pool.name] * represent / means.span_s,
            sequences_frac=sum(len(s.worker.batch) / s.worker.spec.max_sequences for s in stations) / len(stations),
            waiting=sum(len(station.worker.queue.waiting) for station in stations) * represent,
            gemm_compute_s=smooth[0],
            gemm_memory_s=smooth[1],
            attention_compute_s=smooth[2],
            attention_memory_s=smooth[3],
            overhead_s=smooth[4],
            compute_busy_s=smooth[5],
            memory_busy_s=smooth[6],
            power=power,
            cap_unmet=self._watch_cap(pool),
        )

    def _watch_cap(self, pool: PoolRuntime) -> bool:
        """Whether a cap is out of reach for some of the pool, written down when that changes."""
        unmet = any(station.worker.stepper.cap_unmet for station in pool.stations)
        if unmet != (pool.name in self._caps_unmet):
            self._caps_unmet ^= {pool.name}
            kind = "cap_unmet" if unmet else "cap_met_again"
            cap_w = pool.stations[0].worker.stepper.cap_w
            detail = f"cap of {cap_w:.0f} W per GPU" + (", out of reach at the lowest clock" if unmet else "")
            self._recorder.event(self._clock.now_s, kind, pool.name, detail)
        return unmet

    def _carry_out(self, command: Command, now_s: float) -> None:
        control, site = self._control, self._site
        if isinstance(command, SetClock):
            self._record(now_s, "set_clock", command.pool, {"clock": command.clock, "reason": command.reason})
            self._clock.at(now_s + control.clock_delay, partial(self._set_power, command.pool, command.clock, None))
        elif isinstance(command, SetCap):
            self._record(now_s, "set_cap", command.pool, {"cap_w": round(command.cap_w, 1), "reason": command.reason})
            self._clock.at(now_s + control.cap_delay, partial(self._set_power, command.pool, None, command.cap_w))
        elif isinstance(command, HoldTier):
            self._record(now_s, "hold_tier", self._tier(command.tier), {"reason": command.reason})
            site.dispatcher.hold(command.tier)
        elif isinstance(command, ReleaseTier):
            held = site.dispatcher.held_calls(self._tier(command.tier)) or 0
            detail = {"calls": held * site.represent, "over_s": command.over_s, "reason": command.reason}
            self._record(now_s, "release_tier", command.tier, detail)
            site.dispatcher.release(command.tier, command.over_s)
        elif isinstance(command, FollowLimit):
            self._record(now_s, "battery_follow", "battery", {"recharge_w": command.recharge_w, "reason": command.reason})
            site.following, site.recharge_w = True, command.recharge_w
        elif isinstance(command, RestBattery):
            self._record(now_s, "battery_rest", "battery", {"reason": command.reason})
            site.following = False
        elif isinstance(command, StartGenerators):
            detail = {"power_w": round(command.power_w, 1), "reason": command.reason}
            self._record(now_s, "start_generators", "generators", detail)
            site.plant.run_generators(command.power_w)
        elif isinstance(command, StopGenerators):
            self._record(now_s, "stop_generators", "generators", {"reason": command.reason})
            site.plant.run_generators(0.0)
        elif isinstance(command, PauseJob):
            self._record(now_s, "pause_job", command.job, {"by_s": round(command.by_s, 3), "reason": command.reason})
            self._jobs(command.job).pause(command.job, command.by_s)
        elif isinstance(command, ResumeJob):
            self._record(now_s, "resume_job", command.job, {"reason": command.reason})
            self._jobs(command.job).resume(command.job)
        elif isinstance(command, HoldJobs):
            self._record(now_s, "hold_jobs", ALL_JOBS, {"reason": command.reason})
            self._jobs(None).hold()
        elif isinstance(command, ReleaseJobs):
            self._record(now_s, "release_jobs", ALL_JOBS, {"reason": command.reason})
            self._jobs(None).release()
        elif isinstance(command, Report):
            self._record(now_s, "report", command.subject, {"message": command.message})

    def _tier(self, name: str) -> str:
        if name not in {tier.name for tier in self._tiers}:
            raise SimulationError(f"the policy named a tier that does not exist: {name!r}")
        return name

    def _jobs(self, name: str | None) -> JobProcess:
        jobs = self._site.jobs
        if jobs is None or (name is not None and not jobs.knows(name)):
            raise SimulationError(f"the policy named a job that does not exist: {name or ALL_JOBS!r}")
        return jobs

    def _set_power(self, pool: str, clock: float | None, cap_w: float | None, _: Any) -> None:
        if pool == ALL_JOBS and self._site.jobs is not None:
            self._site.jobs.set_power(clock, cap_w)
            return
        if pool not in self._pools:
            raise SimulationError(f"the policy named a pool that does not exist: {pool!r}")
        now_s = self._clock.now_s
        for station in self._pools[pool].stations:
            station.worker.set_power(now_s, clock_lock=clock, cap_w=cap_w)
            station.touched()

    def _record(self, now_s: float, kind: str, subject: str, detail: dict[str, Any]) -> None:
        self._recorder.event(now_s, kind, subject, json.dumps(detail))
