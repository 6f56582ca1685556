"""Contexts between two calls of their agent: what each policy does to memory by hand, what predicting looks at, and what holds
whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, inf, log
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from engine_parts import Site, request, worker
from hypothesis import given, settings
from hypothesis import strategies as st

import twin
from twin.engine.turn_keeper import TurnKeeper
from twin.errors import InputError
from twin.schema import load_scenario
from twin.serving import AgentTurns, ContextPath, Idle, KvTier, KvTierSpec, Plan, Request, WaitMemory, Worker, turn_policy
from twin.serving.between_turns import TURN_POLICIES, TurnPolicy

#: A second for 10,000 tokens, each way.
HOST = KvTierSpec(50_000, 10_000.0, 0.0)
IDLE = Idle(tokens=1000, tool=True, expected_s=10.0, survives_s=5.0, move_s=1.0, recompute_s=2.0)


def site(
    policy: TurnPolicy, people: TurnPolicy | None = None, host: KvTierSpec | None = HOST, **changes: object
) -> tuple[Site, Worker]:
    one = worker(**changes)
    if host is not None:
        one.memory.lower = KvTier(host)
    made = Site(one)
    made.door._turns = TurnKeeper(made.clock, policy, people or policy)
    return made, one


def turn(number: int, turns: AgentTurns, path: ContextPath, *, tool: bool | None = True, output: int = 11) -> Request:
    """A call of an agent that will call again after a tool (True) or a person (False), or not at all (None)."""
    tokens = sum(length for _, length in path)
    return request(number, tokens, output, path=path, shared_prefix_tokens=tokens, keep_cache=tool is not None, turns=turns)


def ask(made: Site, at_s: float, one: Request, tool: bool | None = True) -> Request:
    def arrive() -> None:
        assert one.turns is not None
        one.turns.next_is_tool = tool
        one.arrival_s = made.clock.now_s
        made.door.accept(one)

    made.at(at_s, arrive)
    return one


# --- what policies say ---------------------------------------------------------------------------------------------------


def test_predicting_gives_up_what_would_not_last() -> None:
    decide = turn_policy("predict")
    assert decide(IDLE) == Plan("offload")
    assert decide(replace(IDLE, move_s=None)) == Plan("drop")
    assert decide(replace(IDLE, survives_s=10.0)).verb == "keep"
    assert decide(replace(IDLE, survives_s=inf)).verb == "keep"
    assert decide(replace(IDLE, expected_s=None)).verb == "keep"
    assert decide(replace(IDLE, move_s=11.0)).verb == "keep", "it would come back before it is there and up again"


@pytest.mark.parametrize("name", TURN_POLICIES)
@pytest.mark.parametrize("expected_s", [None, 0.0, 1e6])
@pytest.mark.parametrize("survives_s", [0.0, inf])
@pytest.mark.parametrize("move_s", [0.1, 1e9])
def test_every_policy_keeps_the_contract(name: str, expected_s: float | None, survives_s: float, move_s: float) -> None:
    idle = replace(IDLE, expected_s=expected_s, survives_s=survives_s, move_s=move_s)
    policy = turn_policy(name, 5.0)
    plan = policy(idle)
    assert plan.verb in ("keep", "drop", "offload")
    assert 0 <= plan.after_s <= 5.0
    assert policy(idle) == plan, "the same again"
    if name != "offload":  # a scenario can't ask for it without a tier below
        assert policy(replace(idle, move_s=None)).verb != "offload"


def test_policies_come_from_packages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(name="never", load=lambda: lambda after_s: lambda idle: Plan("drop", after_s))
    monkeypatch.setitem(turn_policy.__globals__, "entry_points", lambda group: [found] if group == "twin.turn_policies" else [])
    assert turn_policy("never", 3.0)(IDLE) == Plan("drop", 3.0)
    with pytest.raises(InputError, match="unknown policy between turns 'kep'"):
        turn_policy("kep")


def test_an_agents_own_waits_are_expected_again_in_decades() -> None:
    memory, one, other = WaitMemory(), AgentTurns(), AgentTurns()
    assert memory.expected_s(one, True) is None
    for wait_s in (1.0, 100.0):
        one.idle_since_s, one.idle_for_tool = 50.0, True
        memory.ended(one, 50.0 + wait_s)
    assert memory.expected_s(one, True) == pytest.approx(exp(0.3 * log(100.0)))
    assert memory.expected_s(other, True) == pytest.approx(exp(0.01 * log(100.0))), "of others, where it had none"
    assert memory.expected_s(one, False) is None, "people are another matter"


# --- what happens to memory ----------------------------------------------------------------------------------------------


def test_kept_contexts_are_found_in_hbm() -> None:
    made, _one = site(turn_policy("keep"))
    turns = AgentTurns()
    ask(made, 0.0, turn(0, turns, ((1, 1000),)))
    again = ask(made, 100.0, turn(1, turns, ((1, 1200),)))
    made.run()
    assert (again.cached_tokens, again.lower_tokens, again.recomputed_tokens) == (1010, 0, 190 - 1)


def test_dropped_contexts_are_computed_again_and_counted() -> None:
    made, one = site(turn_policy("drop", 5.0))
    turns = AgentTurns()
    first = ask(made, 0.0, turn(0, turns, ((1, 1000),)))
    soon = ask(made, 6.0, turn(1, turns, ((1, 1000),)))  # the first ends at 1.1 s
    late = ask(made, 20.0, turn(2, turns, ((1, 1000),)))
    made.run()
    assert first.finish_s == pytest.approx(1.1)
    assert soon.cached_tokens == 999
    assert (late.cached_tokens, late.recomputed_tokens) == (0, 999), "the last token of a prompt is computed in any case"
    prompt_j = late.energy_j - (one.meter.per_sequence_j - late.energy_mark_j)
    assert one.meter.recomputed_j == pytest.approx(0.999 * prompt_j)
    assert one.memory.counts.dropped == 2 * 1010


def test_offloaded_contexts_leave_when_they_are_written_and_come_back_up() -> None:
    made, one = site(turn_policy("offload", 5.0))
    lower = one.memory.lower
    assert lower is not None
    turns = AgentTurns()
    ask(made, 0.0, turn(0, turns, ((1, 1000),)))
    seen: list[tuple[int, int]] = []
    for at_s in (6.0, 6.15, 6.3):  # written from 6.1 s on, 1,010 tokens in 0.101 s
        made.at(at_s, lambda: seen.append((one.memory.kept_tokens, lower.held_tokens)))
    again = ask(made, 20.0, turn(1, turns, ((1, 1200),)))
    made.run()
    assert seen == [(1010, 0), (1010, 1010), (0, 1010)]
    assert (again.cached_tokens, again.lower_tokens, again.storage_tokens) == (1010, 1010, 0)
    assert again.first_token_s == pytest.approx(20.0 + 0.101 + 0.190)
    assert one.memory.counts.offloaded >= 1010
    assert lower.read_tokens == 1010


def test_a_call_that_comes_while_its_context_is_written_finds_it_in_hbm() -> None:
    made, one = site(turn_policy("offload", 5.0))
    turns = AgentTurns()
    ask(made, 0.0, turn(0, turns, ((1, 1000),)))
    again = ask(made, 6.15, turn(1, turns, ((1, 1200),), tool=None), tool=None)
    made.run()
    assert (again.cached_tokens, again.lower_tokens) == (1010, 0)
    assert one.memory.counts.offloaded == 0
    assert one.memory.lower is not None
    assert one.memory.lower.written_tokens == 1010, "but the link was used"
    assert one.memory.kept_tokens == 1200


def test_a_context_with_no_time_to_be_written_stays() -> None:
    made, one = site(turn_policy("offload"), host=replace(HOST, tokens_per_s=100.0))
    for number in range(2):
        ask(made, number * 2.0, turn(number, AgentTurns(), ((number + 1, 1000),)))
    made.run(5.0)  # the first write takes 10 s
    assert one.memory.kept_tokens == 2020
    made.run(100.0)
    assert one.memory.kept_tokens == 1010
    assert one.memory.lower is not None
    assert one.memory.lower.dropped_tokens == 0, "nothing of it was given up"


def test_what_others_share_of_a_context_stays() -> None:
    made, one = site(turn_policy("drop"))
    ask(made, 0.0, turn(0, AgentTurns(), ((9, 500), (1, 500))))
    ask(made, 0.5, turn(1, AgentTurns(), ((9, 500), (2, 500)), output=2000), tool=None)
    made.run(5.0)
    assert one.memory.counts.dropped == 510
    assert one.memory._tree.match(((9, 500), (1, 500))) == 500


def test_people_may_be_waited_for_differently() -> None:
    made, one = site(turn_policy("keep"), turn_policy("drop"))
    ask(made, 0.0, turn(0, AgentTurns(), ((1, 1000),)), tool=True)
    ask(made, 10.0, turn(1, AgentTurns(), ((2, 700),)), tool=False)
    made.run()
    assert one.memory.kept_tokens == 1010
    assert one.memory.counts.dropped == 710


def test_survival_is_the_age_of_the_oldest_once_memory_is_full() -> None:
    memory = worker(kv_capacity_tokens=1000).memory
    assert memory.survival_s(0.0) == inf
    memory._tree.insert(((1, 600),))
    assert memory.survival_s(10.0) == inf
    memory._tree.insert(((2, 400),))
    assert memory.survival_s(30.0) == pytest.approx(30.0 - 10.0), "the first was used before the question at 10 s"
    memory._tree.insert(((1, 600),))
    assert memory.survival_s(40.0) == pytest.approx(40.0 - 30.0), "the second is the oldest now"


# --- scenarios -----------------------------------------------------------------------------------------------------------


def _problems(cache: dict[str, object]) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(ROOT / "scenarios" / "agents_kv.yaml", {"serving.kv_cache": cache})
    return str(caught.value)


def test_what_a_scenario_can_not_ask_for() -> None:
    host = {"capacity": "10 GB", "bandwidth": "10 GB/s"}
    assert "between_turns: offloading needs a tier below" in _problems({"between_turns": {"policy": "offload", "after": "5 s"}})
    assert "while_person_thinks: offloading needs" in _problems({"while_person_thinks": {"policy": "offload"}})
    assert "after: is for dropping and offloading" in _problems({"between_turns": {"policy": "predict", "after": "5 s"}})
    assert "did you mean 'offload'" in _problems({"host": host, "between_turns": {"policy": "offlod"}})
    assert "after" in _problems({"host": host, "between_turns": {"policy": "offload", "after": "-5 s"}})


def test_a_run_tells_what_caches_found_and_what_recomputing_cost(tmp_path: Path) -> None:
    def run(name: str, **cache: object) -> twin.Run:
        changes = {"horizon": "6 min"}
        changes |= {f"serving.kv_cache.{key}.policy": value for key, value in cache.items()}
        changes |= {f"serving.kv_cache.{key}.after": None for key in cache}
        return twin.run(ROOT / "scenarios" / "agents_kv.yaml", set=changes, out=tmp_path / name)

    offloading = run("offload", between_turns="offload", while_person_thinks="offload")
    dropping = run("drop", between_turns="drop", while_person_thinks="drop")
    for made in (offloading, dropping):
        told, requests = made.summary["cache"], made.requests
        admitted = requests[requests["admitted_s"].notna()]
        asked = admitted["input_tokens"].sum()
        assert told["input_tokens"] == asked
        assert told["hit_frac"] == pytest.approx(admitted["cached_tokens"].sum() / asked)
        parts = told["hbm_hit_frac"] + told["host_hit_frac"] + told["storage_hit_frac"]
        assert parts == pytest.approx(told["hit_frac"])
        assert told["recomputed_tokens"] == admitted["recomputed_tokens"].sum()
        assert told["tiers"]["standard"]["hit_frac"] == told["hit_frac"]
        assert made.summary["invariants"]["kv_tokens_conserved"]
        assert made.summary["invariants"]["kv_tiers_conserved"]
        assert told["recompute_j"] > 0
        assert told["recompute_gpu_s"] > 0
    assert offloading.summary["cache"]["offloaded_tokens"] > 0
    assert dropping.summary["cache"]["dropped_tokens"] > 0
    assert dropping.summary["cache"]["recomputed_frac"] > offloading.summary["cache"]["recomputed_frac"]


@pytest.mark.slow
def test_mooncake_in_the_twin_finds_what_is_known(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Blocks of 512 tokens found of all asked for, as the trace's authors count: 36.6 % with an infinite cache."""
    trace = shared_data("traces/mooncake_conversation_trace.jsonl")
    overrides = {
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "workload": {"kind": "trace", "trace": str(trace), "tiers": {"standard": 1.0}},
        "serving.model": "llama_3_1_8b",
        "serving.backend": "vllm",
        "serving.precision.weights": "fp8",
        "serving.kv_cache": {"host": {"capacity": "20 TB", "bandwidth": "100 TB/s"}},
        "serving.pools": [{"name": "engine", "role": "aggregated", "racks": "racks", "parallelism": {"tp": 8}, "instances": 1}],
        "records.interval": "60 s",
        "control.step": "60 s",
    }
    made = twin.run(ROOT / "scenarios" / "agents_kv.yaml", set=overrides, out=tmp_path / "run")
    requests = made.requests
    blocks = -(-requests["input_tokens"] // 512)
    whole = requests["cached_tokens"] >= requests["input_tokens"] - 16  # but for the last token, and what is no block of 16
    found = (requests["cached_tokens"] // 512).where(~whole, blocks)
    assert found.sum() / blocks.sum() == pytest.approx(0.366, abs=0.002)


# --- whatever happens ----------------------------------------------------------------------------------------------------

agents_st = st.lists(
    st.tuples(
        st.floats(0, 20, allow_nan=False),  # when it comes
        st.integers(0, 2),  # its system prompt, 0: none
        st.lists(  # its turns: more tokens, answer, wait, tool
            st.tuples(st.integers(1, 900), st.integers(1, 60), st.floats(0, 15, allow_nan=False), st.booleans()),
            min_size=1,
            max_size=5,
        ),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=250)
@given(
    agents=agents_st,
    capacity=st.sampled_from([6_000, 12_000, 100_000]),
    host=st.sampled_from([None, HOST, replace(HOST, capacity_tokens=2000), replace(HOST, tokens_per_s=300.0)]),
    tool=st.sampled_from([("keep", 0.0), ("drop", 0.0), ("drop", 3.0), ("offload", 0.0), ("offload", 4.0), ("predict", 0.0)]),
    person=st.sampled_from([("keep", 0.0), ("drop", 2.0), ("offload", 1.0), ("predict", 0.0)]),
)
def test_no_policy_loses_a_call_or_a_token(
    agents: list[tuple[float, int, list[tuple[int, int, float, bool]]]],
    capacity: int,
    host: KvTierSpec | None,
    tool: tuple[str, float],
    person: tuple[str, float],
) -> None:
    def policy(name: str, after_s: float) -> TurnPolicy:
        return turn_policy("drop" if name == "offload" and host is None else name, after_s)

    made, one = site(policy(*tool), policy(*person), host, kv_capacity_tokens=capacity, block_tokens=16)
    memory = one.memory
    numbers = iter(range(1000))
    asked: list[Request] = []

    def check() -> None:
        assert memory.books_balance
        assert memory.lower is None or memory.lower.books_balance
        assert 0 <= memory.own_tokens + memory._tree.total_tokens <= capacity + 1e-6

    def begin(agent: int, system: int, index: int, tokens: int, turns: AgentTurns) -> Callable[[object], None]:
        def arrive(_: object) -> None:
            calls = agents[agent][2]
            more, output, _, next_tool = calls[index]
            front = ((100 + system, 700),) if system else ()
            path = (*front, (agent, tokens + more))
            last = index + 1 == len(calls)
            one_call = turn(next(numbers), turns, path, tool=None if last else next_tool, output=output)
            one_call.session = (agent, system, index, tokens + more)
            one_call.arrival_s = made.clock.now_s
            turns.next_is_tool = None if last else next_tool
            asked.append(one_call)
            check()
            made.door.accept(one_call)

        return arrive

    def finished(done: Request) -> None:
        check()
        made.finished.append(done)
        agent, system, index, tokens = done.session
        calls = agents[agent][2]
        if index + 1 < len(calls):
            assert done.finish_s is not None
            assert done.turns is not None
            tokens += done.output_tokens - 1
            made.clock.at(done.finish_s + calls[index][2], begin(agent, system, index + 1, tokens, done.turns))

    made.door.on_finished = finished
    for agent, (at_s, system, _) in enumerate(agents):
        made.clock.at(at_s, begin(agent, system, 0, 0, AgentTurns()))
    made.run()
    check()
    assert sorted(done.request_id for done in made.finished) == sorted(one_call.request_id for one_call in asked)
    assert len(made.finished) == sum(len(calls) for _, _, calls in agents)
    assert all(done.generated == done.output_tokens for done in made.finished)
    assert memory.pinned_tokens == 0
    for done in made.finished:
        assert 0 <= done.storage_tokens <= done.lower_tokens <= done.cached_tokens < done.input_tokens
        assert done.preemptions or done.cached_tokens + done.recomputed_tokens < done.input_tokens
    if not one.preemptions:
        computed = one.progress(1e4).prefill_tokens + sum(done.cached_tokens for done in made.finished)
        assert computed == sum(done.input_tokens for done in made.finished)
