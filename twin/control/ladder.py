"""The ladder: pause jobs, slow down where it costs least, defer what may wait, bridge with the battery; come back slowly.

Rung 1, where there are jobs that can wait, pauses them (`twin.control.job_rung`) before anyone who waits for an answer notices.
Rung 2 lowers pool clocks step by step, each time where a watt at the meter costs the fewest tokens, down to `clock_floor`.
Rung 3 holds new calls of the tiers that may be deferred, the least important first.
Rung 4, the battery, follows the limit from the start of an event, so that what the slower rungs leave over never shows at
the meter. Rung 5, where a site has generators that may run for the grid: they give what is missing, with the battery over the
gap, and start in time for an event that is announced. Where a mandatory target is still out of reach, clocks go below the floor,
and what is missing is said aloud.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, inf

from twin.control.job_rung import JobRung, jobs_w
from twin.control.protocol import (
    Command,
    FollowLimit,
    HoldTier,
    Observation,
    PolicySettings,
    PoolState,
    ReleaseTier,
    Report,
    SetClock,
    StartGenerators,
    StopGenerators,
)
from twin.errors import InputError, did_you_mean

#: A lock moves in steps of this share of the maximum clock (about 40 MHz, a few of the steps that drivers offer).
CLOCK_STEP = 0.02
#: Utilization up to which a pool takes its work without a queue worth naming.
COMFORT_BUSY = 0.85
#: Share of the objective for the time per output token that the mean step may reach; requests vary around the mean.
COMFORT_TPOT = 0.75


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """What a scenario may set under `control.settings`. Times in s, the rest shares."""

    clock_floor: float = 0.5
    settle_s: float = 30.0
    react_s: float = 20.0
    mean_s: float = 60.0
    release_s: float = 120.0
    recharge_frac: float = 0.1

    @classmethod
    def of(cls, extra: dict[str, object]) -> LadderSettings:
        """Settings from a scenario; an unknown name or a value that is not a positive number is an InputError."""
        for name, value in extra.items():
            if name not in cls.__slots__:
                raise InputError(f"policy 'ladder' has no setting {name!r}{did_you_mean(name, cls.__slots__)}")
            most = 1.0 if name in ("clock_floor", "recharge_frac") else inf
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
                bound = "a share above 0 and up to 1" if most == 1.0 else "a number above 0"
                raise InputError(f"policy 'ladder': {name} must be {bound}, not {value!r}")
        return cls(**extra)  # type: ignore[arg-type]  # names and types were checked above


def token_loss(pool: PoolState, clock: float, site_tokens_per_s: float, tpot_objective_s: float | None) -> float:
    """Good output tokens per second that a pool at `clock` costs the site; differences between clocks are what counts.

    A prefill pool costs tokens once its work does not fit the comfortable share of its time. Decoding is paced by demand:
    slower steps mean a larger batch, and cost tokens once that batch exceeds what is allowed or the time per token nears the
    tightest objective. Below that slowness costs patience, not tokens: a queue of utilization / (1 - utilization) before
    prefill (M/M/1), the share of its objective that the time per token takes in decode, a hundredth of the tokens for each.
    """
    full_s, slow_s = pool.step_s(1.0), pool.step_s(clock)
    if slow_s == 0:
        return 0.0
    if pool.role == "prefill":
        needed = pool.busy_at(clock)
        lost = max(0.0, 1 - COMFORT_BUSY / needed) if needed > 0 else 0.0
        comfortable = min(needed, COMFORT_BUSY)
        patience = comfortable / (1 - comfortable)
    else:
        needed = pool.sequences_frac * slow_s / pool.step_s(pool.clock)
        lost = max(0.0, 1 - COMFORT_BUSY / needed) if needed > 0 else 0.0
        if tpot_objective_s is not None:
            lost = max(lost, 1 - COMFORT_TPOT * tpot_objective_s / slow_s)
        patience = slow_s / (tpot_objective_s if tpot_objective_s is not None else full_s)
    return (lost + 0.01 * patience) * site_tokens_per_s


def slow_down(seen: Observation, clocks: dict[str, float], need_w: float, floor: float) -> tuple[dict[str, float], float]:
    """Lower `clocks` until `need_w` at the meter is saved or all are at `floor`: the new clocks and the watts still missing.

    Greedy by tokens lost per watt saved; exact where each pool's loss per watt grows as its clock falls.
    """
    # A lock above the clock that the GPU's own limit allows holds nothing back.
    clocks = {pool.name: min(clocks[pool.name], round(ceil(pool.clock / CLOCK_STEP) * CLOCK_STEP, 6)) for pool in seen.pools}
    rate = sum(pool.output_tokens_per_s for pool in seen.pools)
    tpot_s = min((t.tpot_objective_s for t in seen.tiers if t.tpot_objective_s is not None), default=None)
    ratio = seen.overhead_ratio
    pools = {pool.name: pool for pool in seen.pools}
    while need_w > 0:
        best: tuple[float, str, float, float] | None = None
        for name, pool in pools.items():
            lower, saved_w = _next_lower(pool, clocks[name], max(floor, pool.clock_min))
            saved_w *= ratio
            if saved_w <= 0:
                continue
            price = (token_loss(pool, lower, rate, tpot_s) - token_loss(pool, clocks[name], rate, tpot_s)) / saved_w
            if best is None or price < best[0]:
                best = (price, name, lower, saved_w)
        if best is None:
            break
        clocks[best[1]] = best[2]
        need_w -= best[3]
    return clocks, max(0.0, need_w)


def _next_lower(pool: PoolState, clock: float, floor: float) -> tuple[float, float]:
    """The nearest clock below `clock` at which the pool draws less, and the GPU watts saved; (`clock`, 0) if there is none.

    Just below the clock that the TDP leaves, a pool may draw more: as many watts, for longer.
    """
    lower = clock
    while (lower := round(lower - CLOCK_STEP, 6)) >= floor - 1e-9:
        saved_w = pool.power_at(clock) - pool.power_at(lower)
        if saved_w > 0:
            return lower, saved_w
    return clock, 0.0


def speed_up(seen: Observation, clocks: dict[str, float], room_w: float) -> dict[str, float]:
    """Raise `clocks` within `room_w` at the meter, the most tokens per watt first."""
    clocks = dict(clocks)
    rate = sum(pool.output_tokens_per_s for pool in seen.pools)
    tpot_s = min((t.tpot_objective_s for t in seen.tiers if t.tpot_objective_s is not None), default=None)
    pools = {pool.name: pool for pool in seen.pools}
    while True:
        best: tuple[float, str, float, float] | None = None
        for name, pool in pools.items():
            if clocks[name] >= 1.0:
                continue
            higher = min(1.0, round(clocks[name] + CLOCK_STEP, 6))
            cost_w = max(1e-6, (pool.power_at(higher) - pool.power_at(clocks[name])) * seen.overhead_ratio)
            gain = (token_loss(pool, clocks[name], rate, tpot_s) - token_loss(pool, higher, rate, tpot_s)) / cost_w
            if cost_w <= room_w and (best is None or gain > best[0]):
                best = (gain, name, higher, cost_w)
        if best is None:
            return clocks
        clocks[best[1]] = best[2]
        room_w -= best[3]


def _can_trim(seen: Observation) -> bool:
    """Whether the battery could take a tenth of the limit for a minute: then only means matter, it takes the peaks."""
    return seen.battery is not None and seen.battery.discharge_max_w > 0.1 * seen.limit_w


class Ladder:
    """The policy. Its state: the clocks it has set, the tiers it holds, the battery's order, and the recent load."""

    def __init__(self, settings: PolicySettings):
        self._settings = settings
        self._own = LadderSettings.of(settings.extra)
        self._jobs = JobRung(settings.margin_frac, settings.ramp_back_frac_per_min)
        self._clocks: dict[str, float] = {}
        self._held: list[str] = []
        self._battery = "rest"
        self._generators_w = 0.0
        self._recent: deque[tuple[float, float]] = deque()
        self._in_event = False
        self._changed_s = float("-inf")
        self._last_hold_s = float("-inf")
        self._last_rise_s = float("-inf")
        self._reported: set[str] = set()

    def decide(self, seen: Observation) -> list[Command]:
        """Climb while the load exceeds what it may be, step back down when there is room."""
        if not self._clocks:
            self._clocks = {pool.name: 1.0 for pool in seen.pools}
        if self._in_event and seen.event is None:
            self._last_rise_s = seen.time_s  # the way back is measured from the end of the event
        self._in_event = seen.event is not None
        load_w = self._load_w(seen)
        budget_w = seen.limit_ahead_w * (1 - self._settings.margin_frac)
        commands = self._battery_order(seen) + self._jobs.ahead(seen, load_w)
        if seen.generators is not None:
            budget_w += seen.generators.generator_w
            commands += self._generators_ahead(seen, load_w)
        # What was changed shows in loads from then on alone; without a battery to take the peaks there is no time to look.
        if seen.time_s - self._changed_s < (self._own.react_s if _can_trim(seen) else 2 * seen.step_s):
            return commands
        if load_w > budget_w:
            need_w = load_w - budget_w
            if seen.jobs:
                paused, need_w = self._jobs.climb(seen, need_w)
                commands += paused
            if need_w > 0:
                commands += self._climb(seen, need_w)
        else:
            commands += self._come_down(seen, budget_w - load_w)
        return commands

    def _load_w(self, seen: Observation) -> float:
        """The load to steer by: the mean of the last seconds where the battery takes the peaks, else the peak itself."""
        # Jobs count with what they draw in their steps: the mean of others' last seconds, but theirs as they are now.
        extra_w = sum(job.extra_w * (1.0 + job.other_frac) for job in seen.jobs) * seen.overhead_ratio
        self._recent.append((seen.time_s, seen.load_w - extra_w))
        while self._recent[0][0] <= seen.time_s - self._own.mean_s:
            self._recent.popleft()
        loads = [load_w for _, load_w in self._recent]
        return (sum(loads) / len(loads) if _can_trim(seen) else max(loads)) + jobs_w(seen)

    def _climb(self, seen: Observation, need_w: float) -> list[Command]:
        event = seen.event
        clocks, missing_w = slow_down(seen, self._clocks, need_w, self._own.clock_floor)
        commands: list[Command] = []
        if missing_w > 0 and event is not None:
            commands += self._defer(seen, missing_w)
            waiting = [t for t in seen.tiers if t.curtailment == "defer" and not t.held]
            if not waiting and seen.time_s - self._last_hold_s > self._own.settle_s:
                where = "at the clock floor"
                if seen.generators is not None:
                    # What they have been asked for and do not give yet is on its way: the battery bridges it.
                    missing_w -= max(0.0, self._generators_w - seen.generators.generator_w)
                    if missing_w > 0 and (asked := self._generate(seen, missing_w)):
                        commands += asked
                        missing_w = max(0.0, missing_w - asked[0].power_w + seen.generators.generator_w)
                if event.mandatory:
                    clocks, missing_w = slow_down(seen, clocks, missing_w, 0.0)
                    where = "at the lowest clocks"
                bridge_w = seen.battery.discharge_max_w if seen.battery else 0.0
                if missing_w > bridge_w and event.name not in self._reported:
                    self._reported.add(event.name)
                    text = f"{missing_w / 1e3:.1f} kW above the limit {where}; battery {bridge_w / 1e3:.1f} kW"
                    commands.append(Report(event.name, f"the target cannot be met: {text}; held at the nearest feasible point"))
        reason = f"{need_w / 1e3:.1f} kW above what the limit allows"
        return commands + self._set_clocks(seen, clocks, reason)

    def _generators_ahead(self, seen: Observation, load_w: float) -> list[Command]:
        """Start generators in time for an event that needs them, and stop them when there is none left."""
        if not seen.announced:
            if not self._generators_w:
                return []
            self._generators_w = 0.0
            return [StopGenerators("no load target is in force or announced")]
        assert seen.generators is not None
        if self._generators_w:
            return []
        for event in seen.announced:
            if 0 < event.ramp_end_s - seen.time_s <= seen.generators.ready_s + seen.step_s:
                need_w = load_w - event.target_w * (1 - self._settings.margin_frac)
                missing_w = slow_down(seen, self._clocks, need_w, self._own.clock_floor)[1]
                if missing_w > 0:
                    return list(self._generate(seen, missing_w))
        return []

    def _generate(self, seen: Observation, missing_w: float) -> list[StartGenerators]:
        """An order for `missing_w` more than generators give now; none where they give all they can."""
        assert seen.generators is not None
        power_w = min(seen.generators.rated_w, seen.generators.generator_w + missing_w)
        if power_w <= self._generators_w:
            return []
        self._generators_w = power_w
        return [StartGenerators(power_w, f"{missing_w / 1e3:.1f} kW are missing when all else is done")]

    def _defer(self, seen: Observation, missing_w: float) -> list[Command]:
        if seen.time_s - self._last_hold_s <= self._own.settle_s:
            return []
        for tier in reversed(seen.tiers):
            if tier.curtailment == "defer" and not tier.held:
                self._last_hold_s = seen.time_s
                self._held.append(tier.name)
                return [HoldTier(tier.name, f"{missing_w / 1e3:.1f} kW still missing with all clocks at the floor")]
        return []

    def _come_down(self, seen: Observation, room_w: float) -> list[Command]:
        dead_band_w = 0.5 * self._settings.margin_frac * seen.contract_w
        room_w -= dead_band_w
        free_w = room_w
        elapsed_s = min(60.0, seen.time_s - self._last_rise_s)
        room_w = min(room_w, self._settings.ramp_back_frac_per_min * seen.contract_w * elapsed_s / 60.0)
        if room_w <= 0 or (seen.event is not None and seen.limit_ahead_w > seen.event.target_w):
            return []
        if any(clock < 1.0 for clock in self._clocks.values()):
            clocks = speed_up(seen, self._clocks, room_w)
            if clocks != self._clocks:
                self._last_rise_s = seen.time_s
            return self._set_clocks(seen, clocks, f"{room_w / 1e3:.1f} kW may be taken up again")
        if self._held and seen.event is None and seen.time_s - self._last_hold_s > self._own.settle_s:
            self._last_hold_s = seen.time_s
            tier = self._held.pop()
            return [ReleaseTier(tier, self._own.release_s, "clocks are back and there is room below the limit")]
        if self._jobs.waits and not self._held:
            back = self._jobs.come_back(seen, free_w, self._last_rise_s)
            if back:
                self._last_rise_s = seen.time_s
            return back
        return []

    def _set_clocks(self, seen: Observation, clocks: dict[str, float], reason: str) -> list[Command]:
        changed = [name for name, clock in clocks.items() if clock != self._clocks[name]]
        self._clocks = clocks
        if changed:
            self._changed_s = seen.time_s
            self._recent.clear()
        return [SetClock(name, clocks[name], reason) for name in changed]

    def _battery_order(self, seen: Observation) -> list[Command]:
        """The battery follows the level in force all the time, and takes up again what room there is below it.

        It does not recharge while the factory comes back: its power would count against the ramp.
        """
        if seen.battery is None:
            return []
        coming_back = seen.event is None and (
            bool(self._held) or self._jobs.waits or any(clock < 1.0 for clock in self._clocks.values())
        )
        order = "follow" if coming_back else "recharge"
        if order == self._battery:
            return []
        self._battery = order
        if coming_back:
            return [FollowLimit(0.0, "what exceeds the level comes from the battery; no recharge while the factory comes back")]
        recharge_w = self._own.recharge_frac * seen.contract_w
        return [FollowLimit(recharge_w, "what exceeds the level in force comes from the battery, and goes back below it")]
