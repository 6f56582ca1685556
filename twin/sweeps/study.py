"""A finished or interrupted sweep in its directory: its table, its plots, its runs."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.analysis import Run, open_run
from twin.errors import InputError, did_you_mean
from twin.sweeps.axis import value_text
from twin.sweeps.figures import main_figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: What tells a study from any other directory.
STUDY = "study.json"
#: The frame, in two formats.
TABLES = ("study.parquet", "study.csv")


class Study:
    """A sweep's runs, in the order of its grid."""

    def __init__(self, path: Path, content: dict[str, Any]):
        self.path = path
        self.content = content
        """study.json: `name`, `hash`, `status`, `set`, `over`, and a list `runs` of `folder values seed digest status error`."""

    @property
    def swept(self) -> tuple[str, ...]:
        """Paths of the swept keys, in their order."""
        return tuple(axis["path"] for axis in self.content["over"])

    @property
    def failures(self) -> tuple[str, ...]:
        """The points that did not run, each with its values and the reason."""
        return tuple(f"{said(run['values'])}: {run['error']}" for run in self.content["runs"] if run["status"] == "failed")

    def run(self, index: int) -> Run:
        """The run at row `index` of the frame. Raises InputError if it did not finish."""
        return open_run(self.path / self.content["runs"][index]["folder"])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a run: the swept values, `status` ("done", "limits broken", "failed", "pending"), the main figures of the
        summary (`utility_mean_w`, `ttft_s_p99`, `curtailment.0.overshoot_w_max`, ...), `run` (its directory) and `error`."""
        import pandas as pd

        runs = self.content["runs"]
        columns: dict[str, list[Any]] = {path: _column([run["values"][path] for run in runs]) for path in self.swept}
        columns["status"] = [run["status"] for run in runs]
        figures = [main_figures(self.run(i).summary) if _finished(run) else {} for i, run in enumerate(runs)]
        for name in dict.fromkeys(name for row in figures for name in row):
            values = [row.get(name) for row in figures]
            whole = all(isinstance(value, int) for value in values)
            columns[name] = values if whole else [float("nan") if value is None else float(value) for value in values]
        columns["run"] = [run["folder"] for run in runs]
        columns["error"] = [run["error"] for run in runs]
        return pd.DataFrame(columns)

    def plot(self, x: str, y: str, by: str | None = None) -> Axes:
        """Figure `y` over the swept key `x`, a line for each value of `by`; where `seed` is swept as well, the mean over seeds
        with every run as a dot. Raises InputError for a column that is not there, or another swept key left unsaid."""
        from twin.sweeps.plot import plot_study

        known = [*self.swept, *self.frame.select_dtypes("number").columns]
        for column, allowed in ((x, known), (y, known), (by, [*known, *self.swept])):
            if column is not None and column not in allowed:
                raise InputError(f"the study has no column {column!r} to plot{did_you_mean(column, allowed)}")
        unsaid = [path for path in self.swept if path not in (x, by, "seed")]
        if unsaid and x in self.swept:
            raise InputError(f"{unsaid[0]} was swept as well: name it as `by`, or filter `frame` and plot that")
        return plot_study(self.frame, x, y, by)

    def write_tables(self) -> None:
        """Write `frame` to study.parquet and study.csv. Raises InputError if they cannot be written."""
        parquet, csv = TABLES
        try:
            self.frame.to_parquet(self.path / parquet, index=False)
            self.frame.to_csv(self.path / csv, index=False)
        except OSError as error:
            raise InputError(f"cannot write the tables of {self.path}: {error.strerror or error}") from error

    def __len__(self) -> int:
        return len(self.content["runs"])

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}: {len(self)} runs over {', '.join(self.swept)})"


def open_study(path: Path | str | os.PathLike[str]) -> Study:
    """The study in the directory `path`. Raises InputError if there is none."""
    path = Path(path)
    try:
        return Study(path, json.loads((path / STUDY).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a study: cannot read its {STUDY} ({error})") from error


def said(values: dict[str, object]) -> str:
    """The values of a point for people: "control.policy=ladder, seed=2"."""
    return ", ".join(f"{path}={value_text(value)}" for path, value in values.items())


def _finished(run: dict[str, Any]) -> bool:
    return run["status"] in ("done", "limits broken")


def _column(values: list[Any]) -> list[Any]:
    """Values of one kind as they are (all numbers, all texts, all truth values); a mixture, lists and mappings as text."""
    kinds = {bool if isinstance(v, bool) else float if isinstance(v, int | float) else type(v) for v in values}
    return values if len(kinds) == 1 and kinds <= {bool, float, str} else [value_text(value) for value in values]
