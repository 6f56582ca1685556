"""Runs the jobs of a site on the GPUs that serving leaves: wakes and places them, and carries out what a policy says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twin.control import JobState
from twin.engine.clock import Clock
from twin.engine.job_rows import job_row
from twin.engine.records import SiteRecorder
from twin.serving import DONE, FAILED, PAUSED, SAVED, STOPPED, Job, JobProgress, JobQueue

if TYPE_CHECKING:
    from twin.recording import TableWriter

Floats = NDArray[np.float64]

#: Events that a job's own reports make.
_KINDS = {PAUSED: "job_paused", STOPPED: "job_stopped", FAILED: "job_failed", DONE: "job_done"}
_NOTHING = JobProgress(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class JobLoads:
    """What jobs did to each rack over a plant step, arrays of shape (racks,): GPUs held and watts drawn by them (means), watts of
    the hottest of them; and `memory_w`, the watts of all of them that went into memory traffic."""

    gpus: Floats
    gpu_w: Floats
    hottest_w: Floats
    memory_w: float = 0.0


class JobProcess:
    """The jobs of one site. `gpu_s` counts the GPU-seconds that jobs held on each rack."""

    def __init__(self, clock: Clock, queue: JobQueue, site: str, racks: int, recorder: SiteRecorder, table: TableWriter):
        self._clock = clock
        self.queue = queue
        self._site = site
        self._recorder = recorder
        self._table = table
        self._alarms = {job.spec.name: inf for job in queue.jobs}
        self._by_name = {job.spec.name: job for job in queue.jobs}
        self._booked = dict.fromkeys(self._by_name, _NOTHING)
        self._seen = dict.fromkeys(self._by_name, _NOTHING)
        self._seen_s = 0.0
        self._step_s = 0.0
        self._rack_j, self._rack_gpu_s, self._hottest_w = (np.zeros(racks) for _ in range(3))
        self._memory_j = 0.0
        self.gpu_s = np.zeros(racks)

    def begin(self) -> None:
        """Ask for the arrivals, and for the deadlines of jobs that go on to them."""
        for job in self.queue.jobs:
            spec = job.spec
            self._clock.at(spec.arrival_s, self._arrive)
            if spec.steps is None:
                assert spec.deadline_s is not None
                self._clock.at(spec.deadline_s, partial(self._expire, job))

    # --- what policies and the plant do ------------------------------------------------------------------------------

    def states(self, now_s: float) -> tuple[JobState, ...]:
        """What a policy may know of the jobs that have arrived and are not done; starts the next span of mean power."""
        span_s = now_s - self._seen_s
        self._seen_s = now_s
        found = []
        for name, job in self._by_name.items():
            spec, power = job.spec, job.spec.step.power
            now = job.progress(now_s)
            last, self._seen[name] = self._seen[name], now
            drawn_j, gpu_s = now.energy_j - last.energy_j, now.held_gpu_s - last.held_gpu_s
            if spec.arrival_s <= now_s and job.status != "done":
                found.append(
                    JobState(
                        name=name,
                        kind=spec.kind,
                        priority=spec.priority,
                        status=job.status,
                        pausing=job.pausing,
                        gpus=job.gpus or min(spec.max_gpus, max(spec.min_gpus, self.queue.floor.room(spec))),
                        gpu_w=drawn_j / span_s,
                        extra_w=(drawn_j - gpu_s * power.idle_w) / span_s,
                        step_w=spec.step.watts(job.clock),
                        idle_w=power.idle_w,
                        tdp_w=power.tdp_w,
                        cap_min_w=spec.cap_min_w,
                        other_frac=spec.other_frac,
                        save_s=job.save_s,
                        restart_s=spec.restart_s,
                    )
                )
        return tuple(found)

    def pause(self, name: str, by_s: float) -> None:
        """A job gives its GPUs back by `by_s`."""
        job = self._by_name[name]
        self.queue.resumed.discard(name)
        job.pause(self._clock.now_s, by_s)
        self._touched(job)

    def resume(self, name: str) -> None:
        """A paused job may begin again, though others are held."""
        self._by_name[name].resume()
        self.queue.resumed.add(name)
        self._fill(self._clock.now_s)

    def hold(self) -> None:
        """No job begins or grows but those that are resumed."""
        self.queue.held = True

    def release(self) -> None:
        """Jobs begin and grow again."""
        self.queue.held = False
        self.queue.resumed.clear()
        self._fill(self._clock.now_s)

    def knows(self, name: str) -> bool:
        """Whether there is such a job."""
        return name in self._by_name

    def set_power(self, clock: float | None, cap_w: float | None) -> None:
        """Change the clock lock or the cap of every job, of those that do not run as well."""
        for job in self.queue.jobs:
            job.set_power(self._clock.now_s, clock_lock=clock, cap_w=cap_w)
            self._touched(job)

    def hold_back(self, job: Job, now_s: float, ramp_w: float) -> None:
        """Smoothing lets each GPU of a job rise to `ramp_w`, no further for now."""
        job.set_power(now_s, ramp_w=ramp_w)
        self._touched(job)

    def throttle(self, now_s: float, allowed: Floats) -> None:
        """Heat takes the clock: each job runs no faster than the hottest of its racks allows."""
        for job in self.queue.jobs:
            limit = min((float(allowed[rack]) for rack, _ in self.queue.floor.racks(job.spec.name)), default=1.0)
            if abs(limit - job.thermal_limit) > 1e-3 or (limit == 1.0 and job.thermal_limit != 1.0):
                if (limit < 1.0) != (job.thermal_limit < 1.0):
                    kind = "thermal_throttle" if limit < 1.0 else "thermal_release"
                    self._recorder.event(now_s, kind, job.spec.name, f"clock limited to {limit:.3f}" if limit < 1.0 else "")
                job.set_power(now_s, thermal_limit=limit)
                self._touched(job)

    def set_live(self, live: Mapping[int, Sequence[bool]]) -> None:
        """Which GPUs of racks work from now on. Jobs on others stop where they are, and begin again when there are enough."""
        hit = [name for rack, works in live.items() for name in self.queue.floor.set_live(rack, works)]
        for job in self.queue.jobs:
            if job.spec.name in hit:
                job.fail(self._clock.now_s)
                self._touched(job)
        self._fill(self._clock.now_s)

    def loads(self, now_s: float) -> JobLoads:
        """What jobs did to the racks since this was last asked."""
        for job in self.queue.jobs:
            if job.holds_gpus:
                self._book(job, now_s)
        span_s = now_s - self._step_s
        self._step_s = now_s
        loads = JobLoads(self._rack_gpu_s / span_s, self._rack_j / span_s, self._hottest_w, self._memory_j / span_s)
        self._memory_j = 0.0
        self.gpu_s += self._rack_gpu_s
        self._rack_j, self._rack_gpu_s, self._hottest_w = (np.zeros(len(self.gpu_s)) for _ in range(3))
        return loads

    def finish(self, horizon_s: float) -> None:
        """Write a row for each job."""
        for job in self.queue.jobs:
            self._table.append(job_row(job, self._site, horizon_s))

    # --- as it goes --------------------------------------------------------------------------------------------------

    def _arrive(self, event: Any) -> None:
        self._fill(event.value)

    def _expire(self, job: Job, event: Any) -> None:
        if job.status != "done":
            job.expire(event.value)
            self._touched(job)

    def _touched(self, job: Job) -> None:
        self._play(job, self._clock.now_s)

    def _play(self, job: Job, now_s: float) -> None:
        """What is due of a job now, what came of it, and its alarm."""
        name = job.spec.name
        job.advance(now_s)
        outbox, job.outbox = job.outbox, []
        for what, steps in outbox:
            self._act(job, what, steps, now_s)
        due_s = job.next_change_s
        if due_s != self._alarms[name]:
            self._alarms[name] = due_s
            if due_s != inf:
                self._clock.at(due_s, partial(self._wake, job))

    def _wake(self, job: Job, event: Any) -> None:
        due_s = event.value
        if due_s == self._alarms[job.spec.name]:  # else an earlier alarm, set anew since
            self._alarms[job.spec.name] = inf
            self._play(job, due_s)

    def _act(self, job: Job, what: str, steps: int, now_s: float) -> None:
        if what == SAVED:
            if job.spec.checkpoint is not None:
                self._record(now_s, "job_checkpoint", job, {"steps": steps})
            self._look_again(job, now_s)
            return
        if self.queue.floor.racks(job.spec.name):
            self._book(job, now_s)
            self.queue.floor.give_back(job.spec.name)
        self._record(now_s, _KINDS[what], job, {"steps_lost": steps} if what in (STOPPED, FAILED) else {"steps": job.steps_kept})
        self._fill(now_s)

    def _look_again(self, job: Job, now_s: float) -> None:
        """At a checkpoint: go on with as many GPUs as there are for the job now."""
        floor = self.queue.floor
        if job.status != "stepping" or job.pausing or (gpus := self.queue.size(job, now_s)) == job.gpus:
            return
        self._book(job, now_s)
        before = job.gpus
        floor.give_back(job.spec.name)
        floor.take(job.spec, gpus)
        job.resize(now_s, gpus)
        self._record(now_s, "job_resized", job, {"from_gpus": before, "gpus": gpus})
        self._fill(now_s)

    def _fill(self, now_s: float) -> None:
        """GPUs came free, or jobs that want some: let jobs begin, and let those that could change their size look again."""
        for job, gpus in self.queue.begin(now_s):
            self._record(now_s, "job_start", job, {"gpus": gpus})
            job.start(now_s, gpus)
            self._touched(job)
        for job in self.queue.jobs:
            if job.status == "stepping" and job.spec.checkpoint is None and self.queue.size(job, now_s) != job.gpus:
                job.tell(now_s)
                self._touched(job)

    def _book(self, job: Job, now_s: float) -> None:
        """Charge the racks with what a job did on them since the last time."""
        name = job.spec.name
        now = job.progress(now_s)
        last, self._booked[name] = self._booked[name], now
        gpu_s, used_j = now.held_gpu_s - last.held_gpu_s, now.energy_j - last.energy_j
        if gpu_s <= 0.0:
            return
        self._memory_j += now.memory_j - last.memory_j
        racks = self.queue.floor.racks(name)
        held = sum(gpus for _, gpus in racks)
        for rack, gpus in racks:
            self._rack_gpu_s[rack] += gpu_s * gpus / held
            self._rack_j[rack] += used_j * gpus / held
            self._hottest_w[rack] = max(self._hottest_w[rack], used_j / gpu_s)

    def _record(self, now_s: float, kind: str, job: Job, detail: dict[str, Any]) -> None:
        self._recorder.event(now_s, kind, job.spec.name, json.dumps(detail))
