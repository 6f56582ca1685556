"""Sessions in closed loop: what begins when, who waits for whom, and what happens when a call is refused."""

from __future__ import annotations

import pytest
from session_cases import Factory, call

from twin.errors import SimulationError
from twin.workload import Session


def test_the_next_call_starts_when_the_last_has_finished_and_its_wait_is_over() -> None:
    session = Session(7, 2.0, "chat", [call(), call(0, wait_s=3.0, tool=True), call(1, wait_s=0.5)])
    first, second, third = Factory(session).play()
    assert first["arrival_s"] == 2.0
    assert first["finish_s"] == pytest.approx(3.1)
    assert second["arrival_s"] == first["finish_s"] + 3.0  # exactly
    assert third["arrival_s"] == second["finish_s"] + 0.5
    assert [row["parent_id"] for row in (first, second, third)] == [None, 0, 1]
    assert {row["outcome"] for row in (first, second, third)} == {"completed"}


def test_the_front_end_delays_the_router_not_the_arrival() -> None:
    session = Session(0, 1.0, "chat", [call(), call(0, wait_s=2.0)])
    first, second = Factory(session, front_end_s=lambda _: 0.25).play()
    assert (first["arrival_s"], first["admitted_s"]) == (1.0, 1.25)
    assert first["ttft_s"] == pytest.approx(0.25 + 1.0)
    assert second["arrival_s"] == first["finish_s"] + 2.0
    assert second["admitted_s"] == pytest.approx(second["arrival_s"] + 0.25)


def test_a_short_prompt_is_through_the_front_end_before_a_long_one_that_came_first() -> None:
    """A millisecond a token: 3 s for the first, which arrives at 1 s; 0.1 s for the second, which arrives at 2 s."""
    sessions = [Session(0, 1.0, "chat", [call(tokens=3000)]), Session(1, 2.0, "chat", [call(tokens=100)])]
    long, short = sorted(Factory(*sessions, front_end_s=lambda tokens: 1e-3 * tokens).play(), key=lambda row: row["session_id"])
    assert (long["arrival_s"], long["admitted_s"]) == (1.0, pytest.approx(4.0))
    assert (short["arrival_s"], short["admitted_s"]) == (2.0, pytest.approx(2.1))


def test_each_root_passes_the_front_end_for_itself() -> None:
    session = Session(0, 1.0, "chat", [call(tokens=3000), call(tokens=100, agent=1), call(tokens=200, agent=2, wait_s=0.5)])
    short, waited, long = Factory(session, front_end_s=lambda tokens: 1e-3 * tokens).play()
    assert [row["arrival_s"] for row in (long, short, waited)] == [1.0, 1.0, 1.5]
    assert [row["admitted_s"] for row in (short, waited)] == pytest.approx([1.1, 1.7])
    assert long["admitted_s"] == pytest.approx(4.0)


def test_the_horizon_finds_calls_in_the_front_end() -> None:
    """The long prompt is in the front end at the horizon, the short one that came after it is not."""
    sessions = [Session(0, 8.0, "chat", [call(tokens=3000)]), Session(1, 8.5, "chat", [call(tokens=100)])]
    factory = Factory(*sessions, front_end_s=lambda tokens: 1e-3 * tokens, horizon_s=10.0)
    factory.clock.run(10.0)
    assert (factory.runner.accepted, factory.runner.completed) == (1, 1)
    factory.runner.close()
    assert (factory.runner.accepted, factory.runner.in_front_end) == (2, 1)
    by_session = {row["session_id"]: row for row in factory.requests.rows}
    assert (by_session[0]["outcome"], by_session[0]["admitted_s"]) == ("in_flight", None)
    assert by_session[1]["outcome"] == "completed"


def test_a_root_may_wait_too() -> None:
    (row,) = Factory(Session(0, 1.0, "chat", [call(wait_s=2.0)])).play()
    assert row["arrival_s"] == 3.0


def test_sub_agents_run_side_by_side_and_a_join_waits_for_all() -> None:
    calls = [
        call(),
        call(0, agent=1, depth=1, wait_s=1.0),
        call(0, agent=2, depth=1, wait_s=1.0, out=101),
        call(1, agent=1, depth=1),
        call(2, 3, wait_s=0.5),
    ]
    factory = Factory(Session(0, 0.0, "chat", calls))
    rows = {row["request_id"]: row for row in factory.play()}
    main, one, two, join = rows[0], rows[1], rows[2], rows[4]
    assert one["arrival_s"] == two["arrival_s"] == main["finish_s"] + 1.0
    last_s = max(rows[2]["finish_s"], rows[3]["finish_s"])
    assert join["arrival_s"] == last_s + 0.5
    assert [rows[n]["depth"] for n in range(5)] == [0, 1, 1, 1, 0]
    (session,) = factory.sessions.rows
    assert (session["calls"], session["sub_agents"], session["outcome"]) == (5, 2, "completed")
    assert session["tokens"] == sum(row["output_tokens"] for row in rows.values()) == 4 * 11 + 101
    assert (session["start_s"], session["finish_s"]) == (0.0, join["finish_s"])


def test_tool_time_is_counted_think_time_is_not() -> None:
    calls = [call(), call(0, wait_s=3.0, tool=True), call(1, wait_s=5.0), call(2, wait_s=2.0, tool=True)]
    factory = Factory(Session(0, 0.0, "chat", calls))
    factory.play()
    assert factory.sessions.rows[0]["tool_s"] == 5.0


def test_an_agents_context_is_kept_for_its_next_call_alone() -> None:
    calls = [call(), call(0, tokens=1500, shared_prefix_tokens=1011), call(1, tokens=1600, agent=1)]
    first, second, third = Factory(Session(0, 0.0, "chat", calls)).play()
    # 1000 + 11 tokens are in the cache but for the last token, whose KV was never made.
    assert [row["cached_tokens"] for row in (first, second, third)] == [0, 1010, 0]


def test_a_session_from_before_the_run_finds_its_context() -> None:
    session = Session(3, 0.0, "chat", [call(tokens=2000, shared_prefix_tokens=1200)], warm_tokens=1200)
    (row,) = Factory(session).play()
    assert row["cached_tokens"] == 1200
    assert row["ttft_s"] == pytest.approx(0.8)  # the 800 that are new


def test_sessions_share_a_system_prompt_and_nothing_else() -> None:
    def session(number: int, prompt: int) -> Session:
        return Session(number, 10.0 * number, "chat", [call(system_tokens=600)], system_prompt=prompt)

    rows = Factory(session(0, 0), session(1, 0), session(2, 1), session(3, 0)).play()
    assert [row["cached_tokens"] for row in rows] == [0, 600, 0, 600]
    assert rows[1]["ttft_s"] == pytest.approx(0.4)  # the 400 tokens of its own


def test_hashed_prompts_share_the_blocks_that_agree_from_the_front() -> None:
    """Three blocks of 512 and 64 tokens; of the second prompt two blocks agree, of the third all but the last token."""
    hashes = [(1, 2, 3, 4), (1, 2, 5, 6), (1, 2, 3, 4)]
    sessions = [Session(n, 10.0 * n, "", [call(tokens=1600, hash_ids=each)]) for n, each in enumerate(hashes)]
    rows = Factory(*sessions).play()
    assert [row["cached_tokens"] for row in rows] == [0, 1024, 1599]


def test_a_compacted_context_finds_what_it_kept() -> None:
    calls = [call(tokens=5000), call(0, tokens=2000, shared_prefix_tokens=640), call(1, tokens=2500, shared_prefix_tokens=1984)]
    rows = Factory(Session(0, 0.0, "chat", calls)).play()
    assert [row["cached_tokens"] for row in rows] == [0, 640, 1984]


def test_a_refused_call_ends_its_session() -> None:
    session = Session(0, 0.0, "chat", [call(), call(0, tokens=200_000), call(1)])
    factory = Factory(session)
    first, refused = factory.play()
    assert (first["outcome"], refused["outcome"]) == ("completed", "rejected")
    assert (refused["output_tokens"], refused["admitted_s"], refused["finish_s"], refused["energy_j"]) == (0, None, None, 0.0)
    (row,) = factory.sessions.rows
    assert (row["outcome"], row["calls"], row["tokens"], row["finish_s"]) == ("rejected", 2, 11, None)
    assert (factory.runner.accepted, factory.runner.completed, factory.runner.rejected) == (1, 1, 1)


def test_what_ran_beside_a_refused_call_is_finished_and_counted_and_nothing_follows() -> None:
    calls = [
        call(),
        call(0, agent=1, tokens=200_000, wait_s=0.1),  # refused at 1.2 s
        call(0, agent=2, out=501),  # runs from 1.1 s
        call(2, agent=2),
        call(0, agent=3, wait_s=60.0),  # would come long after
        call(1, 3, 4),
    ]
    factory = Factory(Session(0, 0.0, "chat", calls))
    rows = factory.play()
    assert [row["outcome"] for row in rows] == ["completed", "completed", "rejected"]
    (session,) = factory.sessions.rows
    assert (session["outcome"], session["calls"], session["tokens"]) == ("rejected", 3, 11 + 501)


def test_a_refused_session_that_the_horizon_finds_running_is_booked_once() -> None:
    calls = [call(), call(0, agent=1, tokens=200_000, wait_s=0.1), call(0, agent=2, out=5001)]
    factory = Factory(Session(0, 0.0, "chat", calls))
    rows = factory.play(until_s=10.0)
    assert sorted(row["outcome"] for row in rows) == ["completed", "in_flight", "rejected"]
    (session,) = factory.sessions.rows
    assert session["outcome"] == "rejected"
    assert session["tokens"] == sum(row["output_tokens"] for row in rows)


def test_the_horizon_finds_calls_and_sessions_in_flight() -> None:
    sessions = [Session(0, 0.0, "chat", [call(), call(0, wait_s=100.0)]), Session(1, 5.0, "chat", [call(out=1001)])]
    factory = Factory(*sessions)
    rows = factory.play(until_s=7.0)
    assert [row["outcome"] for row in rows] == ["completed", "in_flight"]
    # Arrived at 5 s, first token at 6 s, then one each 10 ms: by 7 s one and ninety-nine steps that ended before.
    assert rows[1]["output_tokens"] in (100, 101)
    by_id = {row["session_id"]: row for row in factory.sessions.rows}
    assert {row["outcome"] for row in by_id.values()} == {"in_flight"}
    assert (by_id[0]["calls"], by_id[0]["tokens"], by_id[1]["tokens"]) == (1, 11, rows[1]["output_tokens"])


def test_a_session_that_cannot_begin_is_no_session() -> None:
    factory = Factory(Session(4, 0.0, "chat", [call(1), call(0)]))
    with pytest.raises(SimulationError, match="session 4: call 0 waits for call 1, which does not come before it"):
        factory.play()
