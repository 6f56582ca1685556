"""The baseline: one power cap on every GPU alike, as facility power managers do it."""

from __future__ import annotations

from collections.abc import Sequence

from twin.control.protocol import AllJobs, Command, Observation, PolicySettings, PoolState, Report, SetCap
from twin.errors import InputError
from twin.schema.jobs import ALL_JOBS


def uniform_cap_w(pools: Sequence[PoolState | AllJobs], gpu_w: float) -> float:
    """The cap per GPU that brings the pools' GPU power to `gpu_w`, were every GPU of a pool drawing its pool's mean.

    sum over pools of gpus * min(mean, cap) = gpu_w: pools below the cap keep what they draw, the others share the rest.
    """
    left_w = gpu_w
    left_gpus = sum(pool.gpus for pool in pools)
    cap_w = left_w / left_gpus
    for pool in sorted(pools, key=lambda p: (p.gpu_w / p.gpus, p.name)):
        cap_w = left_w / left_gpus
        if pool.gpu_w / pool.gpus >= cap_w:
            break
        left_w -= pool.gpu_w
        left_gpus -= pool.gpus
        if left_gpus == 0:
            return pool.tdp_w
    return cap_w


class UniformCap:
    """Caps all GPUs at one level so that the meter stays below the limit; lifts the cap step by step afterwards.

    Feedback on the meter: GPU power is asked to fall by what the meter exceeds the limit (less the margin), divided by the
    watts at the meter per watt of IT. Caps act late (`cap_delay_s`), so a new one waits until the last has acted.
    """

    def __init__(self, settings: PolicySettings):
        if settings.extra:
            raise InputError(f"policy 'uniform_cap' takes no settings, not {sorted(settings.extra)}")
        self._settings = settings
        self._cap_w: float | None = None
        self._last_s = float("-inf")
        self._event_s = float("-inf")
        self._reported: set[str] = set()

    def decide(self, seen: Observation) -> list[Command]:
        """A cap when the meter is above, or well below, what it may draw."""
        loads: list[PoolState | AllJobs] = [*seen.pools]
        if seen.all_jobs is not None:
            loads.append(seen.all_jobs)
        tdp_w = max(load.tdp_w for load in loads)
        floor_w = max(load.cap_min_w for load in loads)
        budget_w = seen.limit_ahead_w * (1 - self._settings.margin_frac)
        if seen.event is not None:
            self._event_s = seen.time_s
        if seen.time_s - self._last_s < self._settings.cap_delay_s + seen.step_s:
            return []
        excess_w = (seen.utility_w - budget_w) / seen.overhead_ratio
        cap_w = self._cap_w if self._cap_w is not None else tdp_w
        if excess_w > 0:
            wanted_w = uniform_cap_w(loads, max(0.0, seen.gpu_w - excess_w))
            new_w = max(floor_w, min(wanted_w, cap_w))
            reason = f"meter at {seen.utility_w / 1e3:.0f} kW, may draw {budget_w / 1e3:.0f} kW"
        elif self._cap_w is not None:
            # Rising power per minute is limited; below the limit the cap creeps up until it no longer binds.
            since_s = self._last_s if seen.event is not None else max(self._last_s, self._event_s)
            elapsed_s = min(60.0, seen.time_s - since_s)
            rise_w = self._settings.ramp_back_frac_per_min * seen.contract_w * elapsed_s / 60.0 / seen.overhead_ratio
            rise_w = min(rise_w, -excess_w)
            new_w = min(tdp_w, cap_w + rise_w / sum(load.gpus for load in loads))
            reason = f"room of {-excess_w / 1e3:.0f} kW below the limit"
        else:
            return []
        if abs(new_w - cap_w) < 0.5:
            return self._out_of_reach(seen, excess_w) if new_w == floor_w else []
        self._last_s = seen.time_s
        self._cap_w = new_w if new_w < tdp_w else None
        # Jobs that begin later must keep the cap as well.
        names = [pool.name for pool in seen.pools] + ([ALL_JOBS] if seen.jobs else [])
        return [SetCap(name, new_w, reason) for name in names]

    def _out_of_reach(self, seen: Observation, excess_w: float) -> list[Command]:
        """Said once an event: the lowest cap is in force and the meter is still above the target."""
        event = seen.event
        if event is None or excess_w <= 0 or event.name in self._reported:
            return []
        self._reported.add(event.name)
        clocks = ", and some GPUs are at their lowest clock" if any(pool.cap_unmet for pool in seen.pools) else ""
        over_w = excess_w * seen.overhead_ratio
        return [Report(event.name, f"the target cannot be met: {over_w / 1e3:.1f} kW above it at the lowest cap{clocks}")]
