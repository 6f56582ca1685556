"""`twin faults`: what of a scenario can fail, and a campaign of single random faults."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twin.cli.sweep import INTERRUPTED
from twin.errors import InputError
from twin.schema import load_scenario
from twin.sweeps.faults import Campaign, FaultRun, fallible, run_campaign
from twin.sweeps.task import Outcome
from twin.units import UnitError, format_duration, parse_quantity

_HEADER = ("component", "from", "to", "goodput", "overshoot kW", "racks down", "instances down", "least there", "invariants")
_KINDS = ("kind", "runs", "goodput", "least", "racks down", "instances down", "stopped")


def faults_list_command(scenario: str, overrides: Mapping[str, object], as_json: bool) -> int:
    """Print every component of the scenario's sites that can fail, with its units."""
    found = fallible(load_scenario(scenario, overrides).scenario)
    if as_json:
        rows = [{"site": site, "component": each.key, "kind": each.kind, "units": each.units} for site, each in found]
        print(json.dumps(rows, indent=2))
    else:
        print(_aligned([("site", "component", "units"), *((site, each.key, str(each.units)) for site, each in found)]))
    return 0


def faults_command(
    scenario: str,
    overrides: Mapping[str, object],
    runs: int,
    seed: int,
    kinds: Sequence[str],
    duration: str | None,
    jobs: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Run a campaign and print its table, worst first. Returns 0, 1 where an invariant failed, the code of the worst error of a
    run that could not go on, or 130."""
    began = time.perf_counter()
    if seed < 0:
        raise InputError(f"--seed {seed}: a seed is a whole number of at least 0")
    loaded = load_scenario(scenario, overrides)
    if loaded.scenario.faults.any:
        print("the scenario's own faults are laid aside: each run has one fault", file=sys.stderr)
    codes = [0]

    def ended(number: int, count: int, outcome: Outcome) -> None:
        codes.append(outcome.exit_code if outcome.error is not None else 0)
        said = "the run without a fault" if number == 0 else f"{number}/{count}"
        how = "failed" if outcome.error is not None else "done"
        print(f"{said}: {how} in {format_duration(outcome.wall_s)}", file=sys.stderr)

    try:
        campaign = run_campaign(loaded, runs, seed, kinds, _duration_s(duration), jobs, out, ended)
    except KeyboardInterrupt:
        print("interrupted; no table was written", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        content = {
            "scenario": campaign.name,
            "seed": seed,
            "runs": [asdict(r) for r in campaign.runs],
            "by_kind": campaign.by_kind(),
        }
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(_tables(campaign))
        if out is not None:
            print(f"campaign: {out}")
    for run in campaign.runs:
        for line in (run.error or "").splitlines():
            print(f"{run.run} {run.component}: {line}", file=sys.stderr)
    print(f"{runs} faults in {format_duration(time.perf_counter() - began)}", file=sys.stderr)
    return 1 if any(run.invariants is False for run in campaign.runs) else max(codes)


def _duration_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        duration_s = parse_quantity(text, "time")
    except UnitError as error:
        raise InputError(f"--duration: {error}") from None
    if duration_s <= 0:
        raise InputError(f"--duration {text}: must be above 0")
    return duration_s


def _tables(campaign: Campaign) -> str:
    kinds = [
        (
            row["kind"],
            str(row["runs"]),
            _percent(row["goodput_frac_mean"]),
            _percent(row["goodput_frac_min"]),
            _said(row["racks_down_max"]),
            _said(row["instances_down_max"]),
            str(row["failed"]),
        )
        for row in campaign.by_kind()
    ]
    return f"{_aligned([_HEADER, *map(_cells, campaign.runs)])}\n\n{_aligned([_KINDS, *kinds])}"


def _cells(run: FaultRun) -> tuple[str, ...]:
    held = {True: "hold", False: "BROKEN", None: "stopped"}[run.invariants]
    return (
        run.component,
        format_duration(run.start_s),
        format_duration(run.end_s),
        _percent(run.goodput_frac),
        "-" if run.overshoot_w is None else f"{run.overshoot_w / 1e3:,.1f}",
        _said(run.racks_down_max),
        _said(run.instances_down_max),
        _percent(run.instances_min_frac),
        held,
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _said(value: Any) -> str:
    return "-" if value is None else str(value)


def _aligned(lines: list[tuple[str, ...]]) -> str:
    """Columns of texts: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
