"""What a trace holds, in a few numbers and curves, in memory that does not grow with its calls.

Only the hashes of blocks that came up are kept, at a bit each where they are numbered one after the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twin.workload.formats import recognise, trace_format
from twin.workload.seen import SeenNumbers
from twin.workload.session import HASH_BLOCK_TOKENS, Call, Session
from twin.workload.tallies import InFlight, LogTally, Tally
from twin.workload.trace_rows import ReadLog

#: Tenants named one by one, those with the most calls.
_TENANTS = 10
#: Calls of an agent to where the growth of its context is followed, in bins that grow with them.
_GROWTH_BINS = 48


class _PrefixHits:
    """Share of the input that an infinite cache would find: of blocks where calls have hashes, else of tokens."""

    def __init__(self) -> None:
        self._seen = SeenNumbers()
        self._blocks = self._found_blocks = 0
        self._tokens = self._found_tokens = 0

    def add(self, call: Call) -> float:
        """Take up a call; the share of its input that is found."""
        self._tokens += call.input_tokens
        self._found_tokens += call.shared_prefix_tokens
        hashes = call.hash_ids
        if not hashes:
            return call.shared_prefix_tokens / call.input_tokens
        # A block counts by its tokens; one of the usual size by that, the last of an input too.
        sizes = call.block_tokens or (HASH_BLOCK_TOKENS,) * len(hashes)
        found, before = 0, True
        for each, size in zip(hashes, sizes, strict=True):
            new = self._seen.add(each)
            before = before and not new
            found += size * before
        blocks = sum(sizes)
        self._blocks += blocks
        self._found_blocks += found
        return found / blocks

    @property
    def frac(self) -> float:
        return self._found_blocks / self._blocks if self._blocks else self._found_tokens / self._tokens


@dataclass(slots=True)
class _Trees:
    """How sessions branch."""

    fan_out: Tally = field(default_factory=Tally)
    depth: Tally = field(default_factory=Tally)
    joined: int = 0
    first_of: int = 0

    def add(self, session: Session) -> None:
        last: dict[int, int] = {}
        spawned: Counter[int] = Counter()
        waited_for: set[int] = set()
        first_of: set[int] = set()
        for position, call in enumerate(session.calls):
            if call.agent not in last and call.agent and call.after:
                spawned[call.after[0]] += 1
                self.depth.add(call.depth)
            waited_for.update(call.after if call.any_of or len(call.after) > 1 or call.agent not in last else ())
            first_of.update(call.any_of)
            last[call.agent] = position
        for count in spawned.values():
            self.fan_out.add(count)
        ends = [last[agent] for agent in sorted(last.keys() - {0})]
        self.joined += sum(end in waited_for or end in first_of for end in ends)
        self.first_of += sum(end in first_of for end in ends)


@dataclass(slots=True)
class TraceStudy:
    """Figures of a trace, and the distributions behind them."""

    info: dict[str, Any]
    inputs: Tally
    outputs: Tally
    #: Share of a call's input that an infinite cache finds, in thousandths.
    found: Tally
    #: Calls of an agent before -> input tokens.
    growth: dict[int, LogTally]
    #: Sessions in flight; calls of the last minute where every session is one call; None where no arrivals are recorded.
    in_flight: InFlight | None
    arrivals: InFlight | None
    session_s: LogTally
    waits_s: Mapping[str, LogTally]


def trace_info(path: Path, format: str = "auto", log: ReadLog | None = None) -> dict[str, Any]:
    """The keys of `twin trace info --json`. Raises InputError for a trace that cannot be read."""
    return study_trace(path, format, log).info


def study_trace(path: Path, format: str = "auto", log: ReadLog | None = None) -> TraceStudy:
    """Read a trace once and count.

    `span_s` is the time between the first and the last arrival; where no arrivals are recorded, the length of the longest
    session as recorded. Raises InputError for a trace that cannot be read.
    """
    chosen = recognise(path) if format == "auto" else trace_format(format)
    log = ReadLog() if log is None else log
    inputs, outputs, found, calls_each = Tally(), Tally(), Tally(), Tally()
    waits = {"tool_s": LogTally(), "think_s": LogTally()}
    growth: dict[int, LogTally] = {}
    tenants: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    hits, trees, lengths_s, flight, arrivals = _PrefixHits(), _Trees(), LogTally(), InFlight(), InFlight()
    sub_agents = deadlines = unrecorded = 0
    first_s: float | None = None
    for session in chosen.read(path, log):
        sub_agents += session.sub_agents
        deadlines += session.deadline_s is not None
        tenants[session.tenant] += len(session.calls)
        tiers[session.tier] += 1
        first_s = session.arrival_s if first_s is None else first_s
        if len(session.calls) > 1:
            trees.add(session)
        unrecorded += log.session_s is None
        length_s = log.session_s if log.session_s is not None else waiting_s(session)
        lengths_s.add(length_s)
        calls_each.add(len(session.calls))
        if not math.isnan(session.arrival_s):
            flight.add(session.arrival_s, length_s)
            arrivals.add(session.arrival_s, 60.0)
        turns: Counter[int] = Counter()
        for call in session.calls:
            inputs.add(call.input_tokens)
            outputs.add(call.output_tokens)
            found.add(round(1000 * hits.add(call)))
            if call.after:
                waits["tool_s" if call.tool else "think_s"].add(call.wait_s)
            growth.setdefault(_turn_bin(turns[call.agent]), LogTally()).add(call.input_tokens)
            turns[call.agent] += 1
    flight.finish()
    arrivals.finish()
    timed = first_s is not None and not math.isnan(first_s)
    several = calls_each.count < inputs.count
    info: dict[str, Any] = {
        "format": chosen.name,
        "requests": inputs.count,
        "sessions": calls_each.count,
        "sub_agents": sub_agents,
        "span_s": log.latest_s - (first_s or 0.0 if timed else 0.0),
        "input_tokens": inputs.summary(),
        "output_tokens": outputs.summary(),
        "prefix_hit_frac": hits.frac,
        "call_hit_frac": {name: value / 1000 for name, value in found.summary().items()},
        "calls_per_session": calls_each.summary(),
    }
    if timed:
        info["arrivals_per_min"] = arrivals.summary()
    if several:
        info["session_s"] = {"recorded": not unrecorded, **lengths_s.summary()}
        if timed:
            info["sessions_in_flight"] = flight.summary()
    info |= {name: tally.summary() for name, tally in waits.items() if tally.count}
    if sub_agents:
        info["fan_out"] = {
            "agents_per_spawn": trees.fan_out.summary(),
            "depth": trees.depth.summary(),
            "joined_frac": trees.joined / sub_agents,
            "joined_first_k_frac": trees.first_of / sub_agents,
        }
    if deadlines:
        info["deadlines"] = deadlines
    info |= _named("tenants", tenants) | _named("tiers", tiers)
    return TraceStudy(
        info,
        inputs,
        outputs,
        found,
        growth,
        flight if timed and several else None,
        arrivals if timed else None,
        lengths_s,
        {name: tally for name, tally in waits.items() if tally.count},
    )


def waiting_s(session: Session) -> float:
    """How long a session would take if serving took no time: its tools and people alone, on the longest way through its tree."""
    ends_s: list[float] = []
    for call in session.calls:
        ready_s = max((ends_s[each] for each in call.after), default=0.0)
        if call.any_of:
            ready_s = max(ready_s, sorted(ends_s[each] for each in call.any_of)[call.any_count - 1])
        ends_s.append(ready_s + call.wait_s)
    return max(ends_s)


def _turn_bin(turn: int) -> int:
    """First turn of the bin of `turn`: single up to 16, then an eighth of an octave wide, and one for all the rest."""
    if turn < 16:
        return turn
    eighth = min(int(8 * math.log2(turn / 16)), _GROWTH_BINS)
    return math.ceil(16 * 2 ** (eighth / 8))


def _named(key: str, counts: Counter[str]) -> dict[str, Any]:
    """The most frequent names and how many there are; nothing where nobody has one."""
    if set(counts) == {""}:
        return {}
    return {key: {"count": len(counts), "most": dict(sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:_TENANTS])}}
