"""Replay options, and the trace commands."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from twin.cli.trace import trace_convert_command, trace_generate_command, trace_info_command
from twin.errors import InputError
from twin.workload.arrivals import Poisson
from twin.workload.formats import read_trace, trace_format
from twin.workload.replay import TraceReplay, assign_arrivals
from twin.workload.session import NO_ARRIVAL, Call, Session

SHIPPED = Path(__file__).parents[1] / "scenarios" / "traces"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Ten calls, one a second, each of the blocks 0 and 1 + its number."""
    path = tmp_path / "ten.jsonl"
    with path.open("w") as file:
        sessions = [Session(i, float(i), "", [Call((), 0.0, 600, 5, hash_ids=(0, 1 + i))]) for i in range(10)]
        trace_format("mooncake").write(file, sessions)
    return path


def times(replay: TraceReplay) -> list[float]:
    return [session.arrival_s for session in replay.sessions()]


def test_speed_offset_horizon_and_limit(trace: Path) -> None:
    assert times(TraceReplay(trace, 1)) == [float(i) for i in range(10)]
    assert times(TraceReplay(trace, 1, speedup=2.0)) == [i / 2 for i in range(10)]
    assert times(TraceReplay(trace, 1, start_s=6.5, speedup=2.0)) == [0.25, 0.75, 1.25]
    assert times(TraceReplay(trace, 1, horizon_s=3.0)) == [0.0, 1.0, 2.0]
    assert times(TraceReplay(trace, 1, limit=2)) == [0.0, 1.0]


def test_repeats_follow_a_mean_gap_later_with_hashes_of_their_own(trace: Path) -> None:
    sessions = list(TraceReplay(trace, 1, repeat=3).sessions())
    assert [session.arrival_s for session in sessions] == [float(i) for i in range(30)]
    assert [session.session_id for session in sessions] == list(range(30))
    assert [session.calls[0].hash_ids for session in sessions[9:12]] == [(0, 10), (11, 12), (11, 13)]


def test_thinning_and_tiers_are_fair_and_repeatable(trace: Path) -> None:
    replay = TraceReplay(trace, 1, repeat=200, represent=4, tiers={"gold": 0.25, "silver": 0.75})
    sessions = list(replay.sessions())
    assert len(sessions) == pytest.approx(500, abs=80)
    assert sum(session.tier == "gold" for session in sessions) / len(sessions) == pytest.approx(0.25, abs=0.08)
    assert sessions == list(replay.sessions())
    every = list(TraceReplay(trace, 1, repeat=200).sessions())
    assert {session.arrival_s for session in sessions} <= {session.arrival_s for session in every}


def test_a_trace_without_arrivals_needs_some(tmp_path: Path) -> None:
    path = tmp_path / "agents.csv"
    with path.open("w") as file:
        calls = [Call((), 0.0, 100, 5), Call((0,), 3.0, 120, 5, 64, tool=True)]
        trace_format("agent_csv").write(file, [Session(i, NO_ARRIVAL, "", calls) for i in range(5)])
    assert all(math.isnan(session.arrival_s) for session in read_trace(path))
    with pytest.raises(InputError, match="give the workload `arrivals`"):
        list(TraceReplay(path, 1).sessions())
    with pytest.raises(InputError, match="speed-up"):
        list(TraceReplay(path, 1, arrivals=Poisson(1.0), speedup=2.0).sessions())
    sessions = list(TraceReplay(path, 1, arrivals=Poisson(1.0), repeat=2, think_time_scale=0.5).sessions())
    assert len(sessions) == 10
    assert sessions[0].calls[1].wait_s == 1.5
    assert all(a.arrival_s < b.arrival_s for a, b in pairwise(sessions))
    assert len(list(TraceReplay(path, 1, arrivals=Poisson(1.0), horizon_s=2.0).sessions())) < 5


def test_assign_arrivals_ends_with_the_shorter() -> None:
    sessions = [Session(i, NO_ARRIVAL, "", [Call((), 0.0, 1, 1)]) for i in range(3)]
    assert [session.arrival_s for session in assign_arrivals(sessions, [1.0, 4.0])] == [1.0, 4.0]


def test_bad_options(trace: Path) -> None:
    for options in ({"speedup": 0.0}, {"speedup": math.nan}, {"start_s": -1.0}, {"repeat": 0}, {"tiers": {"a": 0.4}}):
        with pytest.raises(InputError):
            TraceReplay(trace, 1, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        list(TraceReplay(trace, 1, represent=0).sessions())


def test_info_command(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace_info_command(trace, "auto", True) == 0
    info = json.loads(capsys.readouterr().out)
    lengths = ["input_tokens", "output_tokens"]
    assert list(info)[:8] == ["format", "requests", "sessions", "sub_agents", "span_s", *lengths, "prefix_hit_frac"]
    assert info["prefix_hit_frac"] == 9 / 20
    assert trace_info_command(trace) == 0
    assert re.search(r"^prefix_hit_frac +0\.4500$", capsys.readouterr().out, re.MULTILINE)


def test_generate_and_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat, whole = tmp_path / "a.csv", tmp_path / "a.jsonl"
    assert trace_generate_command("agents", flat, sessions=20, seed=4) == 0
    assert trace_convert_command(flat, "auto", whole) == 0
    assert list(read_trace(flat)) == list(read_trace(whole))
    assert trace_convert_command(whole, "sessions", tmp_path / "b.csv") == 0
    assert (tmp_path / "b.csv").read_bytes() == flat.read_bytes()
    assert trace_generate_command("fixed", tmp_path / "f.csv", sessions=3, seed=1, input_tokens=512, output_tokens=128) == 0
    assert [session.calls for session in read_trace(tmp_path / "f.csv")] == [[Call((), 0.0, 512, 128)]] * 3
    assert trace_generate_command("chat", tmp_path / "c.jsonl", sessions=3, seed=1, burstiness=2.0) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "wrote 20 sessions" in printed.err


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("agent", "a.csv", {}),
        ("chat", "a.pq", {}),
        ("servegen", "a.csv", {}),
        ("chat", "a.csv", {"clients": Path("clients")}),
        ("fixed", "a.csv", {}),
        ("fixed", "a.csv", {"input_tokens": 5, "output_tokens": 0}),
        ("chat", "a.csv", {"input_tokens": 5}),
        ("chat", "a.csv", {"rate_per_s": -1.0}),
        ("chat", "absent/a.csv", {}),
    ],
)
def test_bad_generate(kind: str, name: str, options: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        trace_generate_command(kind, tmp_path / name, sessions=5, seed=1, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, trace: Path) -> None:
    with pytest.raises(InputError, match="block hashes"):
        trace_convert_command(trace, "auto", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == [trace]


@pytest.mark.parametrize(("name", "requests", "kind"), [("chat_small", 2000, "chat"), ("agents_small", 3721, "agents")])
def test_the_shipped_traces_are_what_the_generator_writes(name: str, requests: int, kind: str, tmp_path: Path) -> None:
    options = {"chat": (2000, 2.0), "agents": (60, 2 / 60)}[kind]
    made = tmp_path / "made.csv"
    trace_generate_command(kind, made, sessions=options[0], seed=1, rate_per_s=options[1])
    assert made.read_bytes() == (SHIPPED / f"{name}.csv").read_bytes()
    assert sum(len(session.calls) for session in read_trace(made)) == requests
