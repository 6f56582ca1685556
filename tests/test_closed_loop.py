"""A benchmark's client over real workers, against arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_parts import COST, worker

from twin.errors import InputError
from twin.serving import ClosedLoop, Request, Worker


def tpot_s(request: Request) -> float:
    assert request.finish_s is not None
    assert request.first_token_s is not None
    return (request.finish_s - request.first_token_s) / (request.output_tokens - 1)


def test_a_lone_request_waits_for_nobody() -> None:
    client = ClosedLoop([(1000, 11)], 1, front_end_s=lambda tokens: 0.05 + 1e-4 * tokens)
    (request,) = client.run([worker()])
    # A second of prompt behind 50 ms and 1000 tokens of front end, then ten steps of 10 ms.
    assert request.arrival_s == 0.0
    assert request.first_token_s == pytest.approx(0.05 + 0.1 + 1.0)
    assert request.finish_s == pytest.approx(1.15 + 10 * 0.010)


def test_a_batch_that_decodes_together_takes_decode_steps() -> None:
    """The first prompt is alone in its step, the other fifteen share one; then each step is that of sixteen contexts."""
    cost = replace(COST, attention_memory_s=1e-7, sequence_overhead_s=1e-4, prompt_overhead_s=0.02)
    requests = ClosedLoop([(100, 501)] * 16, 16).run([worker(cost=cost)])
    alone_s, fifteen_s = cost.step_s(0, 0, 100), cost.step_s(1, 100, 1500)
    together_s = [cost.step_s(16, 16 * (100 + k) + 1) for k in range(499)]
    first, *others = requests
    assert first.first_token_s == pytest.approx(alone_s)
    assert tpot_s(first) == pytest.approx((fifteen_s + sum(together_s)) / 500)
    for request in others:
        assert request.first_token_s == pytest.approx(alone_s + fifteen_s)
        assert tpot_s(request) == pytest.approx((sum(together_s) + cost.step_s(15, 15 * 599)) / 500)


def test_an_answer_that_ends_lets_the_next_request_in() -> None:
    requests = ClosedLoop([(1000, 11), (1000, 31), (1000, 11), (1000, 11)], 2).run([worker(max_batched_tokens=1000)])
    ended = [request.finish_s for request in requests]
    assert [request.arrival_s for request in requests[:2]] == [0.0, 0.0]
    assert requests[2].arrival_s == min(ended[:2])
    assert requests[3].arrival_s in ended[1:3]
    in_flight = [sum(r.arrival_s <= at_s < r.finish_s for r in requests) for at_s in [0.0, *ended]]
    assert max(in_flight) == 2


def test_prompts_that_come_meanwhile_lengthen_the_answers() -> None:
    """Of the first request's hundred steps one holds a prompt of 10 tokens and one a prompt of 990."""
    requests = ClosedLoop([(10, 101), (10, 2), (990, 2)], 2).run([worker()])
    first = requests[0]
    assert first.finish_s - first.first_token_s == pytest.approx(98 * 0.010 + 0.011 + 0.991)


def test_the_front_end_takes_one_request_every_so_often() -> None:
    requests = ClosedLoop([(10, 2)] * 3, 3, spacing_s=0.25).run([worker()])
    assert [request.arrival_s for request in requests] == [0.0] * 3
    assert [request.admitted_s for request in requests] == [0.25, 0.5, 0.75]


def test_prefill_and_decode_with_a_transfer_between() -> None:
    prefill, decoders = worker("p", "prefill"), [worker("d-0", "decode"), worker("d-1", "decode")]
    requests = ClosedLoop([(1000, 11)] * 2, 2, transfer_s=lambda tokens: 1e-3 * tokens).run([prefill], decoders)
    # A second of prompt each, one after the other, a second on the wire, ten steps of 10 ms: on an instance each.
    assert [request.decode_worker for request in requests] == ["d-0", "d-1"]
    for place, request in enumerate(requests):
        assert request.first_token_s == pytest.approx(1.0 + place)
        assert request.finish_s == pytest.approx(1.0 + place + 1.0 + 0.1)
    assert all(each.is_empty for each in (prefill, *decoders))


def test_instances_share_the_requests_by_their_work() -> None:
    workers = [worker("w-0"), worker("w-1")]
    requests = ClosedLoop([(1000, 2)] * 6, 6).run(workers)
    assert sorted(request.prefill_worker for request in requests) == ["w-0"] * 3 + ["w-1"] * 3


def test_what_no_instance_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match=r"w-0 holds 1,000 tokens, a request takes 1,001"):
        ClosedLoop([(10, 10), (1000, 1)], 1).run([worker(kv_capacity_tokens=1_000)])


def test_prefilled_requests_need_decoders() -> None:
    with pytest.raises(InputError, match="prefill instances need decode instances behind them"):
        ClosedLoop([(10, 10)], 1).run([worker("p", "prefill")])
    with pytest.raises(InputError, match="aggregated ones have none"):
        ClosedLoop([(10, 10)], 1).run([worker("a")], [worker("d", "decode")])


def test_all_are_finished_in_the_order_they_were_given() -> None:
    made: list[Worker] = [worker(kv_capacity_tokens=3_000)]
    lengths = [(100 + 37 * n % 900, 1 + 53 * n % 400) for n in range(60)]
    requests = ClosedLoop(lengths, 8).run(made)
    assert [(request.input_tokens, request.output_tokens) for request in requests] == lengths
    assert all(request.generated == request.output_tokens for request in requests)
