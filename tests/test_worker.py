"""The jump-ahead worker against hand arithmetic and against the step-by-step reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_worker import ReferenceWorker, Sequence

from twin.performance import GpuPower, Speculation, StepCost
from twin.serving import FINISHED, PREFILLED, RESERVED, QueueSpec, Request, Worker, WorkerSpec

IDEAL = StepCost(
    gemm_compute_s_per_token=1e-6,
    expert_compute_s_per_token=0.0,
    dense_memory_s=1e-3,
    experts_memory_s=0.0,
    expert_miss=0.0,
    experts_per_token=0,
    network_s=0.0,
    network_s_per_token=0.0,
    step_overhead_s=0.0,
    sequence_overhead_s=0.0,
    prompt_overhead_s=0.0,
    request_overhead_s=0.0,
    decode_attention_compute_s=1e-9,
    prefill_attention_compute_s=1e-11,
    attention_memory_s=2e-9,
)
COST = StepCost(
    gemm_compute_s_per_token=2e-6,
    expert_compute_s_per_token=0.0,
    dense_memory_s=4e-3,
    experts_memory_s=3e-3,
    expert_miss=0.97,
    experts_per_token=2,
    network_s=4e-4,
    network_s_per_token=1e-7,
    step_overhead_s=6e-4,
    sequence_overhead_s=2e-5,
    prompt_overhead_s=1.5e-3,
    request_overhead_s=0.0,
    decode_attention_compute_s=3e-9,
    prefill_attention_compute_s=4e-10,
    attention_memory_s=5e-9,
    ideal=IDEAL,
)
#: Attention bound by arithmetic in decode, so that both roofs and the crossing between them are met.
COMPUTE_COST = replace(COST, decode_attention_compute_s=9e-9, prefill_attention_compute_s=3e-11)
#: Four attention ranks that wait for one another.
RANKS_COST = replace(COST, dp=4, rank_gemm_compute_s_per_token=1e-6)
#: Two drafts a step, of which the first is accepted three times in four.
DRAFTS = Speculation(2, 0.75)
DRAFTS_COST = replace(COST, speculation=DRAFTS, draft_share=1 / 60, draft_memory_s=2e-4, ideal=replace(IDEAL, speculation=DRAFTS))
#: Eight expert groups behind two pipeline stages.
PIPE_COST = replace(COST, pp=2, ep=8, expert_compute_s_per_token=1e-6)
POWER = GpuPower(
    idle_w=70.0,
    compute_w=520.0,
    memory_w=330.0,
    exponent=2.6,
    tdp_w=700.0,
    clock_min_frac=0.2,
    active_w=40.0,
    voltage_floor_frac=0.6,
)
SPEC = WorkerSpec("w", "aggregated", COST, POWER, 4, 60_000, 64, 512)


def play(worker: Worker, requests: list[Request], commands: list[tuple[float, float | None, float | None]] = ()) -> float:
    """Feed arrivals and commands at their times, as the engine would, to the end."""
    happenings = [(r.arrival_s, 1, r) for r in requests] + [(c[0], 0, c) for c in commands]
    now = 0.0
    for time_s, _, what in sorted(happenings, key=lambda h: (h[0], h[1], getattr(h[2], "request_id", 0))):
        # Boundaries strictly before the happening; at a tie the happening comes first and the boundary sees it.
        while worker.next_change_s < time_s:
            now = worker.next_change_s
            worker.advance(now)
        if isinstance(what, Request):
            worker.submit(what, time_s)
        else:
            worker.set_power(time_s, clock_lock=what[1], cap_w=what[2])
    while worker.next_change_s != float("inf"):
        now = worker.next_change_s
        worker.advance(now)
    return now


#: 300 tokens touch as many experts as so many independent draws.
EXPERTS_OF_300 = 1 + 0.65 * 299


def test_one_request_by_hand():
    worker = Worker(SPEC)
    request = Request(0, 1.0, 300, 3)
    play(worker, [request])
    prefill_s = max(300 * 2e-6, 4e-3 + 3e-3 * (1 - 0.97**EXPERTS_OF_300)) + max(300 * 301 / 2 * 4e-10, 0) + 1e-3 + 300e-7 + 1.5e-3
    weights_s = 4e-3 + 3e-3 * 0.03
    decode_s = [weights_s + 5e-9 * context + 1e-3 + 1e-7 + 2e-5 for context in (300, 301)]
    assert request.first_token_s == pytest.approx(1.0 + prefill_s, abs=1e-12)
    assert request.finish_s == pytest.approx(1.0 + prefill_s + sum(decode_s), abs=1e-12)
    progress = worker.progress(10.0)
    assert progress.output_tokens == 3
    assert progress.prefill_tokens == 300
    assert progress.busy_s == pytest.approx(prefill_s + sum(decode_s))
    idle_j = 4 * (70.0 * 10.0 + 40.0 * progress.busy_s)
    compute_j = 4 * 520.0 * (302 * 2e-6 + 300 * 301 / 2 * 4e-10 + 601 * 3e-9)
    memory_j = 4 * 330.0 * (4e-3 * 3 + 3e-3 * (1 - 0.97**EXPERTS_OF_300) + 2 * 3e-3 * 0.03 + 601 * 5e-9)
    assert progress.energy_j == pytest.approx(idle_j + compute_j + memory_j)
    assert worker.outbox == [(FINISHED, request)]


#: Orders of the queue. Weights are powers of two, so that counters are exact and equal ones are equal in the reference too.
QUEUES = {
    "fifo": QueueSpec(),
    "priority": QueueSpec("priority", ("gold", "tin", "paper"), ageing_s=0.5),
    "fair": QueueSpec("fair", tenant_weights=(("tin", 2.0), ("paper", 0.5))),
}

requests_st = st.lists(
    st.tuples(
        st.floats(0, 3, allow_nan=False),
        st.integers(1, 3000),
        st.integers(1, 400),
        st.sampled_from(["gold", "tin", "paper"]),
    ),
    min_size=1,
    max_size=25,
)
commands_st = st.lists(
    st.tuples(
        st.floats(0, 4, allow_nan=False),
        st.one_of(st.none(), st.floats(0.2, 1.0)),
        st.one_of(st.none(), st.floats(120.0, 800.0)),
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=requests_st,
    commands=commands_st,
    chunk=st.sampled_from([16, 100, 512, 4096]),
    max_sequences=st.sampled_from([2, 8, 64]),
    capacity=st.sampled_from([4_000, 9_000, 60_000]),
    prefill_first=st.booleans(),
    wait=st.sampled_from([(0, 0), (7, 0), (40, 900)]),
    cost=st.sampled_from([COST, COMPUTE_COST, RANKS_COST, DRAFTS_COST, PIPE_COST]),
    order=st.sampled_from(list(QUEUES)),
)
def test_agrees_with_the_step_by_step_reference(
    arrivals, commands, chunk, max_sequences, capacity, prefill_first, wait, cost, order
):
    # What speculation gains in a step is no dyadic number, so counters of the two would differ by rounding.
    assume(order != "fair" or cost is not DRAFTS_COST)
    spec = replace(
        SPEC,
        cost=cost,
        max_batched_tokens=chunk,
        max_sequences=max_sequences,
        kv_capacity_tokens=capacity,
        prefill_first=prefill_first,
        prompt_wait_steps=wait[0],
        prompt_wait_tokens=wait[1],
        seed=3,
        queue=QUEUES[order],
    )
    requests = [Request(i, *sizes, tier=who, tenant=who) for i, (*sizes, who) in enumerate(arrivals)]
    worker = Worker(spec)
    end_s = play(worker, requests, commands)
    reference = ReferenceWorker(spec, [Sequence(i, *values, tenant=values[3]) for i, values in enumerate(arrivals)], commands)
    reference.run()
    for request, sequence in zip(requests, reference.arrivals, strict=True):
        assert request.first_token_s == pytest.approx(sequence.first_token_s, abs=1e-9, rel=0)
        assert request.finish_s == pytest.approx(sequence.finish_s, abs=1e-9, rel=0)
        assert request.preemptions == sequence.preemptions
        assert request.energy_j == pytest.approx(sequence.energy_j, rel=1e-9)
    progress = worker.progress(end_s)
    assert progress.energy_j == pytest.approx(reference.energy_j, rel=1e-9)
    assert progress.busy_s == pytest.approx(reference.busy_s, rel=1e-9)
    split = worker.time_split(end_s)
    assert sum(split) == pytest.approx(progress.busy_s, rel=1e-9)
    assert min(split) >= -1e-12 * progress.busy_s
    assert split.light_s > 0
    assert worker.memory.pinned_tokens == 0
    assert worker.emitted_total(end_s) == sum(r.output_tokens for r in requests)
    assert worker.queue.backlog_s == 0.0
    assert worker.queue.context_tokens == 0
    assert progress.output_tokens == pytest.approx(sum(r.output_tokens for r in requests), rel=1e-9)


def test_progress_in_mid_jump_equals_the_reference_cut_there():
    worker = Worker(SPEC)
    worker.submit(Request(0, 0.0, 100, 2000), 0.0)
    worker.advance(0.0)
    worker.advance(worker.next_change_s)
    end_s = worker.next_change_s
    totals = [worker.progress(end_s * share).energy_j for share in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert totals == sorted(totals)
    jump = worker._jump
    by_steps = [jump.energy_j(k) for k in range(jump.steps + 1)]
    prefill_j = totals[-1] - by_steps[-1]
    for k in (1, 17, 1000):
        at_s = jump.start_s + jump.duration_s(k)
        assert worker.progress(at_s).energy_j == pytest.approx(prefill_j + by_steps[k], rel=1e-12)
    assert worker.progress(end_s).output_tokens == pytest.approx(2000)


def test_a_cap_that_does_not_bind_costs_nothing_and_one_that_does_is_met():
    def run(cap_w: float, prompt: int, output: int) -> tuple[float, float]:
        worker = Worker(replace(SPEC, cost=replace(COST, prompt_overhead_s=0.0), max_batched_tokens=4096))
        worker.set_power(0.0, cap_w=cap_w)
        request = Request(0, 0.0, prompt, output)
        play(worker, [request])
        return request.finish_s, worker.progress(request.finish_s).energy_j / request.finish_s / SPEC.gpus

    decode_s, decode_w = run(700.0, 8, 300)
    assert decode_w < 400.0
    assert run(400.0, 8, 300)[0] == decode_s
    prefill_s, prefill_w = run(700.0, 4096, 1)
    assert prefill_w == pytest.approx(700.0, rel=1e-6), "a prompt runs into the TDP, which is a cap always in force"
    capped_s, capped_w = run(500.0, 4096, 1)
    assert capped_s > prefill_s
    assert capped_w == pytest.approx(500.0, rel=1e-6)


def test_kv_hand_off_between_two_instances():
    prefill = Worker(replace(SPEC, name="p", role="prefill"))
    decode = Worker(replace(SPEC, name="d", role="decode", max_sequences=1))
    first, second = Request(0, 0.0, 500, 10), Request(1, 0.0, 400, 5)
    for request in (first, second):
        request.keep_cache, request.path = True, ((request.request_id, request.input_tokens),)
        prefill.submit(request, 0.0)
    while prefill.next_change_s != float("inf"):
        prefill.advance(prefill.next_change_s)
    assert [kind for kind, _ in prefill.outbox] == [PREFILLED, PREFILLED]
    assert prefill.memory.pinned_tokens == 900
    for request in (first, second):
        request.kv_elsewhere = True
        decode.submit(request, 1.0)
    decode.advance(1.0)
    assert decode.outbox == [(RESERVED, first)], "one sequence at a time: the second waits, its KV stays where it is"
    prefill.release(first, 1.1)
    decode.join(first, 1.1)
    while FINISHED not in [kind for kind, _ in decode.outbox]:
        decode.advance(decode.next_change_s)
    assert decode.outbox[-1] == (RESERVED, second)
    assert prefill.memory.kept_tokens == 500
    assert prefill.memory.pinned_tokens == 400
    assert first.finish_s == pytest.approx(1.1 + sum(COST.step_s(1, 500 + k) for k in range(9)), abs=1e-9)


def test_prefix_of_an_earlier_call_is_not_computed_again():
    worker = Worker(SPEC)
    first = Request(0, 0.0, 5000, 20, path=((7, 5000),), keep_cache=True)
    play(worker, [first])
    assert worker.memory.kept_tokens == 5019
    again = Request(1, 5.0, 5400, 20, path=((7, 5400),), shared_prefix_tokens=5010)
    before = worker.progress(5.0).prefill_tokens
    play(worker, [again])
    assert again.cached_tokens == 5010
    assert worker.progress(9.0).prefill_tokens - before == 390
    assert worker.memory.pinned_tokens == 0
    assert worker.memory.kept_tokens == 5400


def test_cached_contexts_give_way_to_running_sequences():
    worker = Worker(replace(SPEC, kv_capacity_tokens=10_000))
    for key in range(3):
        play(worker, [Request(key, 10.0 * key, 3000, 2, path=((key, 3000),), keep_cache=True)])
    assert worker.memory.kept_tokens == 3 * 3001
    play(worker, [Request(9, 40.0, 6000, 2)])
    held = [worker.memory.match(Request(9, 50.0, 3001, 1, path=((key, 3001),), shared_prefix_tokens=3001)) for key in range(3)]
    assert held == [0, 999, 3000], "least recently used goes first, from its end; a prompt's last token is computed anyway"
    assert worker.memory.evicted_tokens == 3001 + 2002


def test_what_can_never_fit_is_known_beforehand():
    worker = Worker(replace(SPEC, kv_capacity_tokens=1000))
    assert worker.can_hold(Request(0, 0.0, 500, 490))
    assert not worker.can_hold(Request(0, 0.0, 500, 491))
