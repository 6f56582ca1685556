"""What an instance has used and made: energy, time, tokens, and whose energy it was."""

from __future__ import annotations

from twin.serving.jump import Jump
from twin.serving.losses import TimeSplit
from twin.serving.phases import PHASES, PhaseTotals
from twin.serving.worker_spec import Progress


class Meter:
    """Running totals of an instance, exact at every step boundary and even within a step.

    `energy_j` counts its GPUs, idle time included; `step_energy_j` steps alone. A step's energy is shared evenly by its tokens,
    drafted ones included: a decoding sequence has used the growth of `per_sequence_j` since it joined, a prompt is charged as its
    pieces are computed, and `attributed_j` is what requests that have left, and prompts, were charged. `output_tokens` counts
    the mean gain of speculating sequences, so it is no whole number then.
    """

    __slots__ = (
        "_idle_w",
        "_phase_j",
        "_phase_s",
        "_split",
        "attributed_j",
        "broken_output_tokens",
        "broken_prompt_tokens",
        "busy_s",
        "decode_batch_s",
        "drafted",
        "energy_j",
        "idle_since_s",
        "memory_j",
        "output_tokens",
        "per_sequence_j",
        "prefill_tokens",
        "recomputed_j",
        "step_energy_j",
    )

    def __init__(self, idle_w: float):
        self._idle_w = idle_w
        #: Tokens that a decoding sequence brings to a step.
        self.drafted = 1
        self.idle_since_s = 0.0
        self.energy_j = 0.0
        self.step_energy_j = 0.0
        self.busy_s = 0.0
        self.memory_j = 0.0
        self._phase_s = [0.0] * len(PHASES)
        self._phase_j = [0.0] * len(PHASES)
        self._split = [0.0] * len(TimeSplit._fields)
        self.output_tokens: float = 0
        self.prefill_tokens = 0
        #: Of these, the parts that steps had done when they broke off, of which nothing came.
        self.broken_output_tokens = self.broken_prompt_tokens = 0.0
        #: What contexts that had been computed before cost once more: energy as charged, seconds of full steps.
        self.recomputed_j = 0.0
        self.decode_batch_s = 0.0
        self.per_sequence_j = 0.0
        self.attributed_j = 0.0

    def book_idle(self, now_s: float) -> None:
        """The instance was idle up to now."""
        if now_s > self.idle_since_s:
            self.energy_j += self._idle_w * (now_s - self.idle_since_s)

    def book(self, jump: Jump, now_s: float) -> float:
        """The steps of `jump` are done now; the energy of each token position over them, in J."""
        steps = jump.steps
        energy_j = jump.energy_j(steps)
        self.energy_j += energy_j
        self.step_energy_j += energy_j
        self.memory_j += jump.memory_j(steps)
        self.busy_s += now_s - jump.start_s
        phase = jump.phase
        self._phase_s[phase] += now_s - jump.start_s
        self._phase_j[phase] += energy_j
        self._split = [total + more for total, more in zip(self._split, jump.split(steps), strict=True)]
        share_j = energy_j / jump.tokens
        decodes = jump.decodes
        if decodes:
            self.decode_batch_s += (now_s - jump.start_s) * decodes
            self.per_sequence_j += share_j * self.drafted
            self.output_tokens += jump.gained * steps
        self.idle_since_s = now_s
        return share_j

    def break_off(self, jump: Jump, done: Progress, split: TimeSplit, now_s: float) -> float:
        """A step of `jump` breaks off now: its part counts as work, and nothing comes of it. `done` and `split` are the totals
        up to now. Returns the energy of each token position, in J."""
        broken_j = done.energy_j - self.energy_j
        self._phase_s[jump.phase] += done.busy_s - self.busy_s
        self._phase_j[jump.phase] += broken_j
        self.broken_output_tokens += done.output_tokens - self.output_tokens
        self.broken_prompt_tokens += done.prefill_tokens - self.prefill_tokens
        self.energy_j, self.busy_s, self.output_tokens, prefilled, self.decode_batch_s, self.memory_j = done
        self.prefill_tokens = prefilled  # type: ignore[assignment]
        self._split = list(split)
        self.step_energy_j += broken_j
        share_j = broken_j / jump.tokens
        if jump.decodes:
            self.per_sequence_j += share_j * self.drafted
        self.idle_since_s = now_s
        return share_j

    def stand_by(self, idle_w: float, now_s: float) -> None:
        """The idle instance draws `idle_w` from now on."""
        self.book_idle(now_s)
        self._idle_w, self.idle_since_s = idle_w, now_s

    def progress(self, jump: Jump | None, now_s: float) -> Progress:
        """Totals up to `now_s` with `jump` under way (None: idle); within a step they accrue evenly."""
        if jump is None:
            energy_j = self.energy_j + self._idle_w * (now_s - self.idle_since_s)
            return Progress(energy_j, self.busy_s, self.output_tokens, self.prefill_tokens, self.decode_batch_s, self.memory_j)
        steps = jump.boundary_at_or_after(now_s) - 1
        begun_s = jump.duration_s(steps)
        step_s = jump.duration_s(steps + 1) - begun_s
        elapsed_s = now_s - jump.start_s
        # The clock of the run and the sum of steps may differ in the last bit at either end of a step.
        share = min(1.0, max(0.0, (elapsed_s - begun_s) / step_s))
        done = steps + share
        energy_j = jump.energy_j(steps)
        memory_j = jump.memory_j(steps)
        return Progress(
            self.energy_j + energy_j + share * (jump.energy_j(steps + 1) - energy_j),
            self.busy_s + elapsed_s,
            self.output_tokens + done * jump.gained,
            self.prefill_tokens + done * (jump.tokens - jump.decodes * self.drafted),
            self.decode_batch_s + elapsed_s * jump.decodes,
            self.memory_j + memory_j + share * (jump.memory_j(steps + 1) - memory_j),
        )

    def phases(self, jump: Jump | None, now_s: float) -> PhaseTotals:
        """Time and energy by phase up to `now_s`, with `jump` under way."""
        if jump is None:
            return PhaseTotals(tuple(self._phase_s), tuple(self._phase_j))
        now = self.progress(jump, now_s)
        # What the jump under way has used: all there is less what was booked, idle time included.
        under_way = ((now.busy_s - self.busy_s), (now.energy_j - self.energy_j))
        totals = ([*self._phase_s], [*self._phase_j])
        for total, more in zip(totals, under_way, strict=True):
            total[jump.phase] += more
        return PhaseTotals(*(tuple(total) for total in totals))

    def split(self, jump: Jump | None, now_s: float) -> TimeSplit:
        """Where the busy time up to `now_s` went, with `jump` under way."""
        if jump is None:
            return TimeSplit(*self._split)
        steps = jump.boundary_at_or_after(now_s) - 1
        begun_s = jump.duration_s(steps)
        share = min(1.0, max(0.0, (now_s - jump.start_s - begun_s) / (jump.duration_s(steps + 1) - begun_s)))
        before, after = jump.split(steps), jump.split(steps + 1)
        return TimeSplit(*(s + b + share * (a - b) for s, b, a in zip(self._split, before, after, strict=True)))
