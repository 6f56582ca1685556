"""Runs the tools of a site's sessions in its sandboxes: they wait for one, they fail, they are run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, NamedTuple

from twin.engine.clock import Clock
from twin.engine.session_run import SessionRun
from twin.recording import TableWriter
from twin.rng import stream
from twin.serving import SandboxPool, ToolRun


@dataclass(frozen=True, slots=True)
class ToolFailures:
    """Each run of a tool fails with `probability`, after its full time; up to `retries` more begin, each `backoff_s` later."""

    probability: float = 0.0
    retries: int = 0
    backoff_s: float = 0.0


NO_FAILURES = ToolFailures()


class ToolTurn(NamedTuple):
    """A call whose tool runs, and how long its runs before this one waited for a sandbox."""

    session: SessionRun
    call: int
    waited_s: float


class ToolProcess:
    """Owns the pool of a site. One alarm of the clock a run, as many as tools cost without it."""

    def __init__(
        self, clock: Clock, pool: SandboxPool, failures: ToolFailures, seed: int, site: str, table: TableWriter, horizon_s: float
    ):
        self._clock = clock
        self.pool = pool
        self._failures = failures
        self._seed = seed
        self._site = site
        self._table = table
        self._horizon_s = horizon_s
        self._wake_s = inf
        #: Hears of a call whose tool is done: the session, the call, when, and how long its runs waited for a sandbox in all.
        self.on_done: Callable[[SessionRun, int, float, float], None]
        #: Hears of a session with a tool that has failed for good, and when.
        self.on_failed: Callable[[SessionRun, float], None]

    def begin(self, session: SessionRun, index: int, ready_s: float) -> None:
        """The tool that a call waits for is asked to run."""
        failures = self._failures
        if failures.probability and session.tool_failures is None:
            # By the number of the call, whatever runs first: how often its tool fails before it succeeds.
            draws = stream(self._seed, f"engine.tools.{session.session.session_id}")
            tries = draws.geometric(1 - failures.probability, len(session.session.calls))
            session.tool_failures = (tries - 1).tolist()
        self._ask(ToolTurn(session, index, 0.0), 1, ready_s)

    def withdraw(self, session: SessionRun, index: int, now_s: float) -> None:
        """The call will never begin: a run of its tool that waits for a sandbox does not begin either; one that runs goes on."""
        run = session.tool_runs.pop(index, None)
        if run is not None and self.pool.withdraw(run, now_s):
            self._write(run, None, "withdrawn")

    def _ask(self, turn: ToolTurn, attempt: int, now_s: float) -> None:
        run = ToolRun(turn.session.session.calls[turn.call].wait_s, attempt, turn)
        turn.session.tool_runs[turn.call] = run
        self.pool.ask(run, now_s)
        self._set_alarm()

    def _set_alarm(self) -> None:
        due_s = self.pool.next_change_s
        if due_s != self._wake_s:
            self._wake_s = due_s
            if due_s < self._horizon_s:
                self._clock.at(due_s, self._wake)

    def _wake(self, event: Any) -> None:
        due_s = event.value
        if due_s != self._wake_s:  # an earlier alarm, set anew since
            return
        pool = self.pool
        pool.advance(due_s)
        ended, pool.outbox = pool.outbox, []
        for run in ended:
            self._ended(run, due_s)
        self._set_alarm()

    def _ended(self, run: ToolRun, now_s: float) -> None:
        turn: ToolTurn = run.owner
        session, index = turn.session, turn.call
        failed = session.tool_failures is not None and run.attempt <= session.tool_failures[index]
        self._write(run, now_s, "failed" if failed else "done")
        if session.tool_runs.get(index) is not run:  # nobody waits for it any more
            return
        del session.tool_runs[index]
        waited_s = turn.waited_s + run.waited_s
        if not failed:
            self.on_done(session, index, now_s, waited_s)
        elif run.attempt > self._failures.retries:
            self.on_failed(session, now_s)
        else:
            again = ToolTurn(session, index, waited_s)
            session.tool_runs[index] = pause = ToolRun(0.0)
            self._clock.at(now_s + self._failures.backoff_s, partial(self._try_again, again, run.attempt + 1, pause))

    def _try_again(self, turn: ToolTurn, attempt: int, pause: ToolRun, event: Any) -> None:
        if turn.session.tool_runs.get(turn.call) is pause:
            turn.session.tool_retries += 1
            self._ask(turn, attempt, event.value)

    def close(self) -> None:
        """Book the runs that the horizon finds in their sandboxes or waiting."""
        for run in self.pool.open():
            self._write(run, None, "waiting" if run.begun_s is None else "running")

    def _write(self, run: ToolRun, ended_s: float | None, outcome: str) -> None:
        turn: ToolTurn = run.owner
        session = turn.session.session
        row = (session.session_id, self._site, session.tier, turn.call, run.attempt, run.asked_s, run.begun_s, ended_s)
        self._table.append((*row, run.service_s, outcome))
