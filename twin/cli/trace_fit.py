"""`twin trace fit`: the agent generator fitted to a trace, and how near it comes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twin.errors import InputError


def trace_fit_command(path: Path, fmt: str, out: Path, source: str | None, seed: int, as_json: bool) -> int:
    """Write the fit to `out` and print its goodness; what the trace does not tell goes to stderr. Returns 0."""
    from twin.workload.agent_figures import agent_figures
    from twin.workload.fit_file import fit_text, fit_trace
    from twin.workload.goodness import generated, goodness, held_out
    from twin.workload.trace_rows import ReadLog

    if not 0 <= seed < 2**63:
        raise InputError(f"--seed {seed}: a seed is a whole number from 0 to 2^63 - 1")
    if out.resolve() == path.resolve():
        raise InputError(f"{out}: is the trace itself")
    if not out.resolve().parent.is_dir():
        raise InputError(f"{out}: the folder {out.resolve().parent} does not exist")
    log = ReadLog()
    document, calls = fit_trace(path, fmt, source, log)
    for remark, count in sorted(log.remarks.items()):
        print(f"{path}: {count:,} call{'s' if count > 1 else ''}: {remark}", file=sys.stderr)
    for remark in document["missing"]:
        print(f"{path}: {remark}", file=sys.stderr)
    sample = generated(agent_figures(document), seed, len(calls.session_s))
    print(f"{path}: held against {len(sample.session_s):,} generated sessions", file=sys.stderr)
    found = goodness(calls, sample) | {"held_out": held_out(calls, seed)}
    _write(out, fit_text(document))
    print(f"wrote {out}", file=sys.stderr)
    if as_json:
        print(json.dumps({"trace": document["provenance"], "missing": document["missing"], **found}, indent=2))
    else:
        print(goodness_table(found))
    return 0


def _write(out: Path, text: str) -> None:
    """Under a temporary name beside `out`, renamed when whole."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None


def goodness_table(found: dict[str, Any]) -> str:
    """The goodness as a table that Markdown shows as well."""
    rows = [("", "", "trace", "generated", "error", "held out", "halves")]
    for name, quantiles in found["marginals"].items():
        if quantiles is None:
            rows.append((f"`{name}`", "", "none", "", "", "", ""))
            continue
        for key, each in quantiles.items():
            unseen = ((found["held_out"] or {}).get(name) or {}).get(key) or {}
            errors = (_signed(each["error_frac"]), *(_share(unseen.get(what)) for what in ("error_frac", "halves_frac")))
            rows.append((f"`{name}`", key, _figure(each["trace"]), _figure(each["generated"]), *errors))
    for name, each in (
        *((f"autocorrelation of the context, {lag}", each) for lag, each in found["autocorrelation"].items()),
        ("`prefix_hit_frac`", found["prefix_hit_frac"]),
    ):
        values = (_ratio(each["trace"]), _ratio(each["generated"]), _ratio(each["difference"], "+.3f"))
        rows.append((name.replace("lag_", "lag "), "", *values, "", ""))
    for name, each in found["totals"].items():
        rows.append(
            (f"`{name}`", "", _ratio(each["trace"], ".4f"), _ratio(each["generated"], ".4f"), _signed(each["error_frac"]), "", "")
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(_padded(text, width, i) for i, (text, width) in enumerate(zip(row, widths, strict=True))) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if i < 2 else ":") for i, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _padded(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < 2 else text.rjust(width)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) < 100 and value % 1 else f"{value:,.0f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _ratio(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
