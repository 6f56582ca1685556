"""Hit rates of caches of every size: the one-pass curve against a slow LRU that holds whole prefixes, and known figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.cli.main import main
from twin.errors import InputError
from twin.workload import Call, Session
from twin.workload.info import trace_info
from twin.workload.reuse import ReuseMeter, blocks_of, in_nominal_order

MOONCAKE = "traces/mooncake_conversation_trace.jsonl"


def slow_hits(calls: Sequence[tuple[Sequence[int], int]], room: int) -> int:
    """An LRU of `room` blocks, each named by all from the front up to it; of blocks used together the deepest goes first."""
    held: list[tuple[int, ...]] = []  # the most recent last
    hits = 0
    for blocks, looked_up in calls:
        prefixes = [tuple(blocks[: n + 1]) for n in range(len(blocks))]
        for prefix in prefixes[:looked_up]:
            if prefix not in held:
                break
            hits += 1
        for prefix in reversed(prefixes):
            if prefix in held:
                held.remove(prefix)
            held.append(prefix)
        del held[: max(0, len(held) - room)]
    return hits


calls_st = st.lists(
    st.tuples(st.lists(st.integers(0, 2), max_size=6), st.integers(0, 6)),
    max_size=25,
)


@given(calls_st)
def test_the_curve_is_that_of_a_slow_cache_of_each_size(calls: list[tuple[list[int], int]]) -> None:
    meter = ReuseMeter()
    for blocks, looked_up in calls:
        meter.add(blocks, looked_up, len(blocks))
    curve = meter.curve()
    asked = sum(len(blocks) for blocks, _ in calls)
    for room in range(curve.different_blocks + 2):
        expected = slow_hits(calls, room) / asked if asked else 0.0
        assert curve.hit_frac(room) == pytest.approx(expected, abs=1e-12)
    assert curve.hit_frac(math.inf) == curve.hit_frac(curve.different_blocks)


def test_by_hand() -> None:
    meter = ReuseMeter()
    for blocks in ("ab", "ac", "ab"):
        meter.add(blocks, 2, 2)
    curve = meter.curve()
    # The second call finds a, on top of {a, b}. The third finds a on top of {a, c, b}, and b below.
    assert [curve.hit_frac(room) for room in range(5)] == pytest.approx([0, 2 / 6, 2 / 6, 3 / 6, 3 / 6])


def test_blocks_of_a_path_are_equal_as_far_as_contents_are() -> None:
    system = (9, 10)
    one, other = blocks_of([system, (1, 30)], 8), blocks_of([system, (2, 31)], 8)
    assert len(one) == len(other) == 5
    assert one[0] == other[0] == 9
    assert one[1] != other[1]
    grown = blocks_of([system, (1, 47)], 8)
    assert grown[:5] == one
    assert blocks_of([(1, 3), (2, 3), (3, 3)], 4) == [((1, 3), (2, 1)), ((2, 2), (3, 2))]


def test_calls_come_in_the_order_in_which_they_would_begin() -> None:
    chain = [
        Call((), 0.0, 10, 1),
        Call((0,), 5.0, 20, 1),
        Call((0,), 50.0, 30, 1),
        Call((2,), 0.0, 40, 1, any_of=(1,), any_count=1),
    ]
    first = Session(0, 0.0, "", chain)
    second = Session(1, 7.0, "", [Call((), 0.0, 11, 1), Call((0,), 1.0, 21, 1)])
    order = [(session.session_id, call.input_tokens) for session, call in in_nominal_order([first, second], 1.0)]
    assert order == [(0, 10), (0, 20), (1, 11), (1, 21), (0, 30), (0, 40)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_first_k_join_may_be_the_last_call(count: int) -> None:
    calls = [
        Call((), 0.0, 10, 1),
        Call((0,), 0.0, 20, 1, agent=1, depth=1),
        Call((0,), 3.0, 30, 1, agent=2, depth=1),
        Call((0,), 0.0, 40, 1, any_of=(1, 2), any_count=count),
    ]
    sessions = [Session(0, 0.0, "", calls), Session(1, 100.0, "", [Call((), 0.0, 11, 1)])]
    order = [call.input_tokens for _, call in in_nominal_order(sessions, 1.0)]
    assert order == ([10, 20, 40, 30, 11] if count == 1 else [10, 20, 30, 40, 11])


def test_joins_that_end_at_once_come_once() -> None:
    calls = [Call((), 0.0, 10, 1), *(Call((0,), 0.0, 20 + i, 1, agent=i, depth=1) for i in (1, 2))]
    calls.append(Call((0,), 0.0, 40, 1, any_of=(1, 2), any_count=1))
    order = [call.input_tokens for _, call in in_nominal_order([Session(0, 0.0, "", calls)], 1.0)]
    assert order == [10, 21, 22, 40]


def test_runs_of_hashes_count_by_their_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of 640 and 64 tokens, of which the second call has the first again: 640 of 704 + 768 tokens."""
    usual = {"wait_s": 0, "output_tokens": 1}
    calls = [
        {"after": [], "input_tokens": 704, "hash_ids": [1, 2], "block_tokens": [640, 64], **usual},
        {"after": [0], "input_tokens": 768, "hash_ids": [1, 3], "block_tokens": [640, 128], **usual},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"session": 0, "arrival_s": 0, "calls": calls}) + "\n")
    assert main(["trace", "cache", str(path), "--sizes", "320,10k", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["block_tokens"], told["asked_blocks"], told["different_blocks"]) == (64, 23, 13)
    assert [row["hit_frac"] for row in told["curve"]] == pytest.approx([5 / 23, 10 / 23])
    assert told["infinite_hit_frac"] == pytest.approx(640 / (704 + 768))
    assert trace_info(path)["prefix_hit_frac"] == pytest.approx(640 / (704 + 768))


@pytest.mark.parametrize("name", ["raw", "raw/trace_0174.json"])
def test_real_runs_find_what_an_infinite_cache_would(
    name: str, shared_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Caches keep whole blocks: the last part of an input is not found."""
    trace = shared_data(f"traces/claude_code_agentic/{name}")
    assert main(["trace", "cache", str(trace), "--rate", "1 /s", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["infinite_hit_frac"] == pytest.approx(trace_info(trace)["prefix_hit_frac"], abs=0.002)


def test_a_session_without_an_arrival_has_no_place() -> None:
    with pytest.raises(InputError, match="no arrival"):
        list(in_nominal_order([Session(0, math.nan, "", [Call((), 0.0, 10, 1)])], 1.0))


def test_mooncake_finds_what_is_known(shared_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    trace = shared_data(MOONCAKE)
    assert main(["trace", "cache", str(trace), "--sizes", "1M,10M,1G", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["infinite_hit_frac"] == pytest.approx(0.366, abs=0.002)
    small, middle, ample = (row["hit_frac"] for row in told["curve"])
    assert 0 < small < middle < ample == told["infinite_hit_frac"]


def test_a_size_that_is_no_number_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("k", "1x", "0", "-5", "1,,2"):
        assert main(["trace", "cache", str(tmp_path / "none.jsonl"), "--sizes", wrong]) == 2
        assert "--sizes" in capsys.readouterr().err
    assert main(["trace", "cache", str(tmp_path / "none.jsonl"), "--plot", "curve.txt"]) == 2
