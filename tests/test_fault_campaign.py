"""Campaigns of single random faults: what is drawn, what the table says, and the command around it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from twin.cli.main import main
from twin.errors import InputError
from twin.schema import load_scenario
from twin.sweeps import faults as campaign_module
from twin.sweeps.faults import FaultRun, _badness, _draw, fallible, run_campaign

QUICKSTART = ROOT / "scenarios" / "quickstart.yaml"
SHORT = {"horizon": "20 s", "grid.events": [], "serving.restart": "4 s", "workload.arrivals.rate": "8 /s"}


def test_faults_are_spread_evenly_over_kinds_and_times() -> None:
    scenario = load_scenario(QUICKSTART).scenario
    kinds = {component.kind for _, component in fallible(scenario)}
    drawn = list(_draw(scenario, 2000, 1, (), None))
    counts = pd.Series([fault.component.partition("/")[0] for fault in drawn]).value_counts()
    assert set(counts.index) == kinds
    assert counts.between(2000 / len(kinds) * 0.7, 2000 / len(kinds) * 1.3).all()
    starts = pd.Series([fault.start for fault in drawn]) / scenario.horizon
    assert starts.between(0.1, 0.9).all()
    assert starts.mean() == pytest.approx(0.5, abs=0.02)
    assert list(_draw(scenario, 5, 1, (), None)) == drawn[:5]
    assert list(_draw(scenario, 5, 2, (), None)) != drawn[:5]


def test_a_given_duration_changes_no_other_draw() -> None:
    scenario = load_scenario(QUICKSTART).scenario
    free, given = (list(_draw(scenario, 40, 1, ("gpu", "nic"), lasts_s)) for lasts_s in (None, 60.0))
    assert [(f.component, f.start) for f in free] == [(f.component, f.start) for f in given]
    # Repairs take hours, the run is minutes: most faults stay to its end, as do those too near to it to be repaired.
    assert sum(f.duration is None for f in free) > 30
    assert [f.duration for f in given] == [60.0 if f.start + 60.0 < scenario.horizon else None for f in given]


def test_worst_first() -> None:
    def run(name: str, left: float | None, error: str | None = None) -> FaultRun:
        return FaultRun(name, "s", "gpu", "gpu/a", 1.0, 2.0, goodput_frac=left, invariants=error is None, error=error)

    runs = [run("1", 0.9), run("2", None, "stopped"), run("3", 0.5), run("4", None)]
    assert [each.run for each in sorted(runs, key=_badness)] == ["2", "3", "1", "4"]


def test_a_campaign_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "campaign"
    sets = [argument for key, value in SHORT.items() for argument in ("--set", f"{key}={value}")]
    arguments = [str(QUICKSTART), *sets, "--runs", "2", "--kinds", "rack,tray", "--duration", "5 s", "--jobs", "1"]
    assert main(["faults", *arguments, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["runs"]) == 2
    frame = pd.read_parquet(out / "faults.parquet")
    assert list(frame["component"]) == [run["component"] for run in said["runs"]]
    assert frame["invariants"].all()
    assert frame["goodput_frac"].is_monotonic_increasing
    for row in said["runs"]:
        assert row["instances_down_max"] == (4 if row["kind"] == "rack" else 1)
        assert row["racks_down_max"] == (1 if row["kind"] == "rack" else 0)
        assert (out / row["run"] / "report.html").is_file()
    assert (out / "reference" / "summary.json").is_file()


def test_exit_code_1_where_an_invariant_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = FaultRun("0001", "s", "gpu", "gpu/a", 1.0, 2.0, invariants=False, error="the run broke its own books: heat_balances")
    broken = campaign_module.Campaign("s", 1, (run,))
    monkeypatch.setattr("twin.cli.faults.run_campaign", lambda *_: broken)
    assert main(["faults", str(QUICKSTART), "--runs", "1"]) == 1
    said = capsys.readouterr()
    assert "BROKEN" in said.out
    assert "heat_balances" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--runs", "0"], "--runs 0: at least 1 is needed"),
        (["--kinds", "gpu,tary"], "--kinds: nothing of kind 'tary' can fail here (did you mean 'tray'?)"),
        (["--duration", "5"], "--duration: "),
        (["--duration", "0 s"], "--duration 0 s: must be above 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--set", "represent=2"], "represent: must be 1 where something fails, not 2"),
    ],
)
def test_bad_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", str(QUICKSTART), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_place_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a fault campaign"):
        run_campaign(load_scenario(QUICKSTART, SHORT), 1, 1, out=tmp_path)


def test_the_list_of_what_can_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", str(QUICKSTART), "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"site": "hgx-h100", "component": "gpu/racks/0/2", "kind": "gpu", "units": 8} in rows
