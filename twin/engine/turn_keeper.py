"""Carries out what a policy decides for contexts between the calls of their agents."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

from twin.engine.clock import Clock
from twin.serving import AgentTurns, ContextPath, Idle, Request, TurnPolicy, WaitMemory, Worker


class TurnKeeper:
    """Asks the policy for tools, or that for people, as a call ends whose agent will call again.

    Offloading leaves the context in HBM until it is written below; a call that comes meanwhile finds it there.
    """

    def __init__(self, clock: Clock, for_tools: TurnPolicy, for_people: TurnPolicy):
        self._clock = clock
        self._policies = {True: for_tools, False: for_people}
        self._waits = WaitMemory()

    def called(self, request: Request, now_s: float) -> None:
        """A call has come: what was planned for its agent's context is void."""
        turns = request.turns
        if turns is not None:
            turns.turn += 1
            self._waits.ended(turns, now_s)

    def ended(self, request: Request, worker: Worker, now_s: float) -> None:
        """A call has ended whose prompt lies with `worker`."""
        turns = request.turns
        if turns is None or turns.next_is_tool is None or not request.path:
            return
        turns.idle_since_s, turns.idle_for_tool = now_s, turns.next_is_tool
        whole = request.keep_cache and request.decode_worker in (None, worker.name)
        path = request.whole_path() if whole else request.path
        memory, lower = worker.memory, worker.memory.lower
        tokens = request.input_tokens + (request.output_tokens if whole else 0)
        plan = self._policies[turns.next_is_tool](
            Idle(
                tokens=tokens,
                tool=turns.next_is_tool,
                expected_s=self._waits.expected_s(turns, turns.next_is_tool),
                survives_s=memory.survival_s(now_s),
                move_s=None if lower is None else lower.move_s(tokens),
                recompute_s=worker.prompt_s(tokens, 0),
            )
        )
        if plan.verb == "keep":
            return
        act = partial(self._offload if plan.verb == "offload" else self._drop, turns, turns.turn, path, worker)
        if plan.after_s > 0:
            self._clock.at(now_s + plan.after_s, act)
        else:
            act(None)

    def _drop(self, turns: AgentTurns, turn: int, path: ContextPath, worker: Worker, _: Any) -> None:
        if turns.turn == turn:
            worker.memory.give_up(path, offloaded=False)

    def _offload(self, turns: AgentTurns, turn: int, path: ContextPath, worker: Worker, _: Any) -> None:
        if turns.turn != turn:
            return
        memory = worker.memory
        done_s = memory.offload(path, self._clock.environment.now)
        if done_s < inf:
            self._clock.at(done_s, partial(self._offloaded, turns, turn, path, worker))

    def _offloaded(self, turns: AgentTurns, turn: int, path: ContextPath, worker: Worker, _: Any) -> None:
        if turns.turn == turn:
            worker.memory.give_up(path, offloaded=True)
