"""Who is served first and who is let in: hand arithmetic, bounds, and an overloaded factory with a greedy and a modest tenant."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from engine_parts import Site, request, worker
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_scenarios import SCENARIO, spoiled, write
from synthetic_run import request_row, small_totals
from test_worker import QUEUES, SPEC, play

import twin
from twin.analysis import TierObjectives, summarise
from twin.analysis.fairness import backlogged, fairness, service_of
from twin.engine.doorkeeper import admission
from twin.errors import InputError
from twin.recording import RunDirectory
from twin.schema import catalog_with, load_scenario
from twin.serving import Admission, Limits, QueueSpec, Request, TokenBucket, Worker
from twin.serving.queue_order import ORDERS, KeyedLine, queue_order
from twin.workload import Call, Session, with_tenants

# --- admission -----------------------------------------------------------------------------------------------------------


def test_a_token_bucket_by_hand() -> None:
    bucket = TokenBucket(Limits(tokens_per_s=10.0, burst_tokens=100.0))
    assert bucket.has(100, 0.0)
    bucket.take(70, 0.0)
    assert not bucket.has(31, 0.0)
    assert bucket.has(50, 2.0), "30 left, and 20 have come"
    bucket.take(90, 2.0)
    assert bucket.level(3.0) == -30.0, "a debt, of which a second has paid 10"
    assert not bucket.has(1, 6.0)
    assert bucket.has(1, 6.2)
    assert bucket.level(1e6) == 100.0, "it never holds more than its size"
    assert bucket.has(5_000, 1e6), "a call larger than the bucket needs a full one"


def _admission(**limits: Limits) -> Admission:
    return Admission(tiers={"free": limits.get("free", Limits())}, tenants={}, each_tenant=limits.get("each", Limits()))


def _call(number: int, tier: str = "free", tenant: str = "a", tokens: int = 100) -> Request:
    return Request(number, 0.0, tokens - 10, 10, tier=tier, tenant=tenant)


def test_limits_refuse_first_calls_and_count_all() -> None:
    door = _admission(each=Limits(tokens_per_s=1.0, burst_tokens=250.0), free=Limits(in_flight=4))

    def arrive(call: Request, first: bool = True) -> str | None:
        reason = door.refusal(call, first, 0.0, lambda: 0.0)
        if reason is None:
            door.accepted(call, "here", 0.0)
        return reason

    calls = [_call(number) for number in range(9)]
    assert [arrive(calls[0]), arrive(calls[1]), arrive(calls[2])] == [None, None, "tenant_tokens"]
    assert arrive(calls[3], first=False) is None, "a session that is under way goes on, into debt"
    assert arrive(_call(10, tenant="b")) is None
    assert arrive(_call(11, tenant="b")) == "tier_in_flight"
    assert arrive(_call(12, tier="premium", tenant="b")) is None
    door.ended(calls[0], "here")
    assert arrive(_call(13, tenant="c")) is None
    assert door.in_flight == Counter(here=5)


def test_a_wait_that_is_too_long_is_asked_for_only_where_it_is_bounded() -> None:
    door = _admission(free=Limits(wait_s=2.0))
    assert door.refusal(_call(0), True, 0.0, lambda: 2.5) == "wait"
    assert door.refusal(_call(0), True, 0.0, lambda: 2.0) is None
    assert door.refusal(_call(0, tier="premium"), True, 0.0, lambda: 1 / 0) is None


def test_the_wait_is_what_is_to_be_computed_or_how_long_the_next_one_has_waited() -> None:
    busy = worker(max_sequences=1)
    busy.submit(request(0, 2000, 1001), 0.0)
    busy.submit(request(1, 1000), 0.0)
    assert busy.wait_s(0.0) == pytest.approx(3.0), "two prompts of a millisecond a token"
    busy.advance(10.0)
    assert busy.wait_s(10.0) == pytest.approx(10.0), "there is no place for the second while the first decodes"


# --- orders of the queue -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ageing_s", "order"), [(1.0, [0, 2, 1, 3]), (60.0, [0, 2, 3, 1])])
def test_a_call_of_a_lower_tier_waits_for_those_that_come_soon_after_it(ageing_s: float, order: list[int]) -> None:
    site = Site(worker(max_sequences=1, queue=QueueSpec("priority", ("gold", "tin"), ageing_s)))
    for number, (tier, at_s) in enumerate([("tin", 0.0), ("tin", 0.1), ("gold", 0.2), ("gold", 1.2)]):
        site.at(at_s, site.door.accept, request(number, 3000, 1, tier=tier, arrival_s=at_s))
    assert [each.request_id for each in site.run()] == order


@pytest.mark.parametrize("name", [*ORDERS, "outside"])
def test_every_order_by_key_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number, the same one each time, that changes nothing; equals are served as they come."""
    found = SimpleNamespace(name="outside", load=lambda: lambda call, spec: call.input_tokens)
    monkeypatch.setattr("twin.serving.queue_order.entry_points", lambda group: [found] if group == "twin.queue_orders" else [])
    order, spec = queue_order(name), QueueSpec(name, ("gold", "tin"), 5.0)
    line, calls = KeyedLine(order, spec), [request(n, 500 + n % 3, tier=("gold", "tin")[n % 2]) for n in range(12)]
    for call in calls:
        before = {slot: getattr(call, slot) for slot in Request.__slots__}
        assert math.isfinite(order(call, spec))
        assert order(call, spec) == order(call, spec)
        assert {slot: getattr(call, slot) for slot in Request.__slots__} == before
        line.append(call)
    served = [line.popleft() for _ in calls]
    assert served == sorted(calls, key=lambda call: order(call, spec))


def test_an_unknown_order_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'priority'"):
        queue_order("priorty")


def test_a_greedy_tenant_takes_no_more_than_its_half_while_both_wait() -> None:
    """Theorem 4.4 of the paper: |difference| <= 2 max(w_in L_in, w_out M), M the tokens that a batch can hold."""
    capacity, longest = 20_000, 900
    sizes = np.random.default_rng(5).integers((100, 20), (longest, 400), (400, 2)).tolist()
    calls = [Request(n, 0.0, *size, tenant="modest" if n % 10 == 9 else "greedy") for n, size in enumerate(sizes)]
    each = Worker(replace(SPEC, kv_capacity_tokens=capacity, max_sequences=16, queue=QueueSpec("fair")))
    play(each, calls)

    def served(tenant: str, until_s: float) -> float:
        mine = [call for call in calls if call.tenant == tenant and call.admitted_s < until_s]
        return sum(
            call.input_tokens
            + 2 * call.output_tokens * min(1.0, max(0.0, (until_s - call.first_token_s) / (call.finish_s - call.first_token_s)))
            for call in mine
        )

    both_until_s = min(max(call.admitted_s for call in calls if call.tenant == tenant) for tenant in ("greedy", "modest"))
    bound = 2 * max(longest, 2 * capacity)
    gaps = [served("greedy", t) - served("modest", t) for t in np.linspace(0, both_until_s, 200)]
    assert max(map(abs, gaps)) <= bound
    total = served("greedy", both_until_s) + served("modest", both_until_s)
    assert served("greedy", both_until_s) <= total / 2 + bound / 2
    assert total > 30_000
    assert max(map(abs, gaps)) < 0.2 * total, "far inside the bound: places run out before memory"


def test_who_pauses_saves_nothing_up() -> None:
    """A tenant that comes back is lifted to the others: it does not shut them out for all that it has not asked for."""
    each = worker(max_sequences=1, queue=QueueSpec("fair"))
    calls = [request(n, 1000, 1, tenant="steady") for n in range(10)]
    late = [request(10 + n, 1000, 1, tenant="late", arrival_s=5.5) for n in range(5)]
    play(each, [*calls, *late])
    order = [call.request_id for call in sorted([*calls, *late], key=lambda call: call.admitted_s)]
    assert order[6:] == [10, 6, 11, 7, 12, 8, 13, 9, 14] or order[6:] == [6, 10, 7, 11, 8, 12, 9, 13, 14]


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.floats(0, 2), st.integers(1, 1500), st.integers(1, 200), st.sampled_from(["gold", "tin", "paper"])),
        min_size=2,
        max_size=20,
    ),
    capacity=st.sampled_from([3_000, 60_000]),
    places=st.sampled_from([2, 64]),
)
def test_every_order_finishes_all_and_leaves_no_work_lying(calls: Any, capacity: int, places: int) -> None:
    """The same tokens under each order; and an instance stands still only when nothing waits."""
    for spec in QUEUES.values():
        each = Worker(replace(SPEC, kv_capacity_tokens=capacity, max_sequences=places, queue=spec))
        requests = [Request(n, *sizes, tier=who, tenant=who) for n, (*sizes, who) in enumerate(calls)]
        end_s = play(each, requests)
        assert each.emitted_total(end_s) == sum(call.output_tokens for call in requests)
        assert all(call.finish_s is not None for call in requests)
        present = [(call.arrival_s, call.finish_s) for call in requests]
        edges = sorted({t for span in present for t in span})
        occupied_s = sum(b - a for a, b in pairwise(edges) if any(s <= a and b <= e for s, e in present))
        assert each.progress(end_s).busy_s == pytest.approx(occupied_s, abs=1e-9)


# --- what reports say ----------------------------------------------------------------------------------------------------


def test_service_backlog_and_fairness_by_hand() -> None:
    edges = np.linspace(0.0, 4.0, 5)
    nan = np.nan
    got = service_of(*map(np.array, ([0.5, nan], [10.0, 10.0], [1.0, nan], [3.0, 4.0], [8.0, 8.0])), edges)
    assert got == pytest.approx([10.0, 4.0, 4.0, 0.0])
    waits = backlogged(np.array([0.0, 0.5, 2.5]), np.array([1.0, 2.0, np.inf]), edges)
    assert waits.tolist() == [True, True, False, True]
    always = np.ones(4, bool)
    two = {"a": np.array([9.0, 9.0, 0.0, 9.0]), "b": np.array([1.0, 1.0, 0.0, 1.0])}
    assert fairness(two, {"a": always, "b": always}, 1.0) == {"jain_index": pytest.approx(100 / 164), "largest_gap": 24.0}
    apart = np.array([True, True, False, True])
    assert fairness(two, {"a": always, "b": apart}, 1.0)["largest_gap"] == 16.0, "a span ends where one does not wait"
    assert fairness(two, {"a": always, "b": ~always}, 1.0) == {"jain_index": None, "largest_gap": None}


def test_revenue_by_tier_and_kind_adds_up_and_broken_promises_are_credited(tmp_path: Path) -> None:
    tier = TierObjectives(
        ttft_s=1.0,
        price_usd_per_million_output=10.0,
        price_usd_per_million_input=3.0,
        price_usd_per_million_cached_input=0.3,
        credit_frac=0.25,
        task_s=4.0,
    )
    with RunDirectory.create(tmp_path / "run") as run:
        for number, (first_s, cached) in enumerate([(0.5, 60), (2.0, 0)]):
            call = list(request_row(number, "chat", 0.0, first_s, 5.0, 20, tenant="acme"))
            call[11] = cached
            run.writer("requests").append(tuple(call))
            end_s = 3.0 + 2 * number
            row = (number, "main", "chat", 0.0, end_s, 1, 0, 0.0, 20, "completed", end_s, *[0.0] * 6, 0, 0, 0, None, None, "")
            run.writer("sessions").append(row)
        run.close_tables()
        summary = summarise(run.path, small_totals(tiers={"chat": tier}, requests_arrived=2, represent=1, events=()))
    money = summary["economics"]
    paid = money["revenue_by_tier"]["chat"]
    assert paid["input_usd"] == pytest.approx((40 + 100) * 3e-6)
    assert paid["cached_input_usd"] == pytest.approx(60 * 0.3e-6)
    assert paid["output_usd"] == pytest.approx(40 * 10e-6)
    assert paid["credit_usd"] == pytest.approx(-0.25 * (100 * 3e-6 + 20 * 10e-6))
    assert money["revenue_usd"] == math.fsum(value for key, value in paid.items() if key != "revenue_usd")
    assert summary["service"]["tiers"]["chat"]["attainment_frac"]["task_s"] == 0.5
    assert summary["service"]["tenants"]["acme"]["requests"] == 2


def test_tenants_are_drawn_by_share_and_recorded_ones_stay() -> None:
    sessions = [Session(n, 0.0, "chat", [Call((), 0.0, 1, 1)], tenant="own" if n % 4 == 0 else "") for n in range(4000)]
    found = Counter(session.tenant for session in with_tenants(sessions, {"a": 0.8, "b": 0.2}, 1))
    assert found["own"] == 1000
    assert found["a"] / 3000 == pytest.approx(0.8, abs=0.03)


# --- scenarios -----------------------------------------------------------------------------------------------------------

TENANTS = "  tiers: {premium: 0.25, standard: 0.75}\n  tenants: {acme: 0.7, beta: 0.3}\n"
SHARES = "  tiers: {premium: 0.25, standard: 0.75}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((SHARES, SHARES + "  tenants: {acme: 0.7, beta: 0.2}\n"), "workload.tenants: the shares add up to 0.9, not 1"),
        ((SHARES, SHARES + "  tenants: 0\n"), "workload.tenants: 0 is out of range: it must be a number from 1 to 1000"),
        (("serving:\n", "serving:\n  queue: fare\n"), "unknown queue order 'fare' (did you mean 'fair'?)"),
        (("serving:\n", "serving:\n  queue: fair\n"), "serving.queue: is fair between tenants, and the workload has none"),
        (
            ("serving:\n", "serving:\n  queue: {order: priority, tiers: [premium, standrad]}\n"),
            "unknown tier 'standrad' (did you mean 'standard'?)",
        ),
        (("serving:\n", "serving:\n  queue: {order: priority, tiers: [premium]}\n"), "and leaves out standard"),
        (("serving:\n", "serving:\n  queue: {order: fifo, ageing: 3 s}\n"), "serving.queue.ageing: acts on the order priority"),
        (
            ("serving:\n", "serving:\n  admission: {tiers: {standrd: {wait: 1 s}}}\n"),
            "unknown tier 'standrd' (did you mean 'standard'?)",
        ),
        (
            ("serving:\n", "serving:\n  admission: {tiers: {standard: {in_flight: 0}}}\n"),
            "0 is out of range: it must be at least 1",
        ),
        (("serving:\n", "serving:\n  admission: {tiers: {standard: {}}}\n"), "limits nothing"),
        (
            ("serving:\n", "serving:\n  admission: {tenants: {acme: {wait: 1 s}}}\n"),
            "unknown tenant 'acme': the workload names no",
        ),
        (("{ttft: 2 s}", "{ttft: 2 s, task: 1 s}"), "tiers.0.objectives.task: 1 s is less than the 2 s to the first token"),
        (("{ttft: 2 s}", "{ttft: 2 s}\n    price: {input: -1, output: 1}"), "-1 is out of range: it must be at least 0"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(write(tmp_path, spoiled(SCENARIO, change)))
    assert message in str(caught.value)
    assert "scenario.yaml:" in str(caught.value)


def test_limits_that_groups_cannot_keep_and_closed_loops(tmp_path: Path) -> None:
    limits = ("serving:\n", "serving:\n  admission: {tenants: {acme: {in_flight: 2}}}\n")
    path = write(tmp_path, spoiled(SCENARIO, (SHARES, TENANTS), limits))
    assert load_scenario(path).scenario.workload.tenants["acme"].share == 0.7
    with pytest.raises(InputError, match=r"2 calls cannot stand for groups of `represent: 3`"):
        load_scenario(path, {"represent": 3})
    closed = {"workload.arrivals": {"process": "closed_loop", "concurrency": 4}, "workload.warm_start": False}
    with pytest.raises(InputError, match="would let the next one in at once"):
        load_scenario(path, closed)
    refusing = write(tmp_path, spoiled(SCENARIO, ("serving:\n", "serving:\n  admission: {context: refuse}\n")))
    with pytest.raises(InputError, match="would let the next one in at once"):
        load_scenario(refusing, closed)


def test_calls_in_flight_are_limited_in_whole_ones_when_one_stands_for_several(tmp_path: Path) -> None:
    limits = ("serving:\n", "serving:\n  admission: {tenants: {acme: {in_flight: 5}}}\n")
    loaded = load_scenario(write(tmp_path, spoiled(SCENARIO, (SHARES, TENANTS), limits)), {"represent": 2}).scenario
    limited = admission(loaded, catalog_with(loaded.catalog))
    assert limited is not None
    now = [Request(n, 0.0, 10, 10, tenant="acme") for n in range(3)]
    for each in now[:2]:
        assert limited.refusal(each, True, 0.0, lambda: 0.0) is None
        limited.accepted(each, "here", 0.0)
    assert limited.refusal(now[2], True, 0.0, lambda: 0.0) == "tenant_in_flight"


def _overloaded(**changes: Any) -> dict[str, Any]:
    """Two instances that are asked for half as much again as they can do, nine tenths of it by one tenant."""
    serving: dict[str, Any] = {
        "model": "llama_3_1_70b",
        "precision": {"weights": "fp8", "kv": "fp8"},
        "backend": "vllm",
        "pools": [
            {
                "name": "chat",
                "role": "aggregated",
                "racks": "racks",
                "parallelism": {"tp": 4},
                "instances": 2,
                "max_sequences": 16,
            }
        ],
    }
    return {
        "name": "overloaded",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [{"name": "premium", "objectives": {"ttft": "2 s"}}, {"name": "free"}],
        "workload": {
            "kind": "fixed",
            "arrivals": {"process": "poisson", "rate": "30 /s"},
            "tiers": {"premium": 0.2, "free": 0.8},
            "tenants": {"greedy": 0.9, "modest": 0.1},
            "input_tokens": 1000,
            "output_tokens": 100,
        },
        "serving": {**serving, **changes},
        "control": {"policy": "none"},
        "horizon": "40 s",
    }


def test_an_overloaded_factory_under_each_order_and_with_limits(tmp_path: Path) -> None:
    found = {}
    for name, changes in {
        "fifo": {},
        "fair": {"queue": "fair"},
        "priority": {"queue": {"order": "priority", "ageing": "5 min"}},
        "door": {"admission": {"tiers": {"free": {"wait": "2 s"}}, "tenants": {"greedy": {"tokens_per_minute": 600_000}}}},
    }.items():
        found[name] = twin.run(_overloaded(**changes), out=tmp_path / name).summary
        assert all(found[name]["invariants"].values())
    p99 = {
        (name, who): found[name]["service"][kind][who]["ttft_s"]["p99"]
        for name in found
        for kind, who in (("tenants", "modest"), ("tenants", "greedy"), ("tiers", "premium"))
    }
    assert p99["fifo", "modest"] > 5.0
    assert p99["fair", "modest"] < p99["fifo", "modest"] / 5 < p99["fair", "greedy"]
    assert p99["priority", "premium"] < p99["fifo", "premium"] / 5
    assert found["fair"]["service"]["fairness"]["largest_gap"] < found["fifo"]["service"]["fairness"]["largest_gap"] / 10
    rates = [found[name]["service"]["output_tokens_per_s"] for name in ("fifo", "fair", "priority")]
    assert max(rates) < 1.01 * min(rates), "an order moves work, it makes none"
    door = found["door"]["requests"]
    assert door["rejected"] == sum(sum(tiers.values()) for tiers in door["rejections"].values()) > 0
    assert set(door["rejections"]) <= {"wait", "tenant_tokens"}
    assert "premium" not in door["rejections"].get("wait", {})
    assert found["door"]["invariants"]["admission_counts_balance"]
    assert p99["door", "modest"] < p99["fifo", "modest"] / 2
