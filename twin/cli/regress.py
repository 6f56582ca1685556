"""`twin regress`: a folder of scenarios against its committed baselines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.analysis import Change, JUnitCase, write_junit
from twin.errors import InputError
from twin.sweeps.regression import Verdict, check_folder
from twin.units import format_duration

if TYPE_CHECKING:
    from twin.sweeps.task import Outcome

#: Differences of one scenario that are printed; the JSON and the JUnit file have all.
_SHOWN = 12


def regress_command(folder: Path, accept: bool, junit: Path | None, as_json: bool) -> int:
    """Check and print. Returns 0, 1 for a regression, or the code of the error that kept a scenario from running."""
    if junit is not None and not junit.absolute().parent.is_dir():
        raise InputError(f"--junit {junit}: no such folder; nothing was run")
    verdicts = check_folder(folder, accept, on_done=_said_done)
    if junit is not None:
        write_junit(junit, "twin regress", [JUnitCase(v.name, v.wall_s, v.findings, v.error) for v in verdicts])
    if as_json:
        passed = all(verdict.passed for verdict in verdicts)
        content = {"folder": str(folder), "passed": passed, "scenarios": [_json(verdict) for verdict in verdicts]}
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(_text(verdicts))
    return max(verdict.exit_code for verdict in verdicts)


def _said_done(name: str, outcome: Outcome) -> None:
    print(f"{name}: ran {format_duration(outcome.wall_s)}", file=sys.stderr)


def _text(verdicts: Sequence[Verdict]) -> str:
    width = max(len(verdict.name) for verdict in verdicts)
    lines = []
    for verdict in verdicts:
        lines.append(f"{'ok  ' if verdict.passed else 'FAIL'}  {verdict.name:<{width}}  {_headline(verdict)}".rstrip())
        lines += [f"        {line}" for line in (verdict.error or "").splitlines()]
        lines += [f"        {finding}" for finding in verdict.findings[:_SHOWN]]
        if len(verdict.findings) > _SHOWN:
            lines.append(f"        and {len(verdict.findings) - _SHOWN} smaller ones (--json lists all)")
    failed = sum(not verdict.passed for verdict in verdicts)
    lines.append(f"{len(verdicts) - failed} of {len(verdicts)} passed")
    return "\n".join(lines)


def _headline(verdict: Verdict) -> str:
    match verdict.status:
        case "accepted":
            return f"baseline written ({_differences(verdict)})" if verdict.changes else "baseline written"
        case "removed":
            return "baseline without a scenario removed"
        case "changed":
            return f"{_differences(verdict)}, worst first"
        case "error":
            return "did not run"
        case _:
            return ""


def _differences(verdict: Verdict) -> str:
    return "1 difference" if len(verdict.changes) == 1 else f"{len(verdict.changes)} differences"


def _json(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.name,
        "status": verdict.status,
        "passed": verdict.passed,
        "changes": [_change(change) for change in verdict.changes],
        "broken_limits": list(verdict.broken_limits),
        "error": verdict.error,
    }


def _change(change: Change) -> dict[str, Any]:
    excess = change.excess if math.isfinite(change.excess) else None
    kinds = {"path": change.path, "kind": change.kind, "baseline": change.baseline, "current": change.current}
    return kinds | {"tolerances": excess}
