"""Requests of a study, the closed loop over them, and what is measured of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_worker import SPEC

from twin.errors import InputError
from twin.pareto.lengths import RequestSizes, request_sizes
from twin.pareto.steady_replay import LEAST_MEASURED, measure
from twin.schema import load_scenario
from twin.serving import ClosedLoop, Request, Worker
from twin.serving.decode_batch import DecodeBatch

MIX = RequestSizes(((100, 300), (900, 100)))
FREE = lambda tokens: 0.0  # noqa: E731


# --- requests ------------------------------------------------------------------------------------------------------------


def test_means_by_hand() -> None:
    assert MIX.mean_input_tokens == 500
    assert MIX.mean_output_tokens == 200
    assert MIX.longest_tokens == 1000
    # three quarters of the time a sequence is of the first kind, at 100 + 150 in the mean, else of the second, at 900 + 50
    assert MIX.mean_context_tokens == pytest.approx(0.75 * 250 + 0.25 * 950)
    assert MIX.take(3) == [(100, 300), (900, 100), (100, 300)]


def test_in_flight_by_hand() -> None:
    # four even steps of 100 tokens through answers of 300 and 100: at 50, 150, 250 of the first, at 50 of the second; what is
    # left counts the last token generated before, with which a decoding request begins
    assert MIX.in_flight(4) == [(149, 251), (249, 151), (349, 51), (949, 51)]


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 400)), min_size=1, max_size=20), st.integers(1, 64))
def test_in_flight_requests_are_on_their_way(sizes: list[tuple[int, int]], count: int) -> None:
    drawn = RequestSizes(tuple(sizes))
    if drawn.mean_output_tokens == 1:
        return
    totals = {inputs + outputs for inputs, outputs in sizes}
    states = drawn.in_flight(count)
    assert len(states) == count
    for inputs, left in states:
        assert left >= 2
        assert inputs >= 1
        assert inputs + left in totals


def test_sizes_of_a_workload() -> None:
    fixed = load_scenario(ROOT / "scenarios" / "pareto_r1.yaml").scenario
    assert request_sizes(fixed).sizes == ((1024, 2048),)
    mix = request_sizes(load_scenario(ROOT / "scenarios" / "pareto_r1_reasoning.yaml").scenario)
    assert len(mix.sizes) == 4096
    assert mix == request_sizes(load_scenario(ROOT / "scenarios" / "pareto_r1_reasoning.yaml").scenario)
    assert sum(inputs < outputs for inputs, outputs in mix.sizes) / 4096 > 0.6
    with pytest.raises(InputError, match="single calls"):
        request_sizes(load_scenario(ROOT / "scenarios" / "curtail_80.yaml").scenario)
    ones = fixed.model_copy(update={"workload": fixed.workload.model_copy(update={"output_tokens": 1})})
    with pytest.raises(InputError, match="more than one output token"):
        request_sizes(ones)


# --- the loop ------------------------------------------------------------------------------------------------------------


def test_a_warm_loop_has_no_prompts_at_its_beginning() -> None:
    worker = Worker(replace(SPEC, max_sequences=4))
    loop = ClosedLoop([(149, 251), (249, 151), (349, 51), (949, 51)], 4, warm=4)
    requests = loop.run([worker])
    assert worker.meter.prefill_tokens == 0
    assert [request.first_token_s for request in requests] == [0.0] * 4
    assert requests[2].finish_s == requests[3].finish_s < requests[1].finish_s < requests[0].finish_s
    # the first token of each was made before
    assert worker.progress(requests[0].finish_s).output_tokens == 250 + 150 + 50 + 50
    assert worker.memory.pinned_tokens == 0


def test_a_warm_loop_begins_behind_prefill() -> None:
    prefill = Worker(replace(SPEC, name="prefill", role="prefill"))
    decode = Worker(replace(SPEC, name="decode", role="decode"))
    requests = ClosedLoop([(200, 50), (300, 10)], 1, warm=1).run([prefill], [decode])
    assert requests[0].prefill_worker is None
    assert requests[1].prefill_worker == "prefill"
    assert requests[1].decode_worker == "decode"
    assert prefill.meter.prefill_tokens == 300
    assert prefill.is_empty
    assert decode.is_empty


def test_a_loop_stops_when_told() -> None:
    heard: list[tuple[int, float]] = []

    def go_on(finished: int, now_s: float) -> bool:
        heard.append((finished, now_s))
        return finished < 3

    requests = ClosedLoop([(10, 20)] * 10, 2, go_on=go_on).run([Worker(SPEC)])
    assert [finished for finished, _ in heard] == [1, 2, 3]
    assert sum(request.finish_s is not None for request in requests) == 3


def test_a_sequence_that_comes_back_to_the_same_end_ends_once() -> None:
    batch, request = DecodeBatch(), Request(0, 0.0, 10, 20)
    batch.add(request, 5)
    batch.remove(request)
    batch.add(request, 5)
    assert batch.advance(5, batch.gained) == [request]


# --- what is measured ----------------------------------------------------------------------------------------------------


def test_one_sequence_by_hand() -> None:
    """One sequence alone: prompt, 99 steps of decoding, the next prompt at once."""
    sizes = RequestSizes(((300, 100),))
    measured = measure([replace(SPEC, max_sequences=1)], [], sizes, 1, FREE)
    cost = SPEC.cost
    prompt_s = cost.step_s(0, 0, 300, 300 * 301 / 2)
    decode_s = sum(cost.step_s(1, context) for context in range(300, 399))
    assert measured.ttft_mean_s == pytest.approx(cost.front_end_s(300) + prompt_s)
    assert measured.tpot_mean_s == pytest.approx(decode_s / 99)
    assert measured.tpot_p99_s == pytest.approx(decode_s / 99)
    assert measured.completion_p99_s == pytest.approx(measured.ttft_mean_s + decode_s)
    assert measured.output_tokens_per_s == pytest.approx(100 / (cost.front_end_s(300) + prompt_s + decode_s))
    assert measured.prefill_w is None
    assert sum(measured.split) == pytest.approx(1.0)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("sizes", [RequestSizes(((300, 100),)), MIX])
def test_what_is_in_flight_is_rate_times_time(apart: bool, sizes: RequestSizes) -> None:
    """Little's law holds of a loop that has settled: requests in flight = answers/s x time from arrival to the last token."""
    entry = [replace(SPEC, name="entry", role="prefill" if apart else "aggregated")]
    behind = [replace(SPEC, name="decode", role="decode", max_sequences=64)] if apart else []
    measured = measure(entry, behind, sizes, 32, lambda tokens: tokens * 1e-6)
    answers_per_s = measured.output_tokens_per_s / sizes.mean_output_tokens
    # time per token differs little between the kinds of requests, as all decode together
    spent_s = measured.ttft_mean_s + measured.tpot_mean_s * (sizes.mean_output_tokens - 1)
    assert answers_per_s * spent_s == pytest.approx(32, rel=0.04)


def test_the_measurement_is_long_enough_and_repeats() -> None:
    sizes = RequestSizes(((300, 100),))
    assert LEAST_MEASURED >= 100  # for a 99th percentile
    one, other = (measure([SPEC], [], sizes, 8, FREE) for _ in range(2))
    assert one == other


def test_a_request_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match="a request takes"):
        measure([replace(SPEC, kv_capacity_tokens=200)], [], RequestSizes(((300, 100),)), 1, FREE)
