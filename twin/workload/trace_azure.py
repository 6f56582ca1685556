"""The Azure LLM inference trace: a CSV of TIMESTAMP, ContextTokens, GeneratedTokens, one call a row, no prefixes.

Source of the format: Azure/AzurePublicDataset (Patel et al., Splitwise, ISCA 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from twin.errors import InputError
from twin.workload.session import Call, Session
from twin.workload.session_rows import refuse_whose
from twin.workload.trace_rows import MOST_S, BadRows, CsvRows, FieldError, ReadLog, open_trace, whole

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_EPOCH = datetime(2024, 1, 1)
_TICKS_PER_S = 10**7


def recognises(head: str) -> bool:
    """Whether a file that begins with `head` is one."""
    return all(name in head.partition("\n")[0] for name in COLUMNS)


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """One session a row, arriving as long after the first as its time stamp says. Rows must be in order of time."""
    bad = BadRows(path)
    with open_trace(path) as file:
        rows = CsvRows(file, bad, COLUMNS)
        stamp, context, generated = (rows.index(name) for name in COLUMNS)
        count = 0
        first = latest = None
        for row in rows:
            try:
                ticks = _ticks(row[stamp])
                input_tokens = whole(row[context], COLUMNS[1], 1)
                output_tokens = whole(row[generated], COLUMNS[2], 1)
                if latest is not None and ticks < latest:
                    raise FieldError(COLUMNS[0], f"{row[stamp]!r} is earlier than the row before")
                if first is not None and ticks - first > MOST_S * _TICKS_PER_S:
                    raise FieldError(COLUMNS[0], f"{row[stamp]!r} is more than a hundred years after the first")
            except FieldError as error:
                rows.fail(row, error)
                for name in COLUMNS[COLUMNS.index(error.name) + 1 :]:  # those that were not looked at any more
                    try:
                        whole(row[rows.index(name)], name, 1)
                    except FieldError as another:
                        rows.fail(row, another)
                continue
            latest = ticks
            first = ticks if first is None else first
            if not bad:
                log.latest_s = (ticks - first) / _TICKS_PER_S
                yield Session(count, log.latest_s, "", [Call((), 0.0, input_tokens, output_tokens)])
                count += 1
        bad.finish(count, rows.line)


def write(file: TextIO, sessions: Iterable[Session]) -> None:
    """Sessions of one call each, from an arbitrary first time stamp on; InputError for any other session."""
    file.write(",".join(COLUMNS) + "\n")
    for session in sessions:
        refuse_whose(session)
        if len(session.calls) != 1:
            raise InputError(f"session {session.session_id} has {len(session.calls)} calls: this format holds one a session")
        if session.system_prompt is not None:
            raise InputError(f"session {session.session_id} shares a system prompt with others: this format can't tell it")
        ticks = round(session.arrival_s * _TICKS_PER_S)
        try:
            stamp = (_EPOCH + timedelta(seconds=ticks // _TICKS_PER_S)).isoformat(" ")
        except OverflowError:
            raise InputError(f"session {session.session_id} arrives at {session.arrival_s:g} s: no date is so late") from None
        call = session.calls[0]
        file.write(f"{stamp}.{ticks % _TICKS_PER_S:07d},{call.input_tokens},{call.output_tokens}\n")


def _ticks(text: str) -> int:
    """A time stamp such as '2023-11-16 18:15:46.6805900', with or without a UTC offset, in units of 100 ns."""
    before, _, rest = text.strip().partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    if rest and not digits:
        raise FieldError(COLUMNS[0], f"{text!r} is no time stamp such as '2023-11-16 18:15:46.6805900'")
    return _whole_seconds(before + rest[digits:]) * _TICKS_PER_S + int(rest[:digits].ljust(7, "0")[:7])


@lru_cache(maxsize=64)
def _whole_seconds(stamp: str) -> int:
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        raise FieldError(COLUMNS[0], f"{stamp!r} is no time stamp such as '2023-11-16 18:15:46.6805900'") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
