"""Plays sessions: a call begins when those it waits for have finished in the twin and its tool or person is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from typing import Any, Protocol

from twin.engine.clock import Clock
from twin.engine.session_paths import own_segments
from twin.engine.session_run import ACCEPTED, COMING, NO_RULES, NO_TIME, SessionRun, Split, TierRules
from twin.engine.tool_process import ToolProcess
from twin.recording import TableWriter
from twin.serving import AgentTurns, ContextPath, Level, Request
from twin.workload import Session


class Door(Protocol):
    """A site's serving side, as far as sessions go."""

    def refusal(self, request: Request, first: bool) -> str | None: ...

    def accept(self, request: Request) -> None: ...

    def warm(self, path: ContextPath) -> None: ...

    def forget(self, path: ContextPath) -> None: ...


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
        rules: Mapping[str, TierRules] | None = None,
        tools: ToolProcess | None = None,
    ):
        """`rules` by tier. Without `tools` every tool runs at once and never fails."""
        self._clock = clock
        self._door = door
        self._site = site
        self._ids = ids
        self._front_end_s = front_end_s
        self._requests = requests
        self._sessions = sessions
        self._horizon_s = horizon_s
        self._context_tokens = context_tokens
        self._rules = rules or {}
        self.tools = tools
        if tools is not None:
            tools.on_done = self._tool_done
            tools.on_failed = self._tool_failed
        #: Hears of each session that ends, well or not; set before the run.
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
        #: Times that failures moved requests, of those that are booked.
        self.failovers = 0
        #: Sessions that have begun, those that have not ended, and those that have by outcome.
        self.begun = 0
        self.in_flight = Level()
        self.ended: dict[str, int] = {}
        #: Seconds of a task that its split does not explain, at most.
        self.unexplained_s = 0.0

    def expect(self, session: Session, then: Callable[[], None]) -> None:
        """A session will enter at its `arrival_s`; call `then` when it does.

        Not when its first call has come through the front end: a shorter prompt that arrives later may be through sooner.
        """
        self._clock.at(session.arrival_s, partial(self._begin, session, then))

    def _begin(self, session: Session, then: Callable[[], None], _: Any) -> None:
        then()
        run = SessionRun(session, self._rules.get(session.tier, NO_RULES))
        self._active[session.session_id] = run
        self.begun += 1
        self.in_flight.change(1, session.arrival_s)
        if session.warm_tokens:
            self._door.warm(run.paths.warm())
        for index in run.roots():
            self._begin_call(run, index, session.arrival_s, NO_TIME, None)

    def _begin_call(self, run: SessionRun, index: int, ready_s: float, split: Split, parent_id: int | None) -> None:
        """Everything the call waited for is done: its tool or person comes next."""
        call = run.session.calls[index]
        run.states[index] = COMING
        run.led_by[index] = (split, ready_s, parent_id)
        if self.tools is not None and call.tool:
            self.tools.begin(run, index, ready_s)
        else:
            self._come(run, index, ready_s + call.wait_s)

    def _tool_done(self, run: SessionRun, index: int, now_s: float, waited_s: float) -> None:
        run.sandbox_wait_s[index] = waited_s
        self._come(run, index, now_s)

    def _come(self, run: SessionRun, index: int, arrival_s: float) -> None:
        """The call reaches the factory: after the front end, the router."""
        if run.start_s is None or arrival_s < run.start_s:
            run.start_s = arrival_s
        run.entry_s[index] = entry_s = arrival_s + self._front_end_s(run.session.calls[index].input_tokens)
        if entry_s < self._horizon_s:
            self._clock.at(entry_s, partial(self._arrive, run, index, arrival_s))
        elif arrival_s < self._horizon_s:
            self._late.append((run, index, arrival_s))

    def _arrive(self, run: SessionRun, index: int, arrival_s: float, _: Any) -> None:
        if run.outcome is not None or run.states[index] != COMING:
            return
        request = self._request(run, index, arrival_s)
        reason = self._door.refusal(request, first=run.calls_made == 1 and not run.session.warm_tokens)
        if reason is not None:
            self._reject(request, run, reason)
            return
        self.accepted += 1
        run.under_way += 1
        run.states[index] = ACCEPTED
        self._door.accept(request)
        patience_s = run.rules.patience_s
        if patience_s is not None:
            call = run.session.calls[index]
            if not (call.agent or call.tool):
                self._clock.at(arrival_s + patience_s, partial(self._run_out_of_patience, request))

    def _request(self, run: SessionRun, index: int, arrival_s: float) -> Request:
        """The call as a request that has arrived, counted with its session."""
        session = run.session
        call = session.calls[index]
        request_id = next(self._ids)
        run.calls_made += 1
        tokens = call.input_tokens + call.output_tokens
        self.too_long += tokens > self._context_tokens
        if tokens > self.longest_tokens:
            self.longest_tokens = tokens
        comes_again = run.comes_again[index]
        led_by = run.led_by[index]
        assert led_by is not None
        following = run.next_call[index]
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
            tenant=session.tenant,
            shared_prefix_tokens=content.shared_tokens,
            path=content.path,
            forks=content.forks,
            keep_cache=comes_again and call.hash_ids is None,
            session=run,
            call_index=index,
            parent_id=led_by[2],
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
        run.under_way -= 1
        if not request.keep_cache and request.path:
            self._door.forget(own_segments(request.path, run.session.calls[index].agent))
        split = run.book(request)
        if run.outcome is not None:
            if run.outcome == "abandoned":
                run.tokens_unread += request.output_tokens
            self._end_if_idle(run, finish_s)
            return
        ready, dropped = run.ended(index)
        if self.tools is not None:
            for each in dropped:
                self.tools.withdraw(run, each, finish_s)
        for child in ready:
            self._begin_call(run, child, finish_s, split, request.request_id)
        if not run.left:
            self._end(run, "completed", finish_s)

    def _reject(self, request: Request, run: SessionRun, reason: str) -> None:
        """The call is refused before acceptance. Calls of its session that run are finished, none follows."""
        self.rejected += 1
        self._write(request, "rejected", 0, 0.0, reason)
        self._door.forget(own_segments(request.path, run.session.calls[request.call_index].agent))
        self._give_up(run, "rejected", self._clock.now_s)

    def _tool_failed(self, run: SessionRun, now_s: float) -> None:
        self._give_up(run, "failed", now_s)

    def _run_out_of_patience(self, request: Request, event: Any) -> None:
        run: SessionRun = request.session
        if request.first_token_s is None and run.outcome is None:
            self._give_up(run, "abandoned", event.value)

    def _give_up(self, run: SessionRun, outcome: str, now_s: float) -> None:
        """The session will not be completed: no further call begins, what has been accepted is finished."""
        run.outcome = outcome
        if self.tools is not None:
            for index in list(run.tool_runs):
                self.tools.withdraw(run, index, now_s)
        self._end_if_idle(run, now_s)

    def _end_if_idle(self, run: SessionRun, now_s: float) -> None:
        if not run.under_way:
            assert run.outcome is not None
            self._end(run, run.outcome, now_s)

    def _end(self, run: SessionRun, outcome: str, now_s: float) -> None:
        del self._active[run.session.session_id]
        self.in_flight.change(-1, now_s)
        self.ended[outcome] = self.ended.get(outcome, 0) + 1
        if run.outcome is not None or run.calls_dropped or run.paths.spawners:
            for path in run.paths.held():
                self._door.forget(path)
        self._write_session(run, outcome, now_s)
        if self.on_session_end is not None:
            self.on_session_end()

    def still_in_flight(self, request: Request, emitted: int, energy_j: float) -> None:
        """Book a request that the horizon finds unfinished."""
        self._write(request, "in_flight", emitted, energy_j)
        run: SessionRun = request.session
        run.tokens += emitted
        if run.outcome == "abandoned":
            run.tokens_unread += emitted

    def close(self) -> None:
        """Book the calls that the horizon finds in the front end, and the sessions that it finds unfinished."""
        for run, index, arrival_s in self._late:
            if run.outcome is None and run.states[index] == COMING:
                self.accepted += 1
                self.in_front_end += 1
                self._write(self._request(run, index, arrival_s), "in_flight", 0, 0.0)
        for run in self._active.values():
            if run.calls_made:
                self._write_session(run, run.outcome or "in_flight", None)

    def _write(self, request: Request, outcome: str, output_tokens: int, energy_j: float, reason: str | None = None) -> None:
        arrival_s, first_s, finish_s = request.arrival_s, request.first_token_s, request.finish_s
        session: Session = request.session.session
        done = finish_s is not None and first_s is not None
        self.failovers += request.failovers
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
                request.tenant or None,
                reason,
                request.storage_tokens,
                request.recomputed_tokens,
                request.failovers,
            )
        )

    def _write_session(self, run: SessionRun, outcome: str, end_s: float | None) -> None:
        session = run.session
        # A tool that a root waits for may fail before any call has arrived.
        start_s = session.arrival_s if run.start_s is None else run.start_s
        front_end_s, queue_s, prefill_s, decode_s, tool_s, sandbox_wait_s, human_s = run.split
        if run.finish_s is not None:
            told_s = front_end_s + queue_s + prefill_s + decode_s + tool_s + sandbox_wait_s + human_s
            unexplained_s = abs(told_s - (run.finish_s - start_s))
            if unexplained_s > self.unexplained_s:
                self.unexplained_s = unexplained_s
        self._sessions.append(
            (
                session.session_id,
                self._site,
                session.tier,
                start_s,
                run.finish_s if outcome == "completed" else None,
                run.calls_made,
                session.sub_agents,
                tool_s,
                run.tokens,
                outcome,
                end_s,
                human_s,
                sandbox_wait_s,
                front_end_s,
                queue_s,
                prefill_s,
                decode_s,
                run.tool_retries,
                run.calls_dropped,
                run.tokens_unread,
                run.deadline_s,
                None if run.deadline_s is None else run.promise_kept(outcome, self._horizon_s),
                session.tenant,
            )
        )
