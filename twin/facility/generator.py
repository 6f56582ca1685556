"""Generators in parallel on the site bus: start, ramp, share the load, burn fuel, stop.

Each unit is off, starting, running or out. A start attempt takes the start delay and succeeds with a given probability; a unit
that did not start tries again at once, `start_attempts` times in all (the overcrank cut-out of NFPA 110), then it is out until
it is repaired. From the moment it is up a unit can take a load that grows with its ramp up to its rating. Units that run share
the load. Fuel by load is a straight line (the Willans line: no-load fuel and a part proportional to the output) through the
efficiencies at half and at full load; below the least load a unit burns what it would at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from twin.errors import InputError, SimulationError

#: Rounding of times.
_MOMENT_S = 1e-9


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """`count` units of `rated_w` (electrical, at the site bus) each. `fuel_j` is their tank's content, infinite where fuel is
    piped in; `fuel_j_per_l` 0 where it is no liquid."""

    name: str
    count: int
    rated_w: float
    start_s: float
    start_probability_frac: float
    start_attempts: int
    ramp_w_per_s: float
    least_load_frac: float
    run_min_s: float
    efficiency_half_frac: float
    efficiency_full_frac: float
    fuel_j: float = math.inf
    fuel_j_per_l: float = 0.0
    return_hold_s: float = 300.0
    for_grid: bool = False

    def __post_init__(self) -> None:
        owner = f"generators {self.name}"
        if self.count < 1 or self.start_attempts < 1:
            raise InputError(f"{owner}: at least one unit and one start attempt are due")
        for name in ("rated_w", "ramp_w_per_s", "fuel_j"):
            if not getattr(self, name) > 0:
                raise InputError(f"{owner}: {name} must be above zero, not {getattr(self, name)!r}")
        for name in ("start_s", "run_min_s", "fuel_j_per_l", "return_hold_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{owner}: {name} must be at least zero, not {getattr(self, name)!r}")
        for name in ("start_probability_frac", "efficiency_half_frac", "efficiency_full_frac"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{owner}: {name} must be above 0 and at most 1, not {getattr(self, name)!r}")
        if not 0 <= self.least_load_frac < 1:
            raise InputError(f"{owner}: the least load is a share from 0 to below 1, not {self.least_load_frac!r}")
        if min(self.fuel_idle_frac, self.fuel_slope) < 0:
            raise InputError(
                f"{owner}: efficiencies of {self.efficiency_half_frac:g} at half and {self.efficiency_full_frac:g} at full load "
                "give fuel that falls with load, or none without load"
            )

    @property
    def fuel_slope(self) -> float:
        """Fuel power per electrical power."""
        return 2 / self.efficiency_full_frac - 1 / self.efficiency_half_frac

    @property
    def fuel_idle_frac(self) -> float:
        """Fuel power without load, over the rating."""
        return 1 / self.efficiency_half_frac - 1 / self.efficiency_full_frac

    def fuel_w(self, output_w: float) -> float:
        """Fuel power of a unit that runs at `output_w`."""
        at_least_w = max(output_w, self.least_load_frac * self.rated_w)
        return self.fuel_idle_frac * self.rated_w + self.fuel_slope * at_least_w


@dataclass(slots=True)
class _Unit:
    """`state` off, starting, running or out; `left_s` until its start attempt is over, `up_s` since it is up."""

    state: str = "off"
    left_s: float = 0.0
    attempts: int = 0
    up_s: float = 0.0


@dataclass(slots=True)
class GeneratorStep:
    """What a step did: the fuel power, and what happened at its end in words."""

    fuel_w: float
    said: list[str] = field(default_factory=list)


class Generators:
    """A bank of identical units. `draws` are uniform numbers in [0, 1): a start attempt succeeds where one is below the
    probability. It knows no clock: `advance` says how long the step was."""

    def __init__(self, spec: GeneratorSpec, draws: Iterator[float]):
        self.spec = spec
        self._draws = draws
        self._units = [_Unit() for _ in range(spec.count)]
        self.fuel_left_j = spec.fuel_j
        self.fuel_used_j = 0.0
        self.energy_j = 0.0
        self.starts = 0
        self.failed_starts = 0

    @property
    def running(self) -> int:
        """Units that run."""
        return sum(unit.state == "running" for unit in self._units)

    @property
    def usable(self) -> int:
        """Units that run or could be started."""
        return sum(unit.state != "out" for unit in self._units) if self.fuel_left_j > 0 else 0

    @property
    def idle(self) -> bool:
        """Nothing runs or starts."""
        return all(unit.state in ("off", "out") for unit in self._units)

    @property
    def ramped_s(self) -> float:
        """From a start order to full load."""
        return self.spec.start_s + self.spec.rated_w / self.spec.ramp_w_per_s

    @property
    def books_balance(self) -> bool:
        """Whether the fuel used is the change of the tank, and not less than the energy given."""
        spec = self.spec
        if self.fuel_used_j < self.energy_j * (1 - 1e-9):
            return False
        if math.isinf(spec.fuel_j):
            return True
        return self.fuel_left_j >= 0 and abs(spec.fuel_j - self.fuel_left_j - self.fuel_used_j) <= 1e-9 * spec.fuel_j

    def start(self, units: int | None = None) -> None:
        """Start units until so many run or start; without a number every one that is off."""
        if self.fuel_left_j <= 0:
            return
        under_way = sum(unit.state in ("running", "starting") for unit in self._units)
        left = self.spec.count if units is None else units - under_way
        for unit in self._units:
            if unit.state == "off" and left > 0:
                left -= 1
                unit.state, unit.left_s, unit.attempts, unit.up_s = "starting", self.spec.start_s, 0, 0.0
                self.starts += 1
        self._settle([])

    def stop(self) -> bool:
        """Stop every unit that has run for its minimum time; whether all are off now."""
        for unit in self._units:
            if unit.state == "starting" or (unit.state == "running" and unit.up_s >= self.spec.run_min_s - _MOMENT_S):
                unit.state = "off"
        return self.idle

    def fail(self, units: int) -> None:
        """Take units away, those that run first. Raises SimulationError for more than there are."""
        for state in ("running", "starting", "off"):
            for unit in self._units:
                if units and unit.state == state:
                    unit.state = "out"
                    units -= 1
        if units:
            raise SimulationError(f"generators {self.spec.name}: {units} units more than are left cannot fail")

    def repair(self, units: int) -> None:
        """Give units back, as off. Raises SimulationError for more than are out."""
        for unit in self._units:
            if units and unit.state == "out":
                unit.state = "off"
                units -= 1
        if units:
            raise SimulationError(f"generators {self.spec.name}: {units} units more than are out cannot come back")

    def available_w(self) -> float:
        """What the units that run can take now, each along its ramp."""
        spec = self.spec
        return math.fsum(min(spec.rated_w, spec.ramp_w_per_s * u.up_s) for u in self._units if u.state == "running")

    def feasible_range(self, duration_s: float) -> tuple[float, float]:
        """(least, highest) power that can be held for all of `duration_s`, in W; (0, 0) while none runs.

        The highest counts each unit's ramp at the start of the span and the fuel that is left.
        """
        if not duration_s > 0:
            raise SimulationError(f"generators {self.spec.name}: a range is asked for a positive duration, not {duration_s!r} s")
        spec, running = self.spec, self.running
        if not running:
            return 0.0, 0.0
        least_w, highest_w = running * spec.least_load_frac * spec.rated_w, self.available_w()
        if math.isfinite(self.fuel_left_j):
            spare_w = self.fuel_left_j / duration_s - running * spec.fuel_idle_frac * spec.rated_w
            if spare_w < spec.fuel_slope * least_w:
                return 0.0, 0.0
            highest_w = min(highest_w, spare_w / spec.fuel_slope if spec.fuel_slope else math.inf)
        return min(least_w, highest_w), highest_w

    def next_change_s(self) -> float:
        """Time until a start attempt is over, or a running unit is at its full rating; infinite if nothing is under way."""
        full_s = self.spec.rated_w / self.spec.ramp_w_per_s
        waits = [unit.left_s for unit in self._units if unit.state == "starting"]
        waits += [full_s - u.up_s for u in self._units if u.state == "running" and u.up_s < full_s - _MOMENT_S]
        return min(waits, default=math.inf)

    def advance(self, duration_s: float, output_w: float, overload: bool = False) -> GeneratorStep:
        """Give `output_w` for `duration_s`, then let start attempts that are over succeed or fail.

        Raises SimulationError for an output beyond the feasible range's highest; `overload`: it is the step at whose end the
        units trip, and they give what is drawn.
        """
        spec, running = self.spec, self.running
        highest_w = self.feasible_range(duration_s)[1]
        if not (0 <= output_w <= highest_w * (1 + 1e-9) or (overload and highest_w > 0)):
            raise SimulationError(
                f"generators {spec.name}: {output_w:,.0f} W for {duration_s:g} s is outside 0 to {highest_w:,.0f} W"
            )
        step = GeneratorStep(0.0)
        if running:
            wanted_w = running * spec.fuel_w(output_w / running)
            step.fuel_w = min(wanted_w, self.fuel_left_j / duration_s)
            used_j = step.fuel_w * duration_s
            self.fuel_used_j += used_j
            self.fuel_left_j -= used_j
            self.energy_j += output_w * duration_s
        for unit in self._units:
            if unit.state == "running":
                unit.up_s += duration_s
            elif unit.state == "starting":
                unit.left_s -= duration_s
        self._settle(step.said)
        if running and self._is_empty():
            self.fuel_used_j += self.fuel_left_j
            self.fuel_left_j = 0.0
            for unit in self._units:
                if unit.state in ("running", "starting"):
                    unit.state = "off"
            step.said.append("out of fuel")
        return step

    def _is_empty(self) -> bool:
        """Not even a second of one unit at its least load is left."""
        return self.fuel_left_j < self.spec.fuel_w(0.0)

    def _settle(self, said: list[str]) -> None:
        """Let the start attempts that are over succeed, be repeated or end."""
        spec = self.spec
        for number, unit in enumerate(self._units):
            while unit.state == "starting" and unit.left_s <= _MOMENT_S:
                unit.attempts += 1
                if next(self._draws) < spec.start_probability_frac:
                    unit.state = "running"
                    said.append(f"unit {number} runs")
                elif unit.attempts < spec.start_attempts:
                    unit.left_s = spec.start_s
                    said.append(f"unit {number} did not start, attempt {unit.attempts}")
                else:
                    unit.state = "out"
                    self.failed_starts += 1
                    said.append(f"unit {number} failed to start, {unit.attempts} attempts")
