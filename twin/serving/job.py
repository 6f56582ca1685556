"""A job that can wait: it steps on GPUs that serving leaves, saves its state, and is paused and resumed.

Its steps are alike, so it jumps from one checkpoint to the next; between them there is no event. A clock or cap takes effect at
once: what is left of the step under way goes on at the new clock, so that a jump may begin within a step. A pause takes effect at
the end of a step, but for a stop, which ends the step under way. The step-by-step reference in the tests gives the same times to
1e-9 s.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import Literal

from twin.errors import SimulationError
from twin.serving.job_spec import GpuTime, JobProgress, JobSpec, JobSteps
from twin.serving.jump import clock_under_cap

Status = Literal["waiting", "starting", "stepping", "saving", "paused", "done"]

#: What a job reports to its owner: it is at a checkpoint (or, where steps save themselves, at the end of one, if it was asked to
#: tell), it has given its GPUs back with all saved, it was stopped with steps lost, some of its GPUs have failed and steps are
#: lost, it is done.
SAVED, PAUSED, STOPPED, FAILED, DONE = "saved", "paused", "stopped", "failed", "done"

#: Times within a nanosecond are one: 600 s of steps of 0.1 s are over after 6000 of them, whatever the sums round to.
TIE_S = 1e-9


class Job:
    """A job. Knows no clock: `advance(to_s)` plays what falls due, `next_change_s` says when that is.

    `outbox` collects what its owner must act on: (what, steps it is about). `steps_done` were made; of them `steps_kept` are
    saved, `steps_lost` were made in vain, `steps_open` were made since the last checkpoint.
    """

    def __init__(self, spec: JobSpec):
        self.spec = spec
        self.status: Status = "waiting"
        self.gpus = 0
        self.next_change_s = inf
        self.outbox: list[tuple[str, int]] = []
        self.steps_done = self.steps_kept = self.steps_lost = self.steps_open = 0
        self.checkpoints = self.pauses = 0
        self.start_s: float | None = None
        self.finish_s: float | None = None
        self.clock = 1.0
        self.clock_lock = 1.0
        self.thermal_limit = 1.0
        self.cap_w = spec.step.power.tdp_w
        self._step_s = 0.0
        self._steps = 0  # of the jump under way
        self._ahead = 0.0  # share of the jump's first step that was made before the jump, at other clocks
        self._part_s = 0.0  # GPU-seconds which that took
        self._begun_s = 0.0  # of the phase under way
        self._power_w = 0.0  # of all its GPUs, in the phase under way
        self._energy_j = 0.0
        self._kept_s = self._lost_s = self._open_s = self._saving_s = self._starting_s = 0.0
        self._saved_at_s = 0.0
        self._pause_by_s: float | None = None
        self._tell = False

    # --- verbs -------------------------------------------------------------------------------------------------------

    def start(self, now_s: float, gpus: int) -> None:
        """Take `gpus` GPUs: the first step begins when the job is up."""
        if self.status != "waiting":
            raise SimulationError(f"job {self.spec.name} cannot start: it is {self.status}")
        if self.start_s is None:
            self.start_s = now_s
        self._launch(now_s, gpus)

    def pause(self, now_s: float, by_s: float) -> None:
        """Give the GPUs back by `by_s`: at the next checkpoint if that is done by then, else at one made at the end of the step
        under way if there is time for it, else at once, with the work since the last checkpoint lost."""
        if self.status == "waiting":
            self.status = "paused"
            self.pauses += 1
        elif self.status == "starting":
            self._stop(now_s)
        elif self.status in ("stepping", "saving"):
            self._pause_by_s = by_s
            if self.status == "saving":
                if self.next_change_s > by_s + TIE_S:
                    self._stop(now_s)
                return
            steps = self._boundary_at_or_after(now_s)
            end_s = self._end_s(steps)
            if self._pauses_at(end_s, self.steps_open + steps) is None:
                self._stop(now_s)
            else:
                self._cut(steps)

    def fail(self, now_s: float) -> None:
        """GPUs that it holds have failed: what is not saved is lost, the others are given back, and it waits for as many again.
        What was to pause is paused."""
        self.advance(now_s)
        if not self.holds_gpus:
            return
        pausing, pauses = self.pausing, self.pauses
        self._give_back(FAILED, self._lose(now_s))
        if not pausing:
            self.status, self.pauses = "waiting", pauses

    def resume(self) -> None:
        """A paused job may start again; one that is about to pause goes on."""
        self._pause_by_s = None
        if self.status == "paused":
            self.status = "waiting"

    def expire(self, now_s: float) -> None:
        """Its deadline has come and it makes no certain number of steps: what is saved by now is what it has made."""
        self.advance(now_s + TIE_S)  # what is saved at this moment is saved
        if self.status == "done":
            return
        if self.holds_gpus and (lost := self._lose(now_s)):
            self.outbox.append((STOPPED, lost))
        self._finish(now_s)

    def resize(self, now_s: float, gpus: int) -> None:
        """Go on with another number of GPUs, right after SAVED; the job starts anew on them."""
        if self.status != "stepping" or self._begun_s != now_s or self.steps_open or self._ahead:
            raise SimulationError(f"job {self.spec.name} changes its size at {now_s:g} s, which is no checkpoint")
        self._launch(now_s, gpus)

    def tell(self, now_s: float) -> None:
        """Where every step saves itself, report SAVED at the end of the step under way."""
        if self.spec.checkpoint is None and self.status == "stepping" and not self._tell:
            self._tell = True
            self._cut(self._boundary_at_or_after(now_s))

    def set_power(
        self, now_s: float, *, clock_lock: float | None = None, cap_w: float | None = None, thermal_limit: float | None = None
    ) -> None:
        """Change the clock lock (relative), the cap per GPU (W) or the die's limit (relative) from now on."""
        power = self.spec.step.power
        if clock_lock is not None:
            self.clock_lock = min(1.0, max(power.clock_min_frac, clock_lock))
        if cap_w is not None:
            self.cap_w = min(cap_w, power.tdp_w)
        if thermal_limit is not None:
            self.thermal_limit = min(1.0, max(power.clock_min_frac, thermal_limit))
        self.advance(now_s)  # what ends at this moment has ended
        if self.status == "stepping" and self._next_clock() != self.clock:
            self._change_clock(now_s)

    def advance(self, to_s: float) -> None:
        """Play everything up to and including `to_s`."""
        while self.next_change_s <= to_s:
            self._change(self.next_change_s)

    # --- what can be seen --------------------------------------------------------------------------------------------

    @property
    def holds_gpus(self) -> bool:
        """Whether GPUs are its own."""
        return self.status in ("starting", "stepping", "saving")

    @property
    def pausing(self) -> bool:
        """Whether it has been asked to pause and has not yet."""
        return self._pause_by_s is not None

    @property
    def save_s(self) -> float:
        """Longest time from a call for a pause until the GPUs are back with nothing lost, at the present clock and size."""
        rule = self.spec.checkpoint
        step_s = self.spec.step.step_s(self.clock, self.gpus or self.spec.min_gpus)
        return step_s + (rule.cost_s if rule is not None else 0.0)

    def progress(self, now_s: float) -> JobProgress:
        """Totals up to `now_s`, which is not past the next change."""
        held = self._kept_s + self._lost_s + self._open_s + self._saving_s + self._starting_s + self._part_s
        elapsed_s = now_s - self._begun_s if self.holds_gpus else 0.0
        return JobProgress(self._energy_j + self._power_w * elapsed_s, held + self.gpus * elapsed_s)

    def gpu_time(self, now_s: float) -> GpuTime:
        """Where its GPU-seconds went up to `now_s`."""
        spent = GpuTime(self._kept_s, self._lost_s, self._open_s, self._saving_s, self._starting_s)
        under_way_s = self._part_s + self.gpus * (now_s - self._begun_s) if self.holds_gpus else 0.0
        if self.status == "starting":
            return spent._replace(starting_s=spent.starting_s + under_way_s)
        if self.status == "saving":
            return spent._replace(saving_s=spent.saving_s + under_way_s)
        if self.status == "stepping" and self.spec.checkpoint is None:
            made = self._whole_steps(now_s)
            kept_s = self._part_s + self.gpus * (self._end_s(made) - self._begun_s) if made else 0.0
            return spent._replace(kept_s=spent.kept_s + kept_s, open_s=spent.open_s + under_way_s - kept_s)
        return spent._replace(open_s=spent.open_s + under_way_s)

    def steps(self, now_s: float) -> JobSteps:
        """Whole steps up to `now_s`."""
        made = self._whole_steps(now_s) if self.status == "stepping" else 0
        saved = made if self.spec.checkpoint is None else 0
        return JobSteps(self.steps_done + made, self.steps_kept + saved, self.steps_lost, self.steps_open + made - saved)

    # --- changes -----------------------------------------------------------------------------------------------------

    def _change(self, now_s: float) -> None:
        if self.status == "starting":
            self._starting_s += self._book(now_s)
            self._saved_at_s = now_s
            self._go_on(now_s)
        elif self.status == "stepping":
            self._count(now_s, self._steps)
            self._after_steps(now_s)
        else:
            self._saving_s += self._book(now_s)
            self._saved(now_s)

    def _launch(self, now_s: float, gpus: int) -> None:
        self.status, self.gpus = "starting", gpus
        self._begin(now_s, self.spec.wait_w, now_s + self.spec.restart_s)

    def _begin(self, now_s: float, gpu_w: float, end_s: float, ahead: float = 0.0) -> None:
        self._begun_s, self._power_w, self.next_change_s, self._ahead = now_s, self.gpus * gpu_w, end_s, ahead

    def _book(self, now_s: float) -> float:
        """The phase under way ends: its energy is counted; its GPU-seconds."""
        elapsed_s = now_s - self._begun_s
        self._energy_j += self._power_w * elapsed_s
        self._begun_s = now_s
        return self.gpus * elapsed_s

    def _count(self, now_s: float, steps: int) -> None:
        """`steps` steps of the jump under way, at least 1, were made up to `now_s`."""
        self.steps_done += steps
        spent_s = self._book(now_s) + self._part_s
        self._ahead = self._part_s = 0.0
        if self.spec.checkpoint is None:
            self.steps_kept += steps
            self._kept_s += spent_s
        else:
            self.steps_open += steps
            self._open_s += spent_s

    def _after_steps(self, now_s: float) -> None:
        """At the end of a step: save if that is due, else go on."""
        rule = self.spec.checkpoint
        if rule is None:
            tell, self._tell = self._tell, False
            if self.steps_kept == self.spec.steps:
                self._finish(now_s)
            elif self._pause_by_s is not None:
                self._give_back(PAUSED, 0)
            else:
                if tell:
                    self.outbox.append((SAVED, self.steps_kept))
                self._go_on(now_s)
            return
        if self._pause_by_s is not None:
            when = self._pauses_at(now_s, self.steps_open)
            if when is None:
                self._stop(now_s)
                return
            if when > now_s:
                self._go_on(now_s)
                return
        if self._pause_by_s is not None or self._due(now_s, self.steps_open, self._next_step_s()) == 0:
            self._save(now_s, rule.cost_s)
        else:
            self._go_on(now_s)

    def _change_clock(self, now_s: float) -> None:
        """The clock changes within a jump: the share of the step under way that is left goes on at the new one."""
        steps = self._whole_steps(now_s)
        if steps:
            end_s, step_s = self._end_s(steps), self._step_s
            self._count(end_s, steps)
            if end_s == now_s:
                self._after_steps(now_s)
                return
            ahead = (now_s - end_s) / step_s
        else:
            ahead = self._ahead + (now_s - self._begun_s) / self._step_s
        self._part_s += self._book(now_s)
        self._go_on(now_s, min(1.0, ahead))

    def _give_step_up(self, now_s: float) -> None:
        """The step under way would not end in time any more: what is open is saved without it."""
        self._lost_s, self._part_s = self._lost_s + self._part_s, 0.0
        if self.steps_open:
            assert self.spec.checkpoint is not None
            self._save(now_s, self.spec.checkpoint.cost_s)
        elif self._pause_by_s is not None:
            self._give_back(STOPPED, 0)
        else:
            self._finish(now_s)

    def _save(self, now_s: float, cost_s: float) -> None:
        self.status = "saving"
        self._begin(now_s, self.spec.wait_w, now_s + cost_s)

    def _saved(self, now_s: float) -> None:
        self.checkpoints += 1
        kept, self.steps_open = self.steps_open, 0
        self.steps_kept += kept
        self._kept_s, self._open_s = self._kept_s + self._open_s, 0.0
        self._saved_at_s = now_s
        self.outbox.append((SAVED, self.steps_kept))
        if self.steps_kept == self.spec.steps:
            self._finish(now_s)
        elif self._pause_by_s is not None:
            self._give_back(PAUSED, 0)
        else:
            self._go_on(now_s)

    def _go_on(self, now_s: float, ahead: float = 0.0) -> None:
        """The next jump: to the next checkpoint, or to the end; `ahead` of its first step is made already. One that begins within
        a step looks again at the end of that, where a pause or a report is asked for."""
        self.clock = self._next_clock()
        self._step_s = self.spec.step.step_s(self.clock, self.gpus)
        steps = self._due(now_s, self.steps_open, self._step_s, ahead)
        first_end_s = now_s + (1.0 - ahead) * self._step_s
        late = self._pause_by_s is not None and self._pauses_at(first_end_s, self.steps_open + 1) is None
        if steps < 1 or late:
            self._give_step_up(now_s)
            return
        if self._tell or self._pause_by_s is not None:
            steps = 1
        self.status, self._steps = "stepping", steps
        self._begin(now_s, self.spec.step.watts(self.clock), now_s + (steps - ahead) * self._step_s, ahead)

    def _due(self, now_s: float, steps_open: int, step_s: float, ahead: float = 0.0) -> int:
        """Steps from `now_s` until the job must save or is done: `steps_open` are not saved, `ahead` of the first is made."""
        spec = self.spec
        rule, done = spec.checkpoint, self.steps_kept + steps_open
        bounds: list[int] = []
        if spec.steps is not None:
            bounds.append(spec.steps - done)
        else:
            assert spec.deadline_s is not None
            cost_s = rule.cost_s if rule is not None else 0.0
            bounds.append(max(0, floor((spec.deadline_s - cost_s - now_s + TIE_S) / step_s + ahead)))
        if rule is not None and rule.steps is not None:
            bounds.append(rule.steps - steps_open)
        elif rule is not None and rule.every_s is not None:
            due_s = self._saved_at_s + rule.every_s - TIE_S
            steps = max(0, ceil((due_s - now_s) / step_s + ahead))
            # Rounding settles on what a walk over the steps would compare.
            while steps > 0 and now_s + (steps - 1 - ahead) * step_s >= due_s:
                steps -= 1
            while now_s + (steps - ahead) * step_s < due_s:
                steps += 1
            bounds.append(max(steps, 0 if steps_open and not ahead else 1))
        return min(bounds)

    def _pauses_at(self, end_s: float, steps_open: int) -> float | None:
        """When a job that pauses begins the checkpoint at which it does, given that a step ends at `end_s` with `steps_open` not
        saved: the next regular one or `end_s` itself; None where neither is done by the time set."""
        assert self._pause_by_s is not None
        rule = self.spec.checkpoint
        if rule is None:
            return end_s if end_s <= self._pause_by_s + TIE_S else None
        step_s = self._next_step_s()
        regular_s = end_s + self._due(end_s, steps_open, step_s) * step_s
        latest_s = self._pause_by_s - rule.cost_s + TIE_S
        if regular_s <= latest_s:
            return regular_s
        return end_s if end_s <= latest_s else None

    def _stop(self, now_s: float) -> None:
        """Give the GPUs back now."""
        working = self.status != "starting"
        lost = self._lose(now_s)
        self._give_back(STOPPED if working else PAUSED, lost)

    def _lose(self, now_s: float) -> int:
        """The phase under way ends now. Steps lost: what has not been saved, beside the step under way."""
        if self.status == "starting":
            self._starting_s += self._book(now_s)
        elif self.status == "saving":
            self._saving_s += self._book(now_s)
        else:
            steps = self._whole_steps(now_s)
            if steps:
                self._count(self._end_s(steps), steps)
            self._lost_s += self._book(now_s) + self._part_s
            self._part_s = 0.0
        lost, self.steps_open = self.steps_open, 0
        self.steps_lost += lost
        self._lost_s, self._open_s = self._lost_s + self._open_s, 0.0
        return lost

    def _give_back(self, what: str, steps: int) -> None:
        self.status, self.gpus, self.next_change_s, self._power_w = "paused", 0, inf, 0.0
        self.pauses += 1
        self._pause_by_s, self._tell = None, False
        self.outbox.append((what, steps))

    def _finish(self, now_s: float) -> None:
        self.status, self.gpus, self.next_change_s, self._power_w = "done", 0, inf, 0.0
        self._pause_by_s = None
        self.finish_s = now_s
        self.outbox.append((DONE, 0))

    # --- the jump ----------------------------------------------------------------------------------------------------

    def _next_step_s(self) -> float:
        """What the next step takes."""
        return self.spec.step.step_s(self._next_clock(), self.gpus)

    def _next_clock(self) -> float:
        """The highest clock that lock, die and cap allow; the lowest there is where the cap is out of reach."""
        step = self.spec.step
        clock, _ = clock_under_cap(
            self.cap_w,
            min(self.clock_lock, self.thermal_limit),
            step.power,
            step.gemm_compute_s,
            step.gemm_memory_s,
            step.attention_compute_s,
            step.attention_memory_s,
            step.overhead_s,
            step.compute_busy_s,
            step.memory_busy_s,
        )
        return clock

    def _cut(self, steps: int) -> None:
        """End the jump after `steps` of its steps."""
        if steps < self._steps:
            self._steps = steps
            self.next_change_s = self._end_s(steps)

    def _end_s(self, steps: int) -> float:
        """When the jump has made `steps` of its steps, at least 1."""
        return self._begun_s + (steps - self._ahead) * self._step_s

    def _boundary_at_or_after(self, time_s: float) -> int:
        """The number of steps of the jump done at the first end of a step at or after `time_s`, at least 1."""
        steps = min(max(1, ceil((time_s - self._begun_s) / self._step_s + self._ahead)), self._steps)
        while steps > 1 and self._end_s(steps - 1) >= time_s:
            steps -= 1
        while steps < self._steps and self._end_s(steps) < time_s:
            steps += 1
        return steps

    def _whole_steps(self, time_s: float) -> int:
        """Steps of the jump that have ended by `time_s`."""
        steps = self._boundary_at_or_after(time_s)
        return steps if self._end_s(steps) <= time_s else steps - 1
