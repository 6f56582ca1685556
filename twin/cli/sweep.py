"""`twin sweep`: a scenario at every combination of values, a run each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.sweeps import parse_over, run_sweep
from twin.units import format_duration

if TYPE_CHECKING:
    from twin.sweeps.study import Study
    from twin.sweeps.task import Outcome

INTERRUPTED = 130

#: Columns for people: heading, column of the frame, factor, decimals.
_SHOWN = (
    ("tokens/s", "output_tokens_per_s", 1.0, 0),
    ("goodput", "goodput_output_tokens_per_s", 1.0, 0),
    ("TTFT p99 s", "ttft_s_p99", 1.0, 2),
    ("TPOT p99 ms", "tpot_s_p99", 1e3, 1),
    ("kW", "utility_mean_w", 1e-3, 1),
    ("PUE", "pue", 1.0, 3),
)


def sweep_command(
    scenario: str,
    overrides: Mapping[str, object],
    over: Sequence[str],
    jobs: int | None,
    out: Path | None,
    resume: bool,
    as_json: bool,
) -> int:
    """Sweep and print the table. Returns 0, 1 where a run broke a limit, the code of the worst error of a point, or 130."""
    began = time.perf_counter()
    codes = [0]

    def ended(index: int, count: int, run: Mapping[str, Any], outcome: Outcome | None) -> None:
        from twin.sweeps.study import said

        codes.append(1 if run["status"] == "limits broken" else 0 if outcome is None else outcome.exit_code)
        how = "kept" if outcome is None else f"{run['status']} in {format_duration(outcome.wall_s)}"
        print(f"{index + 1}/{count} {said(run['values'])}: {how}", file=sys.stderr)
        for line in (run["error"] or "").splitlines():
            print(f"    {line}", file=sys.stderr)

    try:
        study = run_sweep(scenario, parse_over(over), jobs=jobs, out=out, set=overrides, resume=resume, on_point=ended)
    except KeyboardInterrupt:
        print("interrupted: finished runs are kept, and the same command with --resume does the rest", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print(json.dumps({"study": str(study.path), "runs": _rows(study)}, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(_table(study))
        print(f"study: {study.path}")
    print(f"{len(study)} runs in {format_duration(time.perf_counter() - began)}", file=sys.stderr)
    return max(codes)


def _rows(study: Study) -> list[dict[str, Any]]:
    """The frame as JSON objects; what a run has no value for is null."""
    rows = study.frame.to_dict(orient="records")
    return [{str(key): None if value != value else value for key, value in row.items()} for row in rows]


def _table(study: Study) -> str:
    """The swept values and the first figures, aligned."""
    frame = study.frame
    shown = [each for each in _SHOWN if each[1] in frame]
    lines = [[*study.swept, *(heading for heading, *_ in shown), "status"]]
    for row in frame.to_dict(orient="records"):
        figures = [_number(row[column] * factor, decimals) for _, column, factor, decimals in shown]
        lines.append([*(str(row[path]) for path in study.swept), *figures, row["status"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _number(value: float, decimals: int) -> str:
    return "-" if value != value else f"{value:,.{decimals}f}"
