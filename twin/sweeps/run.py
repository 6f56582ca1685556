"""A sweep: every combination of the values, each an independent run, into one study directory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twin.analysis import open_run
from twin.engine.fault_plan import check_faults
from twin.errors import InputError, Problem, TwinError
from twin.processes import processes
from twin.recording import is_run_directory
from twin.schema import LoadedScenario, load_scenario
from twin.schema.loading import Source
from twin.schema.overrides import SET
from twin.sweeps.axis import OVER, Axis, axes_of, folder_name, grid
from twin.sweeps.study import STUDY, TABLES, Study, open_study, said
from twin.sweeps.task import Outcome, Task, perform_all

#: Hears of each point as it ends: its index, how many there are, its entry in study.json, its outcome (None: kept from before).
OnPoint = Callable[[int, int, Mapping[str, Any], Outcome | None], None]


@dataclass(frozen=True, slots=True)
class _Point:
    values: dict[str, object]
    loaded: LoadedScenario
    folder: str

    @property
    def seed(self) -> int:
        return self.loaded.scenario.seed


def run_sweep(
    scenario: Source | LoadedScenario,
    over: Mapping[str, Iterable[object]],
    engine: str = "local",
    jobs: int | None = None,
    out: Path | None = None,
    set: Mapping[str, object] | None = None,
    resume: bool = False,
    on_point: OnPoint | None = None,
) -> Study:
    """Run `scenario` with `set` laid on it at every combination of the values in `over`, the last key moving fastest.

    The study goes to `out`, or to `studies/<name>-<hash>` in the current folder; `resume` keeps its finished runs that this
    version of the program made from the same content and seed. A point that cannot go on is a failed row; the others run.
    Raises InputError with every problem of every point before anything is written, and for a place that holds something else.
    """
    if engine != "local":
        raise InputError(f"engine {engine!r} is not in this version: a sweep runs in processes of this machine (engine 'local')")
    jobs = processes(jobs)
    fixed = dict(set or {})
    axes = axes_of(over, fixed)
    points = _points(scenario.scenario if isinstance(scenario, LoadedScenario) else scenario, axes, fixed)
    hashed = _hash(points)
    name = points[0].loaded.scenario.name
    path = Path(os.path.abspath(out if out is not None else Path("studies") / f"{name}-{hashed}"))
    content = _content(name, hashed, axes, fixed, points)
    _prepare(path, content)
    study = Study(path, content)

    waiting: list[int] = []
    for index, (point, entry) in enumerate(zip(points, content["runs"], strict=True)):
        kept = _kept(path / point.folder, point) if resume else None
        if kept is None:
            waiting.append(index)
        else:
            entry["status"] = kept
            if on_point is not None:
                on_point(index, len(points), entry, None)

    def ended(number: int, outcome: Outcome) -> None:
        index = waiting[number]
        entry = content["runs"][index]
        entry["status"] = "failed" if outcome.error is not None else "limits broken" if outcome.broken_limits else "done"
        entry["error"] = outcome.error
        if outcome.error is not None:
            _remove_run(path, entry["folder"])
        _write(path, content)
        if on_point is not None:
            on_point(index, len(points), entry, outcome)

    tasks = [Task(points[index].loaded, path / points[index].folder) for index in waiting]
    perform_all(tasks, jobs, ended)
    content["status"] = "done"
    _write(path, content)
    study.write_tables()
    return study


def _points(scenario: Source, axes: Sequence[Axis], fixed: Mapping[str, object]) -> list[_Point]:
    """Every point of the grid, loaded. Raises InputError with the problems of all of them, each said once."""
    points: list[_Point] = []
    problems: dict[Problem, None] = {}
    for index, (given, values) in enumerate(grid(axes)):
        try:
            loaded = load_scenario(scenario, {**fixed, **given})
            check_faults(loaded)
        except InputError as error:
            if not error.problems:
                raise InputError(f"{said(values)}: {error}") from error
            problems |= dict.fromkeys(_at_over(problem, axes) for problem in error.problems)
            continue
        points.append(_Point(values, loaded, folder_name(index, values)))
    if problems:
        raise InputError(problems)
    return points


def _at_over(problem: Problem, axes: Sequence[Axis]) -> Problem:
    """A problem of a laid-on value, shown at `--over` where that gave the value."""
    swept = problem.file == SET.file and any(f"{problem.path}.".startswith(f"{axis.path}.") for axis in axes)
    return replace(problem, file=OVER.file) if swept else problem


def _hash(points: Sequence[_Point]) -> str:
    text = json.dumps([(point.loaded.digest, point.seed) for point in points])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _content(
    name: str, hashed: str, axes: Sequence[Axis], fixed: Mapping[str, object], points: Sequence[_Point]
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": name,
        "hash": hashed,
        "status": "unfinished",
        "set": fixed,
        "over": [{"path": axis.path, "values": list(axis.values)} for axis in axes],
        "runs": [
            {
                "folder": point.folder,
                "values": point.values,
                "seed": point.seed,
                "digest": point.loaded.digest,
                "status": "pending",
                "error": None,
            }
            for point in points
        ],
    }


def _prepare(path: Path, content: dict[str, Any]) -> None:
    """Make the study's directory, take away runs of an earlier study there that are not in this one, and what killed runs left.
    Raises InputError if something that is no study stands there, or if it cannot be written."""
    if path.exists() and not (path / STUDY).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not a study: name another place for the output")
    earlier = open_study(path).content["runs"] if (path / STUDY).is_file() else []
    ours = {run["folder"] for run in content["runs"]}
    try:
        path.mkdir(parents=True, exist_ok=True)
        for run in earlier:
            if run["folder"] not in ours:
                _remove_run(path, run["folder"])
        for left in path.glob(".*.partial-*"):
            shutil.rmtree(left)
        for table in TABLES:
            (path / table).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write the study {path}: {error.strerror or error}") from error
    _write(path, content)


def _remove_run(path: Path, folder: str) -> None:
    """Take away the run of an earlier sweep, and nothing that is none."""
    if Path(folder).name == folder and is_run_directory(path / folder):
        shutil.rmtree(path / folder)


def _kept(path: Path, point: _Point) -> str | None:
    """Status of the finished run at `path` if this version made it from the point's content and seed."""
    if not is_run_directory(path):
        return None
    with contextlib.suppress(TwinError, KeyError):
        manifest = open_run(path).manifest
        made = (manifest["digest"], manifest["seed"], manifest["version"])
        if made == (point.loaded.digest, point.seed, version("twin")):
            return str(manifest["status"])
    return None


def _write(path: Path, content: dict[str, Any]) -> None:
    """study.json, whole at every moment: an interrupted sweep opens too."""
    partial = path / f".{STUDY}.partial"
    try:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        os.replace(partial, path / STUDY)
    except OSError as error:
        raise InputError(f"cannot write {path / STUDY}: {error.strerror or error}") from error
