"""The nightly check: every scenario of a folder run, its summary held against the baseline committed beside it.

A baseline is the summary without what only names the run. It is written by `accept` alone, where a person has asked for it, and
only where something moved beyond its tolerance: small drifts add up against the old one until they show.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twin.analysis import Change, check_baseline
from twin.errors import InputError, Problem
from twin.schema import LoadedScenario, load_scenario
from twin.sweeps.task import Outcome, Task, perform_all

Status = Literal["passed", "changed", "new", "orphan", "error", "accepted", "removed"]
OnVerdict = Callable[[str, Outcome], None]

_IDENTITY = ("schema_version", "scenario", "seed")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check of one scenario found.

    `status`: "passed"; "changed" (`changes`, worst first); "new" (a scenario without a baseline); "orphan" (a baseline without a
    scenario); "error" (it did not run: `error`); "accepted" and "removed": the baseline was rewritten or taken away. Broken
    limits of the scenario fail it whatever its status.
    """

    name: str
    status: Status
    changes: tuple[Change, ...] = ()
    broken_limits: tuple[str, ...] = ()
    error: str | None = None
    error_code: int = 0
    wall_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong (any more)."""
        return self.status in ("passed", "accepted", "removed") and not self.broken_limits

    @property
    def exit_code(self) -> int:
        """0 passed, 1 a regression or a broken limit, else the code of the error that kept it from running."""
        return self.error_code if self.error is not None else 0 if self.passed else 1

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, in words, worst first."""
        if self.status == "new":
            found: tuple[str, ...] = ("no baseline: look at the run, then accept it with --accept and commit the file",)
        elif self.status == "orphan":
            found = ("a baseline without a scenario: bring the scenario back, or take the baseline away with --accept",)
        else:
            found = () if self.status == "accepted" else tuple(str(change) for change in self.changes)
        return (*(f"limit broken: {limit}" for limit in self.broken_limits), *found)


def check_folder(folder: Path, accept: bool = False, jobs: int | None = None, on_done: OnVerdict | None = None) -> list[Verdict]:
    """Run every `*.yaml` of `folder` and compare it with `baselines/<name>.json` there; verdicts by name.

    With `accept` the baselines that moved are rewritten, missing ones made, orphans removed; a scenario that did not run keeps
    its baseline. Raises InputError where there is no scenario at all, for a baseline that cannot be read or written, and, with
    `accept`, for scenarios that cannot be loaded.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InputError(f"{folder}: no scenarios (*.yaml) there")
    loaded, unloadable = _loaded(files)
    if accept and unloadable:
        raise InputError(dict.fromkeys(problem for error in unloadable.values() for problem in error.problems))
    baselines = {path.stem: _baseline(path) for path in sorted((folder / "baselines").glob("*.json"))}
    names = list(loaded)
    with tempfile.TemporaryDirectory(prefix="twin-regress-") as runs:
        tasks = [Task(loaded[name], Path(runs) / name) for name in names]
        told = None if on_done is None else lambda index, outcome: on_done(names[index], outcome)
        outcomes = dict(zip(names, perform_all(tasks, jobs, told), strict=True))
    verdicts = {name: Verdict(name, "error", error=str(error), error_code=error.exit_code) for name, error in unloadable.items()}
    verdicts |= {name: _verdict(name, outcomes[name], baselines.get(name)) for name in names}
    scenarios = {file.stem for file in files}
    verdicts |= {name: Verdict(name, "orphan") for name in baselines if name not in scenarios}
    if accept:
        verdicts |= {
            name: _accepted(folder, verdict, outcomes.get(name))
            for name, verdict in verdicts.items()
            if verdict.status in ("changed", "new", "orphan")
        }
    return [verdicts[name] for name in sorted(verdicts)]


def _loaded(files: list[Path]) -> tuple[dict[str, LoadedScenario], dict[str, InputError]]:
    loaded, unloadable = {}, {}
    for file in files:
        try:
            loaded[file.stem] = load_scenario(file)
        except InputError as error:
            unloadable[file.stem] = error
    return loaded, unloadable


def _verdict(name: str, outcome: Outcome, baseline: Mapping[str, Any] | None) -> Verdict:
    if outcome.summary is None:
        return Verdict(name, "error", error=outcome.error, error_code=outcome.exit_code, wall_s=outcome.wall_s)
    if baseline is None:
        return Verdict(name, "new", broken_limits=outcome.broken_limits, wall_s=outcome.wall_s)
    changes = tuple(check_baseline(measured(outcome.summary), baseline))
    return Verdict(name, "changed" if changes else "passed", changes, outcome.broken_limits, wall_s=outcome.wall_s)


def measured(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary without what names the run: what a baseline holds."""
    return {key: value for key, value in summary.items() if key not in _IDENTITY}


def _accepted(folder: Path, verdict: Verdict, outcome: Outcome | None) -> Verdict:
    path = folder / "baselines" / f"{verdict.name}.json"
    try:
        if outcome is None:
            path.unlink()
            return Verdict(verdict.name, "removed")
        assert outcome.summary is not None
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(measured(outcome.summary), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return Verdict(verdict.name, "accepted", verdict.changes, verdict.broken_limits, wall_s=verdict.wall_s)


def _baseline(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        raise InputError([Problem(str(path), error.lineno, error.colno, "", f"is no JSON: {error.msg}")]) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object")
    return content
