"""What the factory is asked: a session is a tree of calls, each waiting for others and then for a tool or a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

#: The arrival of a session whose trace records none; `assign_arrivals` replaces it before a replay.
NO_ARRIVAL = float("nan")

#: Tokens that a hash of a trace's block stands for, together with everything before it, where a call says nothing else.
HASH_BLOCK_TOKENS = 512


@dataclass(slots=True)
class Call:
    """One request to the model.

    It starts when all calls of `after` and `any_count` of `any_of` have finished *in the twin* (positions in the session,
    always smaller than its own), plus `wait_s`; `tool` tells a tool's wait from a person's. Without any it is a root: it starts
    `wait_s` after the session. `any_of` are the last calls of sub-agents of which the first few are enough.
    """

    after: tuple[int, ...]
    wait_s: float
    input_tokens: int
    output_tokens: int
    #: Of the input, the leading tokens that repeat the same agent's earlier context, for a sub-agent's first call that of the
    #: agent which spawned it: what an infinite cache would find.
    shared_prefix_tokens: int = 0
    #: 0 is the session's main agent, the others are sub-agents.
    agent: int = 0
    #: How many agents stand above this one.
    depth: int = 0
    #: Hashes of the input's blocks, where the trace has them: two inputs share a prefix as far as their hashes agree.
    hash_ids: tuple[int, ...] | None = None
    tool: bool = False
    #: Leading tokens of the input that are the session's system prompt.
    system_tokens: int = 0
    any_of: tuple[int, ...] = ()
    any_count: int = 0
    #: Tokens of each block of `hash_ids`, where not `HASH_BLOCK_TOKENS` each; what the input has beyond them has no hash.
    block_tokens: tuple[int, ...] | None = None


@dataclass(slots=True)
class Session:
    """A tree of calls with one arrival and one tier."""

    session_id: int
    arrival_s: float
    tier: str
    calls: list[Call] = field(default_factory=list)
    #: Context that caches hold when the session enters: it began before the run did.
    warm_tokens: int = 0
    #: Number of the system prompt that it has in common with other sessions; None: its own.
    system_prompt: int | None = None
    #: Whose session it is, of those who share the factory; empty: nobody in particular.
    tenant: str = ""
    #: Seconds from its start within which the whole task is of use; None: no such bound.
    deadline_s: float | None = None

    @property
    def sub_agents(self) -> int:
        """How many agents besides the main one take part."""
        return len({call.agent for call in self.calls} - {0})


class SessionSource(Protocol):
    """Anything that sessions come from."""

    def sessions(self) -> Iterator[Session]:
        """The sessions in order of arrival, one at a time; each call of this method starts afresh and gives the same."""
        ...
