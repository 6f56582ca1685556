"""`twin run`: a scenario to a run directory, with a progress bar for people and JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from twin.analysis import Run
from twin.analysis.columns import TableColumns
from twin.engine import run_directory_name, run_scenario
from twin.errors import InputError
from twin.recording import is_run_directory
from twin.schema import LoadedScenario, load_scenario
from twin.schema.workload import ClosedLoopArrivals, TraceWorkload
from twin.units import format_duration


def run_command(
    scenario: str, overrides: Mapping[str, object], seed: int | None, out: Path | None, as_json: bool, quiet: bool
) -> int:
    """Run and say what came out. Returns 0, or 1 where a limit of the scenario was broken."""
    if seed is not None and seed < 0:
        raise InputError(f"--seed {seed}: a seed is a whole number of at least 0")
    loaded = load_scenario(scenario, overrides, seed)
    for line in loaded.overrides if not quiet else ():
        print(f"set {line}", file=sys.stderr)
    final = out if out is not None else Path("runs") / run_directory_name(loaded)
    if (earlier := _another_run(final, loaded)) is not None:
        print(f"replacing an earlier run of {earlier} at {final}", file=sys.stderr)
    began = time.perf_counter()
    with _Progress(loaded.scenario.name, loaded.scenario.horizon, shown=not quiet and sys.stderr.isatty()) as progress:
        done = run_scenario(loaded, final, progress.at)
    if as_json:
        print(json.dumps(done.summary, indent=2, ensure_ascii=False))
    else:
        from twin.analysis.key_numbers import summary_text

        print(summary_text(done.summary))
        print(f"run directory: {done.path}")
        print(f"report:        {done.path / 'report.html'}")
    if not quiet:
        wall_s = time.perf_counter() - began
        print(f"{format_duration(loaded.scenario.horizon)} simulated in {format_duration(wall_s)}", file=sys.stderr)
    for warning in done.summary["warnings"] if not quiet else ():
        print(f"note: {warning}", file=sys.stderr)
    if (note := _trace_end(loaded, done.path)) is not None:
        print(note, file=sys.stderr)
    for limit in done.broken_limits:
        print(f"limit broken: {limit}", file=sys.stderr)
    return 1 if done.broken_limits else 0


def _another_run(final: Path, loaded: LoadedScenario) -> str | None:
    """Name of the scenario whose run stands at `final`, if it is a run of something else."""
    if not is_run_directory(final):
        return None
    try:
        manifest = Run(final).manifest
    except InputError:
        return "something unreadable"
    if (manifest.get("scenario"), manifest.get("digest")) == (loaded.scenario.name, loaded.digest):
        return None
    name = str(manifest.get("scenario"))
    return name if name != loaded.scenario.name else f"{name} with other content"


def _trace_end(loaded: LoadedScenario, run_dir: Path) -> str | None:
    """What to say where a trace was over well before the run was: by a hundredth of it, and by ten times the usual gap."""
    work, horizon_s = loaded.scenario.workload, loaded.scenario.horizon
    if not isinstance(work, TraceWorkload) or work.sessions is not None or isinstance(work.arrivals, ClosedLoopArrivals):
        return None
    starts_s = TableColumns(run_dir, "sessions").numbers("start_s")
    if not len(starts_s):
        return f"no session of the trace arrives within the run of {horizon_s:g} s"
    last_s = float(starts_s.max())
    gap_s = (last_s - float(starts_s.min())) / max(len(starts_s) - 1, 1)
    if horizon_s - last_s <= max(0.01 * horizon_s, 10 * gap_s):
        return None
    return f"the trace ends early: its last session arrives at {last_s:g} s of a run of {horizon_s:g} s"


class _Progress:
    """A bar on stderr: simulated time, speed against real time, requests finished. Silent off a terminal."""

    def __init__(self, name: str, horizon_s: float, shown: bool):
        self._name = name
        self._horizon_s = horizon_s
        self._shown = shown
        self._began = time.perf_counter()
        self._last = 0.0

    def __enter__(self) -> _Progress:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            text = "{task.description} {task.percentage:>3.0f} %"
            self._bar = Progress(
                TextColumn(text),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[said]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=self._horizon_s, said="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()

    def at(self, time_s: float, requests: int) -> None:
        """The run has come this far."""
        now = time.perf_counter()
        if not self._shown or now - self._last < 0.1:
            return
        self._last = now
        speed = time_s / max(now - self._began, 1e-9)
        self._bar.update(
            self._task, completed=time_s, said=f"{format_duration(time_s)}, {speed:,.0f} x real time, {requests:,} req."
        )
