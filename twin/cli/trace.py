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

#: Kind -> format of a .csv. A session of most other kinds than agents is one call, which the Azure form holds; not so its tenant.
_GENERATED = {"agents": "agent_csv", "chat": "azure", "fixed": "azure", "reasoning": "azure", "servegen": "agent_csv"}
#: Ending of a trace to write -> its format; None: hangs on what is written.
_FORMS = {".csv": None, ".jsonl": "sessions", ".parquet": "parquet"}


def trace_info_command(path: Path, fmt: str = "auto", as_json: bool = False, plot: Path | None = None) -> int:
    """Print what a trace holds, and draw it to `plot`; what the reader had to decide goes to stderr."""
    from twin.workload.info import study_trace
    from twin.workload.trace_rows import ReadLog

    log = ReadLog()
    study = study_trace(path, fmt, log)
    info = study.info
    if plot is not None:
        from twin.cli.trace_picture import draw

        draw(study, path.name, plot)
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
    clients: Path | None = None,
) -> int:
    """Write `sessions` generated sessions; the form is told by the ending of `out` (.csv, .jsonl or .parquet).

    They arrive as those of the trace that `fit` was made from, if it tells, and at 1 /s as a Poisson process if not; those of
    `clients` when these ask.
    """
    from twin.workload.agent_figures import read_figures
    from twin.workload.arrivals import Gamma, Poisson
    from twin.workload.intake import Intake
    from twin.workload.servegen import ServeGenSessions
    from twin.workload.sources import GENERATORS
    from twin.workload.trace_rows import MOST, MOST_S

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
    form = _form(out, _GENERATED[kind])
    if (clients is not None) != (kind == "servegen"):
        raise InputError("--clients FOLDER is for kind 'servegen', which needs it")
    if fit is not None and kind != "agents":
        raise InputError(f"--fit is for kind 'agents', not for {kind!r}")
    if clients is not None:
        if (rate_per_s, burstiness) != (None, None):
            raise InputError("--rate and --burstiness are not for kind 'servegen': its clients have their own")
        _write(out, form, ServeGenSessions(clients, seed, tiers={"": 1.0}, limit=sessions).sessions())
        return 0
    settings: dict[str, Any] = dict(given)
    fitted_rate_per_s, fitted_burstiness = 1.0, 1.0
    if fit is not None:
        settings["figures"] = figures = read_figures(fit)
        fitted_rate_per_s, fitted_burstiness = figures.arrivals or (1.0, 1.0)
    rate_per_s = fitted_rate_per_s if rate_per_s is None else rate_per_s
    burstiness = fitted_burstiness if burstiness is None else burstiness
    if rate_per_s > 0 and sessions / rate_per_s > MOST_S:
        raise InputError(f"{sessions:,} sessions at {rate_per_s:g} /s would go on for more than a hundred years")
    arrivals = Poisson(rate_per_s) if burstiness == 1 else Gamma(rate_per_s, burstiness)
    intake = Intake(arrivals, seed, tiers={"": 1.0}, limit=sessions)
    _write(out, form, GENERATORS[kind](intake, **settings).sessions())
    return 0


def trace_convert_command(path: Path, fmt: str, out: Path) -> int:
    """Write a trace in the flat agent form (.csv) or, with nothing lost, a session a line (.jsonl) or a call a row (.parquet)."""
    from twin.workload.formats import read_trace

    _write(out, _form(out, "agent_csv"), read_trace(path, fmt))
    return 0


def _form(out: Path, csv_form: str) -> str:
    if out.suffix not in _FORMS:
        raise InputError(f"{out}: the name of a trace to write ends in .csv, .jsonl or .parquet")
    return _FORMS[out.suffix] or csv_form


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
            chosen = trace_format(form)
            assert chosen.write is not None
            with partial.open("wb") if chosen.binary else partial.open("w", encoding="utf-8", newline="\n") as file:
                chosen.write(file, counted())
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    print(f"wrote {counts['sessions']:,} sessions, {counts['calls']:,} calls to {out}", file=sys.stderr)


def _table(info: dict[str, Any]) -> str:
    return "\n".join(f"{name:28} {text}" for name, text in _lines("", info))


def _lines(prefix: str, info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in info.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            yield from _lines(f"{prefix}{key}.", value)
        elif isinstance(value, dict):
            yield prefix + key, "  ".join(f"{name or '(none)'} {_figure(each)}" for name, each in value.items())
        else:
            yield prefix + key, _figure(value)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 1 else f"{value:,.1f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
