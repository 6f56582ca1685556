"""Wherever a call is when its instance fails, it goes on: nothing lost, nothing sent twice, nothing that waits for the dead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from engine_parts import COST, Site, Wire, request, worker

from twin.engine.station import Station
from twin.serving import Admission, KvTier, KvTierSpec, Limits, QueueSpec, Worker
from twin.serving.router import kv_affinity


def _pair(**wire: float) -> Site:
    """Two that read and two that write, half a second of wire between them."""
    return Site(*(worker(f"p-{n}", "prefill") for n in (0, 1)), *(worker(f"d-{n}", "decode") for n in (0, 1)), wire=Wire(**wire))


def _station(site: Site, name: str) -> Station:
    return next(station for station in site.door.stations if station.worker.name == name)


def _fail(site: Site, time_s: float, *names: str) -> None:
    site.at(time_s, lambda: site.door.fail([_station(site, name) for name in names]))


def _return(site: Site, time_s: float, name: str) -> None:
    def back() -> None:
        _station(site, name).come_up(site.clock.now_s)
        site.door.rejoin(_station(site, name))

    site.at(time_s, back)


def _check(site: Site, calls: int) -> None:
    """All came out once with all their tokens, and each joule and token is somebody's."""
    assert sorted(r.request_id for r in site.finished) == list(range(calls))
    assert site.door.in_flight() == []
    workers = [station.worker for station in site.door.stations]
    assert all(each.is_empty for each in workers)
    assert sum(each.emitted_total(1e4) for each in workers) == sum(r.output_tokens for r in site.finished)
    assert sum(each.meter.step_energy_j for each in workers) == pytest.approx(sum(r.energy_j for r in site.finished))
    assert all(each.unattributed_j() == pytest.approx(0.0, abs=1e-6) for each in workers)
    assert all(each.memory.books_balance for each in workers)
    assert site.door.failovers == sum(r.failovers for r in site.finished)


#: When the instances fail -> who holds call 0 then: a second of prompt, half a second on the wire, ten steps of 10 ms.
TIMES = (0.0, 0.5, 1.0, 1.2, 1.5, 1.55, 1.6, 1.7)


@pytest.mark.parametrize("time_s", TIMES)
@pytest.mark.parametrize("which", ["p-0", "d-0", "p-0 d-0", "p-0 p-1", "d-0 d-1", "p-0 p-1 d-0 d-1"])
def test_each_stage_of_a_handoff(time_s: float, which: str) -> None:
    names = which.split()
    site = _pair()
    for number in range(3):
        site.at(0.0, site.door.accept, request(number))
    _fail(site, time_s, *names)
    site.at(4.0, site.door.accept, request(3))
    for name in names:
        _return(site, 5.0, name)
    site.run()
    _check(site, 4)


@pytest.mark.parametrize("time_s", [0.0, 0.5, 1.0, 1.05, 1.1])
@pytest.mark.parametrize("order", ["first", "all"])
def test_each_stage_where_one_instance_does_both(time_s: float, order: str) -> None:
    site = Site(worker("w-0", max_sequences=1), worker("w-1", max_sequences=1))
    for number in range(5):
        site.at(0.0, site.door.accept, request(number))
    names = ("w-0",) if order == "first" else ("w-0", "w-1")
    _fail(site, time_s, *names)
    for name in names:
        _return(site, 7.0, name)
    site.run()
    _check(site, 5)


def test_a_dead_decoders_call_is_prefilled_again_with_what_it_was_sent() -> None:
    site = _pair(seconds=0.5)
    call = request(0)
    site.at(0.0, site.door.accept, call)
    _fail(site, 1.535, "d-0")
    site.run()
    # A token with the prompt and three steps; then 1004 tokens of prompt, half a second of wire and the last six tokens.
    assert call.finish_s == pytest.approx(1.535 + 1.004 + 0.5 + 6 * 0.010)
    assert call.first_token_s == pytest.approx(1.0)
    assert (call.failovers, call.preemptions, call.recomputed_tokens) == (1, 0, 1003)
    assert [size for *_, size in site.wire.transfers] == [1_000_000.0, 1_004_000.0]


def test_what_is_kept_of_its_prompt_is_used_again() -> None:
    site = _pair(seconds=0.5)
    call = request(0, path=((7, 1_000),))
    site.at(0.0, site.door.accept, call)
    site.at(0.0, site.door.accept, request(1, 3_000, 1))  # on the other, so that the first goes back to where its prompt is
    _fail(site, 1.535, "d-0")
    site.run()
    assert (call.prefill_worker, call.recomputed_tokens) == ("p-0", 3)
    assert call.finish_s == pytest.approx(1.535 + 0.010 + 0.5 + 6 * 0.010)


def test_kv_on_the_way_to_a_dead_decoder_is_sent_to_another() -> None:
    site = _pair(seconds=0.5)
    call = request(0)
    site.at(0.0, site.door.accept, call)
    _fail(site, 1.2, "d-0")
    site.run()
    assert (call.decode_worker, call.recomputed_tokens, call.failovers) == ("d-1", 0, 1)
    assert call.finish_s == pytest.approx(1.2 + 0.5 + 0.1)
    assert [(source, target) for _, source, target, _ in site.wire.transfers] == [(0, 2), (0, 3)]


def test_a_decoder_that_waits_for_a_dead_instance_asks_for_the_prompt_again() -> None:
    site = Site(worker("p-0", "prefill"), worker("p-1", "prefill"), worker("d-0", "decode", max_sequences=1))
    site.at(0.0, site.door.accept, request(0, output_tokens=1001))
    site.at(0.0, site.door.accept, request(1, 1_200))  # waits for room with its KV on p-1
    _fail(site, 3.0, "p-1")
    site.run()
    again = next(r for r in site.finished if r.request_id == 1)
    assert (again.prefill_worker, again.failovers, again.recomputed_tokens) == ("p-0", 1, 1_200)
    _check(site, 2)


def test_room_that_was_promised_for_kv_that_died_is_free_again() -> None:
    site = Site(worker("p-0", "prefill"), worker("p-1", "prefill"), worker("d-0", "decode", max_sequences=1), wire=Wire(0.5))
    site.at(0.0, site.door.accept, request(0))
    site.at(0.0, site.door.accept, request(1, 1_100))  # next for the one place, which the first has until it dies on the wire
    _fail(site, 1.2, "p-0")
    site.run()
    assert [r.request_id for r in site.finished] == [1, 0]
    _check(site, 2)


def test_prefilled_calls_wait_where_they_are_while_no_decoder_is_up() -> None:
    site = Site(worker("p-0", "prefill"), worker("d-0", "decode"))
    _fail(site, 0.1, "d-0")
    site.at(0.2, site.door.accept, request(0))
    _return(site, 60.0, "d-0")
    site.run()
    (call,) = site.finished
    assert (call.first_token_s, call.finish_s, call.failovers) == (pytest.approx(1.2), pytest.approx(60.6), 0)


def test_and_are_prefilled_again_where_that_dies_too() -> None:
    site = Site(worker("p-0", "prefill"), worker("p-1", "prefill"), worker("d-0", "decode"))
    _fail(site, 0.1, "d-0")
    site.at(0.2, site.door.accept, request(0))
    _fail(site, 5.0, "p-0")
    _return(site, 60.0, "d-0")
    site.run()
    (call,) = site.finished
    assert (call.prefill_worker, call.failovers, call.finish_s) == (
        "p-1",
        1,
        pytest.approx(60.59),
    )  # the second prompt gave the second token


def test_calls_that_come_while_nothing_is_up_wait_in_order() -> None:
    site = Site(worker("w-0"), worker("w-1"))
    _fail(site, 1.0, "w-0", "w-1")
    for number in range(3):
        site.at(2.0 + number, site.door.accept, request(number, 1000, 1, path=((7 + 4 * number, 1_000),)))
    site.at(6.0, site.door.warm, ((99, 500),))
    _return(site, 10.0, "w-1")
    site.run(9.0)
    assert [(r.request_id, holder) for r, holder in site.door.in_flight()] == [(0, None), (1, None), (2, None)]
    site.run()
    assert [(r.request_id, r.finish_s) for r in site.finished] == [(0, 11.0), (1, 13.0), (2, 13.0)]  # two together


def test_a_call_too_long_for_all_that_read_is_computed_again_where_it_is_decoded() -> None:
    site = Site(worker("p-0", "prefill", kv_capacity_tokens=1_050), worker("d-0", "decode"), worker("d-1", "decode"))
    call = request(0, 1_000, 201)
    site.at(0.0, site.door.accept, call)
    _fail(site, 2.505, "d-0")  # 1000 + 101 tokens do not fit p-0
    site.run()
    assert (call.prefill_worker, call.decode_worker) == ("p-0", "d-1")
    _check(site, 1)


def test_calls_are_refused_by_what_is_down_too() -> None:
    site = Site(worker("w-0"), worker("w-1", kv_capacity_tokens=5_000))
    _fail(site, 0.0, "w-1")
    site.run(1.0)
    assert site.door.refusal(request(0, 6_000), True) == "memory"  # it would not fit once w-1 is back


def test_a_bounded_wait_refuses_while_nothing_is_up_and_no_bound_takes_in() -> None:
    for bound_s, said in ((60.0, "wait"), (float("inf"), None)):
        site = Site(worker())
        site.door._admission = Admission(wait_s=bound_s, tiers={}, tenants={}, each_tenant=Limits())
        _fail(site, 0.0, "w-0")
        site.run(1.0)
        assert site.door.refusal(request(0), True) == said


def test_a_tier_that_is_held_and_released_while_nothing_is_up_waits_on() -> None:
    site = Site(worker())
    site.door.hold("free")
    site.at(0.0, site.door.accept, request(0, tier="free"))
    _fail(site, 1.0, "w-0")
    site.at(2.0, site.door.release, "free", 10.0)
    _return(site, 50.0, "w-0")
    site.run()
    assert [r.finish_s for r in site.finished] == [pytest.approx(51.1)]


def test_contexts_of_a_dead_instance_have_no_home() -> None:
    site = Site(worker("w-0"), worker("w-1"), router=kv_affinity)
    site.at(0.0, site.door.accept, request(0, path=((7, 1_000),), keep_cache=True))
    _fail(site, 9.0, "w-0")
    again = request(1, 1_200, path=((7, 1_200),), shared_prefix_tokens=1_010)
    site.at(10.0, site.door.accept, again)
    _return(site, 12.0, "w-0")
    third = request(2, 1_400, path=((7, 1_400),), shared_prefix_tokens=1_210)
    site.at(20.0, site.door.accept, third)
    site.run()
    assert (again.prefill_worker, again.cached_tokens, again.recomputed_tokens) == ("w-1", 0, 1_010)
    assert (third.prefill_worker, third.cached_tokens) == ("w-1", 1_200)


def test_storage_outlives_host_memory() -> None:
    storage = KvTier(KvTierSpec(1_000_000, 1e9))
    hosts = [KvTier(KvTierSpec(1_500, 1e9), below=storage) for _ in range(2)]
    spec = worker(kv_capacity_tokens=2_000).spec
    site = Site(*(Worker(replace(spec, name=f"w-{n}"), host) for n, host in enumerate(hosts)))
    for number in range(4):  # the first contexts go down to host memory, then to storage
        site.at(10.0 * number, site.door.accept, request(number, 1_200, 2, path=((7 + 4 * number, 1_200),)))
    site.run(35.0)
    assert storage.held_tokens > 0
    held = storage.held_tokens
    site.door.fail(list(site.door.stations))
    assert [station.worker.memory.lower.held_tokens for station in site.door.stations] == [0, 0]
    assert storage.held_tokens == held
    for station in site.door.stations:
        assert station.worker.memory.lower.below is storage


def test_one_that_was_to_leave_and_fails_does_not_leave() -> None:
    site = Site(worker("w-0"), worker("w-1"))
    left: list[Station] = []
    site.at(0.0, site.door.accept, request(0))
    site.at(0.1, site.door.withdraw, _station(site, "w-0"), left.append)
    _fail(site, 0.5, "w-0")
    _return(site, 1.0, "w-0")
    site.run()
    assert left == []
    _check(site, 1)


def test_time_down_is_no_idle_time() -> None:
    site = Site(worker("w-0"))
    site.at(0.0, site.door.accept, request(0))
    _fail(site, 0.5, "w-0")
    _return(site, 10.0, "w-0")
    site.run(20.0)
    span = _station(site, "w-0").span(20.0)
    assert (span.span_s, span.down_s) == (pytest.approx(10.5), pytest.approx(9.5))
    assert span.progress.busy_s == pytest.approx(0.5 + 1.1)


@pytest.mark.parametrize("order", ["fifo", "priority", "fair"])
def test_fair_and_other_lines_survive(order: str) -> None:
    queue = QueueSpec(order, ("", "low"))
    cost = replace(COST, attention_memory_s=1e-9)
    names: Iterator[tuple[str, str]] = iter([("p-0", "prefill"), ("p-1", "prefill"), ("d-0", "decode"), ("d-1", "decode")])
    site = Site(*(worker(name, role, queue=queue, cost=cost, max_sequences=3, kv_capacity_tokens=9_000) for name, role in names))
    for number in range(24):
        site.at(0.1 * number, site.door.accept, request(number, 900, 80, tenant=f"t{number % 3}"))
    for time_s, name in ((1.3, "p-0"), (2.9, "d-1"), (4.45, "p-1"), (5.5, "d-0")):
        _fail(site, time_s, name)
        _return(site, time_s + 1.0, name)
    site.run()
    _check(site, 24)
