"""Our own lossless form: JSON lines, one session a line with all its calls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from twin.workload.json_rows import JsonRows
from twin.workload.seen import SeenNames
from twin.workload.session import Session
from twin.workload.session_rows import call_record_of, record_of, session_of
from twin.workload.trace_rows import BadRows, FieldError, ReadLog, open_trace


def recognises(head: str) -> bool:
    """Whether a file that begins with `head` is one."""
    line = head.lstrip().partition("\n")[0]
    return line.startswith("{") and '"session"' in line and '"calls"' in line


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """The sessions in the order of the file, which must be that of their arrivals; numbered anew from 0."""
    bad = BadRows(path)
    with open_trace(path) as file:
        rows = JsonRows(file, bad)
        seen = SeenNames()
        count = 0
        latest_s = 0.0
        for row in rows:
            try:
                if "session" in row and not seen.add(str(row["session"])):
                    raise FieldError("session", f"{row['session']!r} is a duplicate: a line before has that session")
                session = session_of(row, count, log)
                if session.arrival_s < latest_s:
                    raise FieldError("arrival_s", f"{session.arrival_s:g} is earlier than the line before")
            except FieldError as error:
                rows.fail(error)
                continue
            if not math.isnan(session.arrival_s):
                latest_s = session.arrival_s
            if not bad:
                log.latest_s = latest_s
                yield session
                count += 1
        bad.finish(count, rows.line)


def write(file: TextIO, sessions: Iterable[Session]) -> None:
    """Any sessions, with nothing lost but their numbers."""
    for session in sessions:
        file.write(json.dumps({**record_of(session), "calls": [call_record_of(call) for call in session.calls]}) + "\n")
