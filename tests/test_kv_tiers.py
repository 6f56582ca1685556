"""Reuse of KV across requests, the tiers below HBM, and preemption into them: hand arithmetic and what must always hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_worker import COST, DRAFTS_COST, SPEC, play

from twin.serving import KvTier, KvTierSpec, Request, Worker
from twin.serving.kv_tier import LONGEST_BACKLOG_S

#: 10,000 tokens a second up and down, after 10 ms.
HOST = KvTierSpec(50_000, 10_000.0, 0.01)
#: Prompts so slow (a second for 1,000 tokens) that reading them from below pays.
SLOW = replace(COST, gemm_compute_s_per_token=1e-3)


def ask(number: int, at_s: float, path: tuple[tuple[int, int], ...], output: int = 2, **more: object) -> Request:
    """A request whose whole prompt may be shared."""
    tokens = sum(length for _, length in path)
    return Request(number, at_s, tokens, output, path=path, shared_prefix_tokens=tokens, **more)


def test_a_system_prompt_is_computed_once_and_held_once() -> None:
    worker = Worker(SPEC)
    play(worker, [ask(0, 0.0, ((1, 4000), (2, 100)))])
    assert worker.memory.kept_tokens == 4100
    several = [ask(n, 10.0, ((1, 4000), (10 + n, 100)), 300) for n in range(1, 5)]
    for request in several:
        worker.submit(request, 10.0)
    while not worker.batch or len(worker.batch) < 4:
        worker.advance(worker.next_change_s)
    assert [request.cached_tokens for request in several] == [4000] * 4
    assert worker.memory.pinned_tokens == pytest.approx(4000 + 4 * 100, abs=4 * 10)  # not four times 4000
    play(worker, [])
    assert worker.memory.pinned_tokens == 0


def test_reuse_is_by_whole_blocks() -> None:
    worker = Worker(replace(SPEC, block_tokens=64))
    play(worker, [ask(0, 0.0, ((1, 1000),))])
    again = ask(1, 5.0, ((1, 1000), (2, 500)))
    play(worker, [again])
    assert again.cached_tokens == 1000 // 64 * 64


def test_what_two_compute_at_once_is_held_once() -> None:
    worker = Worker(SPEC)
    play(worker, [ask(n, 0.0, ((1, 3000),)) for n in range(2)])
    assert worker.memory.kept_tokens == 3000


def test_what_lies_past_a_shared_prefix_gives_way_to_its_user() -> None:
    """One alone must always get in, however long the content is that began like its own."""
    worker = Worker(replace(SPEC, kv_capacity_tokens=5000))
    play(worker, [ask(0, 0.0, ((1, 4000),))])
    other = ask(1, 5.0, ((1, 1000), (2, 3500)))
    play(worker, [other])
    assert other.cached_tokens == 1000
    assert other.finish_s is not None
    assert worker.memory.kept_tokens == 5000  # of the first one's 3,000 tokens past the shared 1,000 what there is room for


def test_a_longer_copy_made_meanwhile_takes_no_room_in_use() -> None:
    worker = Worker(SPEC)
    short, long = ask(0, 0.0, ((1, 1000), (2, 200)), 400), ask(1, 0.0, ((1, 3000),), 2)
    for request in (long, short):
        worker.submit(request, 0.0)
    worker.advance(0.0)
    while short.first_token_s is None or long.finish_s is None:
        worker.advance(worker.next_change_s)
    assert worker.memory.pinned_tokens == pytest.approx(1200, abs=20)
    assert worker.memory.kept_tokens == 2000


def test_memory_warmed_past_a_prefix_in_use_is_not_in_use() -> None:
    worker = Worker(replace(SPEC, kv_capacity_tokens=5000))
    worker.submit(ask(0, 0.0, ((1, 1000), (2, 200)), 400), 0.0)
    while not worker.batch:
        worker.advance(worker.next_change_s)
    worker.memory.warm(((1, 4900),))
    assert worker.memory.pinned_tokens <= 1210


def test_a_context_that_went_on_differently_leaves_no_old_end() -> None:
    worker = Worker(SPEC)
    play(worker, [ask(0, 0.0, ((1, 5000),), keep_cache=True)])
    play(worker, [ask(1, 5.0, ((1, 1000), (2, 200)), keep_cache=True, forks=True)])
    assert worker.memory.kept_tokens == 1000 + 200 + 1


def test_evicted_contexts_come_back_from_host_memory() -> None:
    worker = Worker(replace(SPEC, kv_capacity_tokens=5000, cost=SLOW), KvTier(HOST))
    play(worker, [ask(0, 0.0, ((1, 3000),))])
    play(worker, [ask(1, 10.0, ((2, 4000),))])
    lower = worker.memory.lower
    assert lower is not None
    assert lower.written_tokens == 3000, "a lower tier keeps whole contexts, of which HBM may hold the front"
    again = ask(2, 20.0, ((1, 3000),))
    finish_s = play(worker, [again])
    held = 5000 - 4000  # what the second left of the first
    assert again.cached_tokens == 2999
    assert again.lower_tokens == 2999 - held
    read_s = 0.01 + again.lower_tokens / 10_000
    step_s = SLOW.step_s(0, 0, 1, 3000, 2999) + SLOW.step_s(1, 3000)
    assert finish_s == pytest.approx(20.0 + read_s + step_s, abs=1e-9)
    assert worker.progress(finish_s).prefill_tokens == 3000 + 4000 + 1


def test_reads_wait_for_one_another_and_decoding_goes_on_meanwhile() -> None:
    worker = Worker(replace(SPEC, kv_capacity_tokens=30_000, cost=SLOW), KvTier(HOST))
    lower = worker.memory.lower
    assert lower is not None
    lower.write(((1, 8000),), -100.0)
    lower.write(((2, 8000),), -50.0)
    running = Request(0, 0.0, 10, 2000)
    first, second = ask(1, 1.0, ((1, 8000),)), ask(2, 1.0, ((2, 8000),))
    play(worker, [running, first, second])
    step_s = 0.1
    assert first.first_token_s == pytest.approx(1.0 + 0.01 + 0.8, abs=step_s)
    assert second.first_token_s == pytest.approx(1.0 + 0.01 + 1.6, abs=step_s)
    assert running.finish_s is not None
    assert running.finish_s > second.finish_s > first.finish_s


def test_what_is_sooner_computed_is_not_read() -> None:
    slow_host = replace(HOST, tokens_per_s=10.0)
    worker = Worker(SPEC, KvTier(slow_host))
    assert worker.memory.lower is not None
    worker.memory.lower.write(((1, 2000),), -1e6)
    request = ask(0, 0.0, ((1, 2000),))
    play(worker, [request])
    assert request.cached_tokens == 0
    assert worker.memory.lower.read_tokens == 0


def test_a_full_host_passes_on_to_storage_and_instances_share_it() -> None:
    storage = KvTier(KvTierSpec(100_000, 1e6, 0.0))
    hosts = [KvTier(replace(HOST, capacity_tokens=2000), below=storage) for _ in range(2)]
    hosts[0].write(((1, 1500),), 0.0)
    hosts[0].write(((2, 1500),), 10.0)
    assert hosts[0].held_tokens == 2000
    assert storage.held_tokens == 1500
    worker = Worker(replace(SPEC, cost=SLOW), hosts[1])
    request = ask(0, 20.0, ((1, 1500),))
    play(worker, [request])
    assert (request.cached_tokens, request.lower_tokens) == (1499, 1499)


def test_writes_that_would_pile_up_are_dropped() -> None:
    tier = KvTier(HOST)
    for number in range(5):
        tier.write(((number, 9000),), 0.0)  # 0.9 s each
    assert tier.written_tokens == 2 * 9000, f"the third would wait {2 * 0.9} s, longer than {LONGEST_BACKLOG_S} s"
    assert tier.dropped_tokens == 3 * 9000


def test_preemption_swaps_instead_of_computing_again() -> None:
    spec = replace(SPEC, kv_capacity_tokens=4000, swap=True)

    def run(swap: bool) -> tuple[Worker, list[Request]]:
        worker = Worker(replace(spec, swap=swap), KvTier(HOST))
        requests = [Request(n, 0.0, 1500, 900) for n in range(2)]
        play(worker, requests)
        return worker, requests

    worker, requests = run(swap=True)
    assert [request.preemptions for request in requests] == [0, 1]
    assert worker.progress(1e3).prefill_tokens == 3000, "nothing is computed twice"
    lower = worker.memory.lower
    assert lower is not None
    assert lower.read_tokens == lower.written_tokens > 1500
    assert lower.taken_tokens == 0
    recomputed, others = run(swap=False)
    assert recomputed.progress(1e3).prefill_tokens > 4500
    assert [request.output_tokens for request in others] == [request.generated for request in others]


def test_with_answers_reserved_nobody_is_preempted() -> None:
    worker = Worker(replace(SPEC, kv_capacity_tokens=4000, reserve_answers=True))
    requests = [Request(n, 0.0, 1500, 900) for n in range(3)]
    play(worker, requests)
    assert worker.preemptions == 0
    firsts = [request.first_token_s for request in requests]
    assert firsts[1] >= requests[0].finish_s
    assert worker.memory.promised_tokens == 0


paths_st = st.lists(
    st.tuples(st.floats(0, 5, allow_nan=False), st.integers(0, 2), st.integers(0, 5), st.integers(1, 1500), st.integers(1, 300)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(
    arrivals=paths_st,
    capacity=st.sampled_from([4_000, 9_000, 60_000]),
    host=st.sampled_from([None, HOST, replace(HOST, capacity_tokens=3000), replace(HOST, tokens_per_s=1e7)]),
    cost=st.sampled_from([COST, SLOW, DRAFTS_COST]),
    swap=st.booleans(),
    whole=st.booleans(),
    keep=st.booleans(),
)
def test_whatever_comes_memory_is_never_overfull_and_all_are_served(
    arrivals: list[tuple[float, int, int, int, int]],
    capacity: int,
    host: KvTierSpec | None,
    cost: object,
    swap: bool,
    whole: bool,
    keep: bool,
) -> None:
    spec = replace(SPEC, cost=cost, kv_capacity_tokens=capacity, swap=swap, reserve_answers=whole, block_tokens=16)
    worker = Worker(spec, None if host is None else KvTier(host, 16))
    memory = worker.memory
    requests = []
    for number, (at_s, system, agent, tokens, output) in enumerate(sorted(arrivals)):
        path = ((100 + system, 700), (agent, tokens)) if system else ((agent, tokens),)
        requests.append(ask(number, at_s, path, output, keep_cache=keep))
    for request in requests:
        while worker.next_change_s < request.arrival_s:
            worker.advance(worker.next_change_s)
            assert memory.own_tokens + memory._tree.total_tokens <= capacity + 1e-6
        worker.submit(request, request.arrival_s)
    end_s = 0.0
    while worker.next_change_s != float("inf"):
        end_s = worker.next_change_s
        worker.advance(end_s)
        assert memory.own_tokens + memory._tree.total_tokens <= capacity + 1e-6
        assert 0 <= memory.pinned_tokens <= capacity + 1e-6
    assert all(request.generated == request.output_tokens for request in requests)
    assert worker.is_empty
    assert memory.pinned_tokens == 0
    assert memory.promised_tokens == 0
    assert worker.emitted_total(end_s) == sum(request.output_tokens for request in requests)
    if memory.lower is not None:
        assert memory.lower.taken_tokens == 0
    recomputed = worker.preemptions > 0
    computed = worker.progress(end_s).prefill_tokens + sum(request.cached_tokens for request in requests)
    asked = sum(request.input_tokens for request in requests)
    assert computed == asked or (recomputed and computed > asked - 1)
