"""Serving points predicted by running the real workers in closed loop at their concurrency."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from twin.calibration.fitted import Key
from twin.calibration.prediction import OnRows, Prediction, Refusal, Validation, merged
from twin.calibration.replay import replay
from twin.calibration.serving_points import ServingPoint, row_name, serving_points
from twin.calibration.table import Row, Table
from twin.catalog import load_catalog
from twin.errors import InputError, SimulationError
from twin.performance import Coefficients
from twin.processes import Died, call_all, processes

GROUPS = (
    ("system",),
    ("backend",),
    ("model",),
    ("precision",),
    ("mode",),
    ("system", "backend", "model", "precision", "mode"),
)


def validate_serving_points(table: Table, jobs: int | None = None, on_rows: OnRows | None = None) -> Validation:
    """Each row of a table of serving points, on `jobs` processes (one for each core by default)."""
    serving_points(table)  # every problem of the file, before anything runs
    return predict(table, None, jobs, on_rows)


def predict(table: Table, use: Mapping[Key, Coefficients] | None, jobs: int | None, on_rows: OnRows | None) -> Validation:
    """As `validate_serving_points`, with given coefficients, or the catalogue's where `use` is None."""
    chunks = split(table, processes(jobs))
    done = 0

    def ended(index: int, answer: object) -> None:
        nonlocal done
        done += len(chunks[index].rows)
        if on_rows is not None:
            on_rows(done, len(table.rows))

    answers = call_all([Chunk(chunk, use) for chunk in chunks], jobs, ended)
    for answer in answers:
        if isinstance(answer, Died):
            raise SimulationError(f"{table.file}: some rows were not predicted: {answer.reason}")
    predictions, refused = merged(answers)
    order = {row_name(row): place for place, row in enumerate(table.rows)}
    return Validation(
        "serving_points",
        tuple(sorted(predictions, key=lambda p: order[p.row])),
        tuple(sorted(refused, key=lambda r: order[r.row])),
        GROUPS,
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of a table for one process, and the coefficients to predict them with (None: the catalogue's)."""

    table: Table
    use: Mapping[Key, Coefficients] | None

    def __call__(self) -> tuple[list[Prediction], list[Refusal]]:
        """Predict them."""
        found = serving_points(self.table)
        predictions = []
        refused = [Refusal(row, why) for row, why in found.refused]
        for point in found.points:
            try:
                predictions.append(_predicted(point, self.use))
            except InputError as error:
                refused.append(Refusal(point.row, str(error)))
        return predictions, refused


def coefficients_of(point: ServingPoint, use: Mapping[Key, Coefficients] | None) -> Coefficients:
    """The coefficients that a point is predicted with. Raises InputError where there are none."""
    backend, generation, weights = point.coefficients_key
    if use is None:
        return Coefficients.of(load_catalog().part("backend", backend), generation, weights)
    if (backend, generation, weights) not in use:
        raise InputError(f"no coefficients for {backend} on {generation} with {weights} weights")
    return use[backend, generation, weights]


def labels_of(point: ServingPoint) -> dict[str, str]:
    """What a point is grouped by."""
    return {
        "system": point.labels["system"],
        "backend": point.labels["backend"],
        "model": point.shape.name,
        "precision": point.precision.weights,
        "mode": point.labels["mode"],
    }


def _predicted(point: ServingPoint, use: Mapping[Key, Coefficients] | None) -> Prediction:
    done = replay(point, coefficients_of(point, use))
    figures = {"tpot": (done.tpot_s, point.tpot_s), "ttft": (done.ttft_s, point.ttft_s)}
    return Prediction(point.row, labels_of(point), figures)


def table_of(table: Table, rows: Collection[str]) -> Table:
    """The part of a table with the rows of these names."""
    return Table(table.file, table.columns, [row for row in table.rows if row_name(row) in rows])


def split(table: Table, count: int) -> list[Table]:
    """Parts of a table that take about as long as each other: dealt out by requests in flight, several for each process."""
    parts: list[list[Row]] = [[] for _ in range(8 * count)]
    heaviest = sorted(table.rows, key=lambda row: -(row.number("concurrency") or 0.0))
    for place, row in enumerate(heaviest):
        parts[place % len(parts)].append(row)
    return [Table(table.file, table.columns, rows) for rows in parts if rows]
