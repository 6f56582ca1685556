"""What a job is: its step, how it is saved, and how many GPUs it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from twin.performance import GpuPower


@dataclass(frozen=True, slots=True)
class JobStep:
    """A step on `gpus` GPUs: five terms that set its time, two for how long the mean GPU is busy in it, in seconds at relative
    clock 1 (as `twin.performance.StepCost` has them), and the power model of a GPU.

    On n GPUs all of them are (gpus / n) ** `scaling` as long: 1 is linear. A step makes `tokens` output tokens.
    """

    gpus: int
    gemm_compute_s: float
    gemm_memory_s: float
    attention_compute_s: float
    attention_memory_s: float
    overhead_s: float
    compute_busy_s: float
    memory_busy_s: float
    power: GpuPower
    scaling: float = 1.0
    tokens: int = 0

    def step_s(self, clock: float, gpus: int) -> float:
        """Seconds of a step on `gpus` GPUs at relative `clock`."""
        return self._reference_s(clock) * (self.gpus / gpus) ** self.scaling

    def watts(self, clock: float) -> float:
        """Mean watts of a GPU in a step: the same on any number of them, since all terms scale alike."""
        step_s = self._reference_s(clock)
        return self.power.step_energy_j(step_s, self.compute_busy_s, self.memory_busy_s, clock) / step_s

    def memory_w(self, clock: float) -> float:
        """The part of these watts that goes into memory traffic."""
        return self.power.memory_w * self.memory_busy_s / self._reference_s(clock)

    def _reference_s(self, clock: float) -> float:
        return (
            max(self.gemm_compute_s / clock, self.gemm_memory_s)
            + max(self.attention_compute_s / clock, self.attention_memory_s)
            + self.overhead_s
        )


@dataclass(frozen=True, slots=True)
class CheckpointRule:
    """A checkpoint of `cost_s` seconds every `steps` steps, or at the first end of a step `every_s` seconds after the last one:
    one of both."""

    cost_s: float
    steps: int | None = None
    every_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job.

    It holds `min_gpus` to `max_gpus` GPUs in units of `unit_gpus`, of the rack groups `racks`, which take no
    cap below `cap_min_w` and draw
    `other_frac` beside the GPUs for each watt of these above idle. Without a `checkpoint` rule each step is saved as it ends, at
    no cost. `wait_w` is what a GPU draws while the job starts (`restart_s` from getting its GPUs to its first step) and while it
    saves. It makes `steps` steps; without, it goes on as long as it can save by `deadline_s`.
    """

    name: str
    kind: str
    step: JobStep
    min_gpus: int
    max_gpus: int
    unit_gpus: int
    checkpoint: CheckpointRule | None
    wait_w: float
    restart_s: float
    steps: int | None
    racks: tuple[str, ...]
    cap_min_w: float = 0.0
    other_frac: float = 0.0
    arrival_s: float = 0.0
    deadline_s: float | None = None
    priority: int = 0


class JobProgress(NamedTuple):
    """Running totals of a job up to a moment: energy of the GPUs while it held them, GPU-seconds held, and the part of the energy
    that went into memory traffic."""

    energy_j: float
    held_gpu_s: float
    memory_j: float = 0.0


class JobSteps(NamedTuple):
    """Steps made; of them saved, made in vain, and made since the last checkpoint."""

    done: int
    kept: int
    lost: int
    open: int


class GpuTime(NamedTuple):
    """Where the GPU-seconds of a job went: steps that were saved, steps lost, steps made since the last checkpoint (and the one
    under way), saving, starting."""

    kept_s: float = 0.0
    lost_s: float = 0.0
    open_s: float = 0.0
    saving_s: float = 0.0
    starting_s: float = 0.0
