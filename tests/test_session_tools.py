"""Tools in finite sandboxes that fail and are run again, people who leave, tasks with a deadline."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_cases import Factory, call, trees
from test_sandbox_pool import fifo

from twin.engine.session_run import SPLIT_PARTS, TierRules
from twin.engine.tool_process import ToolFailures
from twin.workload import Call, Session

EVERY_TIME = ToolFailures(0.999999, 2, 1.0)


def with_tool(number: int, *more: Call, tool_s: float = 4.0) -> Session:
    return Session(number, 0.0, "chat", [call(), call(0, wait_s=tool_s, tool=True), *more])


def test_a_tool_waits_for_the_sandbox_that_another_uses() -> None:
    """Two sessions side by side, whose first calls end a step of 10 ms apart; their tools take 4 s each, one after the other."""
    factory = Factory(with_tool(0), with_tool(1), sandboxes=1)
    rows = factory.play()
    asked_s = rows[0]["finish_s"]
    assert rows[1]["finish_s"] == pytest.approx(asked_s + 0.01)
    assert [row["arrival_s"] for row in rows[2:]] == [asked_s + 4.0, asked_s + 8.0]
    one, other = factory.sessions.rows
    assert (one["tool_s"], one["sandbox_wait_s"], one["human_s"]) == (pytest.approx(4.0), 0.0, 0.0)
    assert (other["tool_s"], other["sandbox_wait_s"]) == (pytest.approx(4.0), pytest.approx(3.99))
    assert [run["outcome"] for run in factory.tool_runs.rows] == ["done", "done"]


def test_people_need_no_sandbox_and_are_told_apart() -> None:
    session = with_tool(0, call(1, wait_s=7.0), tool_s=2.0)
    factory = Factory(session, with_tool(1, tool_s=30.0), sandboxes=1)
    factory.play()
    row = factory.sessions.rows[0]
    assert (row["tool_s"], row["human_s"]) == (pytest.approx(2.0), pytest.approx(7.0))


def test_with_enough_sandboxes_everything_is_as_without_any_limit() -> None:
    def rows(sandboxes: float | None) -> list[dict[str, Any]]:
        return Factory(with_tool(0), with_tool(1, call(1, wait_s=1.5)), sandboxes=sandboxes).play()

    assert rows(None) == rows(2) == rows(float("inf"))


def test_a_failed_tool_is_run_again_after_a_pause_and_the_session_fails_with_the_last() -> None:
    factory = Factory(with_tool(0), sandboxes=1, failures=EVERY_TIME)
    (first,) = factory.play()
    ended_s = first["finish_s"]
    assert [(run["attempt"], run["asked_s"], run["outcome"]) for run in factory.tool_runs.rows] == [
        (1, ended_s, "failed"),
        (2, ended_s + 5.0, "failed"),
        (3, ended_s + 10.0, "failed"),
    ]
    (row,) = factory.sessions.rows
    assert (row["outcome"], row["calls"], row["tool_retries"]) == ("failed", 1, 2)
    assert (row["finish_s"], row["end_s"]) == (None, ended_s + 14.0)
    assert factory.runner.ended == {"failed": 1}


def test_what_runs_beside_a_failed_tool_is_finished_and_nothing_follows() -> None:
    calls = [
        call(),
        call(0, wait_s=1.0, tool=True),
        call(0, agent=1, out=2001),  # some twenty seconds
        call(2, agent=1),
        call(0, agent=2, wait_s=90.0, tool=True),  # its tool gets the sandbox of the one that fails
        call(0, agent=3, wait_s=5.0, tool=True),  # and its tool still waits
    ]
    factory = Factory(Session(0, 0.0, "chat", calls), sandboxes=1, failures=ToolFailures(0.999999, 0, 1.0))
    rows = factory.play()
    assert [row["outcome"] for row in rows] == ["completed", "completed"]
    (row,) = factory.sessions.rows
    assert (row["outcome"], row["end_s"]) == ("failed", rows[1]["finish_s"])
    assert sorted(run["outcome"] for run in factory.tool_runs.rows) == ["failed", "failed", "withdrawn"]


def test_half_of_the_tools_fail_and_how_often_does_not_depend_on_the_sandboxes() -> None:
    def retries(sandboxes: float) -> list[int]:
        sessions = [with_tool(number, call(1, wait_s=1.0, tool=True)) for number in range(40)]
        factory = Factory(*sessions, sandboxes=sandboxes, failures=ToolFailures(0.5, 100, 0.5))
        factory.play()
        return [row["tool_retries"] for row in sorted(factory.sessions.rows, key=lambda row: row["session_id"])]

    found = retries(1)
    assert found == retries(float("inf"))
    assert 50 <= sum(found) <= 115  # 80 tools fail once each in the mean


def test_a_person_leaves_who_waits_too_long_for_the_first_token() -> None:
    """The prompt of ten seconds keeps the other waiting."""
    sessions = [Session(0, 0.0, "chat", [call(tokens=8000)]), Session(1, 0.5, "chat", [call(out=31), call(0)])]
    factory = Factory(*sessions, rules={"chat": TierRules(patience_s=8.2)})
    rows = factory.play()
    assert [row["outcome"] for row in rows] == ["completed", "completed"]
    one, other = sorted(factory.sessions.rows, key=lambda row: row["session_id"])
    assert (one["outcome"], one["tokens_unread"]) == ("completed", 0)
    assert (other["outcome"], other["calls"], other["tokens"], other["tokens_unread"]) == ("abandoned", 1, 31, 31)
    assert other["finish_s"] is None
    assert other["end_s"] == rows[1]["finish_s"]


def test_nobody_waits_for_calls_that_follow_a_tool_or_are_a_sub_agents() -> None:
    calls = [call(), call(0, tool=True), call(0, agent=1, depth=1), call(1, 2, tokens=500)]
    rules = {"chat": TierRules(patience_s=1.2)}  # both middle calls together take two seconds to their first tokens
    factory = Factory(Session(0, 0.0, "chat", calls), rules=rules)
    factory.play()
    assert factory.sessions.rows[0]["outcome"] == "completed"
    assert Factory(Session(0, 0.0, "other", [call(tokens=9000)]), rules=rules).play()[0]["outcome"] == "completed"


@pytest.mark.parametrize(
    ("own_s", "tiers_s", "kept"), [(None, None, None), (2.0, None, "missed"), (6.2, 1.0, "met"), (None, 6.2, "met")]
)
def test_a_task_has_its_own_deadline_or_its_tiers(own_s: float | None, tiers_s: float | None, kept: str | None) -> None:
    session = with_tool(0)  # 1.1 + 4 + 1.1 seconds, less what is cached
    session.deadline_s = own_s
    factory = Factory(session, rules={"chat": TierRules(deadline_s=tiers_s)})
    factory.play()
    (row,) = factory.sessions.rows
    assert (row["deadline_s"], row["deadline"]) == (own_s or tiers_s, kept)


def test_at_the_horizon_a_deadline_is_open_or_missed() -> None:
    sessions = [Session(number, 0.0, "chat", [call(), call(0, wait_s=500.0)], deadline_s=100.0 * number) for number in (1, 3)]
    factory = Factory(*sessions, horizon_s=200.0)
    factory.play(until_s=200.0)
    assert [row["deadline"] for row in factory.sessions.rows] == ["missed", "open"]


@settings(max_examples=30)
@given(
    sessions=st.lists(trees(), min_size=1, max_size=5),
    sandboxes=st.sampled_from([1, 2, 5]),
    probability=st.sampled_from([0.0, 0.2, 0.7]),
    retries=st.integers(0, 2),
    patience_s=st.sampled_from([None, 0.2, 1.0]),
    until_s=st.sampled_from([3.0, 15.0, 1e4]),
)
def test_whatever_fails_and_whoever_leaves_all_is_booked_once(
    sessions: list[list[Call]], sandboxes: int, probability: float, retries: int, patience_s: float | None, until_s: float
) -> None:
    factory = Factory(
        *(Session(number, 0.25 * number, "chat", calls) for number, calls in enumerate(sessions)),
        horizon_s=until_s,
        front_end_s=lambda tokens: 1e-4 * tokens,
        rules={"chat": TierRules(deadline_s=20.0, patience_s=patience_s)},
        sandboxes=sandboxes,
        failures=ToolFailures(probability, retries, 0.5),
    )
    rows = factory.play(until_s)
    assert len({row["request_id"] for row in rows}) == len(rows)
    booked = {row["session_id"]: row for row in factory.sessions.rows}
    assert len(booked) == len(factory.sessions.rows)
    assert set(booked) == {row["session_id"] for row in rows}
    for number, row in booked.items():
        own = [each for each in rows if each["session_id"] == number]
        assert (row["calls"], row["tokens"]) == (len(own), sum(each["output_tokens"] for each in own))
        parts = [row[f"{part}_s"] for part in SPLIT_PARTS]
        assert min(parts) >= -1e-9
        ended_s = [each["finish_s"] for each in own if each["finish_s"] is not None]
        assert sum(parts) <= max(ended_s, default=row["start_s"]) - row["start_s"] + 1e-9
        if row["outcome"] == "completed":
            assert row["calls"] + row["calls_dropped"] == len(sessions[number])
            assert sum(parts) == pytest.approx(row["finish_s"] - row["start_s"], abs=1e-9)
            assert {each["outcome"] for each in own} == {"completed"}
        assert row["tokens_unread"] <= (row["tokens"] if row["outcome"] == "abandoned" else 0)
        assert row["tool_retries"] == sum(run["attempt"] > 1 for run in factory.tool_runs.rows if run["session_id"] == number)
    # Those that were served had their sandboxes as a queue with several servers has it.
    runs = sorted((run for run in factory.tool_runs.rows if run["begun_s"] is not None), key=lambda run: run["begun_s"])
    expected = fifo(sandboxes, [(run["asked_s"], run["service_s"]) for run in sorted(runs, key=lambda run: run["asked_s"])])
    assert [run["begun_s"] for run in runs] == pytest.approx(sorted(expected))
