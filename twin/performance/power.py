"""Power of a GPU by what it does: idle, stepping, arithmetic and memory traffic, and how it follows the clock."""

from __future__ import annotations

from dataclasses import dataclass

from twin.catalog import Part


@dataclass(frozen=True, slots=True)
class GpuPower:
    """Power model of one GPU, in W, with the clock f relative to its maximum.

    A step of `step_s` seconds with `compute_busy_s` of arithmetic (GEMMs and attention, seconds at f = 1) and
    `memory_busy_s` of memory traffic uses
    `(idle_w + active_w s(f)) step_s + compute_w s(f) (compute_busy_s / f) + memory_w memory_busy_s` joules, where
    `s(f) = f**exponent` falls with clock and voltage down to `voltage_floor_frac`, and with the clock alone below it.
    `active_w` is what a GPU draws for running a step at all: measured decode on TP 8 draws 0.44 of TDP while neither roof is
    half used, and falls with the clock though memory sets the pace. `tdp_w` is a cap always in force. `clock_min_frac` is
    the lowest clock a lock or cap can set.
    """

    idle_w: float
    compute_w: float
    memory_w: float
    exponent: float
    tdp_w: float
    clock_min_frac: float
    active_w: float = 0.0
    voltage_floor_frac: float = 0.0

    def clock_share(self, clock: float) -> float:
        """Switching power at relative `clock` over that at full clock."""
        floor = self.voltage_floor_frac
        return clock**self.exponent if clock >= floor else floor ** (self.exponent - 1.0) * clock

    def stepping_w(self, clock: float = 1.0) -> float:
        """Watts during a step before any arithmetic or memory traffic is counted."""
        return self.idle_w + self.active_w * self.clock_share(clock)

    def step_energy_j(self, step_s: float, compute_busy_s: float, memory_busy_s: float, clock: float = 1.0) -> float:
        """Joules of one step of one GPU; `compute_busy_s` counts at f = 1."""
        compute = self.compute_w * self.clock_share(clock) / clock * compute_busy_s
        return self.stepping_w(clock) * step_s + compute + self.memory_w * memory_busy_s


def gpu_power(gpu: Part) -> GpuPower:
    """The power model of a catalogue GPU. Raises UnknownValueError where one of its values is not known."""
    return GpuPower(
        idle_w=gpu.number("idle_w"),
        compute_w=gpu.number("power_compute_w"),
        memory_w=gpu.number("power_memory_w"),
        exponent=gpu.number("power_clock_exponent"),
        tdp_w=gpu.number("tdp_w"),
        clock_min_frac=gpu.number("clock_min_frac"),
        active_w=gpu.number("power_active_w"),
        voltage_floor_frac=gpu.number("power_voltage_floor_frac"),
    )
