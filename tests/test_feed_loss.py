"""Whole runs that lose their feed: UPS batteries in the moment, generators after their start, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

import twin

SCENARIO = Path(__file__).resolve().parents[1] / "scenarios" / "feed_loss.yaml"


def test_a_site_rides_through_the_loss_of_both_lines(tmp_path: Path) -> None:
    run = twin.run(SCENARIO, set={"workload.arrivals.rate": "2 /min"}, out=tmp_path / "run")
    power = run.power.set_index("time_s")
    given = power["utility_w"] + power["battery_w"] + power["generator_w"]
    used = power["it_w"] + power["cooling_w"] + power["conversion_loss_w"] + power["other_w"]
    assert given.to_numpy() == pytest.approx(used.to_numpy(), rel=1e-9)
    lost = power.loc[241.0:480.0]
    assert (lost["utility_w"] == 0).all()
    assert (lost["it_w"] > 0).all()
    # the batteries carry racks and pumps until the sets, up 40 s after the loss, can take a quarter more than that and cooling
    on_stores = lost["battery_w"] > 0
    assert on_stores.loc[241.0:282.0].all()
    assert not on_stores.loc[290.0:].any()
    assert (lost.loc[on_stores, "cooling_w"] > 0).all()  # pumps
    assert lost.loc[290.0:, "cooling_w"].min() > 2 * lost.loc[on_stores, "cooling_w"].max()
    # the utility is back at 480 s, the site goes back to it 2 min later, and fills the batteries from then on
    assert (power.loc[481.0:600.0, "generator_w"] > 0).all()
    assert (power.loc[602.0:610.0, "battery_w"] < 0).all()
    assert power.loc[602.0:, "generator_w"].max() == 0
    assert run.summary["availability"]["sites"]["main"]["racks_frac"] == 1.0
    assert run.summary["requests"]["lost"] == 0
    assert run.summary["energy"]["fuel_l"] > 0
    assert all(run.summary["invariants"].values())


def test_without_generators_and_pumps_racks_trip_and_come_back(tmp_path: Path) -> None:
    """Pumps that stand with the chillers: dies are too hot within seconds, though the batteries have energy for minutes."""
    changes = {
        "topology.sites.0.generators": [],
        "topology.sites.0.electrical.pumps_from": ["board_a", "board_b"],
        "workload.arrivals.rate": "2 /min",
        "horizon": "20 min",
    }
    run = twin.run(SCENARIO, set=changes, out=tmp_path / "run")
    tripped = run.events[run.events["kind"] == "thermal_trip"]["time_s"]
    assert 240 < tripped.iloc[0] < 300
    assert run.summary["availability"]["sites"]["main"]["racks_frac"] < 1
    assert run.summary["requests"]["lost"] == 0
    assert run.power.set_index("time_s").loc[1100.0:, "tokens_per_s"].sum() > 0
