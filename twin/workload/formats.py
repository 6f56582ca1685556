"""Trace formats by name: ours and those that other packages register under the entry-point group `twin.trace_formats`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TextIO

from twin.errors import InputError, Problem, did_you_mean
from twin.workload import trace_agents, trace_azure, trace_mooncake, trace_sessions
from twin.workload.session import Session
from twin.workload.trace_rows import ReadLog, open_trace

_HEAD_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """How one kind of trace is told from others, read and written.

    `read` streams sessions in order of arrival, tier "" where none is recorded and arrival `NO_ARRIVAL` likewise; from the first
    bad row on it gives no more, and when it has seen all of the file it raises InputError. `write` raises InputError for
    sessions that the format cannot hold.
    """

    name: str
    description: str
    recognises: Callable[[str], bool]
    read: Callable[[Path, ReadLog], Iterator[Session]]
    write: Callable[[TextIO, Iterable[Session]], None]


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
    """The format of a file, told from its beginning. Raises InputError where none fits or the file cannot be read."""
    with open_trace(path) as file:
        head = file.read(_HEAD_CHARACTERS)
    if not head.strip():
        raise InputError([Problem(str(path), 1, 1, "", "the trace is empty")])
    formats = trace_formats()
    found = next((each for each in formats.values() if each.recognises(head)), None)
    if found is None:
        raise InputError([Problem(str(path), 1, 1, "", f"is a trace of no known format ({', '.join(formats)})")])
    return found


def read_trace(path: Path, format: str = "auto", log: ReadLog | None = None) -> Iterator[Session]:
    """The sessions of a trace file, one at a time. Raises InputError with every bad row's place (ten, then their number)."""
    chosen = recognise(path) if format == "auto" else trace_format(format)
    return chosen.read(path, ReadLog() if log is None else log)


def check_trace(path: Path, format: str = "auto") -> None:
    """Read all of a trace and raise what `read_trace` would, before anything is built on it."""
    deque(read_trace(path, format), maxlen=0)
