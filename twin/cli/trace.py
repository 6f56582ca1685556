"""`twin trace info|generate|convert`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from twin.workload.session import Session

#: Kind -> (format of a .csv, of a .jsonl). A session of any other kind than agents is one call, which the Azure form holds.
_GENERATED = {
    "agents": ("agent_csv", "sessions"),
    "chat": ("azure", "sessions"),
    "fixed": ("azure", "sessions"),
    "reasoning": ("azure", "sessions"),
}
#: No trace to generate is longer than a hundred years.
_LONGEST_S = 100 * 365.25 * 86_400
_CONVERTED = ("agent_csv", "sessions")


def trace_info_command(path: Path, fmt: str = "auto", as_json: bool = False) -> int:
    """Print what a trace holds; what the reader had to decide goes to stderr."""
    from twin.workload.info import trace_info
    from twin.workload.trace_rows import ReadLog

    log = ReadLog()
    info = trace_info(path, fmt, log)
    for remark, calls in sorted(log.remarks.items()):
        print(f"{path}: {calls:,} call{'s' if calls > 1 else ''}: {remark}", file=sys.stderr)
    print(json.dumps(info, indent=2) if as_json else _table(info))
    return 0


def trace_generate_command(
    kind: str,
    out: Path,
    *,
    sessions: int,
    seed: int,
    fit: Path | None = None,
    rate_per_s: float | None = None,
    burstiness: float | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
) -> int:
    """Write `sessions` generated sessions; the form is told by the ending of `out` (.csv or .jsonl).

    They arrive as those of the trace that `fit` was made from, if it tells, and at 1 /s as a Poisson process if not.
    """
    from twin.workload.agent_figures import read_figures
    from twin.workload.arrivals import Gamma, Poisson
    from twin.workload.intake import Intake
    from twin.workload.sources import GENERATORS
    from twin.workload.trace_rows import MOST

    if kind not in _GENERATED:
        raise InputError(f"unknown kind of trace {kind!r}{did_you_mean(kind, _GENERATED)}")
    if sessions < 1:
        raise InputError(f"a trace has at least one session, not {sessions}")
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed {seed}: a seed is a whole number from 0 to 2^63 - 1")
    lengths = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    given = {name: value for name, value in lengths.items() if value is not None}
    if kind == "fixed" and len(given) < 2:
        raise InputError("a fixed trace needs its input and output tokens")
    if kind != "fixed" and given:
        raise InputError(f"input and output tokens are for kind 'fixed': those of {kind!r} are drawn")
    for name, value in given.items():
        if not 1 <= value <= MOST:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be from 1 to {MOST:,}")
    settings: dict[str, Any] = dict(given)
    fitted_rate_per_s, fitted_burstiness = 1.0, 1.0
    if fit is not None:
        if kind != "agents":
            raise InputError(f"--fit is for kind 'agents', not for {kind!r}")
        settings["figures"] = figures = read_figures(fit)
        fitted_rate_per_s, fitted_burstiness = figures.arrivals or (1.0, 1.0)
    rate_per_s = fitted_rate_per_s if rate_per_s is None else rate_per_s
    burstiness = fitted_burstiness if burstiness is None else burstiness
    if rate_per_s > 0 and sessions / rate_per_s > _LONGEST_S:
        raise InputError(f"{sessions:,} sessions at {rate_per_s:g} /s would go on for more than a hundred years")
    arrivals = Poisson(rate_per_s) if burstiness == 1 else Gamma(rate_per_s, burstiness)
    intake = Intake(arrivals, seed, tiers={"": 1.0}, limit=sessions)
    _write(out, _form(out, _GENERATED[kind]), GENERATORS[kind](intake, **settings).sessions())
    return 0


def trace_convert_command(path: Path, fmt: str, out: Path) -> int:
    """Write a trace in the flat agent form (.csv) or, with nothing lost, as a session a line (.jsonl)."""
    from twin.workload.formats import read_trace

    _write(out, _form(out, _CONVERTED), read_trace(path, fmt))
    return 0


def _form(out: Path, forms: tuple[str, str]) -> str:
    if out.suffix not in (".csv", ".jsonl"):
        raise InputError(f"{out}: the name of a trace to write ends in .csv or .jsonl")
    return forms[out.suffix == ".jsonl"]


def _write(out: Path, form: str, sessions: Iterable[Session]) -> None:
    """Write under a temporary name beside `out` and rename when whole."""
    from twin.workload.formats import trace_format

    counts = {"sessions": 0, "calls": 0}

    def counted() -> Iterator[Session]:
        for session in sessions:
            counts["sessions"] += 1
            counts["calls"] += len(session.calls)
            yield session

    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                trace_format(form).write(file, counted())
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    print(f"wrote {counts['sessions']:,} sessions, {counts['calls']:,} calls to {out}", file=sys.stderr)


def _table(info: dict[str, Any]) -> str:
    lines = []
    for key, value in info.items():
        text = "  ".join(f"{name} {_figure(each)}" for name, each in value.items()) if isinstance(value, dict) else _figure(value)
        lines.append(f"{key:16} {text}")
    return "\n".join(lines)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 1 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
