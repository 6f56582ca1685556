"""A pareto study in its directory: every curve played on processes, kept as it ends, and the frontiers over them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twin.errors import InputError, SimulationError
from twin.pareto.configuration import Configuration, System, systems
from twin.pareto.curve import CurveFailed, CurveTask
from twin.pareto.frontier import frontier
from twin.pareto.lengths import RequestSizes, request_sizes
from twin.pareto.point import COLUMNS, Row, refused_row
from twin.pareto.space import space_of
from twin.processes import Died, call_all, processes
from twin.recording import TableWriter
from twin.schema import LoadedScenario, catalog_with, load_scenario
from twin.schema.loading import Source

#: What tells a pareto study from any other directory.
STUDY, POINTS, PICTURE, CURVES = "pareto.json", "points.parquet", "pareto.svg", "curves"
#: Axis of a frontier -> the figure it is over tokens/s per user.
AXES = {"per_gpu": "tokens_per_s_per_gpu", "per_mw": "tokens_per_s_per_mw"}

#: Hears of each curve as it ends: how many have, how many there are, its system and label, its rows; whether it was kept.
OnCurve = Callable[[int, int, str, Sequence[Row], bool], None]


@dataclass(frozen=True, slots=True)
class ParetoStudy:
    """A finished study: its directory and pareto.json, of which `points` are all rows and `frontiers` their numbers."""

    path: Path
    content: dict[str, Any]

    @property
    def points(self) -> list[Row]:
        """Every row, in the order of the systems and their configurations."""
        rows: list[Row] = self.content["points"]
        return rows

    def frontier(self, system: str, axis: str = "per_gpu") -> list[Row]:
        """The frontier of a system by rising tokens/s per user: of tokens/s "per_gpu", or "per_mw"."""
        return [self.points[number] for number in self.content["frontiers"][system][axis]]


@dataclass(frozen=True, slots=True)
class _Plan:
    system: System
    configuration: Configuration
    file: str
    digest: str


def run_pareto(
    scenario: Source | LoadedScenario,
    jobs: int | None = None,
    out: Path | None = None,
    set: Mapping[str, object] | None = None,
    resume: bool = False,
    on_curve: OnCurve | None = None,
) -> ParetoStudy:
    """Play every configuration of the study that `scenario`, with `set` laid on it, describes.

    The study goes to `out`, or to `studies/<name>-pareto-<hash>` in the current folder; `resume` keeps the finished curves that
    this version of the program made from the same content. The result is the same bytes however often it was interrupted and on
    however many processes it ran. Raises InputError for what cannot be studied and for a place that holds something else.
    """
    jobs = processes(jobs)
    loaded = scenario if isinstance(scenario, LoadedScenario) else load_scenario(scenario, set)
    sizes = request_sizes(loaded.scenario)
    studied = systems(loaded.scenario)
    hashed = hashlib.sha256(f"{loaded.digest} {loaded.scenario.seed} {version('twin')}".encode()).hexdigest()
    plans, refused = _plans(studied, hashed)
    if not plans:
        raise InputError("\n".join(["no configuration of the study can run:", *_reasons(refused)]))
    name = loaded.scenario.name
    path = Path(os.path.abspath(out if out is not None else Path("studies") / f"{name}-pareto-{hashed[:12]}"))
    head = _head(loaded, studied, sizes, hashed[:12])
    _prepare(path, head, keep={plan.file for plan in plans} if resume else frozenset())

    done: dict[int, list[Row]] = {}
    waiting: list[int] = []
    for number, plan in enumerate(plans):
        rows = _kept(path / CURVES / plan.file, plan.digest) if resume else None
        if rows is None:
            waiting.append(number)
            continue
        done[number] = rows
        if on_curve is not None:
            on_curve(len(done), len(plans), plan.system.name, rows, True)
    # The longest first, so that no process is left with one while the others are idle.
    waiting.sort(key=lambda number: -plans[number].configuration.counts[1])
    failures: list[str] = []

    def ended(at: int, answer: list[Row] | CurveFailed | Died) -> None:
        plan = plans[waiting[at]]
        if isinstance(answer, CurveFailed):
            raise RuntimeError(f"{plan.system.name}, {plan.configuration.label}:\n{answer.text}")
        if isinstance(answer, Died):
            failures.append(f"{plan.system.name}, {plan.configuration.label}: {answer.reason}")
            return
        _write_json(path / CURVES / plan.file, {"digest": plan.digest, "points": answer})
        done[waiting[at]] = answer
        if on_curve is not None:
            on_curve(len(done), len(plans), plan.system.name, answer, False)

    call_all([CurveTask(plans[n].system, plans[n].configuration, sizes) for n in waiting], jobs, ended)
    if failures:
        raise SimulationError(
            "\n".join([*failures, "the other curves are kept, and the same command with --resume does the rest"])
        )
    points = [*refused, *(row for number in range(len(plans)) for row in done[number])]
    return _finish(path, head, points)


def _plans(studied: Sequence[System], hashed: str) -> tuple[list[_Plan], list[Row]]:
    """The curves to play in their order, and rows of what is refused before."""
    catalog = catalog_with(studied[0].scenario.catalog)
    plans: list[_Plan] = []
    refused: list[Row] = []
    for system in studied:
        space = space_of(system, catalog)
        refused += [refused_row(system.name, label, reason) for label, reason in space.refused]
        for configuration in space.configurations:
            letters = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{system.name}-{configuration.label}")
            digest = hashlib.sha256(f"{hashed} {system.name} {configuration.label}".encode()).hexdigest()
            plans.append(_Plan(system, configuration, f"{len(plans):04d}-{letters}.json", digest))
    return plans, refused


def _reasons(refused: Sequence[Row]) -> list[str]:
    return [f"  {row['system']}, {row['configuration']}: {row['reason']}" for row in refused]


def _head(loaded: LoadedScenario, studied: Sequence[System], sizes: RequestSizes, hashed: str) -> dict[str, Any]:
    scenario = loaded.scenario
    objectives = scenario.tiers[0].objectives
    catalog = catalog_with(loaded.scenario.catalog)
    return {
        "schema_version": 1,
        "name": scenario.name,
        "hash": hashed,
        "version": version("twin"),
        "status": "unfinished",
        "overrides": list(loaded.overrides),
        "model": scenario.serving.model,
        "workload": {
            "kind": scenario.workload.kind,
            "input_tokens_mean": sizes.mean_input_tokens,
            "output_tokens_mean": sizes.mean_output_tokens,
            "longest_tokens": sizes.longest_tokens,
        },
        "objectives": {
            "tier": scenario.tiers[0].name,
            "ttft_s": objectives.ttft,
            "tpot_s": objectives.tpot,
            "completion_s": objectives.completion,
        },
        "systems": [
            {
                "name": system.name,
                "rack": system.site.racks[0].rack,
                "gpu": system.rack(catalog).text("gpu"),
                "scale_up_domain_gpus": system.domain_gpus(catalog),
                "backend": system.scenario.serving.backend,
                "weights": system.scenario.serving.precision.weights,
                "kv": system.scenario.serving.precision.kv,
                "max_gpus": system.max_gpus(catalog),
            }
            for system in studied
        ],
    }


def _finish(path: Path, head: dict[str, Any], points: list[Row]) -> ParetoStudy:
    """Mark the frontiers and write the tables and the picture; pareto.json comes last, when all is there."""
    from twin.pareto.picture import draw

    frontiers: dict[str, dict[str, list[int]]] = {}
    for system in head["systems"]:
        numbers = [n for n, row in enumerate(points) if row["system"] == system["name"] and row["status"] == "counts"]
        frontiers[system["name"]] = {}
        for axis, figure in AXES.items():
            kept = frontier([(points[n]["tokens_per_s_per_user"], points[n][figure]) for n in numbers])
            frontiers[system["name"]][axis] = [numbers[place] for place in kept]
            for place in kept:
                points[numbers[place]][f"frontier_{axis}"] = 1
    content = head | {"status": "done", "frontiers": frontiers, "points": points}
    study = ParetoStudy(path, content)
    writer = TableWriter(path / POINTS, COLUMNS)
    for row in points:
        writer.append(tuple(row[column.name] for column in COLUMNS))
    writer.close()
    try:
        draw(study, path / PICTURE)
    except OSError as error:
        raise InputError(f"cannot write {path / PICTURE}: {error.strerror or error}") from error
    _write_json(path / STUDY, content)
    return study


def _prepare(path: Path, head: dict[str, Any], keep: frozenset[str] | set[str]) -> None:
    """Make the study's directory and take away all of an earlier study there but the curves to `keep`.

    Raises InputError if something that is no pareto study stands there, or if it cannot be written.
    """
    if path.exists() and not (path / STUDY).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not a pareto study: name another place for the output")
    try:
        (path / CURVES).mkdir(parents=True, exist_ok=True)
        for file in (path / CURVES).iterdir():
            if file.name not in keep:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        for name in (POINTS, PICTURE):
            (path / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write the study {path}: {error.strerror or error}") from error
    _write_json(path / STUDY, head)


def _kept(file: Path, digest: str) -> list[Row] | None:
    """The rows of a finished curve if this version made it from the same content."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(file.read_text(encoding="utf-8"))
        rows: list[Row] = content["points"]
        if content["digest"] == digest and all(row.keys() == {column.name for column in COLUMNS} for row in rows):
            return rows
    return None


def as_text(content: Mapping[str, Any]) -> str:
    """pareto.json: indented, a point a line."""
    rest = json.dumps({**content, "points": None}, indent=1, ensure_ascii=False, allow_nan=False)
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in content.get("points", ()))
    return rest.replace('"points": null', f'"points": [\n  {rows}\n ]', 1)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    """Whole at every moment."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(as_text(content) + "\n", encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror or error}") from error
