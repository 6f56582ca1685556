"""Numbers too large for any table are bad rows with their place, and refusals of `trace generate`: never a traceback."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from twin.cli.main import main
from twin.errors import InputError
from twin.workload.arrivals import Gamma
from twin.workload.formats import check_trace, trace_format
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
