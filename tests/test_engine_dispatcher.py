"""From the door through prefill and decode: nothing lost on the way, whatever is held back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_parts import COST, Site, Wire, request, worker

from twin.errors import SimulationError
from twin.serving.router import kv_affinity

#: Keys of content: of a session's own, of another's, of a system prompt that sessions share (twin/engine/session_paths.py).
OWN, OTHER, SYSTEM = 28, 32, 2


def _split(wire: Wire | None = None) -> Site:
    return Site(worker("p-0", "prefill"), worker("d-0", "decode"), worker("d-1", "decode"), wire=wire)


def test_prompt_then_transfer_then_decode() -> None:
    site = _split(Wire(0.5))
    one = request(0)
    site.at(1.0, site.door.accept, one)
    site.run()
    # A second of prompt, half a second on the wire, ten steps of 10 ms.
    assert (one.admitted_s, one.first_token_s, one.finish_s) == (1.0, pytest.approx(2.0), pytest.approx(2.6))
    assert (one.prefill_worker, one.decode_worker) == ("p-0", "d-0")
    # 1000 KV tokens of 1 kB each: the first output token's KV is made where it is decoded.
    assert site.wire.transfers == [(pytest.approx(2.0), 0, 1, 1_000_000.0)]


def test_the_prompts_room_is_held_until_the_transfer_is_done() -> None:
    site = _split(Wire(0.5))
    prefill, decode = (station.worker for station in site.door.stations[:2])
    seen: list[tuple[int, int]] = []
    site.at(0.0, site.door.accept, request(0))
    for time_s in (0.5, 1.2, 1.55, 2.0):
        site.at(time_s, lambda: seen.append((prefill.memory.pinned_tokens, decode.memory.pinned_tokens > 0)))
    site.run()
    assert seen == [(1000, False), (1000, True), (0, True), (0, False)]


def test_decoders_share_by_work() -> None:
    """Also when prompts end in one step: contexts on the wire count as much as those that have arrived."""
    cost = replace(COST, attention_memory_s=1e-9)
    site = Site(worker("p-0", "prefill"), worker("d-0", "decode", cost=cost), worker("d-1", "decode", cost=cost))
    for number in range(4):
        site.at(0.0, site.door.accept, request(number, output_tokens=2001))
    site.run()
    assert [r.decode_worker for r in sorted(site.finished, key=lambda r: r.request_id)] == ["d-0", "d-1", "d-0", "d-1"]


def test_a_one_token_answer_needs_no_decoder() -> None:
    site = _split()
    one = request(0, output_tokens=1)
    site.at(0.0, site.door.accept, one)
    site.run()
    assert (one.first_token_s, one.finish_s, one.decode_worker) == (pytest.approx(1.0), pytest.approx(1.0), None)
    assert site.wire.transfers == []


def test_a_prefilled_request_without_a_decode_pool_is_an_error() -> None:
    site = Site(worker("p-0", "prefill"))
    site.at(0.0, site.door.accept, request(0))
    with pytest.raises(SimulationError, match="no decode pool"):
        site.run()


@pytest.mark.parametrize("when", [0.5, 1.2, 1.55])
def test_wherever_the_horizon_finds_it_a_request_is_held_once(when: float) -> None:
    site = _split(Wire(0.5))
    site.at(0.0, site.door.accept, request(0))
    site.run(when)
    ((found, holder),) = site.door.in_flight()
    assert found.request_id == 0
    assert (holder.name if holder else None) == {0.5: "p-0", 1.2: None, 1.55: "d-0"}[when]


def test_a_call_is_refused_that_either_phase_cannot_hold() -> None:
    site = Site(worker("p-0", "prefill"), worker("d-0", "decode", kv_capacity_tokens=5_000))
    assert site.door.refusal(request(0, 4_000, 100), True) is None
    assert site.door.refusal(request(1, 4_000, 2_000), True) == "memory"  # decode has no room for both
    assert site.door.refusal(request(2, 150_000, 1), True) == "memory"


# --- hold and release ----------------------------------------------------------------------------------------------------


def test_a_held_tier_waits_at_the_door_and_others_pass() -> None:
    site = Site(worker())
    site.door.hold("free")
    site.at(0.0, site.door.accept, request(0, tier="free"))
    site.at(0.0, site.door.accept, request(1, tier="premium"))
    site.run(10.0)
    assert [r.request_id for r in site.finished] == [1]
    assert (site.door.held_calls("free"), site.door.held_calls("premium")) == (1, None)
    assert [(r.request_id, w) for r, w in site.door.in_flight()] == [(0, None)]


def test_a_release_spreads_them_in_order_and_new_ones_pass_at_once() -> None:
    site = Site(worker())
    site.door.hold("free")
    for number in range(4):
        site.at(float(number), site.door.accept, request(number, 10, 1, arrival_s=float(number), tier="free"))
    site.at(100.0, site.door.release, "free", 40.0)
    site.at(105.0, site.door.accept, request(4, 10, 1, arrival_s=105.0, tier="free"))
    site.run(99.0)
    assert site.door.held_calls("free") == 4
    site.run(115.0)
    assert site.door.held_calls("free") is None
    assert len(site.door.in_flight()) == 2  # still on their way in
    site.run()
    assert [(r.request_id, r.admitted_s) for r in site.finished] == [(0, 100.0), (1, 110.0), (2, 120.0), (3, 130.0)] or [
        (r.request_id, r.admitted_s) for r in sorted(site.finished, key=lambda r: r.request_id)
    ] == [(0, 100.0), (1, 110.0), (2, 120.0), (3, 130.0), (4, 105.0)]
    assert site.door.in_flight() == []


def test_holding_twice_keeps_who_waits_and_holding_during_a_release_loses_nobody() -> None:
    site = Site(worker())
    site.door.hold("free")
    for number in range(3):
        site.at(0.0, site.door.accept, request(number, 10, 1, tier="free"))
    site.at(1.0, site.door.hold, "free")
    site.at(2.0, site.door.release, "free", 30.0)
    site.at(5.0, site.door.hold, "free")  # the two that are on their way in stay so
    site.at(6.0, site.door.accept, request(3, 10, 1, tier="free"))
    site.run(50.0)
    assert sorted(r.request_id for r in site.finished) == [0, 1, 2]
    assert [r.request_id for r, _ in site.door.in_flight()] == [3]
    site.at(60.0, site.door.release, "free", 0.0)
    site.run()
    assert sorted(r.request_id for r in site.finished) == [0, 1, 2, 3]


def test_releasing_what_is_not_held_does_nothing() -> None:
    site = Site(worker())
    site.door.release("free", 60.0)
    site.at(0.0, site.door.accept, request(0, tier="free"))
    assert len(site.run()) == 1


# --- affinity --------------------------------------------------------------------------------------------------------------


def test_a_context_goes_home() -> None:
    site = Site(worker("w-0"), worker("w-1"), router=kv_affinity)
    first = request(0, path=((OWN, 1_000),), keep_cache=True)
    site.at(0.0, site.door.accept, request(9, 500, 2))  # keeps w-0 busy, so that the context starts on w-1
    site.at(0.1, site.door.accept, first)
    again = request(1, 1_200, 11, path=((OWN, 1_200),), shared_prefix_tokens=1_010)
    site.at(10.0, site.door.accept, again)
    site.run()
    assert first.prefill_worker == again.prefill_worker == "w-1"
    assert again.cached_tokens == 1_010


def test_a_forgotten_context_has_no_home() -> None:
    site = Site(worker("w-0"), worker("w-1"), router=kv_affinity)
    site.at(0.0, site.door.accept, request(9, 500, 2))
    site.at(0.1, site.door.accept, request(0, path=((OWN, 1_000),), keep_cache=True))
    site.at(9.0, site.door.forget, ((OWN, 1_000),))
    again = request(1, 1_200, 11, path=((OWN, 1_200),), shared_prefix_tokens=1_010)
    site.at(10.0, site.door.accept, again)
    site.run()
    assert again.prefill_worker == "w-0"


def test_a_shared_system_prompt_keeps_its_home_when_a_session_is_forgotten() -> None:
    site = Site(worker("w-0"), worker("w-1"), router=kv_affinity)
    site.at(0.0, site.door.accept, request(9, 500, 2))
    first = request(0, path=((SYSTEM, 600), (OWN, 400)))
    site.at(0.1, site.door.accept, first)
    site.at(9.0, site.door.forget, first.path)
    stranger = request(1, 700, 11, path=((SYSTEM, 600), (OTHER, 100)), shared_prefix_tokens=600)
    site.at(10.0, site.door.accept, stranger)
    site.run()
    assert first.prefill_worker == stranger.prefill_worker == "w-1"
    assert stranger.cached_tokens == 600


def test_warm_contexts_go_where_memory_has_room() -> None:
    site = Site(worker("w-0"), worker("w-1"), router=kv_affinity)
    contexts = {key: ((4 * key, tokens),) for key, tokens in ((1, 60_000), (2, 50_000), (3, 10_000), (4, 200_000))}
    for path in contexts.values():
        site.door.warm(path)
    memories = [station.worker.memory for station in site.door.stations]
    asked = [request(0, 99_000, path=((4 * key, 99_000),), shared_prefix_tokens=99_000) for key in contexts]
    assert [[memory.match(one) for one in asked] for memory in memories] == [[60_000, 0, 0, 0], [0, 50_000, 10_000, 0]]


def test_a_warm_context_is_at_home_where_it_lies() -> None:
    site = Site(worker("w-0"), worker("w-1"), router=kv_affinity)
    site.door.warm(((OTHER, 2_000),))
    site.door.warm(((OWN, 1_000),))
    again = request(0, 1_200, 2, path=((OWN, 1_200),), shared_prefix_tokens=1_000)
    site.at(0.0, site.door.accept, again)
    site.run()
    assert (again.prefill_worker, again.cached_tokens) == ("w-1", 1_000)
