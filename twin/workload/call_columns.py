"""The calls of many sessions as columns: what a fit reads its figures from, and by which two workloads are compared."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from twin.workload.quantiles import Floats
from twin.workload.session import Call, Session

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class CallColumns:
    """One row a call: agent after agent, each agent's calls in their order, the agents of a session together.

    `place` counts an agent's calls from 0; where it is above 0 the row before is the same agent's call before.
    """

    session: Ints
    place: Ints
    depth: Ints
    inputs: Ints
    outputs: Ints
    shared: Ints
    wait_s: Floats
    tool: Flags
    #: One row a session, in their order.
    arrival_s: Floats
    #: How long a session takes if every call is served at once.
    session_s: Floats
    #: One row a spawn: its session, how many sub-agents it forks, how deep the agent is that does.
    spawn_session: Ints
    spawn_agents: Ints
    spawn_depth: Ints
    #: Of each spawn, the share of sub-agents that a later call waits for.
    spawn_joined_frac: Floats

    @property
    def main(self) -> Flags:
        """Calls of the main agents."""
        return self.depth == 0

    @property
    def turns(self) -> Ints:
        """Main calls of each session."""
        return np.bincount(self.session[self.main], minlength=len(self.session_s)).astype(np.int64)

    @property
    def agent_calls(self) -> Ints:
        """Calls of each agent, at the row of its first one; 0 at the others."""
        first = np.flatnonzero(self.place == 0)
        counts = np.zeros(len(self.place), dtype=np.int64)
        counts[first] = np.diff(np.append(first, len(self.place)))
        return counts

    def of(self, chosen: Flags) -> CallColumns:
        """The sessions where `chosen` is true, numbered anew."""
        number = np.cumsum(chosen) - 1
        rows, spawns = chosen[self.session], chosen[self.spawn_session]
        return CallColumns(
            session=number[self.session[rows]],
            place=self.place[rows],
            depth=self.depth[rows],
            inputs=self.inputs[rows],
            outputs=self.outputs[rows],
            shared=self.shared[rows],
            wait_s=self.wait_s[rows],
            tool=self.tool[rows],
            arrival_s=self.arrival_s[chosen],
            session_s=self.session_s[chosen],
            spawn_session=number[self.spawn_session[spawns]],
            spawn_agents=self.spawn_agents[spawns],
            spawn_depth=self.spawn_depth[spawns],
            spawn_joined_frac=self.spawn_joined_frac[spawns],
        )


def call_columns(sessions: Iterable[Session]) -> CallColumns:
    """The columns of `sessions`; some 60 bytes a call stay in memory."""
    whole = {name: array("q") for name in ("session", "place", "depth", "inputs", "outputs", "shared", "tool")}
    waits_s, arrivals_s, lengths_s = array("d"), array("d"), array("d")
    spawns, joined_frac = array("q"), array("d")
    for number, session in enumerate(sessions):
        arrivals_s.append(session.arrival_s)
        lengths_s.append(_length_s(session))
        for chain in _chains(session).values():
            for place, position in enumerate(chain):
                call = session.calls[position]
                tool = call.tool or (call.agent > 0 and place > 0)
                for name, value in zip(
                    whole,
                    (number, place, call.depth, call.input_tokens, call.output_tokens, call.shared_prefix_tokens, tool),
                    strict=True,
                ):
                    whole[name].append(int(value))
                waits_s.append(call.wait_s)
        for depth, agents, joined in _spawns(session):
            spawns.extend((number, agents, depth))
            joined_frac.append(joined / agents)
    columns = {name: np.array(values, dtype=np.int64) for name, values in whole.items()}
    by_tool = columns.pop("tool").astype(bool)
    table = np.array(spawns, dtype=np.int64).reshape(-1, 3)
    return CallColumns(
        **columns,
        wait_s=np.array(waits_s, dtype=float),
        tool=by_tool,
        arrival_s=np.array(arrivals_s, dtype=float),
        session_s=np.array(lengths_s, dtype=float),
        spawn_session=table[:, 0],
        spawn_agents=table[:, 1],
        spawn_depth=table[:, 2],
        spawn_joined_frac=np.array(joined_frac, dtype=float),
    )


def _chains(session: Session) -> dict[int, list[int]]:
    """Agent -> positions of its calls."""
    chains: dict[int, list[int]] = {}
    for position, call in enumerate(session.calls):
        chains.setdefault(call.agent, []).append(position)
    return chains


def _spawns(session: Session) -> list[tuple[int, int, int]]:
    """(depth of the agent that spawns, sub-agents, how many of them a later call waits for) of each spawn."""
    chains = _chains(session)
    if len(chains) == 1:
        return []
    later = (session.calls[position] for chain in chains.values() for position in chain[1:])
    waited_for = {each for call in later for each in (*call.after, *call.any_of)}
    spawns: dict[int, list[int]] = {}
    for chain in chains.values():
        first = session.calls[chain[0]]
        if first.after and first.depth:
            spawns.setdefault(max(first.after), []).append(chain[-1] in waited_for)
    return [(session.calls[at].depth, len(joined), sum(joined)) for at, joined in spawns.items()]


def _length_s(session: Session) -> float:
    """From the first call to the end of the last if every call is served at once: the longest path of waits."""
    ends_s: list[float] = []
    for call in session.calls:
        ends_s.append(_ready_s(call, ends_s) + call.wait_s)
    return max(ends_s)


def _ready_s(call: Call, ends_s: list[float]) -> float:
    ready_s = max((ends_s[each] for each in call.after), default=0.0)
    if call.any_count:
        ready_s = max(ready_s, sorted(ends_s[each] for each in call.any_of)[call.any_count - 1])
    return ready_s
