"""Plays sessions: a call begins when those it waits for have finished in the twin and its tool or person is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any, Protocol

from twin.engine.clock import Clock
from twin.engine.session_paths import SessionPaths
from twin.errors import SimulationError
from twin.recording import TableWriter
from twin.serving import AgentTurns, ContextPath, Request
from twin.workload import Call, Session


class Door(Protocol):
    """A site's serving side, as far as sessions go."""

    def can_serve(self, request: Request) -> bool: ...

    def accept(self, request: Request) -> None: ...

    def warm(self, path: ContextPath) -> None: ...

    def forget(self, path: ContextPath) -> None: ...


class SessionRun:
    """A session on its way: which calls still wait for how many others, and what it has used so far."""

    __slots__ = (
        "calls_made",
        "children",
        "left",
        "missing",
        "next_call",
        "paths",
        "refused",
        "request_ids",
        "session",
        "start_s",
        "tokens",
        "tool_s",
        "turns",
        "under_way",
    )

    def __init__(self, session: Session):
        calls = session.calls
        self.session = session
        self.paths = SessionPaths(session)
        self.missing = [len(call.after) for call in calls]
        self.children: list[list[int]] = [[] for _ in calls]
        #: The next call of the same agent, None for its last.
        self.next_call: list[Call | None] = [None] * len(calls)
        self.turns: dict[int, AgentTurns] = {}
        last_of_agent: dict[int, int] = {}
        for index, call in enumerate(calls):
            if call.agent in last_of_agent:
                self.next_call[last_of_agent[call.agent]] = call
            last_of_agent[call.agent] = index
            for before in call.after:
                self.children[before].append(index)
        self.request_ids = [-1] * len(calls)
        self.left = len(calls)
        self.under_way = 0
        self.refused = False
        self.calls_made = 0
        self.tool_s = 0.0
        self.tokens = 0
        self.start_s: float | None = None


class SessionRunner:
    """The closed loop of one site's sessions. Counts what it has accepted, so that a lost request shows."""

    def __init__(
        self,
        clock: Clock,
        door: Door,
        site: str,
        ids: Iterator[int],
        front_end_s: Callable[[int], float],
        requests: TableWriter,
        sessions: TableWriter,
        horizon_s: float = inf,
        context_tokens: float = inf,
    ):
        self._clock = clock
        self._door = door
        self._site = site
        self._ids = ids
        self._front_end_s = front_end_s
        self._requests = requests
        self._sessions = sessions
        self._horizon_s = horizon_s
        self._context_tokens = context_tokens
        #: Hears of each session that ends, completed or refused; set before the run.
        self.on_session_end: Callable[[], None] | None = None
        self._active: dict[int, SessionRun] = {}
        self._late: list[tuple[SessionRun, int, float]] = []
        #: Calls longer than the model was made for, and the longest.
        self.too_long = 0
        self.longest_tokens = 0
        #: Calls that arrived and are in the front end when the horizon comes.
        self.in_front_end = 0
        self.accepted = 0
        self.completed = 0
        self.rejected = 0
        self.finished_tokens = 0

    def expect(self, session: Session, then: Callable[[], None]) -> None:
        """A session will enter at its `arrival_s`; call `then` when it does.

        Not when its first call has come through the front end: a shorter prompt that arrives later may be through sooner.
        """
        self._clock.at(session.arrival_s, partial(self._begin, session, then))

    def _begin(self, session: Session, then: Callable[[], None], _: Any) -> None:
        then()
        run = SessionRun(session)
        self._active[session.session_id] = run
        if session.warm_tokens:
            self._door.warm(run.paths.warm())
        begun = False
        for index, missing in enumerate(run.missing):
            if not missing:
                begun = True
                self._begin_call(run, index, session.arrival_s)
        if not begun:
            raise SimulationError(f"session {session.session_id} has no call that could begin")

    def _begin_call(self, run: SessionRun, index: int, ready_s: float) -> None:
        """Everything the call waited for is done: after its tool or person, and the front end, it reaches the router."""
        arrival_s = ready_s + run.session.calls[index].wait_s
        entry_s = arrival_s + self._front_end_s(run.session.calls[index].input_tokens)
        if entry_s < self._horizon_s:
            self._clock.at(entry_s, partial(self._arrive, run, index, arrival_s))
        elif arrival_s < self._horizon_s:
            self._late.append((run, index, arrival_s))

    def _arrive(self, run: SessionRun, index: int, arrival_s: float, _: Any) -> None:
        if run.refused:
            return
        request = self._request(run, index, arrival_s)
        if self._door.can_serve(request):
            self.accepted += 1
            run.under_way += 1
            self._door.accept(request)
        else:
            self._reject(request, run)

    def _request(self, run: SessionRun, index: int, arrival_s: float) -> Request:
        """The call as a request that has arrived, counted with its session."""
        session = run.session
        call = session.calls[index]
        if call.tool:
            run.tool_s += call.wait_s
        if run.start_s is None:
            run.start_s = arrival_s
        request_id = next(self._ids)
        run.request_ids[index] = request_id
        run.calls_made += 1
        tokens = call.input_tokens + call.output_tokens
        self.too_long += tokens > self._context_tokens
        if tokens > self.longest_tokens:
            self.longest_tokens = tokens
        following = run.next_call[index]
        comes_again = following is not None
        turns = run.turns.get(call.agent)
        if following is not None and turns is None:
            turns = run.turns[call.agent] = AgentTurns()
        if turns is not None:
            turns.next_is_tool = None if following is None else following.tool
        content = run.paths.of(call, comes_again)
        return Request(
            request_id,
            arrival_s,
            call.input_tokens,
            call.output_tokens,
            tier=session.tier,
            shared_prefix_tokens=content.shared_tokens,
            path=content.path,
            forks=content.forks,
            keep_cache=comes_again and call.hash_ids is None,
            session=run,
            call_index=index,
            parent_id=max(run.request_ids[i] for i in call.after) if call.after else None,
            turns=turns,
        )

    def finished(self, request: Request) -> None:
        """A request has sent its last token: book it and begin what waited for it."""
        run: SessionRun = request.session
        index = request.call_index
        finish_s = request.finish_s
        assert finish_s is not None
        self.completed += 1
        self.finished_tokens += request.output_tokens
        self._write(request, "completed", request.output_tokens, request.energy_j)
        run.tokens += request.output_tokens
        run.left -= 1
        run.under_way -= 1
        if not request.keep_cache and request.path:
            self._door.forget(request.path)
        if run.refused:
            self._end_refused(run)
            return
        for child in run.children[index]:
            run.missing[child] -= 1
            if not run.missing[child]:
                self._begin_call(run, child, finish_s)
        if not run.left:
            del self._active[run.session.session_id]
            self._write_session(run, finish_s, "completed")
            self._ended()

    def _reject(self, request: Request, run: SessionRun) -> None:
        """No instance can hold the call: refused before acceptance. Calls of its session that run are finished, none follows."""
        self.rejected += 1
        self._write(request, "rejected", 0, 0.0)
        self._door.forget(request.path)
        run.refused = True
        self._end_refused(run)

    def _end_refused(self, run: SessionRun) -> None:
        if not run.under_way:
            del self._active[run.session.session_id]
            self._write_session(run, None, "rejected")
            self._ended()

    def _ended(self) -> None:
        if self.on_session_end is not None:
            self.on_session_end()

    def still_in_flight(self, request: Request, emitted: int, energy_j: float) -> None:
        """Book a request that the horizon finds unfinished."""
        self._write(request, "in_flight", emitted, energy_j)
        request.session.tokens += emitted

    def close(self) -> None:
        """Book the calls that the horizon finds in the front end, and the sessions that it finds unfinished."""
        for run, index, arrival_s in self._late:
            if not run.refused:
                self.accepted += 1
                self.in_front_end += 1
                self._write(self._request(run, index, arrival_s), "in_flight", 0, 0.0)
        for run in self._active.values():
            if run.calls_made:
                self._write_session(run, None, "rejected" if run.refused else "in_flight")

    def _write(self, request: Request, outcome: str, output_tokens: int, energy_j: float) -> None:
        arrival_s, first_s, finish_s = request.arrival_s, request.first_token_s, request.finish_s
        session: Session = request.session.session
        done = finish_s is not None and first_s is not None
        self._requests.append(
            (
                request.request_id,
                session.session_id,
                request.parent_id,
                session.calls[request.call_index].depth,
                self._site,
                request.tier,
                arrival_s,
                request.admitted_s,
                first_s,
                finish_s,
                request.input_tokens,
                request.cached_tokens,
                output_tokens,
                request.prefill_worker,
                request.decode_worker,
                outcome,
                None if first_s is None else first_s - arrival_s,
                (finish_s - first_s) / (output_tokens - 1) if done and output_tokens > 1 else None,  # type: ignore[operator]
                None if finish_s is None else finish_s - arrival_s,
                energy_j,
                request.preemptions,
                request.lower_tokens,
                request.storage_tokens,
                request.recomputed_tokens,
            )
        )

    def _write_session(self, run: SessionRun, finish_s: float | None, outcome: str) -> None:
        session = run.session
        row = (session.session_id, self._site, session.tier, run.start_s, finish_s, run.calls_made)
        self._sessions.append((*row, session.sub_agents, run.tool_s, run.tokens, outcome))
