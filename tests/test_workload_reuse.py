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
