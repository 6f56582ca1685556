"""Sweeps: the grid in its order, failing points, resuming, interrupting, the study's table and plots."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from tiny_run import write_tiny

from twin.cli.main import main
from twin.errors import InputError
from twin.processes.pool import Died, _Worker
from twin.schema import load_scenario
from twin.sweeps import Study, open_study, run_sweep
from twin.sweeps import run as sweeping
from twin.sweeps.plot import axis_values
from twin.sweeps.task import OnOutcome, Task, perform_all

RATE, POLICY = "workload.arrivals.rate", "control.policy"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def study(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    out = tmp_path_factory.mktemp("studies") / "study"
    return run_sweep(scenario, {RATE: ["2 /s", "4 /s"], POLICY: ["none", "uniform_cap"]}, jobs=2, out=out, set={"horizon": "8 s"})


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process, one after the other: quicker where processes are not what is tested."""

    def perform_here(tasks: Sequence[Task], jobs: int | None, on_done: OnOutcome) -> None:
        for index, task in enumerate(tasks):
            on_done(index, task())

    monkeypatch.setattr(sweeping, "perform_all", perform_here)


def test_a_sweep_is_one_run_a_point_in_the_order_of_the_grid(study: Study) -> None:
    frame = study.frame
    assert list(zip(frame[RATE], frame[POLICY], strict=True)) == [
        ("2 /s", "none"),
        ("2 /s", "uniform_cap"),
        ("4 /s", "none"),
        ("4 /s", "uniform_cap"),
    ]
    assert frame["status"].tolist() == ["done"] * 4
    assert frame["run"].tolist() == [
        "000-rate=2_s,policy=none",
        "001-rate=2_s,policy=uniform_cap",
        "002-rate=4_s,policy=none",
        "003-rate=4_s,policy=uniform_cap",
    ]
    assert study.failures == ()


def test_the_frame_holds_the_main_figures_of_each_summary(study: Study) -> None:
    row, summary = study.frame.iloc[3], study.run(3).summary
    assert summary["horizon_s"] == 8
    assert row["output_tokens_per_s"] == summary["service"]["output_tokens_per_s"]
    assert row["ttft_s_p99"] == summary["service"]["ttft_s"]["p99"]
    assert row["utility_mean_w"] == summary["energy"]["utility_j"] / 8
    assert row["curtailment.0.target_w"] == pytest.approx(0.9 * 60e3)
    assert row["tiers.chat.slo_attainment_frac"] == summary["service"]["tiers"]["chat"]["slo_attainment_frac"]
    assert row["requests.total"] == summary["requests"]["total"]


def test_the_tables_on_disk_are_the_frame(study: Study) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(study.path / "study.parquet"), study.frame)
    assert len(pd.read_csv(study.path / "study.csv")) == 4
    pd.testing.assert_frame_equal(open_study(study.path).frame, study.frame)


def test_one_process_gives_the_same_bytes_as_two(scenario: Path, study: Study, tmp_path: Path) -> None:
    over = {RATE: ["2 /s", "4 /s"], POLICY: ["none", "uniform_cap"]}
    alone = run_sweep(scenario, over, jobs=1, out=tmp_path / "study", set={"horizon": "8 s"})
    for name in ("study.json", "study.csv", "study.parquet", *(f"{run}/summary.json" for run in study.frame["run"])):
        assert (alone.path / name).read_bytes() == (study.path / name).read_bytes(), name


@pytest.mark.usefixtures("in_process")
def test_seeds_can_be_swept_and_runs_resumed(scenario: Path, tmp_path: Path) -> None:
    first = run_sweep(scenario, {"seed": [1, 2]}, out=tmp_path / "s")
    assert first.frame["requests.total"].nunique() == 2
    kept, redone = (first.path / run for run in first.frame["run"])
    before = (kept / "summary.json").stat().st_mtime_ns
    manifest = json.loads((redone / "manifest.json").read_text())
    (redone / "manifest.json").write_text(json.dumps(manifest | {"version": "0.0.0"}))
    (first.path / ".000-x.partial-1").mkdir()
    seen = []

    def note(index: int, count: int, run: object, outcome: object) -> None:
        seen.append((index, outcome is None))

    again = run_sweep(scenario, {"seed": [1, 2]}, out=tmp_path / "s", resume=True, on_point=note)
    assert sorted(seen) == [(0, True), (1, False)]
    assert (kept / "summary.json").stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(again.frame, first.frame)
    assert not list(first.path.glob(".*"))


@pytest.mark.usefixtures("in_process")
def test_another_sweep_at_the_same_place_takes_the_earlier_runs_away(scenario: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        run_sweep(scenario, {"seed": [seed]}, out=tmp_path / "s", set={"horizon": "5 s"})
    assert [path.name for path in sorted((tmp_path / "s").iterdir())] == [
        "000-seed=2",
        "study.csv",
        "study.json",
        "study.parquet",
    ]


@pytest.mark.usefixtures("in_process")
def test_a_point_that_fails_is_told_and_the_others_run(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:01,100,10\n")
    (tmp_path / "bad.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:01,many,10\n")
    text = scenario.read_text()
    begin, end = text.index("workload:"), text.index("serving:")
    replay = tmp_path / "replay.yaml"
    replay.write_text(text[:begin] + "workload: {kind: trace, trace: good.csv, tiers: {chat: 1}}\n" + text[end:])
    over = f"workload.trace={tmp_path / 'bad.csv'},{tmp_path / 'good.csv'}"
    assert main(["sweep", str(replay), "--over", over, "--out", str(tmp_path / "s"), "--json"]) == 2
    said = capsys.readouterr()
    rows = json.loads(said.out)["runs"]
    assert [row["status"] for row in rows] == ["failed", "done"]
    assert "bad.csv:2" in rows[0]["error"]
    assert rows[0]["pue"] is None
    assert "bad.csv:2" in said.err
    assert "Traceback" not in said.err
    (failure,) = open_study(tmp_path / "s").failures
    assert failure.startswith("workload.trace=")


def test_a_process_that_dies_takes_down_its_own_run_alone(scenario: Path, tmp_path: Path) -> None:
    import selectors

    loaded = load_scenario(scenario)
    with selectors.DefaultSelector() as selector:
        worker = _Worker(selector)
        worker.take(0, Task(load_scenario(scenario, {"horizon": "10 h"}), tmp_path / "long"))
        worker._process.kill()
        selector.select(10)
        index, outcome = worker.answer()
        assert index == 0
        assert isinstance(outcome, Died)
        assert "SIGKILL" in outcome.reason
        worker.take(1, Task(loaded, tmp_path / "next"))
        selector.select(30)
        index, outcome = worker.answer()
        assert (index, outcome.exit_code) == (1, 0)
        worker.dismiss()
        worker.wait()


def test_nothing_to_do_is_done_at_once() -> None:
    assert perform_all([], 2) == []


def test_an_interrupt_keeps_finished_runs_and_resume_does_the_rest(scenario: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "twin.cli.main",
        "sweep",
        str(scenario),
        "--over",
        "horizon=10 s,10 h",
        "--out",
        "s",
        "--jobs",
        "1",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "s").glob(".001-*.partial-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume does the rest" in said
    assert "Traceback" not in said
    assert sorted(os.listdir(tmp_path / "s")) == ["000-horizon=10_s", "study.json"]
    study = open_study(tmp_path / "s")
    assert study.content["status"] == "unfinished"
    assert study.frame["status"].tolist() == ["done", "pending"]


def test_every_problem_is_said_before_anything_is_written(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = [f"{POLICY}=ladder,laddr", "horizon=2 s,2 kW"]
    arguments = ["sweep", str(scenario), *(part for each in over for part in ("--over", each)), "--out", str(tmp_path / "s")]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "did you mean 'ladder'?" in said.err
    assert "2 kW" in said.err
    assert said.err.count("laddr") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("over", "options", "message"),
    [
        ({}, {}, "at least one key"),
        ({"seed": [1]}, {"engine": "dask"}, "'dask' is not in this version"),
        ({"seed": [1]}, {"jobs": 0}, "at least 1"),
        ({"seed": [1]}, {"set": {"seed": 2}}, "swept and set"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(scenario: Path, over: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_sweep(scenario, over, **options)


def test_a_place_that_holds_something_else_is_left_alone(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a study"):
        run_sweep(scenario, {"seed": [1]}, out=tmp_path)
    with pytest.raises(InputError, match="is not a study"):
        open_study(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("in_process")
def test_a_broken_limit_is_exit_1(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    limit = "[{value: energy.pue, max: 1.01}]"
    assert main(["sweep", str(scenario), "--over", f"limits=[],{limit}", "--set", "horizon=5 s"]) == 1
    (path,) = (tmp_path / "studies").iterdir()
    assert path.name.startswith("tiny-")
    assert open_study(path).frame["status"].tolist() == ["done", "limits broken"]
    assert "limits broken" in capsys.readouterr().out


def test_the_plot_draws_a_line_for_each_value_of_by(study: Study) -> None:
    axes = study.plot(RATE, "output_tokens_per_s", by=POLICY)
    assert [line.get_xdata().tolist() for line in axes.lines] == [[2.0, 4.0], [2.0, 4.0]]
    assert axes.lines[0].get_ydata().tolist() == study.frame["output_tokens_per_s"][[0, 2]].tolist()
    assert axes.get_xlabel() == f"{RATE}, /s"
    assert {"none", "uniform_cap"} <= {text.get_text() for text in axes.texts}


def test_the_plot_refuses_what_is_not_there_or_left_unsaid(study: Study) -> None:
    with pytest.raises(InputError, match="did you mean 'pue'"):
        study.plot(RATE, "pve")
    with pytest.raises(InputError, match=r"control\.policy was swept as well"):
        study.plot(RATE, "pue")


def test_seeds_are_averaged_in_a_plot(tmp_path: Path) -> None:
    frame = pd.DataFrame({"rate": ["1 /s", "1 /s", "2 /s", "2 /s"], "seed": [1, 2, 1, 2], "pue": [1.0, 2.0, 3.0, 5.0]})
    content = {"over": [{"path": "rate"}, {"path": "seed"}], "runs": []}
    study = Study(tmp_path, content)
    study.__dict__["frame"] = frame
    mean, dots = study.plot("rate", "pue").lines
    assert mean.get_ydata().tolist() == [1.5, 4.0]
    assert len(dots.get_ydata()) == 4


@pytest.mark.parametrize(
    ("values", "drawn", "unit"),
    [
        ([1, 2.5], [1.0, 2.5], ""),
        (["500 ms", "2 ms"], [500.0, 2.0], "ms"),
        (["500 ms", "2 s"], [0.5, 2.0], "s"),
        (["80 %", "70 %"], [80.0, 70.0], "%"),
        (["ladder", "none"], ["ladder", "none"], ""),
        (["2 s", "2 kW"], ["2 s", "2 kW"], ""),
        (["3 apples", "4 apples"], ["3 apples", "4 apples"], ""),
    ],
)
def test_quantities_are_drawn_as_numbers(values: list, drawn: list, unit: str) -> None:
    assert axis_values(values) == (drawn, unit)
