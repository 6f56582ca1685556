"""A scenario to a run directory: simulate, sum up, report, and put it in its place when whole."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twin.analysis import summarise
from twin.analysis.report import write_report
from twin.engine.fault_plan import check_faults
from twin.engine.simulation import OnProgress, Simulation
from twin.recording import RunDirectory
from twin.schema import LoadedScenario
from twin.schema.scenario import Limit


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that stands in its directory, its summary, and the scenario's limits that it broke."""

    path: Path
    summary: dict[str, Any]
    broken_limits: tuple[str, ...]


def run_directory_name(loaded: LoadedScenario) -> str:
    """`<scenario>-<hash of the resolved scenario>-s<seed>`: the same content gives the same name in any folder."""
    return f"{loaded.scenario.name}-{loaded.digest[:12]}-s{loaded.scenario.seed}"


def run_scenario(loaded: LoadedScenario, out: Path | None = None, on_progress: OnProgress | None = None) -> Finished:
    """Run `loaded` and write its run directory to `out`, or to `runs/<name>` in the current folder.

    Raises InputError for what cannot be run, SimulationError for what could not go on; nothing is left behind then.
    """
    scenario = loaded.scenario
    started = time.time()
    check_faults(loaded)
    with RunDirectory.create(out if out is not None else Path("runs") / run_directory_name(loaded)) as output:
        output.write_text("scenario.resolved.yaml", loaded.to_yaml())
        totals = Simulation(scenario, output, on_progress).run()
        output.close_tables()
        simulated = time.time()
        summary = summarise(output.path, totals)
        broken = tuple(text for limit in scenario.limits if (text := broken_limit(summary, limit)))
        output.write_json("summary.json", summary)
        manifest: dict[str, Any] = {
            "version": version("twin"),
            "scenario": scenario.name,
            "seed": scenario.seed,
            "digest": loaded.digest,
            "inputs": dict(loaded.sources),
            "overrides": list(loaded.overrides),
            "status": "limits broken" if broken else "done",
            "broken_limits": list(broken),
            "platform": {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()},
            "wall": {"started_unix_s": started, "simulation_s": simulated - started},
        }
        write_report(output.path, summary, manifest, output.path / "report.html")
        manifest["wall"]["total_s"] = time.time() - started
        output.write_json("manifest.json", manifest)
        return Finished(output.commit(), summary, broken)


def broken_limit(summary: dict[str, Any], limit: Limit) -> str | None:
    """How the summary breaks `limit`, in words; None where it keeps it. A figure that is not there breaks its limit."""
    value: Any = summary
    for key in limit.value.split("."):
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return f"{limit.value}: no such figure in the summary"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"{limit.value} is {value!r}, not a number"
    if limit.min is not None and value < limit.min:
        return f"{limit.value} is {value:g}, below {limit.min:g}"
    if limit.max is not None and value > limit.max:
        return f"{limit.value} is {value:g}, above {limit.max:g}"
    return None
