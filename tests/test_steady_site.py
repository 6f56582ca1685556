"""A site's meter in steady state: by hand, and as a run of the same site reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from tiny_run import write_tiny

import twin
from twin.catalog import load_catalog
from twin.engine.fabric_builder import site_fabric_w
from twin.engine.steady_site import SteadySite
from twin.fabric import site_plan
from twin.schema import load_topology
from twin.schema.topology import Site


def site(name: str) -> Site:
    return load_topology(ROOT / "topologies" / f"{name}.yaml").topology.sites[0]


def test_it_power_by_hand() -> None:
    """HGX H100: 32 GPUs idle at 72 W beside 7.6 kW of everything else, at 700 W beside 18.4 kW; half of them so is half-way."""
    hgx, catalog = site("hgx_h100"), load_catalog()
    steady = SteadySite(hgx, catalog, 3600.0)
    fabric_w = site_fabric_w(hgx, site_plan(hgx, catalog), catalog) / 32
    assert steady.gpus == 32
    assert steady.power([(1.0, 72.0)]).it_w == pytest.approx(72 + 7600 / 32 + fabric_w)
    assert steady.power([(1.0, 650.0)]).it_w == pytest.approx(650 + (7600 + 10_800 * 578 / 628) / 32 + fabric_w)
    assert steady.power([(0.5, 72.0), (0.5, 650.0)]).it_w == pytest.approx(
        (steady.power([(1.0, 72.0)]).it_w + steady.power([(1.0, 650.0)]).it_w) / 2
    )


@pytest.mark.parametrize("name", ["hgx_h100", "hgx_b200", "gb200_nvl72"])
def test_the_meter_is_the_sum_of_its_parts_and_grows_with_load(name: str) -> None:
    steady = SteadySite(site(name), load_catalog(), 3600.0)
    powers = [steady.power([(1.0, w)]) for w in (200.0, 400.0, 600.0)]
    for power in powers:
        fixed_w = site(name).fixed_load / steady.gpus
        assert power.utility_w == pytest.approx(power.it_w + power.cooling_w + power.conversion_loss_w + fixed_w)
        assert 1.0 < power.pue < 1.5
        assert power.clock_limit == 1.0
    assert powers[0].utility_w < powers[1].utility_w < powers[2].utility_w
    assert powers[0].pue > powers[2].pue  # what is fixed is spread over more


def test_dies_that_get_too_hot_are_told_of() -> None:
    assert SteadySite(site("hgx_h100"), load_catalog(), 3600.0).power([(1.0, 900.0)]).clock_limit < 1.0


def test_an_idle_run_reads_the_same_meter(tmp_path: Path) -> None:
    idle = {"workload.sessions": 1, "grid.events": [], "control.policy": "none"}
    run = twin.run(write_tiny(tmp_path), set=idle, out=tmp_path / "run")
    last = run.power.iloc[-1]
    steady = SteadySite(site("hgx_h100"), load_catalog(), 10.0)
    power = steady.power([(1.0, load_catalog().part("gpu", "h100").number("idle_w"))])
    assert last["it_w"] == pytest.approx(32 * power.it_w, rel=1e-9)
    assert last["utility_w"] == pytest.approx(32 * power.utility_w, rel=2e-3)  # loops have not forgotten the one request yet


def test_weather_counts_as_its_mean(tmp_path: Path) -> None:
    rows = "".join(f"2023-07-01 {hour:02d}:00,{dry},50\n" for hour, dry in ((0, 10), (1, 30), (2, 10)))
    (tmp_path / "weather.csv").write_text("utc,dry_bulb_c,relative_humidity_pct\n" + rows)
    changed = load_topology(
        ROOT / "topologies" / "hgx_h100.yaml",
        {"sites.0.climate": {"weather": str(tmp_path / "weather.csv"), "start": "2023-07-01 00:00"}},
    ).topology.sites[0]
    steady = SteadySite(changed, load_catalog(), 7200.0)
    assert steady._dry_c == pytest.approx(20.0, abs=0.1)
