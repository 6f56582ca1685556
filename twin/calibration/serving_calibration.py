"""Coefficients from serving points: replay, fit, and replay with what was found, as coefficients change which steps there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from twin.calibration.fitted import Fitted, Key
from twin.calibration.fitting import PRIORS, Measured, fit_groups
from twin.calibration.prediction import quantile
from twin.calibration.serving_points import ServingPoint, serving_points
from twin.calibration.serving_validation import split, table_of
from twin.calibration.table import Table
from twin.calibration.trajectory import Trajectory, trajectory
from twin.errors import InputError, SimulationError
from twin.performance import Coefficients, FitRange
from twin.processes import Died, call_all, processes

#: Rounds of replaying and fitting; the coefficients settle after two (0.1 points of median error from there on).
ROUNDS = 2
#: Hears what calibration is at.
Say = Callable[[str], None]
Trajectories = Mapping[str, Trajectory]
_START = Coefficients(*(prior.value for prior in PRIORS.values()))


@dataclass(frozen=True, slots=True)
class Replays:
    """Rows to replay in one process with given coefficients (priors for groups that have none yet)."""

    table: Table
    use: Mapping[Key, Coefficients]

    def __call__(self) -> dict[str, Trajectory]:
        """Row -> trajectory; rows that don't fit their instance are left out."""
        found = {}
        for point in serving_points(self.table).points:
            try:
                found[point.row] = trajectory(point, self.use.get(point.coefficients_key, _START))
            except InputError:
                continue
        return found


def calibrate_serving_points(table: Table, source: str, jobs: int | None, say: Say) -> list[Fitted]:
    """A fit for each backend, GPU generation and format of the weights that the table has points of."""
    points = serving_points(table).points
    use = calibrate(table, points, jobs, say)
    say("errors of the fit")
    final = replay_all(table, points, use, jobs)
    return [
        Fitted(key, coefficients, _range([p for p in points if p.coefficients_key == key and p.row in final], final), source)
        for key, coefficients in sorted(use.items())
    ]


def calibrate(
    table: Table, points: Collection[ServingPoint], jobs: int | None, say: Say, first: Trajectories | None = None
) -> dict[Key, Coefficients]:
    """Coefficients for `points`, which are rows of `table`. `first`: their replays with the priors, if they are at hand."""
    use: dict[Key, Coefficients] = {}
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}: replaying {len(points):,} points")
        found = first if first is not None and number == 0 else replay_all(table, points, use, jobs)
        say(f"round {number + 1} of {ROUNDS}: fitting")
        groups: dict[Key, list[Measured]] = {}
        for point in points:
            if point.row in found:
                groups.setdefault(point.coefficients_key, []).append(Measured(found[point.row], point.ttft_s, point.tpot_s))
        use = fit_groups(groups)
    return use


def replay_all(
    table: Table, points: Collection[ServingPoint], use: Mapping[Key, Coefficients], jobs: int | None
) -> dict[str, Trajectory]:
    """Row -> trajectory of each point, over processes."""
    chunks = split(table_of(table, {point.row for point in points}), processes(jobs))
    found: dict[str, Trajectory] = {}
    for answer in call_all([Replays(chunk, use) for chunk in chunks], jobs):
        if isinstance(answer, Died):
            raise SimulationError(f"{table.file}: some rows were not replayed: {answer.reason}")
        found |= answer
    return found


def _range(points: list[ServingPoint], replayed: Trajectories) -> FitRange:
    gpus, sequences, tokens, tpot, ttft = [], [], [], [], []
    for point in points:
        for instance in (point.engine, point.prefill):
            if instance is not None:
                gpus.append(instance.layout.gpus)
        sequences.append(-(-point.concurrency // point.engine.count))
        tokens.append(point.input_tokens + point.output_tokens)
        found = replayed[point.row]
        tpot.append(abs(found.tpot_s / point.tpot_s - 1.0))
        ttft.append(abs(found.ttft_s / point.ttft_s - 1.0))
    return FitRange(
        points=len(points),
        models=tuple(sorted({point.shape.name for point in points})),
        gpus=(min(gpus), max(gpus)),
        sequences=(min(sequences), max(sequences)),
        request_tokens=(min(tokens), max(tokens)),
        tpot_median_ape=quantile(sorted(tpot), 0.5),
        ttft_median_ape=quantile(sorted(ttft), 0.5),
    )
