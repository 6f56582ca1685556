"""Every registered trace format keeps the same contract; each of ours reads its public form; bad rows are told by their place."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from twin.errors import InputError
from twin.workload.agent_generator import AgentGenerator
from twin.workload.arrivals import Poisson
from twin.workload.formats import TRACE_FORMATS, check_trace, read_trace, recognise, trace_format, trace_formats
from twin.workload.info import trace_info
from twin.workload.intake import Intake
from twin.workload.session import Call, Session
from twin.workload.single_call import ChatGenerator
from twin.workload.sources import GENERATORS
from twin.workload.trace_rows import ReadLog

AGENT_HEADER = (
    "session,agent,depth,idx,spawned_after_parent_idx,t_s,in_tokens,out_tokens,cached_prefix_tokens,api_time_s,think_time_s,stop"
)


def single(number: int, arrival_s: float, hashes: tuple[int, ...] | None = None) -> Session:
    return Session(number, arrival_s, "", [Call((), 0.0, 1000, 10 + number, hash_ids=hashes)])


def with_sub_agents(number: int, arrival_s: float) -> Session:
    """Main calls 0, 3, 5; agent 1 (calls 1, 2) is waited for by call 3, agent 2 (call 4) runs on beside call 5."""
    return Session(
        number,
        arrival_s,
        "",
        [
            Call((), 0.0, 1000, 100),
            Call((0,), 0.0, 500, 20, 0, 1, 1),
            Call((1,), 2.5, 600, 30, 512, 1, 1, None, True),
            Call((0, 2), 4.0, 1300, 50, 960, tool=True),
            Call((3,), 0.0, 700, 40, 0, 2, 1),
            Call((3,), 60.25, 1400, 60, 1280),
        ],
    )


SAMPLES: dict[str, list[Session]] = {
    "azure": [single(0, 0.0), single(1, 0.25), single(2, 86400.1234567)],
    "mooncake": [single(0, 0.0, (0, 1)), single(1, 1.5, (0, 2)), single(2, 1.5, (0, 2))],
    "agent_csv": [with_sub_agents(0, 0.0), with_sub_agents(1, 7.125)],
    "sessions": [
        with_sub_agents(0, 0.0),
        Session(1, 3.5, "gold", [Call((), 0.0, 600, 5, 512, hash_ids=(4, 5))], warm_tokens=540),
        Session(2, 4.5, "gold", [Call((), 0.0, 600, 5, system_tokens=256)], system_prompt=3),
    ],
}


def written(name: str, sessions: list[Session]) -> str:
    file = io.StringIO()
    trace_format(name).write(file, sessions)
    return file.getvalue()


TEXT = sorted(name for name, each in trace_formats().items() if each.write is not None and not each.binary)


@pytest.mark.parametrize("name", TEXT)
class TestContract:
    def test_round_trip(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "trace"
        path.write_text(written(name, SAMPLES[name]))
        assert recognise(path).name == name
        assert list(read_trace(path)) == SAMPLES[name]

    def test_reading_twice_gives_the_same(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "trace"
        path.write_text(written(name, SAMPLES[name]))
        assert list(read_trace(path)) == list(read_trace(path, name))
        assert written(name, list(read_trace(path))) == path.read_text()

    def test_a_bad_row_is_told_by_its_place(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "trace"
        lines = written(name, SAMPLES[name]).splitlines()
        path.write_text("\n".join([*lines, "no such row", *lines[1:2]]) + "\n")
        with pytest.raises(InputError) as caught:
            check_trace(path, name)
        assert str(caught.value.problems[0]).startswith(f"{path}:{len(lines) + 1}:1: ")

    def test_ten_bad_rows_are_listed_and_the_rest_counted(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "trace"
        lines = written(name, SAMPLES[name]).splitlines()
        path.write_text("\n".join([*lines, *["no such row"] * 1234]) + "\n")
        with pytest.raises(InputError) as caught:
            check_trace(path, name)
        assert len(caught.value.problems) == 11
        assert caught.value.problems[-1].message == "and 1,224 more problems"

    def test_nothing_is_given_after_a_bad_row(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "trace"
        lines = written(name, SAMPLES[name]).splitlines()
        header = 0 if lines[0].startswith("{") else 1
        path.write_text("\n".join([*lines[:header], "no such row", *lines[header:]]) + "\n")
        with pytest.raises(InputError):
            next(read_trace(path, name))

    def test_an_empty_trace_is_an_error(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "trace"
        for text in ("", "\n", written(name, SAMPLES[name]).splitlines()[0] + "\n" if name in ("azure", "agent_csv") else " \n"):
            path.write_text(text)
            with pytest.raises(InputError, match=f"{path}:1:1: .*(empty|missing)"):
                check_trace(path, name)

    def test_a_file_that_cannot_be_read(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read: No such file"):
            check_trace(tmp_path / "absent", name)
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(InputError, match="UTF-8"):
            check_trace(tmp_path / "binary", name)


def test_samples_cover_every_text_format_of_ours() -> None:
    assert set(SAMPLES) == {name for name, each in TRACE_FORMATS.items() if each.write is not None and not each.binary}


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        check_trace(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_azure_bad_values(tmp_path: Path) -> None:
    good = "2023-11-16 18:15:46.6805900,374,44"
    rows = [
        good,
        "2023-11-16 18:15:46.7,nan,44",
        "2023-11-16 18:15:46.7,-5,44",
        "2023-11-16 18:15:46.7,0,44",
        "2023-11-16 18:15:46.7,374,0",
        "yesterday,374,0",
        "2023-11-16 18:15:45,374,44",
        "2023-11-16 18:15:46.7,374",
    ]
    assert problems(tmp_path / "t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n") == [
        "3:23: ContextTokens: must be a whole number, not 'nan'",
        "4:23: ContextTokens: must be at least 1, not -5",
        "5:23: ContextTokens: must be at least 1, not 0",
        "6:27: GeneratedTokens: must be at least 1, not 0",
        "7:1: TIMESTAMP: 'yesterday' is no time stamp such as '2023-11-16 18:15:46.6805900'",
        "7:15: GeneratedTokens: must be at least 1, not 0",
        "8:1: TIMESTAMP: '2023-11-16 18:15:45' is earlier than the row before",
        "9:1: has 2 fields, the header has 3",
    ]


def test_azure_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("TIMESTAMP,ContextToken,GeneratedTokens\n2023-11-16 18:15:46,1,1\n")
    with pytest.raises(InputError, match=r"t\.csv:1:1: ContextTokens: the column is missing \(did you mean 'ContextToken'\?\)"):
        check_trace(path, "azure")


def test_azure_time_stamps_with_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = ["2024-05-10 00:00:00.009930+00:00,2162,5", "2024-05-10 02:00:01.25+02:00,100,6", "2024-05-10T00:00:02Z,100,6"]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    assert [session.arrival_s for session in read_trace(path)] == pytest.approx([0.0, 1.24007, 1.99007], abs=1e-7)


def test_mooncake_bad_values(tmp_path: Path) -> None:
    def row(**changes: object) -> str:
        return json.dumps({"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [0, 1]} | changes)

    rows = [
        row(),
        row(timestamp=4),
        row(timestamp=math.nan),
        row(input_length=0, hash_ids=[]),
        row(output_length="3"),
        row(hash_ids=[0]),
        row(hash_ids=None),
        '{"timestamp": 6, "input_length": }',
        "[]",
        '{"timestamp": 6, "input_length": 5, "hash_ids": [1]}',
    ]
    assert problems(tmp_path / "t.jsonl", "\n".join(rows)) == [
        "2:2: timestamp: 4 is earlier than the line before",
        "3:2: timestamp: must be a whole number, not nan",
        "4:18: input_length: must be at least 1, not 0",
        "5:39: output_length: must be a whole number, not '3'",
        "6:59: hash_ids: has 1 hashes; 600 tokens are 2 blocks of 512",
        "7:59: hash_ids: must be a list of whole numbers",
        "8:34: is not JSON: Expecting value",
        "9:1: must be a JSON object",
        "10:1: output_length: is missing",
    ]


def agent_rows(*rows: str) -> str:
    return AGENT_HEADER + "\n" + "\n".join(rows) + "\n"


def test_agent_csv_waits_and_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        agent_rows(
            "s,0,0,0,,0.0,1000,50,0,5.0,0.0,tool_use",
            "s,0,0,1,,9.0,1200,20,960,2.0,4.0,end_turn",
            "s,0,0,2,,99.0,1300,20,1152,2.0,88.0,tool_use",
            "s,0,0,3,,110.0,1400,0,1280,,,",
        )
    )
    log = ReadLog()
    (session,) = read_trace(path, log=log)
    assert math.isnan(session.arrival_s)
    assert session.calls == [
        Call((), 0.0, 1000, 50),
        Call((0,), 4.0, 1200, 20, 960, tool=True),
        Call((1,), 88.0, 1300, 20, 1152, tool=False),
        Call((2,), 0.0, 1400, 1, 1280, tool=True),
    ]
    assert sum(log.remarks.values()) == 2
    assert log.latest_s == 110.0


def test_agent_csv_the_next_call_waits_for_sub_agents_that_fit_into_its_think_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        agent_rows(
            "s,0,0,0,,0.0,1000,50,0,5.0,0.0,tool_use",
            "s,1,1,0,0,5.0,500,50,0,5.0,0.0,tool_use",  # spans 5 .. 25 + 5 s: 25 s, joined
            "s,1,1,1,0,25.0,600,50,448,5.0,15.0,end_turn",
            "s,2,1,0,0,5.0,500,50,0,5.0,0.0,end_turn",  # 5 s, joined
            "s,3,1,0,0,5.0,500,50,0,50.0,0.0,end_turn",  # 50 s: does not fit into the 30 s, runs beside
            "s,0,0,1,,35.0,1200,20,960,2.0,30.0,end_turn",
        )
    )
    (session,) = read_trace(path)
    assert [call.after for call in session.calls] == [(), (0,), (1,), (0,), (0,), (0, 2, 3)]
    assert session.calls[-1].wait_s == 5.0  # 30 s of think time, 25 s of them the longest sub-agent
    assert session.sub_agents == 3


def test_agent_csv_bad_values(tmp_path: Path) -> None:
    good = "s{0},0,0,0,,0.0,1000,50,0,5.0,0.0,tool_use"
    rows = [
        good.format(1),
        "s2,0,0,0,,0.0,1000,50,1001,5.0,0.0,tool_use",
        "s3,0,0,0,,0.0,1000,50,0,5.0,NaN,tool_use",
        "s4,0,0,0,,0.0,1000,50,0,5.0,-1,tool_use",
        "s5,0,0,0,,0.0,1000,0,0,5.0,0.0,tool_use",
        "s6,0,0,1,,0.0,1000,50,0,5.0,0.0,tool_use",
        "s7,1,1,0,0,0.0,1000,50,0,5.0,0.0,tool_use",
        "s8,0,1,0,,0.0,1000,50,0,5.0,0.0,tool_use",
        good.format(9),
        "s9,1,1,0,1,0.0,1000,50,0,5.0,0.0,tool_use",
        good.format(1),
    ]
    assert problems(tmp_path / "a.csv", agent_rows(*rows)) == [
        "3:23: cached_prefix_tokens: 1001 is more than the 1000 input tokens",
        "4:29: think_time_s: must be finite, not 'NaN'",
        "5:29: think_time_s: must be at least 0, not '-1'",
        "6:20: out_tokens: must be at least 1, not 0",
        "7:8: idx: must be 0, the next of agent 0, not 1",
        "8:4: agent: the session has no main agent (agent 0)",
        "9:6: depth: must be 0 for agent 0, not 1",
        "11:10: spawned_after_parent_idx: 1 is no call of the main agent, which has 1",
        "12:1: session: 's1' began earlier: the rows of a session must stand together",
    ]


def test_agent_csv_all_that_is_wrong_with_a_row(tmp_path: Path) -> None:
    good = "s1,0,0,0,,0.0,1000,50,0,5.0,0.0,tool_use"
    rows = [
        good,
        "s2,0,x,0,3,0.0,0,y,1,-5,never,tool_use",
        "s3,one,0,0,1,0.0,1000,50,0,5.0,nan,tool_use",
        "s4,1,0,0,,0.0,1000,50,2000,5.0,0.0,tool_use",
    ]
    assert [line.split(": must")[0] for line in problems(tmp_path / "a.csv", agent_rows(*rows))] == [
        "3:6: depth",
        "3:10: spawned_after_parent_idx",
        "3:16: in_tokens",
        "3:18: out_tokens",
        "3:22: api_time_s",
        "3:25: think_time_s",
        "4:4: agent",
        "4:32: think_time_s",
        "5:10: spawned_after_parent_idx: is blank: no call spawned agent 1",
        "5:23: cached_prefix_tokens: 2000 is more than the 1000 input tokens",
    ]


def test_sessions_bad_values(tmp_path: Path) -> None:
    numbers = itertools.count()

    def row(**changes: object) -> str:
        call = {"after": [], "wait_s": 0.0, "input_tokens": 5, "output_tokens": 1} | changes
        return json.dumps({"session": next(numbers), "arrival_s": 1.0, "tier": "", "calls": [call]})

    rows = [row(), row(after=[0]), row(input_tokens=0), row(wait_s=math.nan), row(shared_prefix_tokens=6), row(tool=1)]
    rows += [row(system_tokens=6), row(hash_ids=[1, 2])]
    assert [line.split(": ", 1)[1] for line in problems(tmp_path / "s.jsonl", "\n".join(rows))] == [
        "calls.0.after: must be a list of calls before call 0: it waits for itself, in a cycle",
        "calls.0.input_tokens: must be at least 1, not 0",
        "calls.0.wait_s: must be a finite number of seconds, not nan",
        "calls.0.shared_prefix_tokens: is more than the 5 input tokens",
        "calls.0.tool: must be true or false, not 1",
        "calls.0.system_tokens: is more than the 5 input tokens",
        "calls.0.hash_ids: has 2 hashes; 5 tokens are 1 blocks of 512",
    ]


def test_unknown_formats(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no known format"):
        recognise(tmp_path / "x")
    with pytest.raises(InputError, match="did you mean 'mooncake'"):
        trace_format("moonkake")


@pytest.mark.parametrize(
    ("name", "session"),
    [
        ("azure", with_sub_agents(0, 0.0)),
        ("mooncake", single(0, 0.0)),
        ("agent_csv", single(0, 0.0, (1, 2))),
        ("agent_csv", Session(0, 0.0, "", [Call((), 0.0, 5, 5)], warm_tokens=9)),
        ("agent_csv", Session(0, 0.0, "", [Call((), 0.0, 5, 5), Call((), 0.0, 5, 5)])),
        ("agent_csv", Session(0, 0.0, "", [Call((), 0.0, 5, 5, system_tokens=3)], system_prompt=0)),
        ("azure", Session(0, 0.0, "", [Call((), 0.0, 5, 5, system_tokens=3)], system_prompt=0)),
    ],
)
def test_what_a_format_cannot_hold_is_refused(name: str, session: Session) -> None:
    with pytest.raises(InputError, match="session 0"):
        written(name, [session])


@pytest.mark.parametrize(("kind", "name"), [("agents", "agent_csv"), ("agents", "sessions"), ("chat", "azure")])
def test_generated_sessions_survive_their_format(kind: str, name: str, tmp_path: Path) -> None:
    sessions = list(GENERATORS[kind](Intake(Poisson(0.1), seed=3, tiers={"": 1.0}, limit=80)).sessions())
    if name == "azure":  # it counts from the first arrival, in units of 100 ns
        first_s = sessions[0].arrival_s
        for session in sessions:
            session.arrival_s -= first_s
    path = tmp_path / "trace"
    path.write_text(written(name, sessions))
    read = list(read_trace(path))
    assert [session.arrival_s for session in read] == pytest.approx([session.arrival_s for session in sessions], abs=2e-7)
    assert [session.calls for session in read] == [session.calls for session in sessions]


def test_shared_system_prompts_survive_the_form_that_has_them(tmp_path: Path) -> None:
    intake = Intake(Poisson(0.1), seed=3, tiers={"": 1.0}, limit=40)
    path = tmp_path / "trace"
    for made in (AgentGenerator(intake, system_prompts=3), ChatGenerator(intake, system_prompt_tokens=700)):
        sessions = list(made.sessions())
        assert any(session.calls[0].system_tokens for session in sessions)
        path.write_text(written("sessions", sessions))
        assert list(read_trace(path)) == sessions


def test_info_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(written("mooncake", SAMPLES["mooncake"]))
    info = trace_info(path)
    added = {"call_hit_frac", "calls_per_session", "arrivals_per_min"}
    assert {key: value for key, value in info.items() if key not in added} == {
        "format": "mooncake",
        "requests": 3,
        "sessions": 3,
        "sub_agents": 0,
        "span_s": 1.5,
        "input_tokens": {"mean": 1000.0, "p50": 1000.0, "p95": 1000.0, "max": 1000},
        "output_tokens": {"mean": 11.0, "p50": 11.0, "p95": pytest.approx(11.9), "max": 12},
        "prefix_hit_frac": 0.5,  # blocks (0 1) (0 2) (0 2): 0 + 1 + 2 of 6 were there before
    }
    path.write_text(written("agent_csv", SAMPLES["agent_csv"]))
    info = trace_info(path)
    assert (info["requests"], info["sessions"], info["sub_agents"], info["span_s"]) == (12, 2, 4, 7.125)
    assert info["prefix_hit_frac"] == pytest.approx((512 + 960 + 1280) / (1000 + 500 + 600 + 1300 + 700 + 1400))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("AzureLLMInferenceTrace_conv.csv", ("azure", 19_366, 19_366, 0, 3501.721937, 0.0)),
        ("mooncake_conversation_trace.jsonl", ("mooncake", 12_031, 12_031, 0, 3536.999, 0.366)),
        ("claude_code_agentic/requests_flat.csv", ("agent_csv", 21_177, 344, 36, 94_890.0, 0.963)),
    ],
)
def test_real_traces(file: str, expected: tuple[object, ...], shared_data: Callable[[str], Path]) -> None:
    info = trace_info(shared_data(f"traces/{file}"))
    assert tuple(info[key] for key in ("format", "requests", "sessions", "sub_agents")) == expected[:4]
    assert info["span_s"] == pytest.approx(expected[4])
    assert info["prefix_hit_frac"] == pytest.approx(expected[5], abs=5e-4)
