"""What a trace holds, in a few numbers."""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from twin.workload.formats import recognise, trace_format
from twin.workload.session import Call
from twin.workload.trace_rows import ReadLog


class _PrefixHits:
    """Share of the input that an infinite cache would find: of blocks where calls have hashes, else of tokens."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._blocks = self._found_blocks = 0
        self._tokens = self._found_tokens = 0

    def add(self, call: Call) -> None:
        self._tokens += call.input_tokens
        self._found_tokens += call.shared_prefix_tokens
        hashes = call.hash_ids or ()
        self._blocks += len(hashes)
        for each in hashes:
            if each not in self._seen:
                break
            self._found_blocks += 1
        self._seen.update(hashes)

    @property
    def frac(self) -> float:
        return self._found_blocks / self._blocks if self._blocks else self._found_tokens / self._tokens


def trace_info(path: Path, format: str = "auto", log: ReadLog | None = None) -> dict[str, Any]:
    """Counts, lengths and reuse of a trace: the keys of `twin trace info --json`.

    `span_s` is the time between the first and the last arrival; where no arrivals are recorded, the length of the longest
    session as recorded. Raises InputError for a trace that cannot be read.
    """
    chosen = recognise(path) if format == "auto" else trace_format(format)
    log = ReadLog() if log is None else log
    inputs, outputs = array("q"), array("q")
    sessions = sub_agents = 0
    first_s: float | None = None
    hits = _PrefixHits()
    for session in chosen.read(path, log):
        sessions += 1
        sub_agents += session.sub_agents
        first_s = session.arrival_s if first_s is None else first_s
        for call in session.calls:
            inputs.append(call.input_tokens)
            outputs.append(call.output_tokens)
            hits.add(call)
    begun_s = 0.0 if first_s is None or math.isnan(first_s) else first_s
    return {
        "format": chosen.name,
        "requests": len(inputs),
        "sessions": sessions,
        "sub_agents": sub_agents,
        "span_s": log.latest_s - begun_s,
        "input_tokens": _lengths(inputs),
        "output_tokens": _lengths(outputs),
        "prefix_hit_frac": hits.frac,
    }


def _lengths(tokens: array[int]) -> dict[str, float]:
    values = np.frombuffer(tokens, dtype=np.int64)
    p50, p95 = np.quantile(values, [0.5, 0.95]).tolist()
    return {"mean": float(values.mean()), "p50": p50, "p95": p95, "max": int(values.max())}
