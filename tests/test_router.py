"""Routers: what each prefers, and the contract that all keep."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from engine_parts import COST, request, worker

from twin.errors import InputError
from twin.serving import Request, Worker
from twin.serving import router as router_named
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
    home.memory.warm(((5, prefix),))
    return [other, home], request(9, 2_000, path=((5, 2_000),), shared_prefix_tokens=prefix)


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
    workers[1].memory.warm(((6, workers[1].memory.capacity_tokens),))
    assert workers[1].memory.match(again) == 0
    assert kv_affinity(again, workers, workers[1]).name == "other"


def test_tokens_at_the_end_of_a_long_context_weigh_more() -> None:
    # With attention the first 1,000 tokens of 2,000 cost less than the last, which is what a hit leaves to compute.
    cost = replace(COST, prefill_attention_compute_s=1e-6)
    cold, warm = worker("cold", cost=cost), worker("warm", cost=cost)
    warm.memory.warm(((5, 1_000),))
    again = request(9, 2_000, path=((5, 2_000),), shared_prefix_tokens=1_000)
    assert cold.expected_s(again) == pytest.approx(2.0 + 1e-6 * 2_000**2 / 2)
    assert warm.expected_s(again) == pytest.approx(1.0 + 1e-6 * (1_000 * 1_000 + 1_000**2 / 2))


def test_a_system_prompt_counts_as_much_as_a_context_of_its_own() -> None:
    home, other = _loaded("home", 1), worker("other")
    home.memory.warm(((5, 1_000), (6, 400)))
    stranger = request(9, 2_000, path=((5, 1_000), (7, 1_000)), shared_prefix_tokens=1_000)
    assert home.expected_s(stranger) == pytest.approx(1.0)
    assert kv_affinity(stranger, [other, home], home).name == "home"
    # What is held counts only as far as the call shares it.
    alone = request(9, 2_000, path=((5, 1_000), (7, 1_000)), shared_prefix_tokens=0)
    assert home.expected_s(alone) == pytest.approx(2.0)
    assert kv_affinity(alone, [other, home], home).name == "other"


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
                home.memory.warm(((number, rng.randrange(1, 5_000)),))
            tokens = rng.randrange(1, 8_000)
            again = request(number, tokens, 1, path=((number, tokens),), shared_prefix_tokens=rng.randrange(3_000))
            before = [(w.work_s, w.memory.kept_tokens, w.memory.pinned_tokens, len(w.queue.waiting)) for w in workers]
            chosen = route(again, workers, home)
            assert chosen in workers
            assert route(again, workers, home) is chosen
            assert [(w.work_s, w.memory.kept_tokens, w.memory.pinned_tokens, len(w.queue.waiting)) for w in workers] == before
            assert again.prefill_worker is None


def test_an_unknown_router_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'kv_affinity'"):
        router_named("kv_afinity")
    with pytest.raises(InputError, match="did you mean 'outside'"):
        router_named("outsid")
