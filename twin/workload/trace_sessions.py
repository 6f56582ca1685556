"""Our own lossless form: JSON lines, one session a line with all its calls."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from twin.workload.json_rows import JsonRows, count_of, seconds_of
from twin.workload.session import HASH_BLOCK_TOKENS, NO_ARRIVAL, Call, Session
from twin.workload.trace_rows import MOST, BadRows, FieldError, ReadLog, open_trace


def recognises(head: str) -> bool:
    """Whether a file that begins with `head` is one."""
    line = head.lstrip().partition("\n")[0]
    return line.startswith("{") and '"session"' in line and '"calls"' in line


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """The sessions in the order of the file, which must be that of their arrivals; numbered anew from 0."""
    bad = BadRows(path)
    with open_trace(path) as file:
        rows = JsonRows(file, bad)
        count = 0
        latest_s = 0.0
        for row in rows:
            try:
                session = _session(row, count)
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


def _session(row: dict[str, Any], session_id: int) -> Session:
    arrival_s = NO_ARRIVAL if row.get("arrival_s", 0) is None else seconds_of(row, "arrival_s")
    tier, calls = row.get("tier", ""), row.get("calls")
    if not isinstance(tier, str):
        raise FieldError("tier", f"must be a text, not {tier!r}")
    if not isinstance(calls, list) or not calls:
        raise FieldError("calls", "must be a list of at least one call")
    warm_tokens = count_of(row, "warm_tokens", 0) if "warm_tokens" in row else 0
    prompt = count_of(row, "system_prompt", 0) if row.get("system_prompt") is not None else None
    return Session(session_id, arrival_s, tier, [_call(each, i) for i, each in enumerate(calls)], warm_tokens, prompt)


def _call(row: Any, position: int) -> Call:
    where = f"calls.{position}"
    if not isinstance(row, dict):
        raise FieldError(where, "must be a JSON object")
    after, hashes, tool = row.get("after"), row.get("hash_ids"), row.get("tool", False)
    if not isinstance(after, list) or not all(type(each) is int and 0 <= each < position for each in after):
        raise FieldError(f"{where}.after", f"must be a list of calls before call {position}")
    if hashes is not None and not (isinstance(hashes, list) and all(type(each) is int for each in hashes)):
        raise FieldError(f"{where}.hash_ids", "must be a list of whole numbers")
    if not isinstance(tool, bool):
        raise FieldError(f"{where}.tool", f"must be true or false, not {tool!r}")
    counts = {
        key: count_of(row, key, least, f"{where}.{key}", most) for key, (least, most) in _COUNTS.items() if key in row or least
    }
    blocks = -(-counts["input_tokens"] // HASH_BLOCK_TOKENS)
    if hashes is not None and len(hashes) != blocks:
        said = f"has {len(hashes)} hashes; {counts['input_tokens']} tokens are {blocks} blocks of {HASH_BLOCK_TOKENS}"
        raise FieldError(f"{where}.hash_ids", said)
    for part in ("shared_prefix_tokens", "system_tokens"):
        if counts.get(part, 0) > counts["input_tokens"]:
            raise FieldError(f"{where}.{part}", f"is more than the {counts['input_tokens']} input tokens")
    wait_s = seconds_of(row, "wait_s", f"{where}.wait_s")
    return Call(tuple(after), wait_s, **counts, hash_ids=None if hashes is None else tuple(hashes), tool=tool)


#: Key -> its least and its largest value; those with 0 may be left out. A depth is kept in 16 bits.
_COUNTS = {
    "input_tokens": (1, MOST),
    "output_tokens": (1, MOST),
    "shared_prefix_tokens": (0, MOST),
    "system_tokens": (0, MOST),
    "agent": (0, MOST),
    "depth": (0, 2**15 - 1),
}


def write(file: TextIO, sessions: Iterable[Session]) -> None:
    """Any sessions, with nothing lost but their numbers."""
    for session in sessions:
        arrival_s = None if math.isnan(session.arrival_s) else session.arrival_s
        row = {"session": session.session_id, "arrival_s": arrival_s, "tier": session.tier, "warm_tokens": session.warm_tokens}
        if session.system_prompt is not None:
            row["system_prompt"] = session.system_prompt
        file.write(json.dumps({**row, "calls": [_as_dict(call) for call in session.calls]}) + "\n")


def _as_dict(call: Call) -> dict[str, object]:
    row: dict[str, object] = {"after": list(call.after), "wait_s": call.wait_s}
    row |= {key: getattr(call, key) for key in _COUNTS}
    if call.hash_ids is not None:
        row["hash_ids"] = list(call.hash_ids)
    return row | {"tool": call.tool}
