"""Numbers too large for any table are bad rows with their place, and refusals of `trace generate`: never a traceback."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from twin.cli.main import main
from twin.errors import InputError
from twin.workload.arrivals import Gamma
from twin.workload.formats import check_trace, read_trace, trace_format
from twin.workload.session import Call, Session

HUGE = "9" * 23
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,{},20\n"


def told(path: Path, text: str, form: str) -> str:
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        check_trace(path, form)
    return str(caught.value)


@pytest.mark.parametrize("number", [HUGE, "1000000001", "9" * 5000, "1" + "0" * 400])
def test_a_count_of_the_azure_trace_has_a_bound(number: str, tmp_path: Path) -> None:
    said = told(tmp_path / "t.csv", AZURE.format(number), "azure")
    assert said.startswith(f"{tmp_path}/t.csv:2:21: ContextTokens: must be ")
    assert len(said) < 300


def test_the_bound_itself_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(AZURE.format(10**9))
    check_trace(tmp_path / "t.csv")


@pytest.mark.parametrize("number", [HUGE, "9" * 401, "1e300", "1" + "0" * 5000, "-" + "9" * 401])
@pytest.mark.parametrize("key", ["timestamp", "input_length"])
def test_numbers_of_the_mooncake_trace_have_bounds(key: str, number: str, tmp_path: Path) -> None:
    row = {"timestamp": "0", "input_length": "10", "output_length": "5", "hash_ids": "[1]"} | {key: number}
    text = "{" + ", ".join(f'"{name}": {value}' for name, value in row.items()) + "}\n"
    said = told(tmp_path / "t.jsonl", text, "mooncake")
    assert said.startswith(f"{tmp_path}/t.jsonl:1:")
    assert len(said) < 300


@pytest.mark.parametrize(("key", "number"), [("wait_s", "9" * 401), ("depth", "32768"), ("input_tokens", HUGE)])
def test_numbers_of_our_own_form_have_bounds(key: str, number: str, tmp_path: Path) -> None:
    call = {"after": "[]", "wait_s": "0", "input_tokens": "9", "output_tokens": "1"} | {key: number}
    calls = ", ".join(f'"{name}": {value}' for name, value in call.items())
    said = told(tmp_path / "t.jsonl", f'{{"session": 0, "arrival_s": 0, "calls": [{{{calls}}}]}}\n', "sessions")
    assert f"calls.0.{key}: must be " in said


def test_a_line_nested_without_end_is_a_bad_row(tmp_path: Path) -> None:
    said = told(tmp_path / "t.jsonl", "[" * 200_000 + "\n", "sessions")
    assert said.startswith(f"{tmp_path}/t.jsonl:1:1: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "-1"], "--seed -1"),
        (["--rate", "1e-300 /s"], "more than a hundred years"),
        (["--input-tokens", HUGE], "--input-tokens"),
        (["--output-tokens", "0"], "--output-tokens 0"),
        (["--burstiness", "1e200"], "burstiness"),
        (["--burstiness", "1e-200"], "burstiness"),
        (["--burstiness", "nan"], "burstiness"),
    ],
)
def test_generate_refuses_before_it_writes(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    given = ["--sessions", "3", "--input-tokens", "10", "--output-tokens", "5", *arguments]
    assert main(["trace", "generate", "fixed", "--out", str(out), *given]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_time_beyond_all_calendars_is_refused() -> None:
    late = Session(0, 1e300, "", [Call((), 0.0, 9, 1)])
    with pytest.raises(InputError, match="no date is so late"):
        trace_format("azure").write(io.StringIO(), [late])


@pytest.mark.parametrize("burstiness", [0.0, 1e-4, 101.0, float("inf")])
def test_burstiness_has_bounds(burstiness: float) -> None:
    with pytest.raises(InputError, match="burstiness"):
        Gamma(1.0, burstiness)


# --- what a record of a session says of its agents, hashes and names ------------------------------------------------------------


def session_line(*calls: dict[str, object], **session: object) -> str:
    usual = {"wait_s": 0, "input_tokens": 100, "output_tokens": 10}
    return json.dumps({"session": 0, "arrival_s": 0, "calls": [usual | call for call in calls]} | session) + "\n"


def test_a_depth_left_out_is_that_of_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(session_line({"after": []}, {"agent": 1, "after": [0]}, {"agent": 2, "after": [1]}, {"after": [0, 2]}))
    (session,) = read_trace(path)
    assert [call.depth for call in session.calls] == [0, 1, 2, 0]
    assert main(["trace", "fit", str(path), "--out", str(tmp_path / "fit.yaml")]) == 0


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([{"after": []}, {"agent": 1, "after": [0], "depth": 7}], "calls.1.depth: must be 1 for agent 1, not 7"),
        ([{"after": [], "depth": 1}], "calls.0.depth: must be 0 for agent 0, not 1"),
        (
            [{"after": []}, {"after": [], "any_of": [0], "any_count": 1}],
            "calls.1.any_of: may go on without call 0 of its own agent",
        ),
        (
            [{"after": []}, {"agent": 1, "after": [0]}, {"after": [1], "any_of": [1], "any_count": 1}],
            "calls.2.any_of: names a call twice",
        ),
        (
            [{"after": []}, {"agent": 1, "after": [], "any_of": [0], "any_count": 1}],
            "calls.1.after: the first call of agent 1 needs the call that spawned it",
        ),
        ([{"after": []}, {"agent": 65_536, "after": [0]}], "calls.1.agent: must be at most 65,535, not 65536"),
        ([{"after": [], "hash_ids": [2**63]}], "calls.0.hash_ids: must be numbers of 64 bits"),
    ],
)
def test_what_no_run_could_do_is_a_bad_row(calls: list[dict[str, object]], said: str, tmp_path: Path) -> None:
    text = told(tmp_path / "t.jsonl", session_line(*calls), "sessions")
    assert text.startswith(f"{tmp_path}/t.jsonl:1:")
    assert said in text


@pytest.mark.parametrize("key", ["tier", "tenant"])
def test_half_a_character_is_no_name(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(session_line({"after": []}, **{key: "\ud800"}))
    assert main(["trace", "convert", str(path), "--out", str(tmp_path / "t.parquet")]) == 2
    assert f"{key}: holds half a character" in capsys.readouterr().err


def test_the_largest_and_least_hashes_survive(tmp_path: Path) -> None:
    path, out = tmp_path / "t.jsonl", tmp_path / "t.parquet"
    path.write_text(session_line({"after": [], "hash_ids": [2**63 - 1, -(2**63)], "input_tokens": 600}))
    assert main(["trace", "convert", str(path), "--out", str(out)]) == 0
    assert [each.calls for each in read_trace(out)] == [each.calls for each in read_trace(path)]


@pytest.mark.parametrize(("hashes", "said"), [([7, 7], "has a hash twice"), ([7, 2**70], "must be numbers of 64 bits")])
def test_hashes_of_the_mooncake_trace(hashes: list[int], said: str, tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": hashes}
    assert f"hash_ids: {said}" in told(tmp_path / "t.jsonl", json.dumps(row), "mooncake")


def test_hashes_of_raw_sessions_have_a_bound_in_a_file_and_together(tmp_path: Path) -> None:
    def raw(name: str, hash_id: int) -> str:
        call = {"t": 0, "in": 64, "out": 3, "hash_ids": [hash_id], "think_time": 0}
        return json.dumps({"id": name, "block_size": 64, "requests": [call]})

    assert "requests.0.hash_ids: must be numbers of 64 bits" in told(tmp_path / "a.json", raw("a", 2**63), "agent_raw")
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "1.json").write_text(raw("one", 2**63 - 1))
    (folder / "2.json").write_text(raw("two", 0))
    with pytest.raises(InputError, match=r"2\.json:1:\d+: requests: its hashes, .* need more than 64 bits"):
        check_trace(folder, "agent_raw")


def test_agents_of_the_flat_csv_have_a_bound(tmp_path: Path) -> None:
    header = "session,agent,depth,idx,spawned_after_parent_idx,in_tokens,out_tokens,cached_prefix_tokens,think_time_s,stop\n"
    said = told(tmp_path / "t.csv", header + "s,0,0,0,,9,1,0,0,x\ns,65536,1,0,0,9,1,0,0,x\n", "agent_csv")
    assert said == f"{tmp_path}/t.csv:3:3: agent: must be at most 65,535, not 65536"
