"""The Python way in: run, load, sweep, compare, open_run. `import twin` hands these on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from twin.analysis import Run, compare_summaries, open_run
from twin.errors import InputError, SimulationError
from twin.schema import LoadedScenario, Scenario, load_scenario

if TYPE_CHECKING:
    import pandas as pd

    from twin.sweeps import Study

__all__ = ["InputError", "Run", "SimulationError", "compare", "load", "open_run", "run", "sweep"]

ScenarioLike = str | os.PathLike[str] | Scenario | Mapping[str, Any] | LoadedScenario


def load(path: ScenarioLike, set: Mapping[str, object] | None = None) -> Scenario:
    """The checked scenario of a file, with overrides. Raises InputError with every problem found."""
    return _loaded(path, set, None).scenario


def run(
    scenario: ScenarioLike,
    seed: int | None = None,
    set: Mapping[str, object] | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Run:
    """Run a scenario and open the result.

    `set` maps dotted paths to values ("control.policy": "uniform_cap"). Without `out` the run stands in `runs/` of the current
    folder under a name made from its content, so the same run replaces itself. Raises InputError or SimulationError.
    """
    from twin.engine import run_scenario

    return Run(run_scenario(_loaded(scenario, set, seed), Path(out) if out is not None else None).path)


def sweep(
    scenario: ScenarioLike,
    over: Mapping[str, Iterable[object]],
    engine: Literal["local", "dask"] = "local",
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    set: Mapping[str, object] | None = None,
    resume: bool = False,
) -> Study:
    """Run a scenario at every combination of the values in `over` (dotted path -> values). `Study.frame` has a row a run.

    A point that could not go on is a row with `status` "failed", and a warning. Raises InputError for what cannot be swept.
    """
    from twin.sweeps import run_sweep

    study = run_sweep(
        scenario, over, engine=engine, jobs=jobs, out=Path(out) if out is not None else None, set=set, resume=resume
    )
    for failure in study.failures:
        warnings.warn(failure, stacklevel=2)
    return study


def compare(a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str]) -> pd.DataFrame:
    """Every figure of two summaries side by side: columns `a b delta delta_frac`, a row a figure, the largest change first."""
    import pandas as pd

    runs = [each if isinstance(each, Run) else open_run(os.fspath(each)) for each in (a, b)]
    differences = compare_summaries(runs[0].summary, runs[1].summary)
    return pd.DataFrame.from_dict(differences, orient="index")


def _loaded(scenario: ScenarioLike, set: Mapping[str, object] | None, seed: int | None) -> LoadedScenario:
    if isinstance(scenario, LoadedScenario):
        return load_scenario(scenario.scenario, set, seed) if set or seed is not None else scenario
    return load_scenario(scenario, set, seed)
