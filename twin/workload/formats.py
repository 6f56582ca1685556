"""Trace formats by name: ours and those that other packages register under the entry-point group `twin.trace_formats`."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, BinaryIO

from twin.errors import InputError, Problem, did_you_mean
from twin.workload import (
    servegen,
    trace_agent_raw,
    trace_agents,
    trace_azure,
    trace_mooncake,
    trace_sessions,
)
from twin.workload.session import Session
from twin.workload.trace_rows import FieldError, ReadLog

_HEAD_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """How one kind of trace is told from others, read and written.

    A trace is a file, told by its first characters, or a folder. `read` streams sessions in order of arrival, tier "" where none
    is recorded and arrival `NO_ARRIVAL` likewise; from the first bad row on it gives no more, and when it has seen all of the
    file it raises InputError. `write` raises InputError for sessions that the format cannot hold; None where nobody writes it.
    The file that it gets is one of bytes if `binary`.
    """

    name: str
    description: str
    recognises: Callable[[str], bool]
    read: Callable[[Path, ReadLog], Iterator[Session]]
    write: Callable[[Any, Iterable[Session]], None] | None
    recognises_folder: Callable[[Path], bool] = lambda folder: False
    binary: bool = False


def _read_parquet(path: Path, log: ReadLog) -> Iterator[Session]:
    from twin.workload import trace_parquet  # loads pyarrow, which other traces do not wait for

    return trace_parquet.read(path, log)


def _write_parquet(file: BinaryIO, sessions: Iterable[Session]) -> None:
    from twin.workload import trace_parquet

    trace_parquet.write(file, sessions)


TRACE_FORMATS: dict[str, TraceFormat] = {
    each.name: each
    for each in (
        TraceFormat(
            "azure", "Azure LLM inference CSV, a call a row", trace_azure.recognises, trace_azure.read, trace_azure.write
        ),
        TraceFormat(
            "mooncake",
            "Mooncake JSON lines, a call a line with block hashes",
            trace_mooncake.recognises,
            trace_mooncake.read,
            trace_mooncake.write,
        ),
        TraceFormat(
            "agent_csv", "flat agent-session CSV, a call a row", trace_agents.recognises, trace_agents.read, trace_agents.write
        ),
        TraceFormat(
            "sessions", "JSON lines, a session a line", trace_sessions.recognises, trace_sessions.read, trace_sessions.write
        ),
        TraceFormat(
            "parquet",
            "Parquet, a call a row",
            lambda head: head.startswith("PAR1"),
            _read_parquet,
            _write_parquet,
            binary=True,
        ),
        TraceFormat(
            "agent_raw",
            "agent sessions as recorded, a JSON file each with block hashes and sub-agents; one or a folder of them",
            trace_agent_raw.recognises,
            trace_agent_raw.read,
            None,
            trace_agent_raw.recognises_folder,
        ),
        TraceFormat(
            "servegen",
            "a folder of ServeGen clients: a day drawn from their rates and lengths",
            lambda head: False,
            servegen.read,
            None,
            servegen.recognises_folder,
        ),
    )
}


def trace_formats() -> dict[str, TraceFormat]:
    """All known formats: ours first, then the plug-ins'."""
    plugins = entry_points(group="twin.trace_formats")
    return TRACE_FORMATS | {point.name: point.load() for point in plugins if point.name not in TRACE_FORMATS}


def trace_format(name: str) -> TraceFormat:
    """The format of that name. Raises InputError with the nearest known one."""
    formats = TRACE_FORMATS if name in TRACE_FORMATS else trace_formats()
    if name not in formats:
        raise InputError(f"unknown trace format {name!r}{did_you_mean(name, [*formats, 'auto'])}")
    return formats[name]


def recognise(path: Path) -> TraceFormat:
    """The format of a file or folder, told from its beginning. Raises InputError where none fits or it cannot be read."""
    formats = trace_formats()
    if path.is_dir():
        found = next((each for each in formats.values() if each.recognises_folder(path)), None)
    else:
        head, problem = _head(path)
        if not head.strip():
            raise InputError([Problem(str(path), 1, 1, "", "the trace is empty")])
        found = next((each for each in formats.values() if each.recognises(head)), None)
        if found is None and problem:
            raise InputError([Problem(str(path), 1, 1, "", problem)])
    if found is None:
        raise InputError([Problem(str(path), 1, 1, "", f"is a trace of no known format ({', '.join(formats)})")])
    return found


def _head(path: Path) -> tuple[str, str]:
    """The first characters of a file, and what is wrong with them if it is no text."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEAD_CHARACTERS)
    except OSError as error:
        raise InputError([Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    try:
        # what the last bytes cut in two is no fault of the file's
        return codecs.getincrementaldecoder("utf-8-sig")().decode(start), ""
    except UnicodeDecodeError as error:
        return start.decode("utf-8", errors="replace"), f"is not a text file in UTF-8: {error.reason}"


def read_trace(path: Path, format: str = "auto", log: ReadLog | None = None) -> Iterator[Session]:
    """The sessions of a trace file, one at a time. Raises InputError with every bad row's place (ten, then their number)."""
    chosen = recognise(path) if format == "auto" else trace_format(format)
    return chosen.read(path, ReadLog() if log is None else log)


def check_trace(path: Path, format: str = "auto", tiers: Collection[str] | None = None) -> None:
    """Read all of a trace and raise what `read_trace` would, before anything is built on it.

    With `tiers`, a session of any other is a bad row as well.
    """
    log = ReadLog(tiers=tiers)
    for session in read_trace(path, format, log):
        try:
            log.known_tier(session.tier)  # for formats of others; ours know the place
        except FieldError as error:
            told = f"session {session.session_id}: {error.message}"
            raise InputError([Problem(str(path), 1, 1, error.name, told)]) from None
