"""Fits what is known of classes of work to a measured cap sweep, and says how well workloads are predicted that were left
out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from twin.calibration.cap_sweep import GPU, CapPoint, JobClass, cap_points, validation
from twin.calibration.prediction import Prediction, Refusal, Validation
from twin.calibration.table import Table
from twin.catalog import load_catalog
from twin.performance import GpuPower, gpu_power

#: Bounds of a class's share and level (in TDPs), and of the clock exponent and the voltage floor where those are fitted as
#: well.
_CLASS = ((0.2, 1.0), (0.7, 1.75))
_CLOCK = ((1.0, 6.0), (0.2, 0.95))


def fit_classes(points: Sequence[CapPoint], *, clock: bool = False) -> tuple[GpuPower, dict[str, JobClass]]:
    """The two numbers of each class that the points have, by least squares of throughput; with `clock` the GPU's exponent and
    voltage floor too, else those of the catalogue."""
    model = gpu_power(load_catalog().part("gpu", GPU))
    names = sorted({point.job_class for point in points})

    def taken(x: np.ndarray) -> tuple[GpuPower, dict[str, JobClass]]:
        known = {name: JobClass(x[2 * place], x[2 * place + 1] * model.tdp_w) for place, name in enumerate(names)}
        return (replace(model, exponent=x[-2], voltage_floor_frac=x[-1]) if clock else model), known

    def residuals(x: np.ndarray) -> np.ndarray:
        power, known = taken(x)
        return np.array([point.predicted(known[point.job_class], power)[0] - point.throughput for point in points])

    start = [0.7, 0.95] * len(names) + ([model.exponent, model.voltage_floor_frac] if clock else [])
    bounds = [*_CLASS] * len(names) + ([*_CLOCK] if clock else [])
    return taken(least_squares(residuals, start, bounds=tuple(zip(*bounds, strict=True))).x)


def left_out(table: Table) -> Validation:
    """Each workload predicted by what is fitted to the others, the clock's exponent and the voltage floor included; one whose
    class no other has is refused."""
    found = cap_points(table)
    points = [point for point in found if isinstance(point, CapPoint)]
    predictions: list[Prediction] = []
    refused = [point for point in found if isinstance(point, Refusal)]
    for workload in sorted({point.workload for point in points}):
        mine = [point for point in points if point.workload == workload]
        others = [point for point in points if point.workload != workload]
        if mine[0].job_class not in {point.job_class for point in others}:
            refused += [Refusal(point.row, f"no other workload is of the class {point.job_class}") for point in mine]
            continue
        power, known = fit_classes(others, clock=True)
        predictions += validation(mine, known, power).predictions
    return Validation("cap_sweep", tuple(predictions), tuple(refused), (("class",), ("workload",)))
