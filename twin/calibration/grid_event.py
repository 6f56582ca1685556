"""The measured two-step grid event beside a run of it: GPU power of the cluster, minute by minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin.calibration.table import missing_columns, read_table
from twin.errors import InputError

#: Phases of the event by clock time: name, first minute, first minute after it.
PHASES = (
    ("before", "14:00", "15:05"),
    ("first ramp", "15:05", "15:20"),
    ("at 81 %", "15:20", "17:50"),
    ("second ramp", "17:50", "18:05"),
    ("at 69 %", "18:05", "20:07"),
    ("coming back", "20:07", "20:25"),
    ("after", "20:25", "24:00"),
)
#: Clock time at which scenarios/phoenix_two_step.yaml begins.
START = "13:54"
#: The baseline is the mean of so many first minutes.
_BASELINE_MINUTES = 15


@dataclass(frozen=True, slots=True)
class Minutes:
    """Mean power of each minute, measured and run, in W; `minute` counts from midnight."""

    minute: NDArray[np.int64]
    measured_w: NDArray[np.float64]
    run_w: NDArray[np.float64]

    @property
    def baseline_w(self) -> float:
        """The measured power in the beginning."""
        return float(self.measured_w[:_BASELINE_MINUTES].mean())

    def rmse(self, first: str = "00:00", end: str = "24:00") -> float:
        """Root mean square difference over the baseline, of the minutes between two clock times."""
        inside = (self.minute >= minute_of(first)) & (self.minute < minute_of(end))
        return float(np.sqrt(((self.run_w - self.measured_w)[inside] ** 2).mean())) / self.baseline_w

    def by_phase(self) -> Mapping[str, tuple[float, float, float]]:
        """Phase -> measured and run mean power over the baseline, and the RMSE."""
        found = {}
        for name, first, end in PHASES:
            inside = (self.minute >= minute_of(first)) & (self.minute < minute_of(end))
            measured, run = (float(watts[inside].mean()) / self.baseline_w for watts in (self.measured_w, self.run_w))
            found[name] = (measured, run, self.rmse(first, end))
        return found


def minute_of(clock: str) -> int:
    """Minutes from midnight to "HH:MM"."""
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


def event_minutes(
    path: Path, time_s: Sequence[float] | NDArray[np.float64], gpu_w: Sequence[float] | NDArray[np.float64]
) -> Minutes:
    """A file of measurements (`timestamp` HH:MM, `total` W) beside a run's power rows, which end at `time_s` and are equally
    long.

    Raises InputError with every problem of the file, or if the run does not cover it.
    """
    table = read_table(path)
    table.problems += missing_columns(table, ("timestamp", "total"))
    table.check()
    table.need_numbers(("total",))
    table.check()
    minute = np.array([minute_of(row.text("timestamp")) for row in table.rows])
    ends, watts = np.asarray(time_s), np.asarray(gpu_w)
    begins_s = 60.0 * (minute - minute_of(START))
    if begins_s[0] < 0 or begins_s[-1] + 60.0 > ends[-1] + 1e-6:
        raise InputError(f"{path}: its minutes are not all in the run, which ends after {ends[-1]:g} s")
    run_w = np.array([watts[(ends > begin_s + 1e-6) & (ends <= begin_s + 60.0 + 1e-6)].mean() for begin_s in begins_s])
    return Minutes(minute, np.array([row.number("total") or 0.0 for row in table.rows]), run_w)
