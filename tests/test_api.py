"""The Python way in, as CONTRACT's "Python" section promises it, and the promise that a run repeats to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_run import write_tiny

import twin

TABLES = ("requests", "sessions", "power", "thermal", "events")


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def run(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> twin.Run:
    return twin.run(scenario, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert Path.cwd() == tmp_path


def test_run_opens_its_result(run: twin.Run) -> None:
    assert run.summary["scenario"] == "tiny"
    assert all(run.summary["invariants"].values())
    for name in TABLES:
        frame = getattr(run, name)
        assert set(frame.attrs["units"]) == set(frame.columns)
    assert len(run.requests) == run.summary["requests"]["total"]


def test_every_power_row_balances(run: twin.Run) -> None:
    power = run.power
    supplied = power["utility_w"] + power["battery_w"] + power["generator_w"]
    used = power["it_w"] + power["cooling_w"] + power["conversion_loss_w"] + power["other_w"]
    assert (supplied - used).abs().max() <= 1e-9 * used.max()


def test_run_takes_a_path_a_text_a_mapping_and_a_scenario(scenario: Path, folder: Path) -> None:
    loaded = twin.load(scenario)
    short = {"horizon": "2 s", "grid.events": [], "control.policy": "none"}
    for given in (scenario, str(scenario), loaded, loaded.model_dump(mode="json")):
        again = twin.run(given, seed=5, set=short)
        assert (again.summary["seed"], again.summary["horizon_s"]) == (5, 2)
    # The same content has the same name, whatever it came from: one directory, made anew each time.
    (made,) = (folder / "runs").iterdir()
    assert made.name.startswith("tiny-")
    assert made.name.endswith("-s5")


def test_load_lays_values_and_says_every_problem(scenario: Path) -> None:
    assert twin.load(scenario, set={"horizon": "20 s"}).horizon == 20
    with pytest.raises(twin.InputError) as caught:
        twin.load(scenario, set={"horizon": "20 kW", "control.policy": "laddr"})
    assert {problem.path for problem in caught.value.problems} == {"horizon", "control.policy"}


def test_open_run_is_the_run_again(run: twin.Run) -> None:
    again = twin.open_run(run.path)
    assert again.summary == run.summary
    with pytest.raises(twin.InputError, match="is not a run directory"):
        twin.open_run(run.path.parent)


def test_plots_are_axes_and_the_report_is_a_file(run: twin.Run, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    for name in ("power", "tokens", "latency", "temperature", "pue", "actions"):
        assert isinstance(getattr(run.plot, name)(), Axes)
    plt.close("all")
    assert run.report(tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_compare_takes_runs_and_their_directories(run: twin.Run, scenario: Path, folder: Path) -> None:
    other = twin.run(scenario, set={"control.policy": "none"})
    table = twin.compare(run, other.path)
    assert list(table.columns) == ["a", "b", "delta", "delta_frac"]
    assert table.loc["energy.pue", "a"] == run.summary["energy"]["pue"]
    assert (twin.compare(run, run)["delta"] == 0).all()


def test_sweep_is_a_study_with_a_row_a_run(scenario: Path, folder: Path) -> None:
    study = twin.sweep(scenario, over={"control.policy": ["none", "uniform_cap"]}, engine="local", jobs=2, set={"horizon": "9 s"})
    assert study.frame["control.policy"].tolist() == ["none", "uniform_cap"]
    assert study.path.parent == folder / "studies"


def test_a_sweep_warns_of_points_that_failed(scenario: Path, folder: Path) -> None:
    (folder / "bad.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:01,many,10\n")
    workload = {"kind": "trace", "trace": str(folder / "bad.csv"), "tiers": {"chat": 1}}
    with pytest.warns(UserWarning, match=r"bad\.csv:2"):
        study = twin.sweep(scenario, over={"seed": [1]}, set={"workload": workload})
    assert study.frame["status"].tolist() == ["failed"]


def test_import_loads_nothing_heavy() -> None:
    heavy = {"numpy", "pandas", "pyarrow", "matplotlib", "networkx", "simpy"}
    code = "import sys, twin, twin.cli.main, twin.schema, twin.catalog; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & set(loaded)


def test_a_run_repeats_to_the_byte_under_any_hash_seed(scenario: Path, tmp_path: Path) -> None:
    made = []
    for hash_seed in ("0", "4242"):
        # From another folder each time: nothing of a path may be in the tables or the summary.
        copy = tmp_path / hash_seed / "scenario.yaml"
        copy.parent.mkdir()
        shutil.copy(scenario, copy)
        command = [sys.executable, "-m", "twin.cli.main", "run", str(copy), "--out", "run", "--quiet"]
        subprocess.run(command, cwd=copy.parent, env=os.environ | {"PYTHONHASHSEED": hash_seed}, check=True, capture_output=True)
        run = copy.parent / "run"
        files = sorted(path for path in run.iterdir() if path.suffix == ".parquet" or path.name == "summary.json")
        made.append({path.name: path.read_bytes() for path in files})
    assert {"summary.json", *(f"{name}.parquet" for name in TABLES)} <= set(made[0])
    assert made[0] == made[1]


def test_another_seed_is_another_run(scenario: Path, run: twin.Run, tmp_path: Path) -> None:
    other = twin.run(scenario, seed=run.summary["seed"] + 1, out=tmp_path / "run")
    assert other.requests["arrival_s"].tolist() != run.requests["arrival_s"].tolist()
    assert other.manifest["seed"] == run.summary["seed"] + 1
