"""An instance that loses its hardware, by hand: what it has sent stays sent, what it used stays used, and it is empty."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_parts import COST, POWER, request, worker

from twin.serving import FINISHED, PREFILLED, RESERVED, KvTier, KvTierSpec, QueueSpec, Request, Worker

#: Of an instance of two GPUs.
IDLE_W = 2 * POWER.idle_w


def _books(one: Worker, requests: list[Request], now_s: float) -> None:
    """Every joule of its steps is some request's, and every token is counted once."""
    assert one.is_empty
    assert one.unattributed_j() == pytest.approx(0.0, abs=1e-9)
    assert sum(r.energy_j for r in requests) == pytest.approx(one.meter.step_energy_j, rel=1e-12)
    assert one.emitted_total(now_s) == sum(r.generated for r in requests)
    assert sum(one.time_split(now_s)) == pytest.approx(one.progress(now_s).busy_s)
    assert one.memory.books_balance


def test_a_prompt_that_breaks_off_has_cost_its_energy_and_made_nothing() -> None:
    one, call = worker(), request(0)
    one.submit(call, 0.0)
    one.advance(0.0)
    used_j = one.progress(0.25).energy_j  # a quarter of a step of one second
    assert one.fail(0.25) == [call]
    assert (call.generated, call.context_tokens, call.todo_tokens, call.energy_j) == (0, 0, 0, pytest.approx(used_j))
    assert one.progress(10.0).energy_j == pytest.approx(used_j + 9.75 * IDLE_W)
    assert one.progress(10.0).busy_s == pytest.approx(0.25)
    _books(one, [call], 10.0)


def test_tokens_of_whole_steps_stay_and_the_step_that_breaks_off_gives_none() -> None:
    one, calls = worker(), [request(0), request(1, output_tokens=101)]
    for call in calls:
        one.submit(call, 0.0)
    one.advance(2.0)  # both prompts in one step of two seconds, and a token each with it
    one.advance(2.035)
    assert one.fail(2.035) == calls
    assert [call.generated for call in calls] == [1 + 3, 1 + 3]  # three steps of 10 ms, and half a step for nothing
    assert calls[0].energy_j == pytest.approx(calls[1].energy_j)
    assert one.progress(2.035).output_tokens == pytest.approx(2 * 4.5)  # as work done, the half counts
    _books(one, calls, 2.035)


def test_the_meter_never_goes_back() -> None:
    one, call = worker(), request(0)
    one.submit(call, 0.0)
    one.advance(1.044)
    before = one.progress(1.044)
    one.fail(1.044)
    assert one.progress(1.044) == pytest.approx(before)


def test_dark_hardware_draws_nothing_and_half_of_it_half() -> None:
    one = worker()
    one.fail(1.0)
    one.meter.stand_by(0.0, 1.0)
    assert one.progress(5.0).energy_j == pytest.approx(IDLE_W)
    one.meter.stand_by(0.5 * IDLE_W, 5.0)
    one.meter.stand_by(IDLE_W, 7.0)
    assert one.progress(8.0).energy_j == pytest.approx((1.0 + 1.0 + 1.0) * IDLE_W)


@pytest.mark.parametrize("time_s", [0.0, 0.5, 1.0, 1.005, 1.05])
def test_it_works_again_as_if_new(time_s: float) -> None:
    one, call = worker(), request(0)
    one.submit(call, 0.0)
    one.advance(time_s)
    one.outbox.clear()
    one.fail(time_s)
    again = request(1)
    one.submit(again, 100.0)
    one.advance(200.0)
    assert [kind for kind, _ in one.outbox] == [FINISHED]
    assert (again.first_token_s, again.finish_s) == (pytest.approx(101.0), pytest.approx(101.1))
    _books(one, [call, again], 200.0)


def test_each_state_is_given_up() -> None:
    """Decoding, prefilling, waiting, swapped below, loading from below: all come out once, and none holds anything."""
    host = KvTier(KvTierSpec(1_000_000, 1_000.0))
    one = worker(max_sequences=3, kv_capacity_tokens=4_000, swap=True)
    one = Worker(one.spec, host)
    calls = [request(number, 1_000, 900) for number in range(6)]
    for call in calls:
        one.submit(call, 0.0)
    time_s = 0.0
    while not any(call.swapped_tokens for call in calls):
        time_s = one.next_change_s
        one.advance(time_s)
    made = {call.request_id: one.emitted(call, time_s) for call in calls}
    assert sorted(call.request_id for call in one.fail(time_s)) == [0, 1, 2, 3, 4, 5]
    assert {call.request_id: call.generated for call in calls} == made
    assert all(c.pin is None and not (c.context_tokens or c.swapped_tokens or c.promised_tokens) for c in calls)
    assert one.memory.lower is not host
    assert one.memory.lower is not None
    assert one.memory.lower.taken_tokens == 0
    _books(one, calls, time_s)


def test_a_decode_instance_keeps_the_source_of_what_only_waits_there() -> None:
    one = worker(role="decode", max_sequences=1)
    first, second = request(0), request(1)
    for call in (first, second):
        call.generated, call.kv_elsewhere, call.prefill_worker = 1, True, "p-0"
        one.submit(call, 0.0)
    one.advance(0.0)
    assert one.outbox == [(RESERVED, first)]
    assert one.fail(0.5) == [second]  # the first is on the wire: its owner knows of it
    assert second.kv_elsewhere
    assert one.reserved == 0
    first.lose_kv()
    assert not first.kv_elsewhere


def test_what_was_exported_is_gone() -> None:
    one, call = worker(role="prefill"), request(0)
    one.submit(call, 0.0)
    one.advance(1.0)
    assert one.outbox == [(PREFILLED, call)]
    assert one.fail(1.5) == []
    assert one.exported == 0
    assert one.memory.pinned_tokens == 0


@pytest.mark.parametrize("order", ["fifo", "priority", "fair"])
def test_room_of_a_reserved_call_and_places_in_the_queue_are_free_again(order: str) -> None:
    base = worker(role="decode", max_sequences=2)
    one = Worker(replace(base.spec, queue=QueueSpec(order, ("", "low"))))
    calls = [request(number, tenant=f"t{number % 2}") for number in range(5)]
    for call in calls:
        call.generated, call.kv_elsewhere, call.prefill_worker = 1, True, "p-0"
        one.submit(call, 0.0)
    one.advance(0.0)
    granted = [call for _, call in one.outbox]
    waiting = list(one.queue.waiting)
    assert len(granted) == 2
    one.outbox.clear()
    one.cancel(granted[0], 1.0)
    one.drop({waiting[0]}, 1.0)
    one.advance(1.0)
    assert [call for _, call in one.outbox] == [waiting[1]]
    assert list(one.queue.waiting) == waiting[2:]
    one.join(granted[1], 2.0)
    one.join(waiting[1], 2.0)
    one.advance(2.0)
    assert one.queue.context_tokens == sum(call.prompt_tokens for call in one.queue.waiting) == 1001
    assert one.memory.own_tokens == sum(call.context_tokens for call in one.batch) == 2 * 1000


def test_other_costs_hold_from_the_next_boundary_on() -> None:
    one, call = worker(), request(0)
    one.submit(call, 0.0)
    one.advance(1.023)
    one.reprice(replace(one.spec, cost=replace(COST, dense_memory_s=0.020)), 1.023)
    one.advance(5.0)
    assert call.finish_s == pytest.approx(1.03 + 7 * 0.020)  # ten steps after the prompt: three old ones and seven new ones
