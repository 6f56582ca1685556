"""`twin pareto`: files, table and JSON, objectives and limits, resuming, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tiny_run import write_tiny

from twin.cli.main import main
from twin.errors import InputError, SimulationError
from twin.pareto import ParetoStudy, run_pareto
from twin.pareto import study as studying
from twin.pareto.curve import CurveTask
from twin.pareto.point import COLUMNS
from twin.processes import Died

SPACE = """
pareto:
  parallelism: [{tp: 4}, {tp: 3}]
  prefill_parallelism: [{tp: 4}]
  splits: [aggregated, 1P1D]
  sequences: [1, 8, 64]
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama-70B on H100; its heads do not divide over three GPUs."""
    return write_tiny(tmp_path_factory.mktemp("scenario"), more=SPACE)


@pytest.fixture(scope="module")
def study(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> ParetoStudy:
    return run_pareto(scenario, jobs=2, out=tmp_path_factory.mktemp("studies") / "study")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves in this process, one after the other: quicker where processes are not what is tested."""

    def call_here(tasks: list[CurveTask], jobs: int, ended: Any) -> None:
        for number, task in enumerate(tasks):
            ended(number, task())

    monkeypatch.setattr(studying, "call_all", call_here)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_every_configuration_at_every_number_of_sequences_is_a_row(study: ParetoStudy) -> None:
    played = [(row["configuration"], row["sequences"]) for row in study.points if row["sequences"] is not None]
    assert played == [(label, n) for label in ("aggregated TP4", "1P1D TP4 > TP4") for n in (1, 8, 64)]
    (refused,) = [row for row in study.points if row["sequences"] is None]
    assert (refused["configuration"], refused["status"]) == ("TP3", "refused")
    assert "does not divide" in refused["reason"]


def test_figures_fit_each_other(study: ParetoStudy) -> None:
    for row in study.points:
        if row["tokens_per_s_per_user"] is None:
            continue
        assert row["tokens_per_s_per_mw"] == pytest.approx(row["tokens_per_s_per_gpu"] / row["meter_w_per_gpu"] * 1e6)
        assert row["meter_w_per_gpu"] > row["gpu_w"]
        assert row["concurrency"] == row["sequences"]
        assert sum(row[c.name] for c in COLUMNS if c.name.startswith("time_")) == pytest.approx(1.0)
        # no user is served faster than its instance puts out tokens for all of them
        assert row["tokens_per_s_per_gpu"] * row["gpus"] <= row["tokens_per_s_per_user"] * row["sequences"] * 1.05
    one = study.points[1]
    assert (one["configuration"], one["sequences"], one["gpus"], one["prefill_gpus_frac"]) == ("aggregated TP4", 1, 4, 0.0)
    assert study.points[4]["prefill_gpus_frac"] == 0.5


def test_objectives_bound_what_counts(study: ParetoStudy) -> None:
    """tpot 50 ms and ttft 1 s in the scenario."""
    for row in study.points:
        if row["status"] == "counts":
            assert row["tpot_p99_s"] <= 0.05
            assert row["ttft_p99_s"] <= 1.0
            assert row["reason"] is None
        else:
            assert row["reason"]
            assert not row["frontier_per_gpu"]
    tight = run_pareto(study_source(study), jobs=1, out=study.path.parent / "tight", set={"tiers.0.objectives": "{tpot: 12 ms}"})
    missed = [row for row in tight.points if row["status"] == "misses"]
    assert missed
    assert all("TPOT p99 of" in row["reason"] and "above the objective of 0.012 s" in row["reason"] for row in missed)
    skipped = [row for row in tight.points if row["status"] == "skipped"]
    assert all("miss the objective for TPOT already" in row["reason"] for row in skipped)
    none = run_pareto(
        study_source(study), jobs=1, out=study.path.parent / "none", set={"tiers.0.objectives": "{completion: 1 ms}"}
    )
    assert none.frontier("hgx_h100") == []  # and there is a picture all the same
    assert "no point counts" in (none.path / "pareto.svg").read_text()


def study_source(study: ParetoStudy) -> Path:
    return next(study.path.parent.parent.glob("scenario*/tiny.yaml"))


def test_the_feeds_contract_bounds_what_counts(scenario: Path, tmp_path: Path, in_process: None) -> None:
    changes = {"topology.sites.0.feed.contract": "30 kW", "pareto.splits": ["aggregated"], "pareto.sequences": [64]}
    study = run_pareto(scenario, out=tmp_path / "study", set=changes)
    (row,) = [row for row in study.points if row["sequences"] is not None]
    assert row["status"] == "misses"
    assert "its feed's contract is 30.0 kW" in row["reason"]


def test_frontiers_are_marked(study: ParetoStudy) -> None:
    for axis in ("per_gpu", "per_mw"):
        best = study.frontier("hgx_h100", axis)
        assert best == [
            row for row in sorted(study.points, key=lambda r: r["tokens_per_s_per_user"] or 0) if row[f"frontier_{axis}"]
        ]
        speeds = [row["tokens_per_s_per_user"] for row in best]
        assert speeds == sorted(speeds)
    counting = [row["tokens_per_s_per_user"] for row in study.points if row["status"] == "counts"]
    assert study.frontier("hgx_h100")[-1]["tokens_per_s_per_user"] == max(counting)


def test_what_leaves_the_measured_range_says_so(study: ParetoStudy) -> None:
    rows = {(row["configuration"], row["sequences"]): row["outside"] for row in study.points}
    assert "tokens a request" in rows["aggregated TP4", 8]  # 544, measured were 2048 and more
    assert "prefill: 544 tokens a request" in rows["1P1D TP4 > TP4", 8]
    assert "1 sequences on an instance, measured were" in rows["aggregated TP4", 1]


def test_files(study: ParetoStudy) -> None:
    assert {path.name for path in study.path.iterdir()} == {"pareto.json", "points.parquet", "pareto.svg", "curves"}
    document = json.loads((study.path / "pareto.json").read_text())
    assert document["status"] == "done"
    assert document["points"] == study.points
    assert set(document["points"][0]) == {column.name for column in COLUMNS}
    assert document["systems"][0] | {"name": "hgx_h100", "gpu": "h100", "weights": "fp8"} == document["systems"][0]
    assert document["workload"] == {"kind": "fixed", "input_tokens_mean": 512, "output_tokens_mean": 32, "longest_tokens": 544}
    frame = pd.read_parquet(study.path / "points.parquet")
    assert frame["tokens_per_s_per_gpu"].dropna().tolist() == [
        row["tokens_per_s_per_gpu"] for row in study.points if row["tokens_per_s_per_gpu"] is not None
    ]
    for field in pq.read_schema(study.path / "points.parquet"):
        assert b"unit" in field.metadata
        assert field.metadata[b"description"]
    picture = (study.path / "pareto.svg").read_text()
    for words in ("hgx_h100", "tokens/s for each user", "Output tokens/s per GPU", "Output tokens/s per MW", "llama_3_1_70b"):
        assert words in picture


def test_the_number_of_processes_changes_nothing(study: ParetoStudy, scenario: Path, tmp_path: Path) -> None:
    run_pareto(scenario, jobs=1, out=tmp_path / "study")
    assert files(tmp_path / "study") == files(study.path)


# --- the command ---------------------------------------------------------------------------------------------------------


def test_the_table(scenario: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", str(scenario), "--out", str(tmp_path / "study")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "hgx_h100: h100, fp8, trtllm"
    assert lines[1].split()[:3] == ["tok/s/user", "tok/s/GPU", "ktok/s/MW"]
    assert "7 points: " in out
    assert "1 are refused" in out
    assert lines[-1] == f"study: {tmp_path / 'study'}"
    assert "2/2 hgx_h100, 1P1D TP4 > TP4: 3 points" in err


def test_json_is_one_document(scenario: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", str(scenario), "--json", "--out", str(tmp_path / "study")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.pop("study") == str(tmp_path / "study")
    assert document == json.loads((tmp_path / "study" / "pareto.json").read_text())


def test_the_default_place(scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None) -> None:
    monkeypatch.chdir(tmp_path)
    study = run_pareto(scenario)
    assert study.path.parent == tmp_path / "studies"
    assert study.path.name.startswith("tiny-pareto-")


def test_a_scenario_without_a_study_gets_one(tmp_path: Path, in_process: None) -> None:
    study = run_pareto(write_tiny(tmp_path), out=tmp_path / "study", set={"pareto.sequences": [1]})
    assert {row["split"] for row in study.points if row["split"]} == {"aggregated", "2P1D", "1P1D", "1P2D", "1P4D"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["pareto.splits=[1P]"], "pareto.splits.0: '1P' is neither 'aggregated' nor counts"),
        (["pareto.sequences=[4, 2]"], "pareto.sequences: must rise; 2 follows 4"),
        (["pareto.parallelism=[{tp: 4}, {tp: 4}]"], "pareto.parallelism: holds an entry twice"),
        (["pareto.system=x"], "pareto.system: unknown key (did you mean 'systems'?)"),
        (["pareto.parallelism=[{tp: 3}]"], "no configuration of the study can run"),
        (["workload.output_tokens=1"], "no request has more than one output token"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(
    changes: list[str], said: str, scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    sets = [word for change in changes for word in ("--set", change)]
    assert main(["pareto", str(scenario), "--out", str(out), *sets]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_all_problems_come_at_once_with_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = "pareto:\n  systems:\n    - {name: a, topology: absent.yaml}\n  splits: [2P]\n  rank_batched_tokens: 0\n"
    file = write_tiny(tmp_path, more=more)
    assert main(["pareto", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    row = len(file.read_text().splitlines()) - 2
    assert lines[0].startswith(f"{file}:{row}:17: pareto.systems.0.topology: no such file: {tmp_path / 'absent.yaml'}")
    assert lines[1].startswith(f"{file}:{row + 1}:12: pareto.splits.0: '2P' is neither")
    assert lines[2].startswith(f"{file}:{row + 2}:3: pareto.rank_batched_tokens: 0 is out of range")


def test_systems_are_checked_like_topologies(tmp_path: Path) -> None:
    topology = tmp_path / "odd.yaml"
    base = Path(__file__).parents[1] / "topologies" / "hgx_h100.yaml"
    changes = "sites:\n  - name: hgx-h100\n    racks:\n      - {name: racks, loop: x}\n"
    topology.write_text(f"extends: {base}\n{changes}")
    more = "pareto:\n  systems:\n    - {name: a, topology: odd.yaml}\n    - {name: a, topology: odd.yaml}\n"
    with pytest.raises(InputError) as caught:
        run_pareto(write_tiny(tmp_path, more=more))
    said = str(caught.value)
    assert f"{topology}:5:23: sites.0.racks.0.loop: unknown loop 'x'" in said
    assert "pareto.systems.1.name: the name 'a' is taken by item 0" in said


def test_a_place_with_something_else_is_left_alone(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a pareto study"):
        run_pareto(scenario, out=tmp_path)
    assert files(tmp_path) == {"notes.txt": b"mine"}


def test_another_study_at_the_place_makes_room(scenario: Path, tmp_path: Path, in_process: None) -> None:
    out = tmp_path / "study"
    run_pareto(scenario, out=out)
    heard: list[bool] = []
    changes = {"pareto.splits": ["aggregated"], "workload.output_tokens": 16}
    run_pareto(scenario, out=out, set=changes, resume=True, on_curve=lambda *about: heard.append(about[-1]))
    assert heard == [False]  # of other content, so played again
    fresh = run_pareto(scenario, out=tmp_path / "fresh", set=changes)
    assert files(out) == files(fresh.path)


# --- interrupted ---------------------------------------------------------------------------------------------------------


def test_finished_curves_are_kept(
    scenario: Path, study: ParetoStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    out = tmp_path / "study"

    def stop(*about: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pareto(scenario, out=out, on_curve=stop)
    assert json.loads((out / "pareto.json").read_text())["status"] == "unfinished"
    assert len(list((out / "curves").iterdir())) == 1
    heard: list[bool] = []
    run_pareto(scenario, out=out, resume=True, on_curve=lambda *about: heard.append(about[-1]))
    assert sorted(heard) == [False, True]
    assert files(out) == files(study.path)


def test_a_damaged_curve_is_played_again(scenario: Path, study: ParetoStudy, tmp_path: Path, in_process: None) -> None:
    out = tmp_path / "study"
    run_pareto(scenario, out=out)
    first, second = sorted((out / "curves").iterdir())
    first.write_text(first.read_text()[:100])
    second.write_text("[]")
    heard: list[bool] = []
    run_pareto(scenario, out=out, resume=True, on_curve=lambda *about: heard.append(about[-1]))
    assert heard == [False, False]
    assert files(out) == files(study.path)


def test_a_curve_whose_process_died_is_missing_and_told_of(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call_all(tasks: list[CurveTask], jobs: int, ended: Any) -> None:
        ended(0, Died("its process was killed by SIGKILL"))
        ended(1, tasks[1]())

    monkeypatch.setattr(studying, "call_all", call_all)
    with pytest.raises(SimulationError, match=r"(?s)aggregated TP4: its process was killed.*--resume does the rest"):
        run_pareto(scenario, out=tmp_path / "study")
    assert len(list((tmp_path / "study" / "curves").iterdir())) == 1


def test_killed_and_resumed_gives_the_same_bytes(scenario: Path, study: ParetoStudy, tmp_path: Path) -> None:
    out = tmp_path / "study"
    command = [sys.executable, "-m", "twin.cli.main", "pareto", str(scenario), "--out", str(out), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None and not list(out.glob("curves/0*.json")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) in (143, 0)  # 0: it was quicker than we
    assert subprocess.run([*command, "--resume"], capture_output=True, check=False).returncode == 0
    assert files(out) == files(study.path)
