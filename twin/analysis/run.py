"""An old run opened: its summary, its tables as pandas frames, its plots and its report. No simulator needed."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.errors import InputError
from twin.recording import SUMMARY_VERSION, TABLES, is_run_directory

if TYPE_CHECKING:
    import pandas as pd

    from twin.analysis.plots import Plots


#: Key path -> what stands there in a whole summary: what its readers lean on.
_NEEDED: dict[str, type | tuple[type, ...]] = {
    "scenario": str,
    "seed": int,
    "horizon_s": (int, float),
    "requests": dict,
    "requests.total": int,
    "requests.represent": int,
    "service": dict,
    "service.tiers": dict,
    "energy": dict,
    "energy.sites": dict,
    "hardware": dict,
    "curtailment": list,
    "economics": dict,
    "invariants": dict,
}


class Run:
    """A finished run in its directory. Tables are read when first asked for; `frame.attrs["units"]` maps column to unit."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """summary.json. Raises InputError where it is not one of this version, or not whole."""
        summary = self._json("summary.json")
        if (found := summary.get("schema_version")) != SUMMARY_VERSION:
            said = "has no schema_version" if found is None else f"has schema_version {found!r}, not {SUMMARY_VERSION}"
            raise InputError(f"{self.path / 'summary.json'} {said}: it is no summary that this version can read")
        for path, kind in _NEEDED.items():
            value: Any = summary
            for key in path.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if not isinstance(value, kind):
                raise InputError(f"{self.path / 'summary.json'}: {path} is missing or not what it must be")
        return summary

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """manifest.json: version, seed, input hashes, overrides, platform, wall times, status."""
        return self._json("manifest.json")

    @cached_property
    def requests(self) -> pd.DataFrame:
        """A row a request."""
        return self._table("requests")

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """A row a session."""
        return self._table("sessions")

    @cached_property
    def power(self) -> pd.DataFrame:
        """A row per site and step: the feed, its parts, its limit and target."""
        return self._table("power")

    @cached_property
    def thermal(self) -> pd.DataFrame:
        """A row per cooling loop and step."""
        return self._table("thermal")

    @cached_property
    def workers(self) -> pd.DataFrame:
        """A row per engine instance and step."""
        return self._table("workers")

    @cached_property
    def fabric(self) -> pd.DataFrame:
        """A row per link and step."""
        return self._table("fabric")

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """A row per site and step: sessions in flight, sandboxes in use, power of the CPU racks."""
        return self._table("tasks")

    @cached_property
    def tool_runs(self) -> pd.DataFrame:
        """A row a run of a tool, where tools need sandboxes or may fail."""
        return self._table("tool_runs")

    @cached_property
    def events(self) -> pd.DataFrame:
        """What happened: grid, policy, failures."""
        return self._table("events")

    @cached_property
    def jobs(self) -> pd.DataFrame:
        """A row per job that can wait."""
        return self._table("jobs")

    @cached_property
    def racks(self) -> pd.DataFrame:
        """A row per rack and `records.rack_interval`: its power, hottest die, clock limit and whether it is up."""
        return self._table("racks")

    @cached_property
    def plot(self) -> Plots:
        """Plots of the run, each returning matplotlib Axes: power, tokens, latency, tasks, sessions, sandboxes, attainment,
        revenue, temperature, pue, jobs, actions."""
        from twin.analysis.plots import Plots

        return Plots(self.path, self.summary)

    def report(self, out: Path | str | None = None) -> Path:
        """Write the report, one offline HTML file, to `out` (default: report.html in the run directory); returns its path."""
        from twin.analysis.report import write_report

        return write_report(self.path, self.summary, self.manifest, Path(out) if out is not None else self.path / "report.html")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} holds no JSON object")
        return content

    def _table(self, name: str) -> pd.DataFrame:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / f"{name}.parquet"
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        if missing := [column.name for column in TABLES[name] if column.name not in table.column_names]:
            raise InputError(f"{path}: column {missing[0]!r} is missing")
        frame = table.to_pandas()
        frame.attrs["units"] = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
        return frame

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def open_run(path: Path | str) -> Run:
    """The run in the directory `path`. Raises InputError if there is none, or if its summary is not whole."""
    path = Path(path)
    if not is_run_directory(path):
        there = "there is nothing there" if not path.exists() else "it has no manifest.json"
        raise InputError(f"{path} is not a run directory: {there}")
    run = Run(path)
    _ = run.summary
    return run
