"""The fit of the agent generator to a trace: a trace made by hand whose figures are known, the real sessions, and bad files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from twin.cli.main import main
from twin.errors import InputError
from twin.schema import load_scenario
from twin.workload import AgentGenerator, Call, Intake, Poisson, ReadLog, Session, read_figures
from twin.workload.agent_figures import agent_figures, shipped_figures
from twin.workload.agent_shape import _ranked_alike, _some_of_each
from twin.workload.call_columns import CallColumns, call_columns
from twin.workload.fit import _delegation, fit_agents
from twin.workload.fit_file import fit_text, fit_trace
from twin.workload.fit_together import correlation, normal_scores, within_sessions
from twin.workload.formats import TRACE_FORMATS
from twin.workload.goodness import TOTALS, generated, goodness, held_out, measure

ROOT = Path(__file__).resolve().parents[1]
RECORDED = "traces/claude_code_agentic/requests_flat.csv"


def by_hand(sessions: int = 160, seed: int = 3) -> list[Session]:
    """Sessions of 10 or 40 main calls that begin with 10,000 tokens and grow by the answer and 500; a person, 60 s, before every
    fifth call, a tool, 5 s, before the others. At 30,000 tokens they drop to a quarter, of which 64 tokens are kept. One in four
    forks two sub-agents of three calls behind each 20th call; the session's first shares nothing, the others 2048 of 4096."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(sessions):
        calls: list[Call] = []
        after: tuple[int, ...] = ()
        context, answer, agent = 10_000, 0, 0
        for i in range(10 if number % 2 else 40):
            human = i % 5 == 4
            shared = 0
            if i:
                shared = 64 if context > 30_000 else context // 64 * 64
                context = context // 4 if context > 30_000 else context + answer + 500
            answer = int(np.exp(rng.normal(5, 0.5)))
            calls.append(Call(after, (60.0 if human else 5.0) if i else 0.0, context, answer, shared, tool=bool(i) and not human))
            main_call = len(calls) - 1
            after = (main_call,)
            if number % 4 == 0 and i % 20 == 10:
                for _ in range(2):
                    agent += 1
                    before = main_call
                    for step in range(3):
                        kept = 4096 + 600 * (step - 1) if step else 2048 * (agent > 1)
                        wait_s = 2.0 if step else 0.0
                        calls.append(Call((before,), wait_s, 4096 + 600 * step, 100, kept // 64 * 64, agent, 1, None, step > 0))
                        before = len(calls) - 1
                    after = (*after, before)
        made.append(Session(number, 30.0 * number, "", calls))
    return made


def test_the_figures_of_a_trace_made_by_hand() -> None:
    sessions = by_hand()
    document = fit_agents(call_columns(sessions), {"trace": "by hand"})
    tables = {name: dict(zip(document["probabilities"], values, strict=True)) for name, values in document["tables"].items()}
    assert document["provenance"] == {"trace": "by hand", "sessions": 160, "calls": sum(len(each.calls) for each in sessions)}
    assert document["block_tokens"] == 64
    assert document["arrivals"] == {"rate_per_s": 0.0333333, "burstiness": 0.001}
    assert any("vary by 0 of their mean" in each for each in document["missing"])
    assert (tables["turns"][0.25], tables["turns"][0.75]) == (10, 40)
    assert {*document["tables"]["first_input_tokens_0"]} == {10_000}
    assert {*document["tables"]["wait_tool_s_0"]} == {5.0}
    assert {*document["tables"]["wait_human_s_0"]} == {60.0}
    assert {*document["tables"]["extra_tool_tokens"], *document["tables"]["extra_human_tokens"]} == {500}
    fracs = [value for name, values in document["tables"].items() if name.startswith("human_frac") for value in values]
    assert (min(fracs), max(fracs)) == (round(8 / 39, 3), round(2 / 9, 3))
    assert tables["drop_frac"][0.5] == pytest.approx(0.25, abs=1e-3)
    assert min(document["drop"]["context_edges"]) > 30_000
    assert {*document["drop"]["call_frac"][1:]} == {1.0}
    assert document["break_frac"] == {"tool": 0.0, "human": 0.0, "after_drop": 0.0}
    assert {*document["tables"]["system_prefix_tokens"]} == {64}
    subs = document["sub_agents"]
    may, spawns = subs.pop("session_frac"), subs.pop("call_frac")
    assert subs == {"nested_call_frac": 0.0, "most_depth": 1, "joined_frac": 1.0}
    # 40 of 160 sessions delegate, twice each; of calls with a tool 80 sessions have 7 and 80 have 31
    assert may * spawns * 80 * (7 + 31) == pytest.approx(80, rel=1e-3)
    assert may * 80 * (1 - (1 - spawns) ** 7 + 1 - (1 - spawns) ** 31) == pytest.approx(40, rel=1e-3)
    assert {*document["tables"]["sub_agents"]} == {2}
    assert {*document["tables"]["sub_calls"]} == {3}
    assert {*document["tables"]["sub_extra_tokens"]} == {500}
    assert {*document["tables"]["sub_first_shared_frac"]} == {0}
    assert {*document["tables"]["sub_next_shared_frac"]} == {0.5}


def test_the_two_shares_of_delegation_by_hand() -> None:
    twice = np.full(100, 2)
    # 12 spawns in 10 sessions with two occasions each: 2q / (1 - (1 - q)^2) = 1.2, so q = 1/3; and p x 200 q = 12
    assert _delegation(np.repeat(np.arange(10), [2, 2, *[1] * 8]), twice) == pytest.approx((0.18, 1 / 3), abs=2e-5)
    # whoever delegates does so at each occasion; or never twice, as if all might
    assert _delegation(np.repeat(np.arange(10), 2), twice) == pytest.approx((0.1, 1.0), abs=2e-5)
    assert _delegation(np.arange(10), twice) == pytest.approx((1.0, 0.05), abs=2e-5)
    assert _delegation(np.arange(0), twice) == _delegation(np.arange(10), np.zeros(100, dtype=int)) == (0.0, 0.0)
    # drawn by the model, the shares that were put in, though half of the sessions that may delegate never do
    rng = np.random.default_rng(8)
    occasions = rng.choice([5, 40, 300], 20_000)
    drawn = rng.binomial(occasions, 0.02) * (rng.random(20_000) < 0.1)
    assert _delegation(np.repeat(np.arange(20_000), drawn), occasions) == pytest.approx((0.1, 0.02), rel=0.05)
    assert np.mean(drawn > 0) < 0.06


@pytest.fixture(scope="module")
def hand() -> tuple[CallColumns, dict[str, Any], CallColumns]:
    """A trace made by hand, its fit, and what that generates."""
    trace = call_columns(by_hand())
    document = fit_agents(trace, {})
    return trace, document, generated(agent_figures(document), 9, 160)


def test_as_many_sub_agents_are_made_as_there_were(hand: tuple[CallColumns, dict[str, Any], CallColumns]) -> None:
    trace, _, sample = hand
    totals = goodness(trace, sample)["totals"]
    assert totals["delegating_session_frac"]["trace"] == 40 / 160
    assert totals["sub_agents_per_session"]["trace"] == 160 / 160
    assert totals["sub_agent_call_frac"]["trace"] == 480 / (480 + 80 * 10 + 80 * 40)
    for name, each in totals.items():
        assert abs(each["error_frac"]) <= 0.1, (name, each)


def test_a_fit_to_what_a_fit_generates_is_the_same_fit(
    hand: tuple[CallColumns, dict[str, Any], CallColumns], tmp_path: Path
) -> None:
    trace, first, sample = hand
    second = fit_agents(sample, {})
    one, other = measure(trace), measure(sample)
    for name in ("turns", "first_input_tokens", "tool_wait_s", "human_wait_s", "sub_agents_per_spawn", "sub_agent_calls"):
        assert other.marginals[name] == one.marginals[name], name
    for name in ("input_tokens", "output_tokens", "new_tokens", "shared_prefix_tokens"):
        assert other.quantile(name, "p50") == pytest.approx(one.quantile(name, "p50"), rel=0.05), name
    assert second["arrivals"]["rate_per_s"] == pytest.approx(first["arrivals"]["rate_per_s"], rel=0.1)
    assert second["block_tokens"] == first["block_tokens"]
    assert second["sub_agents"]["session_frac"] * second["sub_agents"]["call_frac"] == pytest.approx(
        first["sub_agents"]["session_frac"] * first["sub_agents"]["call_frac"], rel=0.2
    )
    for name in ("turns", "first_input_tokens_0", "wait_tool_s_0", "wait_human_s_0", "extra_tool_tokens", "sub_next_shared_frac"):
        middle = slice(2, -3)
        assert second["tables"][name][middle] == pytest.approx(first["tables"][name][middle], rel=0.05), name
    path = tmp_path / "fit.yaml"
    path.write_text(fit_text(second))
    assert read_figures(path).spawn_frac == second["sub_agents"]["call_frac"]


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest) -> Any:
    import os

    path = Path(os.environ.get("TWIN_DATA", ROOT.parent / "shared" / "data")) / RECORDED
    if not path.exists():
        pytest.skip(f"measured data {RECORDED} is not on this machine (set TWIN_DATA)")
    return fit_trace(path, "auto", None, ReadLog())


def test_the_fit_to_the_recorded_sessions(real: Any) -> None:
    """p50 and p95 within 10 %, the autocorrelation of the context within 0.02 and 0.1, the hits within a point."""
    document, calls = real
    found = goodness(calls, generated(agent_figures(document), 1, 344))
    for name in (
        *("turns", "first_input_tokens", "input_tokens", "output_tokens", "new_tokens", "shared_prefix_tokens"),
        *("tool_wait_s", "human_wait_s", "sub_agents_per_spawn", "sub_agent_first_shared_tokens"),
    ):
        for key, each in found["marginals"][name].items():
            assert abs(each["error_frac"]) <= 0.1, (name, key, each)
    assert abs(found["marginals"]["session_s"]["p50"]["error_frac"]) <= 0.12
    assert abs(found["autocorrelation"]["lag_1"]["difference"]) <= 0.02
    assert abs(found["autocorrelation"]["lag_10"]["difference"]) <= 0.1
    assert abs(found["prefix_hit_frac"]["difference"]) <= 0.01


def test_as_many_sub_agents_as_recorded(real: Any) -> None:
    """Sessions that delegate, sub-agents and their calls, each within 15 % of the recorded."""
    document, calls = real
    figures = agent_figures(document)
    # Few sessions delegate: of 20,000 drawn 500 would. All that are drawn may here, and count for the share of those that may.
    sessions = AgentGenerator(Intake(Poisson(1.0), 1, limit=1500), figures=replace(figures, delegating_frac=1.0)).sessions()
    made, may = call_columns(sessions), figures.delegating_frac
    assert may * TOTALS["delegating_session_frac"](made) == pytest.approx(9 / 344, rel=0.15)
    assert may * TOTALS["sub_agents_per_session"](made) == pytest.approx(36 / 344, rel=0.15)
    subs, mains = may * (~made.main).sum(), made.main.sum()
    assert subs / (subs + mains) == pytest.approx(TOTALS["sub_agent_call_frac"](calls), rel=0.15)


@pytest.mark.slow
def test_as_many_sub_agents_as_recorded_in_a_large_sample(real: Any) -> None:
    document, calls = real
    for name, each in goodness(calls, generated(agent_figures(document), 2, 20_000))["totals"].items():
        assert abs(each["error_frac"]) <= 0.15, (name, each)


def test_the_shipped_figures_are_those_of_the_recorded_sessions(real: Any) -> None:
    document, _ = real
    shipped = yaml.safe_load((ROOT / "twin" / "workload" / "data" / "agent_generator.yaml").read_text())
    shipped["provenance"].pop("source")
    assert shipped == document


@pytest.mark.slow
def test_sessions_that_the_fit_has_not_seen(real: Any) -> None:
    """Half of the sessions tell no more about the other half than the halves' own difference allows, and not much less."""
    found = held_out(real[1], 1)
    assert found is not None
    errors, halves = (
        [each[what] for quantiles in found.values() for each in quantiles.values()] for what in ("error_frac", "halves_frac")
    )
    assert np.mean(errors) <= 1.1 * np.mean(halves)


def one_session(calls: int = 12, **of: Any) -> Session:
    made = [
        Call((i - 1,) if i else (), 4.0 * bool(i), 1000 + 300 * i, 50, 960 + 300 * (i - 1) if i else 0, tool=i > 0)
        for i in range(calls)
    ]
    return Session(0, math.nan, "", [replace(call, **of) for call in made])


def equal_calls() -> Session:
    return Session(0, math.nan, "", [Call((i - 1,) if i else (), 0.0, 500, 1, 499 * bool(i), tool=i > 0) for i in range(12)])


def untooled() -> Session:
    """Sub-agents, though no main call waits for a tool."""
    session = one_session(tool=False)
    return replace(session, calls=[*session.calls, Call((3,), 0.0, 1000, 50, 0, 1, 1, None, False)])


STRANGE: dict[str, tuple[list[Session], str]] = {
    "one session": ([one_session()], "no sub-agents"),
    "no persons": ([one_session(), one_session()], "no main call waits for a human"),
    "no tools": ([one_session(tool=False), one_session(tool=False)], "no main call waits for a tool"),
    "no tools but sub-agents": ([untooled(), untooled()], "no main call waits for a tool: none will be drawn"),
    "all equal": ([equal_calls() for _ in range(60)], "no context drops"),
    "nothing shared": ([one_session(shared_prefix_tokens=0) for _ in range(60)], "every context is broken"),
    "single calls": ([Session(i, float(i), "", [Call((), 0.0, 100 + i, 7)]) for i in range(50)], "no session has a second call"),
    "one call": ([Session(0, 0.0, "", [Call((), 0.0, 100, 7)])], "no times of arrival"),
    "two calls": ([one_session(2), one_session(1)], "no context is broken"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_a_trace_lacks_is_said_and_never_nan(name: str, tmp_path: Path) -> None:
    sessions, said = STRANGE[name]
    calls = call_columns(sessions)
    document = fit_agents(calls, {})
    assert any(said in each for each in document["missing"]), document["missing"]
    path = tmp_path / "fit.yaml"
    path.write_text(fit_text(document))
    assert not any(word in path.read_text() for word in (".nan", ".inf"))
    figures = read_figures(path)
    sample = call_columns(AgentGenerator(Intake(Poisson(1.0), 1, limit=200), figures=figures).sessions())
    json.dumps(goodness(calls, sample), allow_nan=False)
    one, other = measure(calls), measure(sample)
    for key in ("first_input_tokens", "output_tokens"):
        assert other.quantile(key, "p50") == pytest.approx(one.quantile(key, "p50"), rel=0.1)
    assert other.prefix_hit_frac == pytest.approx(one.prefix_hit_frac, abs=0.06)
    assert held_out(calls, 1) is None or len(sessions) >= 40


def test_a_sample_has_a_bound_however_few_calls_sessions_have() -> None:
    figures = agent_figures(fit_agents(call_columns(one_session(1) for _ in range(3)), {}))
    assert len(generated(figures, 1, 3).session_s) == 1000
    assert len(generated(figures, 1, 19_366).session_s) == 20_000
    assert len(generated(figures, 1, 10**7).session_s) == 20_000


def test_sub_agents_of_sub_agents_and_first_of_several() -> None:
    figures = replace(shipped_figures(), delegating_frac=1.0, nested_spawn_frac=0.05, most_depth=3, joined_frac=1.0)
    sessions = list(AgentGenerator(Intake(Poisson(1.0), 4, limit=120), figures=figures, join_first=1).sessions())
    assert {call.depth for session in sessions for call in session.calls} == {0, 1, 2, 3}
    first_of = 0
    for session in sessions:
        last = {call.agent: i for i, call in enumerate(session.calls)}
        seen: dict[int, Call] = {}
        for i, call in enumerate(session.calls):
            assert all(each < i for each in (*call.after, *call.any_of))
            if call.agent not in seen and call.agent:
                (spawner,) = call.after
                assert session.calls[spawner].depth == call.depth - 1
                assert call.shared_prefix_tokens <= session.calls[spawner].input_tokens
            if call.any_of:
                assert call.any_count == 1 < len(call.any_of)
                assert all(each == last[session.calls[each].agent] for each in call.any_of)
                first_of += 1
            seen.setdefault(call.agent, call)
    assert first_of > 50
    again = fit_agents(call_columns(sessions), {})["sub_agents"]
    assert again["nested_call_frac"] == pytest.approx(0.05, rel=0.3)
    assert (again["most_depth"], again["joined_frac"]) == (3, 1.0)
    with pytest.raises(InputError, match="at least 1 of the sub-agents"):
        AgentGenerator(Intake(Poisson(1.0), 4, limit=1), join_first=0)


def test_a_third_of_the_calls_and_ranks_that_go_together() -> None:
    rng = np.random.default_rng(1)
    turns = np.array([1, 4, 10, 31])
    chosen = np.split(_some_of_each(rng, np.array([1.0, 1 / 3, 1.0, 0.5]), turns), np.cumsum(turns)[:-1])
    assert [int(each.sum()) for each in chosen] == [0, 1, 9, 15]
    assert not any(each[0] for each in chosen)
    cholesky = np.linalg.cholesky(np.array([[1.0, 0.6], [0.6, 1.0]]))
    one, other = _ranked_alike(rng, 5000, cholesky)
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(0.6, abs=0.03)
    assert sorted(one)[2500] == pytest.approx(0.0, abs=2e-3), "sliced: as even as can be"


def test_shares_between_sessions_by_hand() -> None:
    assert normal_scores(np.array([3, 3, 3])).tolist() == [0, 0, 0]
    assert normal_scores(np.array([10, 20, 20, 30])) == pytest.approx([-1.1503, 0.0, 0.0, 1.1503], abs=1e-4)
    rng = np.random.default_rng(5)
    owner = np.repeat(np.arange(300), 40)
    scores = math.sqrt(0.3) * rng.standard_normal(300)[owner] + math.sqrt(0.7) * rng.standard_normal(len(owner))
    share, level = within_sessions(scores, owner, 301)
    assert share == pytest.approx(0.3, abs=0.04)
    assert np.isnan(level[300])
    # three levels that contradict each other still make a matrix that can be drawn from
    a = rng.standard_normal(100)
    half = np.arange(100) < 50
    matrix = correlation({"a": np.where(half, a, np.nan), "b": np.where(half, a, -a), "c": np.where(half, np.nan, a)})
    assert np.linalg.eigvalsh(np.array(matrix))[0] > 0


def broken(edit: Callable[[dict[str, Any]], Any], path: Path) -> list[str]:
    document = fit_agents(call_columns(by_hand(80)), {})
    edit(document)
    path.write_text(fit_text(document))
    with pytest.raises(InputError) as caught:
        read_figures(path)
    return str(caught.value).splitlines()


def test_all_that_is_wrong_in_a_fit_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "fit.yaml"

    def spoil(document: dict[str, Any]) -> None:
        tables = document["tables"]
        tables["turns"][3] = 1
        tables["output_tokens"][0] = math.nan
        tables["human_frac_0"] = [value + 3 for value in tables["human_frac_0"]]
        tables["drop_frack"] = tables.pop("drop_frac")
        document["sub_agents"]["session_frac"] = 1.5
        document["break_frac"]["tools"] = document["break_frac"].pop("tool")
        document["block_tokens"] = 0
        document["between_sessions"][0][1] = 0.9

    found = broken(spoil, path)
    lines = path.read_text().splitlines()
    for said in (
        "block_tokens: must be from 1 to",
        "between_sessions: must be symmetric",
        "break_frac.tools: unknown key (did you mean 'tool'?)",
        "break_frac.tool: is missing",
        "sub_agents.session_frac: must be from 0 to 1, not 1.5",
        "tables.turns.3: 1 follows 10: quantiles must not decrease",
        "tables.output_tokens.0: must be finite, not nan",
        "tables.human_frac_0.0: must be from 0 to 1, not 3.2",
        "tables.drop_frack: is no table of a fit (did you mean 'drop_frac'?)",
    ):
        (place,) = {each.split(": ")[0] for each in found if said in each}
        file, line, column = place.rsplit(":", 2)
        assert file == str(path)
        assert lines[int(line) - 1][int(column) - 1 :], place


def test_tables_that_would_be_drawn_from_must_be_there(tmp_path: Path) -> None:
    for name in ("wait_human_s_0", "sub_calls", "extra_tool_tokens", "drop_frac", "first_input_tokens_0"):
        (found,) = broken(lambda document, name=name: document["tables"].pop(name), tmp_path / "fit.yaml")
        assert f"tables: the table {name!r} is missing" in found
    document = fit_agents(call_columns(by_hand(80)), {})
    for text, said in (
        ("", "is no mapping"),
        ("[1, 2]", "is no mapping"),
        ("a: [", "broken YAML"),
        ("a: 1\na: 2", "stands here twice"),
        ("provenance: {}", "tables: is missing"),
        (
            fit_text(document).replace("probabilities: [0,", "probabilities: [0, 0,"),
            "probabilities: must be at least two numbers",
        ),
    ):
        path = tmp_path / "other.yaml"
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_figures(path)
    with pytest.raises(InputError, match=r"absent\.yaml:1:1: cannot be read"):
        read_figures(tmp_path / "absent.yaml")


def trace_by_hand(folder: Path, sessions: int) -> Path:
    path = folder / "hand.jsonl"
    with path.open("w") as file:
        TRACE_FORMATS["sessions"].write(file, by_hand(sessions))
    return path


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hand_trace, out = trace_by_hand(tmp_path, 60), tmp_path / "hand.yaml"
    assert main(["trace", "fit", str(hand_trace), "--out", str(out), "--source", "made by hand", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trace"]["source"] == "made by hand"
    assert len(told["trace"]["sha256"]) == 64
    assert told["marginals"]["turns"]["p50"] == {
        "trace": 25.0,
        "generated": pytest.approx(25, abs=15),
        "error_frac": pytest.approx(0, abs=1),
    }
    assert set(told["held_out"]["turns"]) == {"p50", "p95"}
    assert set(told["totals"]) == set(TOTALS)
    assert out.read_text() == fit_text(fit_trace(hand_trace, "auto", "made by hand", ReadLog())[0])
    assert not [each for each in tmp_path.iterdir() if each.suffix == ".partial"]

    made = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path in made:
        assert main(["trace", "generate", "agents", "--fit", str(out), "--sessions", "30", "--out", str(path)]) == 0
    assert made[0].read_bytes() == made[1].read_bytes()
    last = json.loads(made[0].read_text().splitlines()[-1])
    assert 200 < last["arrival_s"] < 3000, "at the fitted 1 / 30 s"
    assert main(["trace", "generate", "chat", "--fit", str(out), "--sessions", "3", "--out", str(made[0])]) == 2
    assert main(["trace", "fit", str(hand_trace), "--out", str(hand_trace)]) == 2
    assert main(["trace", "fit", str(hand_trace), "--out", str(tmp_path / "no" / "fit.yaml")]) == 2
    assert "is for kind 'agents'" in capsys.readouterr().err


def test_a_scenario_with_a_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = tmp_path / "fits" / "hand.yaml"
    fit.parent.mkdir()
    assert main(["trace", "fit", str(trace_by_hand(tmp_path, 32)), "--out", str(fit)]) == 0
    table = capsys.readouterr().out
    for name in (
        "`first_input_tokens`",
        "autocorrelation of the context, lag 10",
        "`prefix_hit_frac`",
        "`sub_agents_per_session`",
    ):
        assert f"| {name} " in table
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        f"extends: {ROOT / 'scenarios' / 'curtail_80.yaml'}\nname: own\nworkload:\n  fit: fits/hand.yaml\n  join_first: 1\n"
    )
    loaded = load_scenario(scenario)
    assert loaded.resolved["workload"]["fit"] == str(fit)
    assert str(fit) in loaded.data_files
    digest = loaded.digest
    text = fit.read_text()
    fit.write_text(text.replace("block_tokens: 64", "block_tokens: 32"))
    assert load_scenario(scenario).digest != digest
    fit.write_text(text.replace("block_tokens: 64", "block_tokens: no").replace("joined_frac: 1.0", "joined_frac: 2.0"))
    assert main(["check", str(scenario), "--set", "seed=-1"]) == 2
    said = "".join(capsys.readouterr())
    for each in (f"{fit}:", "block_tokens: must be a whole number", "joined_frac: must be from 0 to 1"):
        assert each in said
    assert "seed" in said, "what is wrong in the scenario beside it"
    fit.unlink()
    with pytest.raises(InputError, match=r"s\.yaml:4:3: workload\.fit: no such file"):
        load_scenario(scenario)
