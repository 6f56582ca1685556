"""From the rows of one agent session to its tree of calls."""

from __future__ import annotations

from dataclasses import dataclass

from twin.workload.session import Call
from twin.workload.trace_rows import BadRows


@dataclass(slots=True)
class Row:
    """One call as recorded."""

    line: int
    agent: int
    index: int
    spawned_after: int | None
    joined_by: int | None
    input_tokens: int
    output_tokens: int
    shared_tokens: int
    wait_s: float
    stop: str
    takes_tool_result: bool
    start_s: float
    service_s: float
    arrival_s: float


@dataclass(slots=True)
class _SubAgent:
    rows: list[Row]
    #: Main call that waits for it; None where none does.
    joined_by: int | None

    @property
    def span_s(self) -> float:
        return self.rows[-1].start_s + self.rows[-1].service_s - self.rows[0].start_s


def assemble(rows: list[Row], joins_recorded: bool, bad: BadRows) -> list[Call]:
    """The calls of a session: the main agent's in order, each followed by the sub-agents that it spawns.

    Problems go to `bad`, with an empty list in answer.
    """
    chains: dict[int, list[Row]] = {}
    for row in rows:
        chain = chains.setdefault(row.agent, [])
        if row.index != len(chain):
            bad.add(row.line, 1, "idx", f"must be {len(chain)}, the next of agent {row.agent}, not {row.index}")
            return []
        chain.append(row)
    main = chains.pop(0, [])
    if not main:
        bad.add(rows[0].line, 1, "agent", "the session has no main agent (agent 0)")
        return []
    spawned: dict[int, list[_SubAgent]] = {}
    for agent in sorted(chains):
        chain = chains[agent]
        sub = _SubAgent(chain, chain[0].joined_by)
        if (problem := _misplaced(sub, len(main))) is not None:
            bad.add(chain[0].line, 1, *problem)
            return []
        spawned.setdefault(chain[0].spawned_after or 0, []).append(sub)
    waits_s = [row.wait_s for row in main]
    if not joins_recorded:
        _join_by_span(waits_s, spawned)
    return _calls(main, waits_s, spawned)


def _misplaced(sub: _SubAgent, main_calls: int) -> tuple[str, str] | None:
    first = sub.rows[0]
    assert first.spawned_after is not None
    if first.spawned_after >= main_calls:
        return "spawned_after_parent_idx", f"{first.spawned_after} is no call of the main agent, which has {main_calls}"
    if any((row.spawned_after, row.joined_by) != (first.spawned_after, first.joined_by) for row in sub.rows):
        return "spawned_after_parent_idx", f"the rows of agent {first.agent} name different parent calls"
    if first.joined_by is not None and not first.spawned_after < first.joined_by < main_calls:
        return "joined_by_parent_idx", f"{first.joined_by} is no later call of the main agent, which has {main_calls}"
    return None


def _join_by_span(waits_s: list[float], spawned: dict[int, list[_SubAgent]]) -> None:
    """The main call after a spawn waits for the sub-agents whose span fits into its think time, then for the rest of that."""
    for parent, subs in spawned.items():
        following = parent + 1
        if following >= len(waits_s):
            continue
        waited_for = [sub for sub in subs if 0 < sub.span_s <= waits_s[following]]
        for sub in waited_for:
            sub.joined_by = following
        waits_s[following] -= max((sub.span_s for sub in waited_for), default=0.0)


def _calls(main: list[Row], waits_s: list[float], spawned: dict[int, list[_SubAgent]]) -> list[Call]:
    calls: list[Call] = []
    joining: dict[int, list[int]] = {}
    before: Row | None = None
    after: tuple[int, ...] = ()
    for i, row in enumerate(main):
        calls.append(_call(row, before, (*after, *joining.get(i, ())), waits_s[i]))
        position = len(calls) - 1
        before, after = row, (position,)
        for sub in spawned.get(i, ()):
            last: Row | None = None
            previous = position
            for step in sub.rows:
                calls.append(_call(step, last, (previous,), step.wait_s))
                last, previous = step, len(calls) - 1
            if sub.joined_by is not None:
                joining.setdefault(sub.joined_by, []).append(previous)
    return calls


def _call(row: Row, before: Row | None, after: tuple[int, ...], wait_s: float) -> Call:
    tool = before is not None and (before.stop == "tool_use" if before.stop else row.takes_tool_result)
    depth = min(row.agent, 1)
    return Call(after, wait_s, row.input_tokens, row.output_tokens, row.shared_tokens, row.agent, depth, None, tool)
