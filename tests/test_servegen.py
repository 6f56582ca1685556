"""ServeGen clients: read strictly, drawn at the rates, burstiness and lengths of each, the same for the same seed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from twin.cli.check import check_command
from twin.cli.trace import trace_generate_command
from twin.errors import InputError
from twin.schema import load_scenario
from twin.workload import ServeGenSessions, read_trace
from twin.workload.formats import recognise
from twin.workload.info import trace_info
from twin.workload.servegen_clients import read_clients

ROOT = Path(__file__).resolve().parents[1]
ROWS = "0,0.5,1,Gamma,1.0,2.0\n600,0,0,,0,0\n1200,2,0.5,Gamma,4.0,0.1\n"
TABLES = {"input_tokens": "{10: 0.25, 30: 0.75}", "output_tokens": {"5": 1.0}}


def client(folder: Path, number: int = 0, rows: str = ROWS, blocks: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"chunk-{number}-trace.csv").write_text(rows)
    content = blocks if isinstance(blocks, str) else json.dumps({"0": TABLES} if blocks is None else blocks)
    (folder / f"chunk-{number}-dataset.json").write_text(content)
    return folder


def problems(folder: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_clients(folder)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def arrivals(source: ServeGenSessions, count: int) -> list[float]:
    return [session.arrival_s for session in islice(source.sessions(), count)]


def test_a_client_by_hand(tmp_path: Path) -> None:
    (one,) = read_clients(client(tmp_path / "c"))
    assert [(w.start_s, w.end_s, w.rate_per_s, w.family, w.shape) for w in one.windows] == [
        (0, 600, 0.5, "Gamma", 1.0),
        (600, 1200, 0, "", 0),
        (1200, 1800, 2, "Gamma", 4.0),
    ]
    inputs, outputs = one.lengths_at(1700.0)
    assert [inputs.at(u) for u in (0.0, 0.2499, 0.25, 0.9999)] == [10, 10, 30, 30]
    assert outputs.at(0.5) == 5
    assert recognise(tmp_path / "c").name == "servegen"


def test_nothing_comes_where_the_rate_is_0_and_the_day_begins_anew(tmp_path: Path) -> None:
    source = ServeGenSessions(client(tmp_path / "c"), 1, horizon_s=20 * 1800.0)
    times_s = [session.arrival_s for session in source.sessions()]
    assert all(one <= other for one, other in pairwise(times_s))
    by_window = Counter(int(time_s % 1800 // 600) for time_s in times_s)
    assert by_window[1] == 0
    assert by_window[0] == pytest.approx(20 * 300, abs=4 * math.sqrt(20 * 300))
    assert by_window[2] == pytest.approx(20 * 1200, abs=4 * math.sqrt(20 * 1200 / 4))


@pytest.mark.parametrize(
    ("family", "shape", "cv"), [("Gamma", 4.0, 0.5), ("Gamma", 0.25, 2.0), ("Weibull", 1.0, 1.0), ("Weibull", 0.5, math.sqrt(5))]
)
def test_gaps_have_the_rate_and_the_variation_of_their_family(tmp_path: Path, family: str, shape: float, cv: float) -> None:
    rows = "".join(f"{600 * i},3,{cv},{family},{shape},1\n" for i in range(4))
    gaps_s = np.diff(arrivals(ServeGenSessions(client(tmp_path / "c", rows=rows), 5, limit=40_000), 40_000))
    assert gaps_s.mean() == pytest.approx(1 / 3, rel=5 * cv / 200)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.06)


def test_a_gap_goes_on_into_the_next_window(tmp_path: Path) -> None:
    """All but steady gaps: the call due half a gap after the change comes half of the new window's gap after it."""
    rows = "0,0.02,0.01,Gamma,10000,1\n75,0.2,0.01,Gamma,10000,1\n150,0.2,0.01,Gamma,10000,1\n"
    times_s = arrivals(ServeGenSessions(client(tmp_path / "c", rows=rows), 1, limit=3), 3)
    assert times_s == pytest.approx([50, 77.5, 82.5], abs=2)


def test_scale_and_start(tmp_path: Path) -> None:
    folder = client(tmp_path / "c")
    count = len(list(ServeGenSessions(folder, 1, horizon_s=600.0, start_s=1200.0, scale=3.0).sessions()))
    assert count == pytest.approx(3600, abs=4 * 60 / 2)
    assert arrivals(ServeGenSessions(folder, 1, limit=1, start_s=600.0), 1)[0] > 600
    with pytest.raises(InputError, match="the recorded day has 1800 s"):
        arrivals(ServeGenSessions(folder, 1, limit=1, start_s=1800.0), 1)


def test_each_client_has_its_own_streams(tmp_path: Path) -> None:
    """Adding a client moves none of the others' calls; another seed moves all."""
    folder = client(tmp_path / "c")

    def of_client_0(seed: int) -> list[tuple[float, int]]:
        found = ServeGenSessions(folder, seed, horizon_s=600.0).sessions()
        return [(s.arrival_s, s.calls[0].input_tokens) for s in found if s.tenant == "client_0"]

    alone = of_client_0(1)
    client(folder, 7)
    assert of_client_0(1) == alone
    assert of_client_0(2) != alone


def test_represent_limit_and_tiers(tmp_path: Path) -> None:
    folder = client(tmp_path / "c")
    mix = {"a": 0.5, "b": 0.5}
    whole = list(ServeGenSessions(folder, 1, 1800.0, mix).sessions())
    some = list(ServeGenSessions(folder, 1, 1800.0, mix, represent=4).sessions())
    assert len(some) == pytest.approx(len(whole) / 4, rel=0.2)
    assert {s.arrival_s for s in some} <= {s.arrival_s for s in whole}
    assert [s.session_id for s in whole] == list(range(len(whole)))
    assert {s.tier for s in whole} == {"a", "b"}
    assert len(list(ServeGenSessions(folder, 1, 1800.0, limit=7).sessions())) == 7


def test_bad_windows_are_told_by_their_places(tmp_path: Path) -> None:
    rows = "\n".join(
        [
            "5,1,1,Gamma,1,1",
            "0,1,1,Gamma,1,1",
            "600,-1,1,Gamma,1,1",
            "700,1,x,Gamma,1,1",
            "800,1,1,Normal,1,1",
            "900,1,1,Gamma,0,1",
            "1000,1,1,Weibull,nan,1",
            "0,1,1,Gamma,1,1",
            "1100,1",
            "2000,1,1,Gamma,1,1",
        ]
    )
    assert problems(client(tmp_path / "c", rows=rows)) == [
        "chunk-0-trace.csv:1:1: start_s: must be 0 in the first row",
        "chunk-0-trace.csv:3:5: rate_per_s: must be from 0 to 1e+09, not '-1'",
        "chunk-0-trace.csv:4:7: cv: must be a number, not 'x'",
        "chunk-0-trace.csv:5:9: family: must be Gamma or Weibull where the rate is not 0, not 'Normal'",
        "chunk-0-trace.csv:6:15: p1: must be from 0.001 to 10000, not '0'",
        "chunk-0-trace.csv:7:18: p1: must be from 0.1 to 10000, not 'nan'",
        "chunk-0-trace.csv:8:1: start_s: must be at least 1: a window lasts 1 s or more",
        "chunk-0-trace.csv:9:1: has 2 fields, not the 6 of start_s, rate_per_s, cv, family, p1, p2",
    ]


def test_bad_lengths_are_told_by_their_places(tmp_path: Path) -> None:
    blocks = """{"0": {"input_tokens": "{10: 0.5, 20: 0.6}", "output_tokens": {"5": 1.0}},
 "600": {"input_tokens": "{}", "output_tokens": {}},
 "1200": {"input_tokens": "{}", "output_tokens": "five"},
 "1300": {"input_tokens": {"0": 1.0}, "output_tokens": {"5": 2.0}},
 "1400": 7, "night": {}}"""
    assert problems(client(tmp_path / "c", blocks=blocks)) == [
        "chunk-0-dataset.json:1:8: 0.input_tokens: the probabilities add up to 1.1, not 1",
        "chunk-0-dataset.json:3:33: 1200.output_tokens: must be a table {tokens: probability}, not 'five'",
        "chunk-0-dataset.json:4:11: 1300.input_tokens: must be at least 1, not 0",
        "chunk-0-dataset.json:4:39: 1300.output_tokens: the probability of 5 tokens must be from 0 to 1, not 2.0",
        "chunk-0-dataset.json:5:2: 1400: must be a JSON object",
        "chunk-0-dataset.json:5:13: night: a block is named by its start: must be a number of seconds, not 'night'",
        "chunk-0-dataset.json:3:11: 1200.input_tokens: is empty, but 2 requests/s come in the window from 1200 s",
    ]


def test_windows_and_shapes_have_a_least_value(tmp_path: Path) -> None:
    short = client(tmp_path / "short", rows="0,1,1,Gamma,1,1\n1e-9,1,1,Gamma,1,1\n")
    assert problems(short)[0] == "chunk-0-trace.csv:2:1: start_s: must be at least 1: a window lasts 1 s or more"
    steep = client(tmp_path / "steep", rows="0,1,1,Weibull,0.0999,1\n600,1,1,Gamma,1,1\n")
    assert problems(steep)[0] == "chunk-0-trace.csv:1:15: p1: must be from 0.1 to 10000, not '0.0999'"
    wild = client(tmp_path / "wild", rows="0,1,1,Weibull,0.1,1\n600,1,1,Gamma,0.001,1\n")
    assert all(map(math.isfinite, arrivals(ServeGenSessions(wild, 1, limit=100), 100)))


def test_a_day_without_a_call_is_no_trace(tmp_path: Path) -> None:
    folder = client(tmp_path / "c", rows="0,1e-12,1,Gamma,1,1\n600,0,0,,0,0\n")
    with pytest.raises(InputError, match="no call comes in the recorded day of 1200 s"):
        trace_info(folder)


def test_so_many_calls_never_come(tmp_path: Path) -> None:
    folder = client(tmp_path / "c", rows="0,1e-12,1,Gamma,1,1\n40000000,0,0,,0,0\n")
    with pytest.raises(InputError, match="0 calls come in a hundred years, not 3: the rates are too low"):
        arrivals(ServeGenSessions(folder, 1, limit=3), 3)


def test_half_a_character_in_a_name_can_be_told(tmp_path: Path) -> None:
    folder = client(tmp_path / "c", blocks={"0": TABLES, "\ud800": {}})
    assert "\\ud800: a block is named by its start" in problems(folder)[0]


def test_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert problems(empty) == [f"{empty}:1:1: has no client: files chunk-N-trace.csv and chunk-N-dataset.json"]
    lone = client(tmp_path / "lone")
    (lone / "chunk-0-dataset.json").unlink()
    assert problems(lone) == ["chunk-0-dataset.json:1:1: cannot be read: No such file or directory"]
    never = client(tmp_path / "never", rows="0,0,0,,0,0\n600,0,0,,0,0\n")
    assert problems(never) == ["chunk-0-trace.csv:1:1: rate_per_s: is 0 in every window: the client never asks"]
    short = client(tmp_path / "short", rows="0,1,1,Gamma,1,1\n")
    assert "has fewer than two windows" in problems(short)[0]
    two = client(client(tmp_path / "two"), 1, rows="0,1,1,Gamma,1,1\n600,1,1,Gamma,1,1\n")
    assert problems(two) == [f"{two}:1:1: the day of client_1 ends at 1200 s, that of client_0 at 1800 s"]


# --- in commands and scenarios ---------------------------------------------------------------------------------------------


def test_generate(tmp_path: Path) -> None:
    out = tmp_path / "t.parquet"
    assert trace_generate_command("servegen", out, sessions=50, seed=3, clients=client(tmp_path / "c")) == 0
    made = list(read_trace(out))
    assert made == [*ServeGenSessions(tmp_path / "c", 3, tiers={"": 1.0}, limit=50).sessions()]
    assert {session.tenant for session in made} == {"client_0"}
    for options in ({"clients": None}, {"clients": tmp_path / "c", "rate_per_s": 2.0}):
        with pytest.raises(InputError, match=r"servegen"):
            trace_generate_command("servegen", out, sessions=50, seed=3, **options)


def scenario(folder: Path, **work: object) -> dict[str, object]:
    return {
        "name": "clients",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [{"name": "standard"}],
        "workload": {"kind": "servegen", "clients": str(folder), "tiers": {"standard": 1.0}} | work,
        "serving": {
            "model": "llama_3_1_8b",
            "precision": {"weights": "fp8", "kv": "fp8"},
            "backend": "vllm",
            "pools": [{"name": "engine", "role": "aggregated", "racks": "racks", "parallelism": {"tp": 1}, "instances": 1}],
        },
        "horizon": "5 min",
    }


def test_a_scenario_runs_on_clients(tmp_path: Path) -> None:
    from twin.engine import run_scenario

    loaded = load_scenario(scenario(client(tmp_path / "c"), scale=2, start="20 min"))
    done = run_scenario(loaded, tmp_path / "run")
    assert done.summary["requests"]["total"] == pytest.approx(5 * 60 * 4, rel=0.1)
    assert all(done.summary["invariants"].values())
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [Path(file).name for file in manifest["inputs"] if "chunk" in file] == ["chunk-0-dataset.json", "chunk-0-trace.csv"]


def test_check_lists_what_is_wrong_with_the_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(scenario(Path("c"))))  # beside the scenario that names it
    client(tmp_path / "c", rows="0,1,1,Gamma,1,1\n600,-1,1,Gamma,1,1\n")
    assert check_command([str(file)]) == 2
    assert f"{tmp_path / 'c' / 'chunk-0-trace.csv'}:2:5: rate_per_s: " in capsys.readouterr().err
    for where, said in (
        ("nowhere", "no such folder"),
        ("s.yaml", "is a file, not a folder"),
        ("", "the path of a folder is due"),
    ):
        file.write_text(yaml.safe_dump(scenario(Path("c")) | {"workload": scenario(Path("c"))["workload"] | {"clients": where}}))  # type: ignore[operator]
        assert check_command([str(file)]) == 2
        assert said in capsys.readouterr().err


def test_the_recorded_clients(shared_data: Callable[[str], Path]) -> None:
    """Rates of hours, by client, against the recorded windows; every length is one of its block's."""
    folder = shared_data("traces/servegen_deepseek_r1")
    clients = {each.name: each for each in read_clients(folder)}
    assert len(clients) == 24
    counts: Counter[str] = Counter()
    span_s = 7200.0
    for session in ServeGenSessions(folder, 1, horizon_s=span_s, start_s=72_000.0).sessions():
        counts[session.tenant] += 1
        inputs, outputs = clients[session.tenant].lengths_at(72_000.0 + session.arrival_s)
        assert session.calls[0].input_tokens in inputs.tokens
        assert session.calls[0].output_tokens in outputs.tokens
    windows = {
        name: [w for w in each.windows if 72_000 <= w.start_s < 72_000 + span_s and w.rate_per_s]
        for name, each in clients.items()
    }
    expected = {name: sum(w.rate_per_s * 600 for w in found) for name, found in windows.items()}
    assert counts.total() == pytest.approx(sum(expected.values()), rel=0.03)
    for name, number in expected.items():
        # a renewal process of that variation, doubled for what the fits of a window differ by
        cv = max((1 / math.sqrt(w.shape) if w.family == "Gamma" else 1 / w.shape for w in windows[name]), default=0)
        assert abs(counts[name] - number) <= 8 * cv * math.sqrt(number) + 2 * cv * cv + 2, name
