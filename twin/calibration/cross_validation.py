"""How well points are predicted that were not fitted: held out by curve, by system, by model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Literal

import numpy as np

from twin.calibration.fitted import with_stand_ins
from twin.calibration.prediction import Prediction, Refusal, Validation
from twin.calibration.serving_calibration import Say, calibrate, replay_all
from twin.calibration.serving_points import ServingPoint, serving_points
from twin.calibration.serving_validation import GROUPS, predict, table_of
from twin.calibration.table import Table

Scheme = Literal["curve", "system", "model"]
FOLDS = 5
_HELD: Mapping[Scheme, Callable[[ServingPoint], Hashable]] = {
    "curve": lambda point: point.curve,
    "system": lambda point: point.labels["system"],
    "model": lambda point: point.shape.name,
}


def cross_validate(table: Table, scheme: Scheme, jobs: int | None, say: Say) -> Validation:
    """Each point predicted, by running the workers, with coefficients from points that share nothing of `scheme` with it.

    Curves are dealt into five folds; systems and models are held out one by one. Where nothing is left to fit a group on, its
    nearest one stands in, as in the catalogue.
    """
    points = serving_points(table).points
    first = replay_all(table, points, {}, jobs)
    folds = _folds(points, scheme)
    predictions: list[Prediction] = []
    refused: list[Refusal] = []
    for fold in sorted(set(folds.values()), key=str):
        say(f"held out by {scheme}: {fold}")
        held = [point for point in points if folds[point.row] == fold]
        kept = [point for point in points if folds[point.row] != fold]
        use = calibrate(table, kept, jobs, say, first)
        use = with_stand_ins(use, [point.coefficients_key for point in held])
        found = predict(table_of(table, {point.row for point in held}), use, jobs, None)
        predictions += found.predictions
        refused += found.refused
    return Validation("serving_points", tuple(predictions), tuple(refused), GROUPS)


def _folds(points: tuple[ServingPoint, ...], scheme: Scheme) -> dict[str, str]:
    """Row -> name of the fold that holds it out."""
    held = _HELD[scheme]
    values = sorted({str(held(point)) for point in points})
    if scheme != "curve":
        return {point.row: str(held(point)) for point in points}
    order = np.random.default_rng(0).permutation(len(values))
    place = {value: f"fold {order[index] % FOLDS + 1}" for index, value in enumerate(values)}
    return {point.row: place[str(held(point))] for point in points}
