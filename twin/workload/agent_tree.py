"""From the rows of one agent session to its tree of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twin.workload.session import Call

#: Notes what is wrong with a row: the row, the name of the field, and what it is.
Fail = Callable[["Row", str, str], None]


@dataclass(slots=True)
class Row:
    """One call as recorded."""

    #: Where it stands, for whoever says what is wrong with it.
    place: Any
    agent: int
    depth: int
    index: int
    #: Agent that spawned this one, and after which of its calls; None for the main agent.
    parent: int | None
    spawned_after: int | None
    #: Call of the parent that waits for this agent, and of how many that it waits for so the first are enough.
    joined_by: int | None
    join_first: int | None
    input_tokens: int
    output_tokens: int
    shared_tokens: int
    wait_s: float
    stop: str
    takes_tool_result: bool
    start_s: float
    service_s: float
    hash_ids: tuple[int, ...] | None = None
    block_tokens: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Agent:
    rows: list[Row]
    depth: int
    #: Call of its parent that waits for it; None where none does.
    joined_by: int | None
    waits_s: list[float]

    @property
    def span_s(self) -> float:
        return self.rows[-1].start_s + self.rows[-1].service_s - self.rows[0].start_s


def assemble(rows: list[Row], joins_recorded: bool, fail: Fail) -> list[Call]:
    """The calls of a session: an agent's in order, each followed by those of the sub-agents that it spawns.

    The first problem goes to `fail`, with an empty list in answer.
    """
    found = _chains(rows)
    problem = found if isinstance(found, tuple) else _misplaced(found) or _mistimed(found)
    if problem is not None:
        fail(*problem)
        return []
    assert isinstance(found, dict)
    agents = {
        number: _Agent(chain, chain[0].depth, chain[0].joined_by, [r.wait_s for r in chain]) for number, chain in found.items()
    }
    spawned: dict[tuple[int, int], list[int]] = {}
    for number in sorted(agents):
        first = agents[number].rows[0]
        if first.parent is not None and first.spawned_after is not None:
            spawned.setdefault((first.parent, first.spawned_after), []).append(number)
    if not joins_recorded:
        _join_by_span(agents, spawned)
    return _calls(agents, spawned)


_Problem = tuple[Row, str, str]


def _chains(rows: list[Row]) -> dict[int, list[Row]] | _Problem:
    chains: dict[int, list[Row]] = {}
    for row in rows:
        chain = chains.setdefault(row.agent, [])
        if row.index < len(chain):
            return row, "idx", f"{row.index} is a duplicate: agent {row.agent} has that call already"
        if row.index > len(chain):
            return row, "idx", f"must be {len(chain)}, the next of agent {row.agent}, not {row.index}"
        chain.append(row)
    if 0 not in chains:
        return rows[0], "agent", "the session has no main agent (agent 0)"
    return chains


def _misplaced(chains: dict[int, list[Row]]) -> _Problem | None:
    """What is wrong with the place of an agent in the tree."""
    for agent in sorted(chains.keys() - {0}):
        first = chains[agent][0]
        if first.parent not in chains:
            return first, "parent_agent", f"agent {first.parent} has no call in the session: nobody spawned agent {agent}"
        fork = (first.parent, first.spawned_after, first.joined_by, first.join_first)
        for row in chains[agent]:
            if (row.parent, row.spawned_after, row.joined_by, row.join_first) != fork:
                return row, "spawned_after_parent_idx", f"the rows of agent {agent} name different parent calls"
        calls = len(chains[first.parent])
        name = f"agent {first.parent}" if first.parent else "the main agent"
        assert first.spawned_after is not None
        if first.spawned_after >= calls:
            return first, "spawned_after_parent_idx", f"{first.spawned_after} is no call of {name}, which has {calls}"
        if first.joined_by is not None and not first.spawned_after < first.joined_by < calls:
            return first, "joined_by_parent_idx", f"{first.joined_by} is no later call of {name}, which has {calls}"
    return _cyclic(chains) or _joins_too_many(chains)


def _cyclic(chains: dict[int, list[Row]]) -> _Problem | None:
    """An agent that is its own ancestor, or whose depth is not one more than its parent's."""
    depths = {0: 0}
    for agent in sorted(chains):
        line = [agent]
        while line[-1] not in depths:
            parent = chains[line[-1]][0].parent
            assert parent is not None
            if parent in line:
                return (
                    chains[agent][0],
                    "parent_agent",
                    f"agent {agent} is spawned in a cycle: {_told(line[line.index(parent) :])}",
                )
            line.append(parent)
        for each in reversed(line[:-1]):
            parent = chains[each][0].parent
            assert parent is not None
            depths[each] = depths[parent] + 1
        for row in chains[agent]:
            if row.depth != depths[agent]:
                return row, "depth", f"must be {depths[agent]} for agent {agent}, not {row.depth}"
    return None


def _told(line: list[int]) -> str:
    return " by ".join(map(str, [*line, line[0]]))


def _joins_too_many(chains: dict[int, list[Row]]) -> _Problem | None:
    """Agents of which the first few are enough must say the same, and be as many."""
    groups: dict[tuple[int | None, int | None], list[Row]] = {}
    for agent in sorted(chains):
        first = chains[agent][0]
        if first.join_first is None:
            continue
        if first.joined_by is None:
            return first, "join_first", "needs the call that waits: joined_by_parent_idx is blank"
        groups.setdefault((first.parent, first.joined_by), []).append(first)
    for (_, call), group in groups.items():
        wanted = group[0].join_first
        assert wanted is not None
        for row in group:
            if row.join_first != wanted:
                return row, "join_first", f"{row.join_first} differs from the {wanted} of others that call {call} waits for"
        if wanted > len(group):
            return group[0], "join_first", f"{wanted} is more than the {len(group)} agents that call {call} waits for so"
    return None


def _mistimed(chains: dict[int, list[Row]]) -> _Problem | None:
    """A call that began before the one before it of its agent, or before the one that spawned its agent."""
    for agent in sorted(chains):
        before = chains[agent][0]
        if before.parent is not None and before.spawned_after is not None:
            spawner = chains[before.parent][before.spawned_after]
            if before.start_s < spawner.start_s:
                return before, "t_s", f"{before.start_s:g} is before the call that spawned agent {agent}, at {spawner.start_s:g}"
        for row in chains[agent][1:]:
            if row.start_s < before.start_s:
                return row, "t_s", f"{row.start_s:g} is before the call before it of agent {agent}, at {before.start_s:g}"
            before = row
    return None


def _join_by_span(agents: dict[int, _Agent], spawned: dict[tuple[int, int], list[int]]) -> None:
    """The call after a spawn waits for the sub-agents whose span fits into its think time, then for the rest of that."""
    for (parent, call), numbers in spawned.items():
        waits_s = agents[parent].waits_s
        following = call + 1
        if following >= len(waits_s):
            continue
        waited_for = [agents[each] for each in numbers if 0 < agents[each].span_s <= waits_s[following]]
        for sub in waited_for:
            sub.joined_by = following
        waits_s[following] -= max((sub.span_s for sub in waited_for), default=0.0)


def _calls(agents: dict[int, _Agent], spawned: dict[tuple[int, int], list[int]]) -> list[Call]:
    calls: list[Call] = []
    #: Agent -> position of its last call so far; (agent, call) -> last calls of those it waits for, all or the first few.
    last: dict[int, int] = {}
    joining: dict[tuple[int, int], list[int]] = {}
    any_of: dict[tuple[int, int], list[int]] = {}
    any_count: dict[tuple[int, int], int] = {}
    under_way = [(0, 0)]
    while under_way:
        number, index = under_way.pop()
        agent = agents[number]
        first = agent.rows[0]
        if index == len(agent.rows):
            if first.parent is not None and agent.joined_by is not None:
                place = (first.parent, agent.joined_by)
                if first.join_first is None:
                    joining.setdefault(place, []).append(last[number])
                else:
                    any_of.setdefault(place, []).append(last[number])
                    any_count[place] = first.join_first
            continue
        if index:
            after: tuple[int, ...] = (last[number],)
        else:
            after = () if first.parent is None else (last[first.parent],)
        place = (number, index)
        call = _call(agent, index, (*after, *joining.get(place, ())))
        if place in any_of:
            call.any_of, call.any_count = tuple(any_of[place]), any_count[place]
        last[number] = len(calls)
        calls.append(call)
        under_way.append((number, index + 1))
        under_way += [(each, 0) for each in reversed(spawned.get(place, ()))]
    return calls


def _call(agent: _Agent, index: int, after: tuple[int, ...]) -> Call:
    row = agent.rows[index]
    before = agent.rows[index - 1] if index else None
    return Call(
        after,
        agent.waits_s[index],
        row.input_tokens,
        row.output_tokens,
        row.shared_tokens,
        row.agent,
        agent.depth,
        row.hash_ids,
        before is not None and (before.stop == "tool_use" if before.stop else row.takes_tool_result),
        block_tokens=row.block_tokens,
    )
