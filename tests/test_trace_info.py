"""`twin trace info`: figures by hand, bounded tallies against exact ones, the picture; bad sessions and unknown tiers."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_servegen import scenario

from twin.cli.check import check_command
from twin.cli.trace import trace_info_command
from twin.engine import run_scenario
from twin.errors import InputError
from twin.schema import load_scenario
from twin.workload import Call, Session, check_trace, trace_format, trace_info
from twin.workload.info import waiting_s
from twin.workload.seen import SeenNames, SeenNumbers
from twin.workload.tallies import InFlight, LogTally, Tally


def saved(path: Path, sessions: list[Session]) -> Path:
    file = io.StringIO()
    form = trace_format("sessions")
    assert form.write is not None
    form.write(file, sessions)
    path.write_text(file.getvalue())
    return path


def tree() -> list[Call]:
    """A main agent that spawns two, of whom the first is enough; the second spawns one of its own, for which nobody waits."""
    return [
        Call((), 0.0, 1000, 10),
        Call((0,), 0.0, 500, 10, 0, 1, 1),
        Call((0,), 8.0, 500, 10, 0, 2, 1),
        Call((2,), 100.0, 500, 10, 0, 3, 2),
        Call((0,), 5.0, 1100, 10, 960, tool=True, any_of=(1, 2), any_count=1),
        Call((4,), 20.0, 1200, 10, 1088),
    ]


def test_figures_of_trees_by_hand(tmp_path: Path) -> None:
    sessions = [
        Session(0, 0.0, "gold", tree(), tenant="acme", deadline_s=60.0),
        Session(1, 10.0, "free", [Call((), 0.0, 100, 5)]),
    ]
    info = trace_info(saved(tmp_path / "t.jsonl", sessions))
    assert waiting_s(sessions[0]) == 108.0  # 8 s and 100 s of the agent below the agent
    assert info["fan_out"] == {
        "agents_per_spawn": {"mean": 1.5, "p50": 1.5, "p95": pytest.approx(1.95), "max": 2},
        "depth": {"mean": pytest.approx(4 / 3), "p50": 1.0, "p95": pytest.approx(1.9), "max": 2},
        "joined_frac": pytest.approx(2 / 3),
        "joined_first_k_frac": pytest.approx(2 / 3),
    }
    assert info["tool_s"]["mean"] == 5.0
    assert info["think_s"]["mean"] == pytest.approx((0 + 8 + 100 + 20) / 4)
    assert info["tenants"] == {"count": 2, "most": {"acme": 6, "": 1}}
    assert info["tiers"] == {"count": 2, "most": {"free": 1, "gold": 1}}
    assert info["deadlines"] == 1
    assert info["session_s"]["recorded"] is False
    assert info["sessions_in_flight"] == {"mean": 1.0, "p50": 1.0, "p95": 1.0, "max": 1}, "one of 0 s beside one of 108 s"
    assert info["prefix_hit_frac"] == (960 + 1088) / 4900
    assert info["call_hit_frac"]["max"] == pytest.approx(960 / 1100, abs=0.04)


@given(st.lists(st.integers(0, 300), min_size=1), st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]))
def test_a_tally_is_exact(values: list[int], share: float) -> None:
    tally = Tally()
    for value in values:
        tally.add(value)
    assert tally.quantile(share) == float(np.quantile(values, share))
    assert tally.summary()["mean"] == pytest.approx(float(np.mean(values)))


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e9)), min_size=1), st.sampled_from([0.1, 0.5, 0.95]))
def test_a_log_tally_is_within_half_of_a_hundredth(values: list[float], share: float) -> None:
    tally = LogTally()
    for value in values:
        tally.add(value)
    exact = sorted(values)[max(0, int(np.ceil(share * len(values) - 1e-9)) - 1)]
    assert tally.quantile(share) == pytest.approx(exact, rel=0.0051)
    assert tally.summary()["max"] == max(values)


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 3000)), min_size=1, max_size=30))
def test_sessions_in_flight_against_counting(spans: list[tuple[float, float]]) -> None:
    """The slow obvious way: how many are under way in each stretch between two moments at which something changes."""
    flight = InFlight()
    now = 0.0
    lines = []
    for gap, length in spans:
        now += gap
        lines.append((now, now + length))
        flight.add(now, length)
    flight.finish()
    moments = sorted({each for line in lines for each in line})
    area = sum((b - a) * sum(x <= a and b <= y for x, y in lines) for a, b in itertools.pairwise(moments))
    most = max((sum(x <= a and b <= y for x, y in lines) for a, b in itertools.pairwise(moments)), default=0)
    whole_s = moments[-1] - moments[0]
    assert flight.summary()["max"] == most
    assert flight.summary()["mean"] == pytest.approx(area / whole_s if whole_s else 0.0, rel=1e-6, abs=1e-9)
    ends_s, levels = flight.series()
    assert len(ends_s) <= 512
    width_s = ends_s[0]
    assert sum(levels) * width_s == pytest.approx(area, rel=1e-6, abs=1e-6)


@given(st.lists(st.integers(0, 2000)))
def test_seen_numbers_are_a_set(numbers: list[int]) -> None:
    seen, plain = SeenNumbers(), set()
    for number in numbers:
        assert seen.add(number) == (number not in plain)
        plain.add(number)
    assert all((number in seen) == (number in plain) for number in range(2001))


@given(st.lists(st.one_of(st.sampled_from(["s7", "s07", "s007", "7", "s", "", "7s", "s²"]), st.text(max_size=3))))
def test_seen_names_are_a_set(names: list[str]) -> None:
    seen, plain = SeenNames(), set()
    for name in names:
        assert seen.add(name) == (name not in plain)
        plain.add(name)


def test_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each of the three kinds of trace, and the same bytes each time."""
    many = [Session(n, 9.0 * n, "", tree()) for n in range(30)]
    for number, sessions in enumerate(
        (many, [Session(n, float("nan"), "", tree()) for n in range(3)], [Session(0, 0.0, "", [Call((), 0.0, 5, 5)])])
    ):
        trace = saved(tmp_path / f"{number}.jsonl", sessions)
        assert trace_info_command(trace, plot=tmp_path / f"{number}.svg") == 0
    assert trace_info_command(trace, plot=tmp_path / "again.svg") == 0
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    text = (tmp_path / "0.svg").read_text()
    for said in ("Lengths of calls", "Context growth", "Sessions in flight, tools and people alone", "of all input"):
        assert said in text
    assert "Times" in (tmp_path / "1.svg").read_text()
    assert "Arrivals" in (tmp_path / "2.svg").read_text()
    for bad in ("a.gif", "absent/a.png"):
        with pytest.raises(InputError):
            trace_info_command(trace, plot=tmp_path / bad)
    assert "fan_out.depth" in capsys.readouterr().out


# --- bad sessions --------------------------------------------------------------------------------------------------------


def problems(path: Path, *calls: list[dict[str, object]], **more: object) -> list[str]:
    plain = {"after": [], "wait_s": 0.0, "input_tokens": 100, "output_tokens": 5}
    rows = [{"session": n, "arrival_s": 0.0, "calls": [plain | each for each in made]} | more for n, made in enumerate(calls)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    with pytest.raises(InputError) as caught:
        check_trace(path)
    return [str(problem).split(": ", 1)[1] for problem in caught.value.problems]


def test_trees_that_never_end_and_joins_of_nobody(tmp_path: Path) -> None:
    assert problems(
        tmp_path / "t.jsonl",
        [{"after": [1]}, {"after": [0]}],
        [{}, {"after": [1]}],
        [{}, {"after": [7]}],
        [{}, {"after": [0], "any_of": [5], "any_count": 1}],
        [{}, {"agent": 1, "depth": 1}],
        [{}, {"after": [0, 0]}],
        [{}, {"after": [0], "any_of": [0], "any_count": 1}],
        [{}, {"after": [], "any_of": [0], "any_count": 2}],
        [{}, {"after": [0], "any_count": 1}],
        [{"after": [-1]}],
    ) == [
        "calls.0.after: must be a list of calls before call 0: it waits for call 1, which comes later, in a cycle",
        "calls.1.after: must be a list of calls before call 1: it waits for itself, in a cycle",
        "calls.1.after: waits for call 7: the session has calls 0 to 1",
        "calls.1.any_of: waits for call 5: the session has calls 0 to 1",
        "calls.1.agent: agent 1 begins here, but not after another's call: nobody spawned it",
        "calls.1.after: names a call twice",
        "calls.1.any_of: names a call twice",
        "calls.1.any_count: must be from 1 to 1, the calls of `any_of`",
        "calls.1.any_count: needs the calls of which it counts the first: `any_of` is empty",
        "calls.0.after: waits for call -1: the session has calls 0 to 0",
    ]


def test_hashes_that_contradict_lengths_and_absurd_times(tmp_path: Path) -> None:
    assert problems(
        tmp_path / "t.jsonl",
        [{"hash_ids": [1, 2]}],
        [{"hash_ids": [1], "block_tokens": [64, 36]}],
        [{"hash_ids": [1, 2], "block_tokens": [64, 37]}],
        [{"hash_ids": [1, 2], "block_tokens": [64, 0]}],
        [{"hash_ids": [1, 1], "block_tokens": [64, 36]}],
        [{"block_tokens": [64]}],
        [{"wait_s": 3.2e9}],
        [{"wait_s": -0.5}],
        [{"shared_prefix_tokens": 101}],
    ) == [
        "calls.0.hash_ids: has 2 hashes; 100 tokens are 1 blocks of 512",
        "calls.0.block_tokens: has 2 lengths for 1 hashes",
        "calls.0.block_tokens: add up to 101, more than the 100 input tokens",
        "calls.0.block_tokens: must be at least 1 each, not 0",
        "calls.0.hash_ids: has a hash twice: a hash stands for its block and everything before it",
        "calls.0.block_tokens: needs the hashes of the blocks: there are none (hash_ids)",
        "calls.0.wait_s: must be at most 3,155,760,000 s, a hundred years, not 3200000000.0",
        "calls.0.wait_s: must be at least 0, not -0.5",
        "calls.0.shared_prefix_tokens: is more than the 100 input tokens",
    ]


def test_what_a_session_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    assert problems(path, [{}], tenant=7) == ["tenant: must be a text, not 7"]
    assert problems(path, [{}], deadline_s=0) == ["deadline_s: must be more than 0: nothing is done in no time"]
    assert problems(path, [{}], arrival_s=1e11)[0].startswith("arrival_s: must be at most 3,155,760,000 s, a hundred years")
    assert problems(path, [{}], [{}], session=4) == ["session: 4 is a duplicate: a line before has that session"]


def test_the_place_is_that_of_the_call(tmp_path: Path) -> None:
    """Not of the first key of that name in the line."""
    path = tmp_path / "t.jsonl"
    text = '{"session": 0, "arrival_s": 0, "calls": [{"after": [], "wait_s": 0, "input_tokens": 5, "output_tokens": 5}, '
    path.write_text(text + '{"after": [0], "wait_s": -1, "input_tokens": 5, "output_tokens": 5}]}\n')
    with pytest.raises(InputError) as caught:
        check_trace(path)
    assert str(caught.value).startswith(f"{path}:1:{len(text) + 16}: calls.1.wait_s: ")


def test_a_mooncake_stamp_of_another_age(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"timestamp": 3.2e12, "input_length": 5, "output_length": 5, "hash_ids": [1]}\n')
    with pytest.raises(InputError, match="timestamp: must be at most 3,155,760,000,000"):
        check_trace(path)


# --- tiers of a scenario -------------------------------------------------------------------------------------------------


def test_check_and_run_list_the_rows_of_unknown_tiers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiers = ["standard", "gold", "standrad", "standard", "free"]
    saved(tmp_path / "t.jsonl", [Session(n, float(n), tier, [Call((), 0.0, 5, 5)]) for n, tier in enumerate(tiers)])
    work = {"kind": "trace", "trace": "t.jsonl", "tiers": {"standard": 1.0}}
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(scenario(tmp_path) | {"workload": work}))
    assert check_command([str(file)]) == 2
    said = capsys.readouterr().err
    for line, told in (
        (2, "'gold' (known: standard)"),
        (3, "'standrad' (did you mean 'standard'?)"),
        (5, "'free' (known: standard)"),
    ):
        assert f"{tmp_path / 't.jsonl'}:{line}:34: tier: unknown tier {told}" in said
    with pytest.raises(InputError, match="unknown tier 'gold'"):
        run_scenario(load_scenario(str(file)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
