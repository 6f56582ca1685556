"""A job that walks step by step: slow and obvious, for fixed clocks and a plan of pauses. Times are exact fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from twin.serving import JobSpec
from twin.serving.job import TIE_S

TIE = Fraction(TIE_S)


@dataclass
class WalkedJob:
    """What a walk finds: when each checkpoint was done, and the steps by what became of them."""

    checkpoints_s: list[float] = field(default_factory=list)
    given_back_s: list[float] = field(default_factory=list)
    finish_s: float | None = None
    done: int = 0
    kept: int = 0
    lost: int = 0
    energy_j: float = 0.0


def walk(
    spec: JobSpec,
    gpus: int,
    pauses: list[tuple[float, float, float]],
    clocks: list[tuple[float, float]],
    horizon_s: float,
) -> WalkedJob:
    """The job from 0 on, on `gpus` GPUs, with `pauses` (called, due, resumed) in order and clock locks (time, clock)
    that act from the first end of a step at or after their time."""
    found = WalkedJob()
    rule = spec.checkpoint
    assert rule is not None
    now = Fraction(0)
    wait_w, horizon = gpus * spec.wait_w, Fraction(horizon_s)
    calls = [tuple(map(Fraction, call)) for call in pauses]

    def clock_at(time: Fraction) -> float:
        return next((clock for at_s, clock in reversed(clocks) if at_s <= time), 1.0)

    def step_of(time: Fraction) -> Fraction:
        return Fraction(spec.step.step_s(clock_at(time), gpus))

    def due(unsaved: int, time: Fraction, saved: Fraction) -> bool:
        if spec.steps is not None and found.kept + unsaved == spec.steps:
            return True
        if rule.steps is not None:
            return unsaved >= rule.steps
        return unsaved > 0 and time >= saved + Fraction(rule.every_s) - TIE

    while now < horizon:
        # a start
        call = calls[0] if calls else (horizon, horizon, horizon)
        up = now + Fraction(spec.restart_s)
        if call[0] < up:
            found.energy_j += float(call[0] - now) * wait_w
            found.given_back_s.append(float(call[0]))
            now = calls.pop(0)[2]
            continue
        if up > horizon:
            found.energy_j += float(horizon - now) * wait_w
            return found
        found.energy_j += float(up - now) * wait_w
        now = saved = up
        unsaved, running = 0, True
        while running:
            call = calls[0] if calls else (horizon * 2, horizon * 2, horizon * 2)
            step = step_of(now)
            save = due(unsaved, now, saved)
            if not save and call[0] <= now:
                # called by now: is the next regular checkpoint in time? else save here
                steps, time = unsaved, now
                while not due(steps, time, saved):
                    steps, time = steps + 1, time + step
                save = time + Fraction(rule.cost_s) > call[1] + TIE
            if not save:
                # one step, in pieces that end where a clock changes or a call comes
                left, stopped = Fraction(1), False
                while left and not save and not stopped:
                    step, power = step_of(now), gpus * spec.step.watts(clock_at(now))
                    end = now + left * step
                    marks = [call[0], *(Fraction(at_s) for at_s, _ in clocks)]
                    until = min([end, *(mark for mark in marks if now < mark < end)])
                    if until > horizon:
                        found.energy_j += float(horizon - now) * power
                        return found
                    found.energy_j += float(until - now) * power
                    left = left - (until - now) / step if until < end else Fraction(0)
                    now = until
                    if call[0] > now or (call[0] < now and not left):
                        continue
                    step = step_of(now)
                    if _in_time(call, now + left * step, unsaved + 1, saved, step, due, rule.cost_s):
                        continue
                    # called now: it stops; called before and slower since: it gives this step up and saves what it has
                    save = call[0] < now and unsaved > 0
                    stopped = not save
                if not left:
                    found.done += 1
                    unsaved += 1
                if stopped:
                    found.lost += unsaved
                    found.given_back_s.append(float(now))
                    now, running = calls.pop(0)[2], False
                if not save:
                    continue
            saved_at = now + Fraction(rule.cost_s)
            if call[0] < saved_at and saved_at > call[1] + TIE:
                stop = max(call[0], now)
                found.energy_j += float(stop - now) * wait_w
                found.lost += unsaved
                found.given_back_s.append(float(stop))
                now, running = calls.pop(0)[2], False
                continue
            if saved_at > horizon:
                found.energy_j += float(horizon - now) * wait_w
                return found
            found.energy_j += rule.cost_s * wait_w
            found.kept, unsaved, now = found.kept + unsaved, 0, saved_at
            saved = now
            found.checkpoints_s.append(float(now))
            if found.kept == spec.steps:
                found.finish_s = float(now)
                return found
            if call[0] < now:
                found.given_back_s.append(float(now))
                now, running = calls.pop(0)[2], False
    return found


def _in_time(call, end, unsaved, saved, step, due, cost_s) -> bool:  # type: ignore[no-untyped-def]
    """Whether a checkpoint, at the next regular time or at `end`, is done by the time that the call sets."""
    steps, time = unsaved, end
    while not due(steps, time, saved) and time <= call[1]:
        steps, time = steps + 1, time + step
    return end + Fraction(cost_s) <= call[1] + TIE or time + Fraction(cost_s) <= call[1] + TIE
