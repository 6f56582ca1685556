"""Sessions for tests: a site of one instance that plays them, calls with round times, random trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from math import inf
from typing import Any

from engine_parts import Site, Table, worker
from hypothesis import strategies as st

from twin.engine.session_run import TierRules
from twin.engine.session_runner import SessionRunner
from twin.engine.tool_process import NO_FAILURES, ToolFailures, ToolProcess
from twin.serving import SandboxPool
from twin.workload import Call, Session


class Factory(Site):
    """A site of one instance with sessions; with `sandboxes` their tools run in so many."""

    def __init__(
        self,
        *sessions: Session,
        front_end_s: Callable[[int], float] = lambda _: 0.0,
        horizon_s: float = inf,
        rules: Mapping[str, TierRules] | None = None,
        sandboxes: float | None = None,
        failures: ToolFailures = NO_FAILURES,
        seed: int = 1,
    ):
        super().__init__(worker())
        self.requests, self.sessions, self.tool_runs = Table("requests"), Table("sessions"), Table("tool_runs")
        self.tools = None
        if sandboxes is not None:
            pool = SandboxPool(sandboxes)
            self.tools = ToolProcess(self.clock, pool, failures, seed, "here", self.tool_runs, horizon_s)  # type: ignore[arg-type]
        self.runner = SessionRunner(
            self.clock,
            self.door,
            "here",
            count(),
            front_end_s,
            self.requests,  # type: ignore[arg-type]
            self.sessions,  # type: ignore[arg-type]
            horizon_s,
            inf,
            rules,
            self.tools,
        )
        self.door.on_finished = self.runner.finished
        for session in sessions:
            self.runner.expect(session, lambda: None)

    def play(self, until_s: float = 1e4) -> list[dict[str, Any]]:
        """The requests by number."""
        self.clock.run(until_s)
        for request, holder in self.door.in_flight():
            self.runner.still_in_flight(request, holder.emitted(request, until_s) if holder else 0, 0.0)
        self.runner.close()
        runner = self.runner
        assert runner.accepted == runner.completed + len(self.door.in_flight()) + runner.in_front_end
        assert runner.begun == sum(runner.ended.values()) + runner.in_flight.now
        assert runner.unexplained_s <= 1e-9
        if self.tools is not None:
            self.tools.close()
            assert self.tools.pool.books_balance(until_s)
        return sorted(self.requests.rows, key=lambda row: row["request_id"])


def call(*after: int, wait_s: float = 0.0, tokens: int = 1000, out: int = 11, **more: object) -> Call:
    """A second of prompt and ten steps of 10 ms, 1.1 s when alone."""
    return Call(after, wait_s, tokens, out, **more)  # type: ignore[arg-type]


@st.composite
def trees(draw: st.DrawFn) -> list[Call]:
    """Calls of nested agents with joins of all, of the first few, and of none."""
    calls: list[Call] = []
    agents = 0

    def agent(number: int, depth: int, spawned_after: int | None) -> int:
        """Adds an agent's calls and those of the agents below it; the position of its last."""
        nonlocal agents
        after = () if spawned_after is None else (spawned_after,)
        racing: tuple[int, ...] = ()
        last = -1
        for place in range(draw(st.integers(1, 3))):
            first = draw(st.integers(1, len(racing))) if racing else 0
            calls.append(
                Call(
                    after,
                    draw(st.sampled_from([0.0, 0.3, 2.0])),
                    draw(st.integers(50, 600)),
                    draw(st.integers(1, 120)),
                    draw(st.sampled_from([0, 40])) if place or depth else 0,
                    number,
                    depth,
                    tool=bool(place) and draw(st.booleans()),
                    any_of=racing,
                    any_count=first,
                )
            )
            last = len(calls) - 1
            after, racing = (last,), ()
            if depth < 3 and agents < 8:
                ends = []
                for _ in range(draw(st.integers(0, 3 if depth < 2 else 1))):
                    agents += 1
                    ends.append(agent(agents, depth + 1, last))
                how = draw(st.sampled_from(["all", "first", "beside"]))
                after = (last, *ends) if how == "all" else after
                racing = tuple(ends) if how == "first" else ()
        return last

    agent(0, 0, None)
    return calls
