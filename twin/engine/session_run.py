"""A session on its way: which calls wait for which others, what a join leaves behind, and where the task's time went."""

from __future__ import annotations

from typing import NamedTuple

from twin.engine.session_paths import SessionPaths
from twin.errors import SimulationError
from twin.serving import AgentTurns, Request, ToolRun
from twin.workload import Call, Session

#: What a call does: waits for others, waits for its tool or person or is in the front end, is with an instance, has ended, or
#: will never begin.
WAITING, COMING, ACCEPTED, FINISHED, DROPPED = range(5)

#: Parts of a task's time, in the order of a split.
SPLIT_PARTS = ("front_end", "queue", "prefill", "decode", "tool", "sandbox_wait", "human")

#: Seconds spent in each of SPLIT_PARTS.
Split = tuple[float, float, float, float, float, float, float]

NO_TIME: Split = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class TierRules(NamedTuple):
    """What a tier says of its sessions: within what time the whole task is of use, and how long a person waits for the first
    token of an answer before leaving; None where it says nothing."""

    deadline_s: float | None = None
    patience_s: float | None = None


NO_RULES = TierRules()


class SessionRun:
    """A session that has begun.

    Its critical path goes back from a call to the one that it was last to wait for, and so on to a root. `split` is the time
    along the path to the call that ended last; `finish_s` is when that was. Calls that a first-k join left behind (`surplus`) do
    not count for either: nobody waits for them.
    """

    __slots__ = (
        "calls_dropped",
        "calls_made",
        "children",
        "comes_again",
        "deadline_s",
        "entry_s",
        "finish_s",
        "led_by",
        "left",
        "missing",
        "next_call",
        "outcome",
        "paths",
        "racing",
        "rules",
        "sandbox_wait_s",
        "session",
        "split",
        "start_s",
        "states",
        "surplus",
        "tokens",
        "tokens_unread",
        "tool_failures",
        "tool_retries",
        "tool_runs",
        "turns",
        "under_way",
        "wanted",
    )

    def __init__(self, session: Session, rules: TierRules = NO_RULES):
        """Raises SimulationError for calls that do not wait for earlier ones."""
        calls = session.calls
        self.session = session
        self.rules = rules
        self.deadline_s = session.deadline_s if session.deadline_s is not None else rules.deadline_s
        #: Of each call: how many it still waits for, and who waits for it.
        self.missing: list[int] = []
        self.children: list[list[int]] = [[] for _ in calls]
        #: Of each first-k join: how many more are enough. Of each call: the joins that may take it. None without such joins.
        self.wanted: dict[int, int] | None = None
        self.racing: dict[int, list[int]] | None = None
        #: Of each call: the next one of its agent, None for the last; and whether its context will be asked for again, by its own
        #: agent or by one that it spawns. What is known of the agents' waits.
        self.next_call: list[Call | None] = [None] * len(calls)
        self.comes_again = [False] * len(calls)
        self.turns: dict[int, AgentTurns] = {}
        last_of_agent: dict[int, int] = {}
        for index, call in enumerate(calls):
            self.missing.append(len(call.after) + call.any_count)
            agent = call.agent
            if agent in last_of_agent:
                before_it = last_of_agent[agent]
                self.comes_again[before_it] = True
                self.next_call[before_it] = call
            last_of_agent[agent] = index
            for before in call.after:
                if not 0 <= before < index:
                    raise self._wrong(index, f"waits for call {before}, which does not come before it")
                self.children[before].append(index)
            if call.any_of or call.any_count:
                self._join(index, call)
        self.paths = SessionPaths(session)
        for index in self.paths.spawners:
            self.comes_again[index] = True
        self.states = bytearray(len(calls))
        #: Of each call that has begun to come: the split and the end of the call before it on its path, and that one's request.
        self.led_by: list[tuple[Split, float, int | None] | None] = [None] * len(calls)
        #: When it left the front end.
        self.entry_s = [0.0] * len(calls)
        self.left = len(calls)
        self.under_way = 0
        #: How it ends where it does not end well: no further calls begin.
        self.outcome: str | None = None
        self.surplus: set[int] | None = None
        self.calls_made = 0
        self.calls_dropped = 0
        self.tokens = 0
        self.tokens_unread = 0
        #: When the first of its calls reached the factory.
        self.start_s: float | None = None
        self.finish_s: float | None = None
        self.split = NO_TIME
        #: Of tools in sandboxes: runs under way by call, how long each call's waited, and how often it will fail, where it can.
        self.tool_runs: dict[int, ToolRun] = {}
        self.sandbox_wait_s: dict[int, float] = {}
        self.tool_failures: list[int] | None = None
        self.tool_retries = 0

    def _join(self, index: int, call: Call) -> None:
        if not 1 <= call.any_count <= len(call.any_of):
            raise self._wrong(index, f"waits for the first {call.any_count} of {len(call.any_of)} calls")
        if self.wanted is None or self.racing is None:
            self.wanted, self.racing = {}, {}
        wanted, racing = self.wanted, self.racing
        for before in call.any_of:
            if not 0 <= before < index:
                raise self._wrong(index, f"waits for call {before}, which does not come before it")
            if self.session.calls[before].agent == call.agent:
                raise self._wrong(index, f"may go on without call {before} of its own agent: a first-k join is of others")
            if before in call.after:
                raise self._wrong(index, f"waits for call {before} and may go on without it")
            racing.setdefault(before, []).append(index)
        if len(set(call.any_of)) != len(call.any_of):
            raise self._wrong(index, "names a call twice in its first-k join")
        wanted[index] = call.any_count

    def _wrong(self, index: int, what: str) -> SimulationError:
        return SimulationError(f"session {self.session.session_id}: call {index} {what}")

    def roots(self) -> list[int]:
        """Calls that wait for no other."""
        return [index for index, missing in enumerate(self.missing) if not missing]

    def ended(self, index: int) -> tuple[list[int], list[int]]:
        """A call has ended: those that could begin now, and those that never will since a join does without."""
        self.states[index] = FINISHED
        self.left -= 1
        ready = []
        dropped: list[int] = []
        missing = self.missing
        for child in self.children[index]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
        wanted = self.wanted
        if wanted is None or self.racing is None:
            return ready, dropped
        for join in self.racing.get(index, ()):
            if wanted[join]:
                wanted[join] -= 1
                missing[join] -= 1
                if not wanted[join]:
                    dropped += self._drop_rest(join, wanted)
                if not missing[join]:
                    ready.append(join)
        states = self.states
        return [each for each in ready if states[each] == WAITING], dropped

    def _drop_rest(self, join: int, wanted: dict[int, int]) -> list[int]:
        """Drop what is left to begin of the agents that a join goes on without, and of those below them, unless another call that
        stays waits for it. What of them runs is finished, for nobody."""
        calls, states = self.session.calls, self.states
        agents = {calls[each].agent for each in calls[join].any_of if states[each] < FINISHED}
        seen: set[int] = set()
        for call in calls:
            if call.agent not in seen:
                seen.add(call.agent)
                if call.after and calls[call.after[0]].agent in agents:
                    agents.add(call.agent)
        agents.discard(calls[join].agent)
        left_behind = {index for index, call in enumerate(calls) if states[index] < FINISHED and call.agent in agents}
        for index in range(len(calls) - 1, -1, -1):
            if states[index] < FINISHED and index not in left_behind:
                left_behind.difference_update(calls[index].after)
                if wanted.get(index):
                    left_behind.difference_update(calls[index].any_of)
        dropped = []
        surplus = self.surplus = self.surplus or set()
        for index in sorted(left_behind):
            if states[index] == ACCEPTED:
                surplus.add(index)
            else:
                states[index] = DROPPED
                dropped.append(index)
        self.left -= len(dropped)
        self.calls_dropped += len(dropped)
        return dropped

    def book(self, request: Request) -> Split:
        """The split along the path to a request that has ended."""
        index = request.call_index
        led_by = self.led_by[index]
        assert led_by is not None
        (front_end_s, queue_s, prefill_s, decode_s, tool_s, sandbox_s, human_s), ready_s, parent = led_by
        arrival_s, entry_s = request.arrival_s, self.entry_s[index]
        admitted_s, first_s, finish_s = request.admitted_s, request.first_token_s, request.finish_s
        assert admitted_s is not None
        assert first_s is not None
        assert finish_s is not None
        if parent is None:  # before the first call arrives there is no task
            assert self.start_s is not None
            ready_s = self.start_s
        waited_s = arrival_s - ready_s
        if self.session.calls[index].tool:
            sandbox_wait_s = min(self.sandbox_wait_s.get(index, 0.0), waited_s)
            sandbox_s += sandbox_wait_s
            tool_s += waited_s - sandbox_wait_s
        else:
            human_s += waited_s
        split = (
            front_end_s + (entry_s - arrival_s),
            queue_s + (admitted_s - entry_s),
            prefill_s + (first_s - admitted_s),
            decode_s + (finish_s - first_s),
            tool_s,
            sandbox_s,
            human_s,
        )
        if self.surplus is None or index not in self.surplus:
            self.split, self.finish_s = split, finish_s
        return split

    def promise_kept(self, outcome: str, horizon_s: float) -> str | None:
        """Whether the task was done within its deadline: met, missed, or open where it may still be; None before it began."""
        if self.deadline_s is None or self.start_s is None:
            return None
        if outcome == "completed":
            assert self.finish_s is not None
            return "met" if self.finish_s - self.start_s <= self.deadline_s else "missed"
        return "open" if outcome == "in_flight" and horizon_s - self.start_s <= self.deadline_s else "missed"
