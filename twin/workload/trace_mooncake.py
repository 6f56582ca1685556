"""The Mooncake trace: JSON lines of timestamp (ms), input_length, output_length and hash_ids, one call a line.

A hash stands for a block of 512 tokens *and everything before it*, so that equal hashes are equal prefixes, over all calls.
Source of the format: kvcache-ai/Mooncake (Qin et al., FAST 2025).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from twin.errors import InputError
from twin.workload.json_rows import JsonRows, count_of
from twin.workload.session import HASH_BLOCK_TOKENS, Call, Session
from twin.workload.session_rows import check_hashes, refuse_whose
from twin.workload.trace_rows import MOST_S, BadRows, FieldError, ReadLog, open_trace

#: A hundred years: of a run, or since 1970.
_MOST_MS = int(MOST_S * 1000)
_KEYS = ("timestamp", "input_length", "output_length", "hash_ids")


def recognises(head: str) -> bool:
    """Whether a file that begins with `head` is one."""
    line = head.lstrip().partition("\n")[0]
    return line.startswith("{") and '"input_length"' in line


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """One session a line, arriving at its time stamp, with its hashes. Lines must be in order of time."""
    bad = BadRows(path)
    with open_trace(path) as file:
        rows = JsonRows(file, bad)
        count = 0
        latest_s = 0.0
        for row in rows:
            try:
                arrival_s, call = _call(row, latest_s)
            except FieldError as error:
                rows.fail(error)
                continue
            latest_s = arrival_s
            if not bad:
                log.latest_s = arrival_s
                yield Session(count, arrival_s, "", [call])
                count += 1
        bad.finish(count, rows.line)


def _call(row: dict[str, Any], latest_s: float) -> tuple[float, Call]:
    arrival_s = count_of(row, "timestamp", 0, most=_MOST_MS) / 1000
    if arrival_s < latest_s:
        raise FieldError("timestamp", f"{row['timestamp']} is earlier than the line before")
    input_tokens = count_of(row, "input_length", 1)
    output_tokens = count_of(row, "output_length", 1)
    hashes = row.get("hash_ids")
    if not isinstance(hashes, list) or not all(type(each) is int for each in hashes):
        raise FieldError("hash_ids", "must be a list of whole numbers")
    check_hashes(tuple(hashes), None, input_tokens)
    return arrival_s, Call((), 0.0, input_tokens, output_tokens, hash_ids=tuple(hashes))


def write(file: TextIO, sessions: Iterable[Session]) -> None:
    """Sessions of one call each that has hashes; InputError for any other session. Times are kept to the millisecond."""
    for session in sessions:
        refuse_whose(session)
        call = session.calls[0]
        if len(session.calls) != 1 or call.hash_ids is None or call.block_tokens is not None:
            raise InputError(
                f"session {session.session_id} is not one call with hashes of blocks of {HASH_BLOCK_TOKENS} tokens: "
                "this format holds nothing else"
            )
        values = (round(session.arrival_s * 1000), call.input_tokens, call.output_tokens, list(call.hash_ids or ()))
        file.write(json.dumps(dict(zip(_KEYS, values, strict=True))) + "\n")
