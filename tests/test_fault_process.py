"""Faults as they happen, on parts that only write down what they are told; then in a whole run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from conftest import ROOT

import twin
from twin.analysis.faults import DownCount
from twin.engine.fault_plan import Fault
from twin.engine.fault_process import FaultProcess
from twin.facility.component import Component


class Part:
    """A part of so many pumps."""

    def __init__(self, kind: str, units: int = 3):
        self._component = Component(kind, "a", units)
        self.told: list[tuple[str, int]] = []

    def components(self) -> tuple[Component, ...]:
        return (self._component,)

    def fail(self, key: str, units: int = 1) -> None:
        assert key == self._component.key
        self.told.append(("fail", units))

    def repair(self, key: str, units: int = 1) -> None:
        assert key == self._component.key
        self.told.append(("repair", units))


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[float, str, str, dict[str, object]]] = []

    def event(self, time_s: float, kind: str, subject: str, detail: str) -> None:
        self.lines.append((time_s, kind, subject, json.loads(detail)))


def _play(*faults: Fault, horizon_s: float = 100.0) -> tuple[Part, Part, Log, FaultProcess]:
    pumps, fans, log = Part("pump"), Part("fan"), Log()
    process = FaultProcess(faults, (pumps, fans), log, horizon_s)
    for time_s in process.boundaries_s():
        process.act(time_s)
    return pumps, fans, log, process


def test_a_fault_and_its_repair_reach_the_part_that_has_the_component() -> None:
    pumps, fans, log, process = _play(Fault("f", "fan/a", (0, 1), 10.0, 30.0))
    assert pumps.told == []
    assert fans.told == [("fail", 2), ("repair", 2)]
    assert process.boundaries_s() == [10.0, 30.0]
    assert log.lines == [
        (10.0, "fault", "fan/a", {"fault": "f", "units": 2, "cause": "scheduled"}),
        (30.0, "repair", "fan/a", {"fault": "f", "units": 2, "cause": "scheduled"}),
    ]


def test_a_unit_that_two_faults_hit_works_after_the_last_repair() -> None:
    pumps, _, log, _ = _play(Fault("long", "pump/a", (0, 1), 10.0, 50.0), Fault("short", "pump/a", (1,), 20.0, 60.0, True))
    assert pumps.told == [("fail", 2), ("repair", 1), ("repair", 1)]
    assert log.lines[1][3]["already_failed"] == 1
    assert log.lines[2][3]["still_failed"] == 1


def test_repairs_come_before_failures_of_the_same_moment() -> None:
    pumps, *_ = _play(Fault("second", "pump/a", (0, 1, 2), 40.0, 50.0), Fault("first", "pump/a", (0, 1, 2), 10.0, 40.0))
    assert pumps.told == [("fail", 3), ("repair", 3), ("fail", 3), ("repair", 3)]


def test_what_is_not_repaired_in_the_run_ends_with_it() -> None:
    pumps, _, _, process = _play(Fault("f", "pump/a", (0,), 10.0, math.inf), Fault("g", "pump/a", (1,), 20.0, 100.0))
    assert pumps.told == [("fail", 1), ("fail", 1)]
    assert [record.end_s for record in process.records("s")] == [100.0, 100.0]


def test_nothing_is_due_before_its_time() -> None:
    process = FaultProcess([Fault("f", "pump/a", (0,), 10.0, 30.0)], (pumps := Part("pump"),), Log(), 100.0)
    assert [process.act(time_s) for time_s in (9.0, 10.0, 11.0, 30.0 - 1e-10)] == [False, True, False, True]
    assert pumps.told == [("fail", 1), ("repair", 1)]


# --- what the summary counts ---------------------------------------------------------------------------------------------


def test_down_counts_against_seconds_counted_one_by_one() -> None:
    spans = [("a", 2.0, 7.0), ("b", 5.0, 9.0), ("a", 6.0, 8.0), ("c", 9.0, 11.0)]
    count = DownCount(spans, {"a": 1.0, "b": 2.0, "c": 4.0})

    def slow(second: int) -> float:
        down = {name for name, start, end in spans if start <= second + 0.5 < end}
        return sum({"a": 1.0, "b": 2.0, "c": 4.0}[name] for name in down)

    assert count.integral_s() == sum(slow(second) for second in range(20))
    for start in range(12):
        for end in range(start + 1, 13):
            assert count.most(start, end) == max(slow(second) for second in range(start, end)), (start, end)
    assert DownCount([]).most(0.0, 1.0) == DownCount([]).integral_s() == 0.0


# --- a whole run ---------------------------------------------------------------------------------------------------------

_FAULTS = {
    "scheduled": [
        {"name": "tray", "component": "tray/racks/0/1", "start": "30 s", "duration": "20 s"},
        {"name": "gpus", "component": "gpu/racks/0/0", "units": 2, "start": "45.25 s"},
        {"name": "rack", "component": "rack/racks/0", "start": "100 s", "duration": "5 s"},
    ]
}
_SET = {"horizon": "2 min", "grid.events": [], "serving.restart": "20 s", "faults": _FAULTS}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> twin.Run:
    return twin.run(ROOT / "scenarios" / "quickstart.yaml", set=_SET, out=tmp_path_factory.mktemp("faults") / "run")


def test_the_summary_tells_of_each_fault(run: twin.Run) -> None:
    summary = run.summary
    assert all(summary["invariants"].values())
    assert summary["requests"]["lost"] == 0
    found = {fault["name"]: fault for fault in summary["faults"]}
    assert [(f["start_s"], f["end_s"]) for f in summary["faults"]] == [(30.0, 50.0), (45.25, 120.0), (100.0, 105.0)]
    assert found["tray"]["instances_down_max"] == 2  # its own, and from 45.25 s that of the GPUs
    assert (found["rack"]["racks_down_max"], found["rack"]["instances_down_max"]) == (1, 4)
    # One instance 30 to 70 s, one from 45.25 s on, the other three from 100 s on.
    there = summary["availability"]
    assert there["instances_frac"] == pytest.approx(1 - (40 + 74.75 + 3 * 20) / (4 * 120), rel=1e-12)
    assert there["gpus_frac"] == there["instances_frac"]
    assert there["racks_frac"] == pytest.approx(1 - 5 / 120, rel=1e-12)
    assert there["sites"]["hgx-h100"]["instances_min_frac"] == 0.0


def test_faults_are_ends_of_steps(run: twin.Run) -> None:
    assert {30.0, 45.25, 100.0, 105.0} <= set(run.power["time_s"])
    assert (run.power.query("time_s > 100 and time_s <= 105")["it_w"] == 0.0).all()
    events = run.events.query("kind in ['fault', 'repair']")
    assert list(events["time_s"]) == [30.0, 45.25, 50.0, 100.0, 105.0]


def test_the_report_shows_them(run: twin.Run) -> None:
    html = (run.path / "report.html").read_text()
    assert "component fails" in html
    assert "Availability" in html


def test_the_same_seed_gives_the_same_bytes(run: twin.Run, tmp_path: Path) -> None:
    again = twin.run(ROOT / "scenarios" / "quickstart.yaml", set=_SET, out=tmp_path / "again")
    for name in ("summary.json", "events.parquet", "power.parquet", "requests.parquet", "report.html"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes(), name


def test_without_faults_the_summary_has_no_word_of_them(tmp_path: Path) -> None:
    plain = twin.run(ROOT / "scenarios" / "quickstart.yaml", set={"horizon": "20 s", "grid.events": []}, out=tmp_path / "run")
    assert not {"faults", "availability"} & set(plain.summary)
