"""The ladder's first rung: pause the jobs that can wait, the least important first, as late as they can still save their work.

Before a target whose time is known, each job is called such that its checkpoint is done when the level would fall below the load;
as many are called as the target needs, and no more. What shows only when the level is exceeded is called at once. Afterwards the
job called last comes back first, one at a time, each when the ramp allows as much power as it takes.
"""

from __future__ import annotations

from twin.control.protocol import (
    AnnouncedTarget,
    Command,
    HoldJobs,
    JobState,
    Observation,
    PauseJob,
    ReleaseJobs,
    ResumeJob,
)

#: Control steps by which a call for a pause is early: one until it is seen, one until it shows at the meter.
_EARLY_STEPS = 2.0
#: A battery says what it could deliver for this long.
_BRIDGE_S = 60.0


class JobRung:
    """Its state: the jobs it has paused, in that order, and whether others are held back."""

    def __init__(self, margin_frac: float, ramp_back_frac_per_min: float):
        self._margin_frac = margin_frac
        self._ramp_back_frac_per_min = ramp_back_frac_per_min
        self._paused: list[str] = []
        self._held = False

    @property
    def waits(self) -> bool:
        """Whether jobs are paused."""
        return bool(self._paused)

    def ahead(self, seen: Observation, load_w: float) -> list[Command]:
        """Calls for the targets that are known and not yet in full force. `load_w` is the load to steer by."""
        if not seen.jobs:
            return []
        commands = self._hold(seen)
        for event in seen.announced:
            if seen.time_s < event.ramp_end_s:
                commands += self._call(seen, event, load_w)
        return commands

    def _hold(self, seen: Observation) -> list[Command]:
        """Nobody begins from the time on at which a start would be for nothing, until all is back."""
        near = any(self._near(seen, event, max(job.restart_s for job in seen.jobs)) for event in seen.announced)
        if near and not self._held:
            self._held = True
            return [HoldJobs("a load target is near")]
        if self._held and not near and not self._paused:
            self._held = False
            return [ReleaseJobs("no load target is near and all jobs are back")]
        return []

    @staticmethod
    def _near(seen: Observation, event: AnnouncedTarget, restart_s: float) -> bool:
        return event.start_s - 2.0 * restart_s <= seen.time_s

    def _call(self, seen: Observation, event: AnnouncedTarget, load_w: float) -> list[Command]:
        commands: list[Command] = []
        kept = 1.0 - self._margin_frac
        top_w, target_w = seen.contract_w * kept, event.target_w * kept
        load_w -= _called_w(seen)
        for job in self._chosen(seen, load_w - target_w):
            # When the level, falling evenly over the ramp, meets the load that the jobs called so far leave.
            share = min(1.0, max(0.0, (top_w - load_w) / (top_w - target_w))) if top_w > target_w else 0.0
            by_s = event.start_s + share * (event.ramp_end_s - event.start_s)
            if seen.time_s >= by_s - job.save_s - _EARLY_STEPS * seen.step_s:
                reason = f"{event.name}: {(load_w - target_w) / 1e3:.1f} kW above what it will allow"
                commands.append(self._pause(job, max(by_s, self._soonest_s(seen, job)), reason))
            load_w -= job.above_idle_w * seen.overhead_ratio
        return commands

    def climb(self, seen: Observation, need_w: float) -> tuple[list[Command], float]:
        """Calls for `need_w` at the meter now; those, and the watts still missing."""
        need_w -= _called_w(seen)
        commands: list[Command] = []
        for job in self._chosen(seen, need_w):
            reason = f"{need_w / 1e3:.1f} kW above what the limit allows"
            commands.append(self._pause(job, self._soonest_s(seen, job), reason))
            need_w -= job.above_idle_w * seen.overhead_ratio
        return commands, max(0.0, need_w)

    @staticmethod
    def _soonest_s(seen: Observation, job: JobState) -> float:
        """Now, or where nobody else minds, when the job can have saved: outside events, and where the battery covers it until
        then."""
        battery = seen.battery
        takes_w = job.above_idle_w * seen.overhead_ratio
        bridged = battery is not None and job.save_s + seen.step_s <= _BRIDGE_S and takes_w <= battery.discharge_max_w
        return seen.time_s + job.save_s + seen.step_s if bridged or seen.event is None else seen.time_s

    def come_back(self, seen: Observation, room_w: float, since_s: float) -> list[Command]:
        """The job paused last, if it fits into `room_w` at the meter and into what the ramp allows since `since_s`."""
        self._paused = [name for name in self._paused if name in {job.name for job in seen.jobs}]
        if not self._paused or seen.event is not None:
            return []
        by_name = {job.name: job for job in seen.jobs}
        job = by_name[self._paused[-1]]
        takes_w = job.above_idle_w * seen.overhead_ratio
        ramp_w = self._ramp_back_frac_per_min * seen.contract_w * (seen.time_s - since_s) / 60.0
        too_soon = any(self._near(seen, event, job.restart_s) for event in seen.announced)
        if too_soon or takes_w > ramp_w or takes_w > room_w:
            return []
        self._paused.pop()
        return [ResumeJob(job.name, f"{room_w / 1e3:.1f} kW of room below the limit")]

    @staticmethod
    def _chosen(seen: Observation, need_w: float) -> list[JobState]:
        """Jobs whose pauses save `need_w` at the meter, or all that run: the least important first, of equals the last of the
        list, but for those without whom the others suffice."""
        running = [job for job in reversed(seen.jobs) if job.runs and not job.pausing]
        chosen: list[JobState] = []
        saved_w = 0.0
        for job in sorted(running, key=lambda job: job.priority):
            if saved_w >= need_w:
                break
            chosen.append(job)
            saved_w += job.above_idle_w * seen.overhead_ratio
        for job in [*chosen]:
            job_w = job.above_idle_w * seen.overhead_ratio
            if saved_w - job_w >= need_w:
                chosen.remove(job)
                saved_w -= job_w
        return chosen

    def _pause(self, job: JobState, by_s: float, reason: str) -> PauseJob:
        if job.name in self._paused:
            self._paused.remove(job.name)
        self._paused.append(job.name)
        return PauseJob(job.name, by_s, reason)


def jobs_w(seen: Observation) -> float:
    """Watts at the meter that jobs take above idle GPUs once those that start or save step again: what they will be, not what a
    checkpoint leaves of it for a moment."""
    return sum(job.above_idle_w for job in seen.jobs if job.runs) * seen.overhead_ratio


def _called_w(seen: Observation) -> float:
    """Watts at the meter that pauses called for will save."""
    return sum(job.above_idle_w for job in seen.jobs if job.runs and job.pausing) * seen.overhead_ratio
