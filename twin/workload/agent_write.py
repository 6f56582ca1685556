"""Sessions to the flat agent-session CSV (the format's description stands in trace_agents.py)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TextIO

from twin.errors import InputError
from twin.workload.session import Call, Session

_COLUMNS = (
    *("session", "agent", "depth", "idx", "spawned_after_parent_idx", "joined_by_parent_idx"),
    *("in_tokens", "out_tokens", "cached_prefix_tokens", "think_time_s", "stop"),
)


def write(file: TextIO, sessions: Iterable[Session]) -> None:
    """All of `sessions`, with their arrivals if the first has one; tiers are not kept.

    InputError for what the format cannot hold: block hashes, shared system prompts, a session under way, agents that are no
    chains forked by the main.
    """
    with_arrival: bool | None = None
    for session in sessions:
        if with_arrival is None:
            with_arrival = not math.isnan(session.arrival_s)
            file.write(",".join((*_COLUMNS, "arrival_s") if with_arrival else _COLUMNS) + "\n")
        end = f",{session.arrival_s!r}\n" if with_arrival else "\n"
        for line in _lines(session):
            file.write(line + end)


def _lines(session: Session) -> list[str]:
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
    spawned, joined = _forks(session, chains, places)
    lines = []
    for position, call in enumerate(calls):
        followers = chains[call.agent][places[position] + 1 :][:1]
        fields = (
            *(session.session_id, call.agent, call.depth, places[position]),
            *(spawned.get(call.agent, ""), joined.get(call.agent, "")),
            *(call.input_tokens, call.output_tokens, call.shared_prefix_tokens, repr(call.wait_s)),
            "tool_use" if any(calls[each].tool for each in followers) else "end_turn",
        )
        lines.append(",".join(map(str, fields)))
    return lines


def _forks(session: Session, chains: dict[int, list[int]], places: list[int]) -> tuple[dict[int, int], dict[int, int]]:
    """(agent -> main call that spawns it, agent -> main call that waits for it), as positions among the main calls."""
    calls = session.calls
    last_of = {chain[-1]: agent for agent, chain in chains.items() if agent}
    spawned: dict[int, int] = {}
    joined: dict[int, int] = {}
    for position, call in enumerate(calls):
        others = list(call.after)
        place = places[position]
        if call.hash_ids is not None or call.depth != min(call.agent, 1):
            raise _unfit(session, f"call {position} has block hashes or is a sub-agent's sub-agent")
        if place:
            before = chains[call.agent][place - 1]
            if before not in others:
                raise _unfit(session, f"call {position} does not wait for its agent's call before")
            others.remove(before)
        elif call.agent:
            if len(others) != 1 or calls[others[0]].agent:
                raise _unfit(session, f"call {position} begins a sub-agent, but not after one call of the main agent")
            spawned[call.agent] = places[others.pop()]
        if not all(_is_join(call, each, last_of, joined) for each in others):
            raise _unfit(session, f"call {position} waits for what is not the end of a sub-agent")
        joined |= {last_of[each]: place for each in others}
    return spawned, joined


def _is_join(call: Call, waited_for: int, last_of: dict[int, int], joined: dict[int, int]) -> bool:
    return not call.agent and waited_for in last_of and last_of[waited_for] not in joined


def _unfit(session: Session, why: str) -> InputError:
    return InputError(f"session {session.session_id} does not fit the agent CSV: {why}; write .jsonl instead")
