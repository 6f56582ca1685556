"""`twin regress`: a folder of scenarios against baselines, which only a person moves."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_run import write_tiny

from twin.cli.main import main
from twin.sweeps import regression
from twin.sweeps.task import OnOutcome, Outcome, Task


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenarios with their baselines, run for real in processes of their own."""
    folder = tmp_path_factory.mktemp("nightly")
    write_tiny(folder, "calm", rate="2 /s")
    write_tiny(folder, "busy", rate="8 /s")
    assert main(["regress", str(folder), "--accept"]) == 0
    return folder


@pytest.fixture
def folder(accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose scenarios are run in this process, each content once."""
    monkeypatch.setattr(regression, "perform_all", _perform_here)
    return Path(shutil.copytree(accepted, tmp_path / "nightly"))


_done: dict[str, Outcome] = {}


def _perform_here(tasks: Sequence[Task], jobs: int | None, on_done: OnOutcome | None) -> list[Outcome]:
    for task in tasks:
        if task.loaded.digest not in _done:
            _done[task.loaded.digest] = task()
    return [_done[task.loaded.digest] for task in tasks]


def baseline(folder: Path, name: str) -> dict:
    return json.loads((folder / "baselines" / f"{name}.json").read_text())


def write_baseline(folder: Path, name: str, content: dict) -> None:
    (folder / "baselines" / f"{name}.json").write_text(json.dumps(content))


def test_the_same_scenarios_in_fresh_processes_pass(accepted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["regress", str(accepted)]) == 0
    said = capsys.readouterr()
    assert said.out == "ok    busy\nok    calm\n2 of 2 passed\n"
    assert "calm: ran" in said.err


def test_a_baseline_is_the_summary_without_its_names(accepted: Path) -> None:
    content = baseline(accepted, "calm")
    assert {"scenario", "seed", "schema_version"}.isdisjoint(content)
    assert {"service", "energy", "requests", "invariants"} <= set(content)
    assert sorted(path.name for path in accepted.iterdir()) == ["baselines", "busy.yaml", "calm.yaml"]


def test_unchanged_scenarios_pass_and_write_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    junit = tmp_path / "junit.xml"
    assert main(["regress", str(folder), "--junit", str(junit)]) == 0
    assert capsys.readouterr().out.endswith("2 of 2 passed\n")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    suite = ET.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "0", "0")


def test_missing_extra_and_changed_figures_fail_worst_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = baseline(folder, "calm")
    content["energy"]["pue"] *= 1.001
    content["service"]["ttft_s"]["p50"] *= 1.5
    content["gone"] = 1
    del content["hardware"]["gpus"]
    write_baseline(folder, "calm", content)
    assert main(["regress", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    busy, calm = found["scenarios"]
    assert (found["passed"], busy["status"], calm["status"]) == (False, "passed", "changed")
    assert [(change["path"], change["kind"]) for change in calm["changes"]] == [
        ("gone", "missing"),
        ("hardware.gpus", "extra"),
        ("service.ttft_s.p50", "changed"),
        ("energy.pue", "changed"),
    ]


def test_only_accept_moves_a_baseline_and_only_beyond_its_tolerance(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = baseline(folder, "calm")
    within, beyond = baseline(folder, "calm"), baseline(folder, "busy")
    within["energy"]["pue"] *= 1 + 1e-9
    beyond["energy"]["pue"] *= 1.01
    write_baseline(folder, "calm", within)
    write_baseline(folder, "busy", beyond)
    assert main(["regress", str(folder)]) == 1
    assert baseline(folder, "busy") == beyond
    assert main(["regress", str(folder), "--accept"]) == 0
    assert "baseline written (1 difference)" in capsys.readouterr().out
    assert baseline(folder, "busy") != beyond
    assert baseline(folder, "calm") == within != right


def test_new_scenarios_and_orphaned_baselines_fail_until_accepted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "busy.yaml").rename(folder / "other.yaml")
    assert main(["regress", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "a baseline without a scenario" in said
    assert "--accept" in said
    assert main(["regress", str(folder), "--accept"]) == 0
    assert sorted(path.stem for path in (folder / "baselines").iterdir()) == ["calm", "other"]


def test_a_scenario_that_does_not_load_is_an_error_and_the_others_are_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "busy.yaml").read_text()
    (folder / "busy.yaml").write_text(text.replace("kind: fixed", "kind: fixt"))
    junit = folder.parent / "junit.xml"
    assert main(["regress", str(folder), "--junit", str(junit)]) == 2
    said = capsys.readouterr().out
    assert "did you mean 'fixed'" in said
    assert "ok    calm" in said
    assert ET.parse(junit).getroot()[0].get("errors") == "1"
    before = baseline(folder, "busy")
    assert main(["regress", str(folder), "--accept"]) == 2
    assert baseline(folder, "busy") == before


def test_a_broken_limit_fails_whatever_the_baseline_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "busy.yaml").unlink()
    (folder / "baselines" / "busy.json").unlink()
    write_tiny(folder, "calm", rate="2 /s", more="limits: [{value: energy.pue, max: 1.01}]\n")
    assert main(["regress", str(folder), "--accept"]) == 1
    assert "limit broken: energy.pue" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["--junit", "nowhere/junit.xml"]])
def test_a_folder_without_scenarios_and_a_file_without_a_folder_are_bad_usage(given: list[str], tmp_path: Path) -> None:
    assert main(["regress", str(tmp_path), *given]) == 2


def test_a_baseline_that_is_no_json_is_named_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "baselines" / "calm.json").write_text("{\n  oops")
    assert main(["regress", str(folder)]) == 2
    assert "calm.json:2:3: is no JSON" in capsys.readouterr().err
