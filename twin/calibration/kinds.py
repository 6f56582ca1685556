"""Kinds of files of measurements, told by their columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twin.calibration import cap_sweep, phase_times, request_rates, serving_points
from twin.calibration.fitted import Fitted
from twin.calibration.prediction import OnRows, Validation
from twin.calibration.serving_calibration import Say, calibrate_serving_points
from twin.calibration.serving_validation import validate_serving_points
from twin.calibration.table import Table, read_table
from twin.errors import InputError, Problem

Calibrate = Callable[[Table, str, int | None, Say], list[Fitted]]
Validate = Callable[[Table, int | None, OnRows | None], Validation]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of measurements: the columns that tell it, what predicts its rows, and what fits coefficients of the step
    model to them, if they hold any."""

    name: str
    markers: tuple[str, ...]
    validate: Validate
    calibrate: Calibrate | None = None


KINDS = (
    Kind("serving_points", serving_points.MARKERS, validate_serving_points, calibrate_serving_points),
    Kind("phase_times", phase_times.MARKERS, phase_times.validate_phase_times, phase_times.calibrate_phase_times),
    Kind("cap_sweep", cap_sweep.MARKERS, cap_sweep.validate_cap_sweep),
    Kind("request_rates", request_rates.MARKERS, request_rates.validate_request_rates),
)


def kind_of(table: Table) -> Kind:
    """The kind whose columns the file has most of. Raises InputError where it has half of none's."""
    found = max(KINDS, key=lambda kind: len(set(kind.markers) & set(table.columns)) / len(kind.markers))
    if len(set(found.markers) & set(table.columns)) * 2 < len(found.markers):
        known = "; ".join(f"{kind.name}: {', '.join(kind.markers)}" for kind in KINDS)
        raise InputError([Problem(table.file, 1, 1, "", f"its columns are of no known kind of measurements ({known})")])
    return found


def validate(path: Path, jobs: int | None = None, on_rows: OnRows | None = None) -> Validation:
    """Predict each row of a file of measurements, without fitting. Raises InputError with every problem of the file."""
    table = read_table(path)
    return kind_of(table).validate(table, jobs, on_rows)


def calibrate(path: Path, source: str, jobs: int | None = None, say: Say = lambda _: None) -> list[Fitted]:
    """Fit coefficients to a file of measurements that come from `source`. Raises InputError with every problem of the file, or
    if none of its rows can be used."""
    table = read_table(path)
    kind = kind_of(table)
    if kind.calibrate is None:
        raise InputError(
            f"{path}: measurements of the kind {kind.name} can be predicted (`twin validate`), but nothing is fitted to them"
        )
    found = kind.calibrate(table, source, jobs, say)
    if not found:
        raise InputError(f"{path}: none of its rows can be used; `twin validate` says why")
    return found
