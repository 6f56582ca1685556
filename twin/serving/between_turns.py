"""What becomes of a context's KV in HBM from the end of a call until its agent's next: while a tool runs or a person thinks.

A policy is a function of what an engine can know as the call ends (`Idle`); it never sees how long the wait will be. Plug-ins
register a maker of one under the entry-point group `twin.turn_policies`; the contract test covers each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from math import exp, inf, log
from typing import Literal, NamedTuple

from twin.errors import InputError, did_you_mean

#: Weight of an agent's last wait against those before it.
_RECENT = 0.3
#: Waits count as this long at least: their logarithms are averaged.
_SHORTEST_S = 1e-3


@dataclass(frozen=True, slots=True)
class Idle:
    """A context of `tokens` tokens as its call ends.

    `tool`: it waits for a tool, not a person. `expected_s`: how long such waits of this agent have been lately, of others where
    it had none; None before the first of the run. `survives_s`: how long HBM keeps now what nobody uses (inf: it need not give
    anything up). `move_s`: to the tier below and back up; None without one. `recompute_s`: to compute it again.
    """

    tokens: int
    tool: bool
    expected_s: float | None
    survives_s: float
    move_s: float | None
    recompute_s: float


class Plan(NamedTuple):
    """Keep the context until the room is needed; or drop it, or offload it to the tier below, after so many seconds."""

    verb: Literal["keep", "drop", "offload"]
    after_s: float = 0.0


KEEP = Plan("keep")

TurnPolicy = Callable[[Idle], Plan]
#: Makes a policy from the time given as `after`.
TurnPolicyMaker = Callable[[float], TurnPolicy]


def keep(after_s: float) -> TurnPolicy:
    """Always kept until the room is needed: least recently used first."""
    return lambda idle: KEEP


def drop(after_s: float) -> TurnPolicy:
    """Dropped after a time, as engines do that keep nothing, or for so long only."""
    return lambda idle: Plan("drop", after_s)


def offload(after_s: float) -> TurnPolicy:
    """Moved to the tier below after a time."""
    return lambda idle: Plan("offload", after_s)


def predict(after_s: float) -> TurnPolicy:
    """Given up at once where it is expected back so late that it would not last in HBM, or not repay what it takes there.

    What stays for longer than `survives_s` is evicted before it is used, and has pushed out others that come back sooner. With a
    tier below it moves there, if it is expected to be away for longer than it is on its way; without one it is dropped.
    """

    def decide(idle: Idle) -> Plan:
        if idle.expected_s is None or idle.expected_s <= idle.survives_s:
            return KEEP
        if idle.move_s is None:
            return Plan("drop")
        return Plan("offload") if idle.expected_s > idle.move_s else KEEP

    return decide


TURN_POLICIES: dict[str, TurnPolicyMaker] = {"keep": keep, "drop": drop, "offload": offload, "predict": predict}


def turn_policy(name: str, after_s: float = 0.0) -> TurnPolicy:
    """The policy registered as `name`. Raises InputError with the nearest known name."""
    if name in TURN_POLICIES:
        return TURN_POLICIES[name](after_s)
    found = {point.name: point for point in entry_points(group="twin.turn_policies")}
    if name not in found:
        raise InputError(f"unknown policy between turns {name!r}{did_you_mean(name, [*TURN_POLICIES, *found])}")
    maker: TurnPolicyMaker = found[name].load()
    return maker(after_s)


class _Mean:
    """Mean of the logarithms of waits: waits span decades, and a few of days must not stand for all. Recent ones count more."""

    __slots__ = ("_log", "_weight")

    def __init__(self, weight: float):
        self._weight = weight
        self._log: float | None = None

    def add(self, wait_s: float) -> None:
        seen = log(max(wait_s, _SHORTEST_S))
        self._log = seen if self._log is None else self._log + self._weight * (seen - self._log)

    @property
    def wait_s(self) -> float | None:
        return None if self._log is None else exp(self._log)


@dataclass(slots=True)
class AgentTurns:
    """What is known of one agent between its calls: since when it waits and for what, and how long its waits were.

    `turn` counts its calls, so that a decision made for one wait is void in the next. `next_is_tool` is what the call under way
    will wait for, None for the agent's last.
    """

    next_is_tool: bool | None = None
    turn: int = 0
    idle_since_s: float = inf
    idle_for_tool: bool = False
    waits: dict[bool, _Mean] = field(default_factory=dict)


class WaitMemory:
    """How long waits for tools and for people have been, by agent and for all."""

    #: Of all waits together the last hundred or so count.
    _ALL = 0.01

    def __init__(self) -> None:
        self._all = {tool: _Mean(self._ALL) for tool in (False, True)}

    def ended(self, turns: AgentTurns, now_s: float) -> None:
        """The next call of an agent has come."""
        if turns.idle_since_s < inf:
            wait_s = now_s - turns.idle_since_s
            turns.waits.setdefault(turns.idle_for_tool, _Mean(_RECENT)).add(wait_s)
            self._all[turns.idle_for_tool].add(wait_s)
            turns.idle_since_s = inf

    def expected_s(self, turns: AgentTurns, tool: bool) -> float | None:
        """How long a wait that begins now may be; None where nothing is known yet."""
        own = turns.waits.get(tool)
        return self._all[tool].wait_s if own is None else own.wait_s
