"""Sessions to the flat agent-session CSV (the format's description stands in trace_agents.py)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from twin.errors import InputError
from twin.workload.session import Session

_COLUMNS = (
    *("session", "agent", "depth", "idx", "parent_agent", "spawned_after_parent_idx", "joined_by_parent_idx", "join_first"),
    *("in_tokens", "out_tokens", "cached_prefix_tokens", "think_time_s", "stop", "tier", "tenant", "deadline_s"),
)


def write(file: TextIO, sessions: Iterable[Session]) -> None:
    """All of `sessions`, with their arrivals if the first has one.

    InputError for what the format cannot hold: block hashes, shared system prompts, a session under way, agents that are no
    chains forked by another, joins by others than the agent that forked.
    """
    with_arrival: bool | None = None
    out = csv.writer(file, lineterminator="\n")
    for session in sessions:
        if with_arrival is None:
            with_arrival = not math.isnan(session.arrival_s)
            out.writerow((*_COLUMNS, "arrival_s") if with_arrival else _COLUMNS)
        deadline_s = "" if session.deadline_s is None else repr(session.deadline_s)
        end = (session.tier, session.tenant, deadline_s, *((repr(session.arrival_s),) if with_arrival else ()))
        for fields in _rows(session):
            out.writerow((*fields, *end))


@dataclass(slots=True)
class _Fork:
    """Where a sub-agent leaves another and where that waits for it, as positions among the other's calls."""

    parent: int
    spawned_after: int
    joined_by: int | None = None
    join_first: int | None = None


def _rows(session: Session) -> list[tuple[object, ...]]:
    calls = session.calls
    if session.warm_tokens:
        raise _unfit(session, "it is under way (warm_tokens)")
    if session.system_prompt is not None:
        raise _unfit(session, "it shares a system prompt with others (system_prompt)")
    chains: dict[int, list[int]] = {}
    places = []
    for position, call in enumerate(calls):
        chain = chains.setdefault(call.agent, [])
        places.append(len(chain))
        chain.append(position)
    forks = _forks(session, chains, places)
    rows: list[tuple[object, ...]] = []
    for position, call in enumerate(calls):
        followers = chains[call.agent][places[position] + 1 :][:1]
        fork = forks.get(call.agent)
        # `None` is a blank field
        where = (None,) * 4 if fork is None else (fork.parent, fork.spawned_after, fork.joined_by, fork.join_first)
        rows.append(
            (
                *(session.session_id, call.agent, call.depth, places[position], *where),
                *(call.input_tokens, call.output_tokens, call.shared_prefix_tokens, repr(call.wait_s)),
                "tool_use" if any(calls[each].tool for each in followers) else "end_turn",
            )
        )
    return rows


def _forks(session: Session, chains: dict[int, list[int]], places: list[int]) -> dict[int, _Fork]:
    """Sub-agent -> where it forks and where it is waited for."""
    calls = session.calls
    last_of = {chain[-1]: agent for agent, chain in chains.items() if agent}
    forks: dict[int, _Fork] = {}
    depths = {0: 0}
    for position, call in enumerate(calls):
        others = list(call.after)
        if call.hash_ids is not None:
            raise _unfit(session, f"call {position} has block hashes")
        if places[position]:
            before = chains[call.agent][places[position] - 1]
            if before not in others:
                raise _unfit(session, f"call {position} does not wait for its agent's call before")
            others.remove(before)
        elif call.agent:
            if len(others) != 1 or call.any_of:
                raise _unfit(session, f"call {position} begins a sub-agent, but not after one call of another")
            spawner = others.pop()
            forks[call.agent] = _Fork(calls[spawner].agent, places[spawner])
            depths[call.agent] = depths[calls[spawner].agent] + 1
        if call.depth != depths.get(call.agent):
            raise _unfit(session, f"call {position} has depth {call.depth}, which is not that of its agent")
        if call.tool and not places[position]:
            raise _unfit(session, f"call {position} is its agent's first, yet waits for a tool")
        for each, first in (*((each, None) for each in others), *((each, call.any_count) for each in call.any_of)):
            joined = forks.get(last_of.get(each, 0))
            if joined is None or joined.parent != call.agent or joined.joined_by is not None:
                raise _unfit(session, f"call {position} waits for what is not the end of a sub-agent of its own")
            joined.joined_by, joined.join_first = places[position], first
    return forks


def _unfit(session: Session, why: str) -> InputError:
    return InputError(f"session {session.session_id} does not fit the agent CSV: {why}; write .jsonl or .parquet instead")
