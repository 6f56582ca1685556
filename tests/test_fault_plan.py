"""What a scenario says of faults: what is wrong with it, which units fail when, and the times that are drawn."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from twin.catalog import load_catalog
from twin.cli.check import check_command
from twin.engine.fault_plan import check_faults, components_of, drawn_faults, faults_of
from twin.errors import InputError
from twin.facility.component import Component
from twin.schema import Scenario, load_scenario

TRAY = {"name": "one", "component": "tray/racks/0/1", "start": "60 s", "duration": "60 s"}


def _scenario(scheduled: list[dict[str, Any]] | None = None, drawn: list[dict[str, Any]] | None = None, **other: Any) -> Scenario:
    faults = {"faults": {"scheduled": scheduled or [], "drawn": drawn or []}, **other}
    return load_scenario(ROOT / "scenarios" / "quickstart.yaml", faults).scenario


def _wrong(*lines: str, path: Path, extra: str = "") -> list[str]:
    file = path / "broken.yaml"
    head = ["extends: " + str(ROOT / "scenarios" / "quickstart.yaml"), "name: broken", *extra.splitlines(), "faults:"]
    file.write_text("\n".join([*head, *lines]) + "\n")
    with pytest.raises(InputError) as caught:
        check_faults(load_scenario(file))
    return [str(problem).replace(f"{file}:", "") for problem in caught.value.problems]


def _sched(name: str, component: str, more: str) -> str:
    return f"    - {{name: {name}, component: {component}, {more}}}"


def test_every_problem_is_told_at_its_place(tmp_path: Path) -> None:
    found = _wrong(
        "  scheduled:",
        _sched("a", "air_hander/air", "start: 1 min"),
        _sched("b", "gpu/racks/0/0", "units: 9, start: 1 min"),
        _sched("c", "tray/racks/0/7", "start: 1 min"),
        _sched("d", "gpu/racks/0/1", "units: 5, start: 1 min, duration: 1 min"),
        _sched("e", "gpu/racks/0/1", "units: 4, start: 90 s, duration: 1 min"),
        "  drawn:",
        "    - {kind: gpus}",
        "    - {kind: gpu}",
        "    - {kind: gpu, site: hgx-h100}",
        path=tmp_path,
    )
    site = "site hgx-h100 has no component"
    assert found == [
        f"5:17: faults.scheduled.0.component: {site} 'air_hander/air' (did you mean 'air_handler/air'?)",
        "6:43: faults.scheduled.1.units: 9 units of gpu/racks/0/0 cannot fail: there are 8",
        f"7:17: faults.scheduled.2.component: {site} 'tray/racks/0/7' (did you mean 'tray/racks/0/3'?)",
        "9:53: faults.scheduled.4.start: overlaps other faults of gpu/racks/0/1: at 90 s only 3 of 8 work, and 4 should fail",
        "11:8: faults.drawn.0.kind: the factory has no component of kind 'gpus' (did you mean 'gpu'?)",
        "13:8: faults.drawn.2.kind: gpu of site hgx-h100 is drawn already, by entry 1",
    ]


@pytest.mark.parametrize(
    ("more", "extra", "said"),
    [
        ("start: 1 min, duration: 0 s", "", "faults.scheduled.0.duration: '0 s' is out of range: it must be above 0"),
        ("start: 1 min, duration: -5 s", "", "faults.scheduled.0.duration: '-5 s' is out of range: it must be above 0"),
        ("start: 0 s", "", "faults.scheduled.0.start: '0 s' is out of range: it must be above 0"),
        ("start: 12 min", "", "faults.scheduled.0.start: fails at 720 s, after the run of 720 s: it never happens"),
        ("start: 1 min, units: 0", "", "faults.scheduled.0.units: 0 is out of range: it must be at least 1"),
        ("start: 1 min, site: there", "", "faults.scheduled.0.site: unknown site 'there' (known: hgx-h100)"),
        ("start: 1 min", "represent: 2", "represent: must be 1 where something fails, not 2: an instance fails by itself"),
        ("start: 1 min, end: 2 min", "", "faults.scheduled.0.end: unknown key"),
    ],
)
def test_what_the_schema_refuses(tmp_path: Path, more: str, extra: str, said: str) -> None:
    assert any(said in line for line in _wrong("  scheduled:", _sched("a", "tray/racks/0/1", more), path=tmp_path, extra=extra))


def test_two_faults_of_a_name(tmp_path: Path) -> None:
    lines = [_sched("a", "tray/racks/0/1", "start: 1 min"), _sched("a", "tray/racks/0/2", "start: 1 min")]
    (line,) = _wrong("  scheduled:", *lines, path=tmp_path)
    assert "faults.scheduled.1.name: the name 'a' is taken by item 0" in line


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{kind: gpu, mtbf: 0 h}", "faults.drawn.0.mtbf: '0 h' is out of range"),
        ("{kind: gpu, accelerate: 0.5}", "faults.drawn.0.accelerate: 0.5 is out of range: it must be at least 1"),
        ("{kind: cdu}", "faults.drawn.0.kind: the factory has no component of kind 'cdu'"),
    ],
)
def test_what_cannot_be_drawn(tmp_path: Path, entry: str, said: str) -> None:
    assert any(said in line for line in _wrong("  drawn:", f"    - {entry}", path=tmp_path))


def test_check_finds_it_without_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    quickstart = ROOT / "scenarios" / "quickstart.yaml"
    file.write_text(f"extends: {quickstart}\nname: s\nfaults:\n  scheduled:\n    - {{name: a, component: tray/0, start: 1 s}}\n")
    assert check_command([str(file)]) == 2
    said = capsys.readouterr().err
    assert f"{file}:5:17: faults.scheduled.0.component: site hgx-h100 has no component 'tray/0'" in said


# --- scheduled -----------------------------------------------------------------------------------------------------------


def test_faults_of_a_component_take_the_units_that_no_other_has() -> None:
    gpu = "gpu/racks/0/0"
    scheduled = [
        {"name": "late", "component": gpu, "units": 2, "start": "150 s"},
        {"name": "early", "component": gpu, "units": 3, "start": "60 s", "duration": "60 s"},
        {"name": "between", "component": gpu, "units": 2, "start": "90 s", "duration": "60 s"},
    ]
    scenario = _scenario(scheduled)
    site = scenario.topology.sites[0]
    faults = faults_of(scenario, site, components_of(scenario, site), load_catalog())
    assert [(f.name, f.units, f.start_s, f.end_s) for f in faults] == [
        ("early", (0, 1, 2), 60.0, 120.0),
        ("between", (3, 4), 90.0, 150.0),
        ("late", (0, 1), 150.0, math.inf),
    ]


def test_components_have_names_that_differ_and_figures_in_the_catalogue() -> None:
    for name in ("quickstart", "curtail_80"):
        scenario = load_scenario(ROOT / "scenarios" / f"{name}.yaml").scenario
        components = components_of(scenario, scenario.topology.sites[0])
        assert len({component.key for component in components}) == len(components)
        assert {component.kind for component in components} <= set(load_catalog().names("reliability"))


# --- drawn ---------------------------------------------------------------------------------------------------------------

_UNIT = Component("gpu", "racks/0/0", 8)


def test_availability_is_mtbf_over_mtbf_and_mttr() -> None:
    """Of many alternations: mean times within four standard errors of what was asked, and so is the share of time up."""
    mtbf_s, mttr_s, horizon_s = 1000.0, 250.0, 40_000.0
    scenario = _scenario(horizon=f"{horizon_s} s")
    lasts, gaps, down_s, units = [], [], 0.0, 60
    for unit in range(units):
        faults = list(drawn_faults(scenario, "s", _UNIT, unit, mtbf_s, mttr_s))
        lasts += [fault.end_s - fault.start_s for fault in faults]
        gaps += [after.start_s - before.end_s for before, after in itertools.pairwise(faults)]
        down_s += sum(min(fault.end_s, horizon_s) - fault.start_s for fault in faults)
    assert np.mean(lasts) == pytest.approx(mttr_s, rel=4 / math.sqrt(len(lasts)))
    assert np.mean(gaps) == pytest.approx(mtbf_s, rel=5 / math.sqrt(len(gaps)))  # gaps that the horizon cuts are left out
    available = 1 - down_s / (units * horizon_s)
    # A renewal process: the variance of time down over T is 2 (mtbf mttr)^2 / (mtbf + mttr)^3 T.
    deviation = math.sqrt(2 * (mtbf_s * mttr_s) ** 2 / (mtbf_s + mttr_s) ** 3 / (units * horizon_s))
    # The runs begin with all up, which is worth mttr^2 / (mtbf + mttr) x share up seconds a unit.
    bias = mtbf_s * mttr_s**2 / (mtbf_s + mttr_s) ** 2 / horizon_s
    assert available == pytest.approx(mtbf_s / (mtbf_s + mttr_s) + bias, abs=4 * deviation)


def test_each_unit_has_a_stream_of_its_own() -> None:
    scenario = _scenario()
    args = (scenario, "s", _UNIT)
    again = [list(drawn_faults(*args, unit, 100.0, 10.0)) for unit in (0, 1, 0)]
    assert again[0] == again[2]
    assert [f.start_s for f in again[0]] != [f.start_s for f in again[1]]


def test_another_source_moves_no_fault() -> None:
    """Drawing another kind, or scheduling a fault, leaves the faults drawn before as they were."""
    gpus = {"kind": "gpu", "mtbf": "20 min", "mttr": "1 min"}

    def drawn(scenario: Scenario) -> list[Any]:
        site = scenario.topology.sites[0]
        faults = faults_of(scenario, site, components_of(scenario, site), load_catalog())
        return [fault for fault in faults if fault.drawn and fault.component.startswith("gpu/")]

    alone = drawn(_scenario(drawn=[gpus]))
    assert len(alone) > 5
    assert drawn(_scenario(drawn=[gpus, {"kind": "all", "accelerate": 1000}])) == alone
    assert drawn(_scenario([TRAY], [gpus])) == alone
    assert drawn(_scenario(drawn=[gpus], seed=2)) != alone


def test_all_takes_the_figures_of_the_catalogue_but_where_a_kind_has_its_own() -> None:
    entries = [{"kind": "all", "accelerate": 10_000}, {"kind": "nic", "mtbf": "1e9 h", "mttr": "1 h"}]
    scenario = _scenario(drawn=entries, horizon="10 h")
    site = scenario.topology.sites[0]
    kinds = {f.component.partition("/")[0] for f in faults_of(scenario, site, components_of(scenario, site), load_catalog())}
    assert "gpu" in kinds
    assert "nic" not in kinds
