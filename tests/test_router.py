"""Routers: what each prefers, the contract that all keep, and the cache whose hits affinity is after."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import pytest
from engine_parts import COST, request, worker
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError
from twin.serving import Request, Worker
from twin.serving import router as router_named
from twin.serving.prefix_cache import PrefixCache
from twin.serving.router import MOVE_GAIN, ROUTERS, kv_affinity, least_loaded


def _loaded(name: str, prompts: int, **more: object) -> Worker:
    """An instance with `prompts` prompts of a second each in its queue."""
    made = worker(name, **more)
    for number in range(prompts):
        made.submit(request(number), 0.0)
    return made


def test_least_loaded_counts_seconds_of_work() -> None:
    workers = [_loaded("w-0", 3), _loaded("w-1", 1), _loaded("w-2", 2)]
    assert [w.work_s for w in workers] == pytest.approx([3.0, 1.0, 2.0])
    assert least_loaded(request(9), workers, None).name == "w-1"
    assert least_loaded(request(9), workers, workers[0]).name == "w-1"  # wherever the context lies


def test_the_first_of_equals() -> None:
    workers = [_loaded("w-0", 1), _loaded("w-1", 0), _loaded("w-2", 0)]
    assert least_loaded(request(9), workers, None).name == "w-1"


def _home_with(prefix: int, prompts: int) -> tuple[list[Worker], Request]:
    home, other = _loaded("home", prompts), worker("other")
    home.warm(5, prefix)
    return [other, home], request(9, 2_000, cache_key=5, shared_prefix_tokens=prefix)


def test_affinity_stays_home_unless_the_wait_is_much_longer_than_the_recomputation() -> None:
    # 1,000 cached tokens save a second: worth waiting up to MOVE_GAIN seconds for.
    for prompts in (1, int(MOVE_GAIN)):
        workers, again = _home_with(1_000, prompts)
        assert kv_affinity(again, workers, workers[1]).name == "home"
    workers, again = _home_with(1_000, int(MOVE_GAIN) + 1)
    assert kv_affinity(again, workers, workers[1]).name == "other"


def test_without_a_home_or_with_nothing_left_there_affinity_balances() -> None:
    workers, again = _home_with(1_000, 1)
    assert kv_affinity(again, workers, None).name == "other"
    workers[1].cache.shrink_to(0)
    assert kv_affinity(again, workers, workers[1]).name == "other"


def test_tokens_at_the_end_of_a_long_context_weigh_more() -> None:
    # With attention the first 1,000 tokens of 2,000 cost less than the last, which is what a hit leaves to compute.
    cost = replace(COST, prefill_attention_compute_s=1e-6)
    cold, warm = worker("cold", cost=cost), worker("warm", cost=cost)
    warm.warm(5, 1_000)
    again = request(9, 2_000, cache_key=5, shared_prefix_tokens=1_000)
    assert cold.expected_s(again) == pytest.approx(2.0 + 1e-6 * 2_000**2 / 2)
    assert warm.expected_s(again) == pytest.approx(1.0 + 1e-6 * (1_000 * 1_000 + 1_000**2 / 2))


def _outside(request: Request, workers: list[Worker], home: Worker | None) -> Worker:
    return workers[request.request_id % len(workers)]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(name="outside", load=lambda: _outside)
    # The name `router` of the package is the function, not the module.
    monkeypatch.setitem(router_named.__globals__, "entry_points", lambda group: [found] if group == "twin.routers" else [])


@pytest.mark.parametrize("name", [*ROUTERS, "outside"])
def test_every_router_keeps_the_contract(name: str) -> None:
    """It picks one of the candidates, the same one each time, and changes nothing."""
    route = router_named(name)
    rng = random.Random(3)
    for count in (1, 2, 5):
        workers = [_loaded(f"w-{n}", rng.randrange(4)) for n in range(count)]
        for number in range(30):
            home = rng.choice([None, *workers])
            if home is not None:
                home.warm(number, rng.randrange(1, 5_000))
            again = request(number, rng.randrange(1, 8_000), 1, cache_key=number, shared_prefix_tokens=rng.randrange(3_000))
            before = [(w.work_s, w.cache.total_tokens, len(w.waiting)) for w in workers]
            chosen = route(again, workers, home)
            assert chosen in workers
            assert route(again, workers, home) is chosen
            assert [(w.work_s, w.cache.total_tokens, len(w.waiting)) for w in workers] == before
            assert again.prefill_worker is None


def test_an_unknown_router_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'kv_affinity'"):
        router_named("kv_afinity")
    with pytest.raises(InputError, match="did you mean 'outside'"):
        router_named("outsid")


# --- the cache -----------------------------------------------------------------------------------------------------------


def test_least_recently_used_goes_first_and_looking_is_no_use() -> None:
    cache = PrefixCache()
    for key in (1, 2, 3):
        cache.put(key, 100)
    assert cache.peek(1) == 100
    cache.put(2, 150)  # used again, and longer
    assert (len(cache), cache.total_tokens) == (3, 350)
    cache.shrink_to(250)
    assert [cache.peek(key) for key in (1, 2, 3)] == [0, 150, 100]
    assert cache.evicted_tokens == 100
    assert (cache.take(2), cache.take(2), cache.total_tokens) == (150, 0, 100)
    assert cache.evicted_tokens == 100  # taken out for use, not evicted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ptsk"), st.integers(0, 5), st.integers(0, 1_000)), max_size=40))
def test_against_an_ordered_dictionary(verbs: list[tuple[str, int, int]]) -> None:
    cache, model = PrefixCache(), OrderedDict[int, int]()
    for verb, key, tokens in verbs:
        if verb == "p":
            cache.put(key, tokens)
            model[key] = tokens
            model.move_to_end(key)
        elif verb == "t":
            assert cache.take(key) == model.pop(key, 0)
        elif verb == "k":
            assert cache.peek(key) == model.get(key, 0)
        else:
            cache.shrink_to(tokens)
            while sum(model.values()) > tokens:
                model.popitem(last=False)
        assert cache.total_tokens == sum(model.values())
        assert len(cache) == len(model)
