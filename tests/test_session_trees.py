"""Trees of calls: nested sub-agents, joins of the first few, contexts that begin with another's, against a slow reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_cases import Factory, call, trees

from twin.engine.session_run import ACCEPTED, DROPPED, SPLIT_PARTS, SessionRun
from twin.errors import SimulationError
from twin.workload import Call, Session


def race(*losers: list[Call], first: int = 1) -> Session:
    """The main agent spawns an agent of one call, and others after it; it goes on with the first `first` of them."""
    calls = [call(), call(0, agent=1, depth=1)]
    last = [1]
    for agent, chain in enumerate(losers, 2):
        for place, each in enumerate(chain):
            each.agent, each.depth = agent, 1
            each.after = (0,) if not place else (len(calls) - 1,)
            calls.append(each)
        last.append(len(calls) - 1)
    calls.append(call(0, any_of=tuple(last), any_count=first))
    return Session(0, 0.0, "chat", calls)


def by_call(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["input_tokens"], row["arrival_s"]) for row in rows]


def test_a_join_of_the_first_goes_on_when_it_has_come() -> None:
    session = race([call(tokens=900, out=2001)])
    factory = Factory(session)
    rows = factory.play()
    winner, loser, join = rows[1], rows[2], rows[3]
    assert join["arrival_s"] == winner["finish_s"]
    assert join["parent_id"] == winner["request_id"]
    assert loser["finish_s"] > join["finish_s"]  # it runs to its end, for nobody
    (row,) = factory.sessions.rows
    assert (row["calls"], row["calls_dropped"], row["outcome"]) == (4, 0, "completed")
    # The task is done with the call that somebody waited for; nothing of it runs any more when the loser is done as well.
    assert (row["finish_s"], row["end_s"]) == (join["finish_s"], loser["finish_s"])
    assert row["tokens"] == sum(each["output_tokens"] for each in rows)


def test_calls_of_the_losers_that_have_not_begun_are_dropped() -> None:
    slow = [call(tokens=900, out=101), call(wait_s=1.0, tokens=901), call(tokens=902)]
    waiting = [call(wait_s=50.0, tokens=800)]
    factory = Factory(race(slow, waiting))
    rows = factory.play()
    assert [row["input_tokens"] for row in rows] == [1000, 1000, 900, 1000]
    (row,) = factory.sessions.rows
    assert (row["calls"], row["calls_dropped"]) == (4, 3)


def test_the_agents_below_a_loser_go_with_it() -> None:
    calls = [
        call(),
        call(0, agent=1, depth=1),
        call(0, agent=2, depth=1, out=301),
        call(2, agent=3, depth=2),  # spawned by agent 2, waits until it is too late
        call(3, agent=4, depth=3),
        call(2, 4, agent=2, depth=1),
        call(0, any_of=(1, 5), any_count=1),
    ]
    factory = Factory(Session(0, 0.0, "chat", calls))
    assert len(factory.play()) == 4
    (row,) = factory.sessions.rows
    assert (row["calls_dropped"], row["outcome"]) == (3, "completed")


def test_what_another_join_still_needs_is_not_dropped() -> None:
    """Two of three are enough for the last call, one for the call before it."""
    calls = [
        call(),
        call(0, agent=1),
        call(0, agent=2, wait_s=5.0),
        call(0, agent=3, wait_s=9.0),
        call(0, any_of=(1, 2, 3), any_count=1),
        call(4, any_of=(1, 2, 3), any_count=2),
    ]
    factory = Factory(Session(0, 0.0, "chat", calls))
    rows = factory.play()
    assert len(rows) == 5
    assert rows[-1]["arrival_s"] == rows[-2]["finish_s"]  # when the second agent is done, at 5 s and more
    (row,) = factory.sessions.rows
    assert (row["calls_dropped"], row["outcome"]) == (1, "completed")


def test_a_loser_that_somebody_else_waits_for_is_not_dropped() -> None:
    calls = [
        call(),
        call(0, agent=1),
        call(0, agent=2, wait_s=3.0),
        call(2, agent=2),
        call(0, any_of=(1, 3), any_count=1),
        call(3, 4),
    ]
    factory = Factory(Session(0, 0.0, "chat", calls))
    assert len(factory.play()) == 6
    assert factory.sessions.rows[0]["calls_dropped"] == 0


@pytest.mark.parametrize(
    ("calls", "what"),
    [
        ([call(), call(2), call(0)], "waits for call 2, which does not come before it"),
        ([call(), call(-1)], "waits for call -1"),
        ([call(), call(0, agent=1), call(0, any_of=(1,), any_count=2)], "waits for the first 2 of 1 calls"),
        ([call(), call(0, agent=1), call(0, any_of=(1,))], "waits for the first 0 of 1 calls"),
        ([call(), call(0, any_count=1)], "waits for the first 1 of 0 calls"),
        ([call(), call(0, any_of=(1,), any_count=1)], "waits for call 1, which does not come before it"),
        ([call(), call(0), call(1, any_of=(0,), any_count=1)], "call 0 of its own agent"),
        ([call(), call(0, agent=1), call(0, 1, any_of=(1,), any_count=1)], "waits for call 1 and may go on without it"),
        ([call(), call(0, agent=1), call(0, any_of=(1, 1), any_count=1)], "names a call twice"),
    ],
)
def test_calls_that_wait_for_what_cannot_be_are_no_session(calls: list[Call], what: str) -> None:
    with pytest.raises(SimulationError, match=f"session 4: call .*{what}"):
        SessionRun(Session(4, 0.0, "chat", calls))


def test_a_sub_agent_finds_the_context_of_the_agent_that_spawned_it() -> None:
    calls = [
        call(tokens=5000),  # with its answer 5011 tokens, of which the last was never computed
        call(0, agent=1, depth=1, tokens=6000, shared_prefix_tokens=5011),
        call(1, agent=1, depth=1, tokens=6500, shared_prefix_tokens=6000),
        call(1, agent=2, depth=2, tokens=8000, shared_prefix_tokens=4000),  # of what its parent had from the main agent
        call(0, 2, 3, tokens=5600, shared_prefix_tokens=5000),
        call(4, agent=3, depth=1, tokens=700, shared_prefix_tokens=9000),  # more than there is of either: all but a token
    ]
    rows = Factory(Session(0, 0.0, "chat", calls)).play()
    cached = {row["input_tokens"]: row["cached_tokens"] for row in rows}
    assert cached == {5000: 0, 6000: 5010, 6500: 6000, 8000: 4000, 5600: 5000, 700: 699}


def test_a_fork_of_the_parent_does_not_change_what_a_sub_agent_had_of_it() -> None:
    """The main agent is compacted and goes on at once; the sub-agent asks later for the context as it was."""
    calls = [
        call(tokens=5000),
        call(0, tokens=2000, shared_prefix_tokens=640),
        call(0, agent=1, depth=1, wait_s=30.0, tokens=6000, shared_prefix_tokens=3000),
    ]
    rows = Factory(Session(0, 0.0, "chat", calls)).play()
    assert [row["cached_tokens"] for row in rows] == [0, 640, 640]  # the rest of the old end was given up with the fork


# --- against a slow reference --------------------------------------------------------------------------------------------


class Reference:
    """Which calls may begin and which never will, worked out anew from the whole tree after each end."""

    def __init__(self, calls: list[Call]):
        self.calls = calls
        self.done: set[int] = set()
        self.begun: set[int] = set()
        self.dropped: set[int] = set()
        self.met: set[int] = set()

    def ready(self) -> set[int]:
        def may(index: int) -> bool:
            each = self.calls[index]
            return self.done.issuperset(each.after) and sum(i in self.done for i in each.any_of) >= each.any_count

        return {i for i in range(len(self.calls)) if i not in self.begun | self.dropped and may(i)}

    def drop(self) -> None:
        for index, each in enumerate(self.calls):
            if each.any_of and index not in self.met and sum(i in self.done for i in each.any_of) >= each.any_count:
                self.met.add(index)
                self._drop(each)

    def _drop(self, join: Call) -> None:
        gone = {self.calls[i].agent for i in join.any_of if i not in self.done | self.dropped}
        for agent in self._agents():
            if self._parent(agent) in gone:  # agents come after the one that spawns them
                gone.add(agent)
        gone -= {join.agent}
        chosen = {i for i, each in enumerate(self.calls) if each.agent in gone and i not in self.begun | self.dropped}
        while True:  # until nobody who stays waits for what goes
            needed = set()
            for index, each in enumerate(self.calls):
                if index in chosen | self.done | self.dropped:
                    continue
                if index in self.begun and each.agent in gone:
                    continue  # it runs, and nothing it waited for is open
                needed |= set(each.after) | (set() if index in self.met else set(each.any_of))
            if not chosen & needed:
                break
            chosen -= needed
        self.dropped |= chosen

    def _agents(self) -> list[int]:
        return list(dict.fromkeys(each.agent for each in self.calls))

    def _parent(self, agent: int) -> int | None:
        first = next(each for each in self.calls if each.agent == agent)
        return self.calls[first.after[0]].agent if first.after else None


@settings(max_examples=120)
@given(calls=trees(), order=st.randoms(use_true_random=False))
def test_joins_are_those_of_the_reference_whatever_ends_first(calls: list[Call], order: Any) -> None:
    run, reference = SessionRun(Session(0, 0.0, "chat", calls)), Reference(calls)
    open_calls = sorted(reference.ready())
    assert run.roots() == open_calls
    begun = list(open_calls)
    while open_calls:
        for index in begun:
            run.states[index] = ACCEPTED
            reference.begun.add(index)
        index = open_calls.pop(order.randrange(len(open_calls)))
        begun, _ = run.ended(index)
        reference.done.add(index)
        reference.drop()
        assert sorted(begun) == sorted(reference.ready())
        assert {i for i, state in enumerate(run.states) if state == DROPPED} == reference.dropped
        open_calls += begun
    assert run.left == 0
    assert len(reference.done) + len(reference.dropped) == len(calls)
    assert run.calls_dropped == len(reference.dropped)


@settings(max_examples=30)
@given(sessions=st.lists(trees(), min_size=1, max_size=4))
def test_every_call_is_made_once_or_dropped_and_the_split_adds_up(sessions: list[list[Call]]) -> None:
    factory = Factory(*(Session(number, 0.5 * number, "chat", calls) for number, calls in enumerate(sessions)))
    rows = factory.play()
    assert len(factory.sessions.rows) == len(sessions)
    for row in factory.sessions.rows:
        own = [each for each in rows if each["session_id"] == row["session_id"]]
        assert row["outcome"] == "completed"
        assert row["calls"] == len(own)
        assert row["calls"] + row["calls_dropped"] == len(sessions[row["session_id"]])
        assert row["tokens"] == sum(each["output_tokens"] for each in own)
        assert row["start_s"] == min(each["arrival_s"] for each in own)
        assert row["end_s"] == max(each["finish_s"] for each in own)
        assert sum(_parts(row)) == pytest.approx(row["finish_s"] - row["start_s"], abs=1e-9)
        assert min(_parts(row)) >= -1e-9


def _parts(row: dict[str, Any]) -> Iterator[float]:
    return (row[f"{part}_s"] for part in SPLIT_PARTS)
