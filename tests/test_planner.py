"""When an instance moves between prefill and decode: loads that compare, hysteresis, no way back under a steady demand."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from engine_parts import COST, request, worker
from hypothesis import given
from hypothesis import strategies as st

from twin.serving import DecodeLoad, Move, PrefillLoad, Split, SplitPlanner, decode_load, prefill_load
from twin.serving.pool_load import sequences_within


def _split(prefill: float, decode: float, instances: tuple[int, int] = (4, 4), bound_for: str | None = None) -> Split:
    """Both pools at given loads: a thousand places for each decode instance, and neither memory nor time that binds."""
    reads, writes = instances
    return Split(
        PrefillLoad("read", reads, 30.0, prefill, 0.0),
        DecodeLoad("write", writes, round(1000 * decode * writes), 1000 * writes, 0.0, 0.0, 1, None),
        bound_for,
    )


def _targets(planner: SplitPlanner, *looks: Split) -> list[str | None]:
    return [None if move is None else move.target for move in map(planner.look, looks)]


# --- loads -----------------------------------------------------------------------------------------------------------------


def test_a_queue_shows_in_the_load_of_prefill_and_standing_still_takes_from_it() -> None:
    assert PrefillLoad("read", 2, 30.0, 0.5, 0.0).load == 0.5
    assert PrefillLoad("read", 2, 30.0, 1.0, 45.0).load == 2.5
    assert PrefillLoad("read", 2, 30.0, 0.1, 45.0).load == pytest.approx(0.25)


def test_prompts_behind_kv_that_decode_does_not_take_are_no_work_for_prefill() -> None:
    reader = worker("p-0", "prefill", kv_capacity_tokens=2_500)
    for number in range(4):
        reader.submit(request(number, 1_000), 0.0)
    reader.advance(2.5)
    assert (reader.exported, len(reader.queue.waiting)) == (2, 2)
    assert prefill_load("read", [reader], 1.0, 10.0).queue_s == 0.0
    free = worker("p-1", "prefill")
    free.submit(request(9, 1_000), 0.0)
    assert prefill_load("read", [free], 1.0, 10.0).queue_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "load"),
    [({}, 0.5), ({"held_tokens": 600.0, "wanted_tokens": 300.0}, 0.9), ({"sequences_in_time": 4}, 1.25)],
)
def test_the_fullest_of_places_memory_and_time_is_the_load_of_decode(changes: dict[str, float], load: float) -> None:
    plain = DecodeLoad("write", 1, 5, 10, 100.0, 0.0, 1_000, None)
    assert replace(plain, **changes).load == load


def test_what_waits_for_room_loads_decode() -> None:
    writer = worker("d-0", "decode", kv_capacity_tokens=2_000, max_sequences=4)
    for number in range(6):
        one = request(number, 900)
        one.kv_elsewhere = True
        writer.submit(one, 0.0)
    writer.advance(0.0)
    seen = decode_load("write", [writer], 0.05)
    assert (seen.sequences, seen.places) == (6, 4)
    assert seen.held_tokens == 2 * 899
    assert seen.wanted_tokens == 4 * 900
    assert decode_load("write", [worker("d-1", "decode")], 0.05).load == 0.0


def test_promised_answers_count_as_held() -> None:
    writer = worker("d-0", "decode", kv_capacity_tokens=10_000, reserve_answers=True)
    one = request(0, 1_000, 500)
    one.kv_elsewhere = True
    writer.submit(one, 0.0)
    writer.advance(0.0)
    assert decode_load("write", [writer], None).held_tokens == 1_500


@given(context=st.floats(0, 1e5), tpot_s=st.floats(0.001, 1.0), clock=st.floats(0.2, 1.0))
def test_as_many_sequences_as_keep_the_objective(context: float, tpot_s: float, clock: float) -> None:
    cost = replace(COST, attention_memory_s=1e-8)
    count = sequences_within(cost, context, tpot_s, clock, 256)
    assert 0 <= count <= 256
    if count:
        assert cost.step_s(count, count * context, clock=clock) <= tpot_s
    if count < 256:
        assert cost.step_s(count + 1, (count + 1) * context, clock=clock) > tpot_s


# --- decisions ---------------------------------------------------------------------------------------------------------------


def test_it_takes_patience_in_a_row() -> None:
    busy, calm = _split(1.2, 0.3), _split(0.6, 0.6)
    assert _targets(SplitPlanner(1.5, 3), busy, busy, calm, busy, busy, busy, busy) == [None] * 5 + ["read", None]


def test_looks_that_disagree_about_the_direction_begin_anew() -> None:
    assert _targets(SplitPlanner(1.5, 2), _split(1.2, 0.3), _split(0.3, 1.2), _split(0.3, 1.2)) == [None, None, "write"]


@pytest.mark.parametrize(
    ("split", "why"),
    [
        (_split(1.2, 0.9), "less than the ratio apart"),
        (_split(0.4, 0.0), "nobody needs help"),
        (_split(3.0, 0.0, (4, 1)), "the last one stays"),
        (_split(1.2, 0.6, (4, 2)), "the other would be as busy"),
    ],
)
def test_no_move_where(split: Split, why: str) -> None:
    assert _targets(SplitPlanner(1.5, 1), split) == [None], why


def test_none_moves_while_one_is_on_its_way_and_it_counts_as_arrived() -> None:
    under_way = _split(1.2, 0.3, (4, 3), bound_for="read")
    planner = SplitPlanner(1.5, 2)
    assert _targets(planner, under_way, under_way, under_way) == [None] * 3
    assert _targets(planner, _split(1.2, 0.3, (5, 3))) == ["read"]  # the evidence was gathered meanwhile
    enough = _split(0.55, 0.3, (4, 3), bound_for="read")  # 0.44 with the one that comes
    assert _targets(SplitPlanner(1.5, 1), enough, _split(0.44, 0.3, (5, 3))) == [None, None]


def test_the_reason_names_both_loads() -> None:
    move = SplitPlanner(1.5, 1).look(_split(1.2, 0.3))
    assert move == Move("write", "read", move.reason if move else "")
    assert move.reason.startswith("load 1.20 against 0.30: read was busy 120% of the time")


@given(
    prefill=st.floats(0.0, 20.0),
    decode=st.floats(0.0, 20.0),
    instances=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    ratio=st.floats(1.01, 5.0),
    patience=st.integers(1, 3),
    takes_looks=st.integers(0, 4),
)
def test_under_a_steady_demand_moves_end_and_none_is_taken_back(
    prefill: float, decode: float, instances: tuple[int, int], ratio: float, patience: int, takes_looks: int
) -> None:
    """Demands in instances' worth; a move takes some looks, during which the instance serves nobody."""
    planner = SplitPlanner(ratio, patience)
    counts = dict(zip(("read", "write"), instances, strict=True))
    targets, bound_for, left = [], None, 0
    for _ in range(40 * patience * (takes_looks + 1)):
        if bound_for and not left:
            counts[bound_for] += 1
            bound_for = None
        left -= 1
        reads, writes = counts.values()
        places = ceil(1e9)
        seen = Split(
            PrefillLoad("read", reads, 30.0, prefill / reads, 0.0),
            DecodeLoad("write", writes, round(decode * places), places * writes, 0.0, 0.0, 1, None),
            bound_for,
        )
        move = planner.look(seen)
        if move is not None:
            assert bound_for is None
            counts[move.source] -= 1
            assert counts[move.source] >= 1
            bound_for, left = move.target, takes_looks
            targets.append(move.target)
    assert len(set(targets)) <= 1
    assert len(targets) < sum(instances)
