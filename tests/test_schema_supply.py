"""Generators and stores in a topology: what is read of them, and bad input at its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from schema_scenarios import SCENARIO, TOPOLOGY, spoiled, write
from test_schema_problems import problems

from twin.catalog import load_catalog
from twin.engine.plant_builder import plant_spec, start_draws
from twin.schema import load_scenario

FULL = (
    TOPOLOGY.replace(
        "      ups_rating: 400 kW\n", "      ups_rating: 400 kW\n      ups_store: {part: ups_lithium_ion, time: 5 min}\n"
    )
    + "    generators:\n      - {name: sets, part: diesel_standby, count: 3, rating: 200 kW, tank: 8 h, for_grid: true}\n"
    + "      - {name: gas, part: gas_engine, count: 1, rating: 300 kW}\n"
)


def test_what_a_site_makes_of_them(tmp_path: Path) -> None:
    (site,) = load_scenario(write(tmp_path, SCENARIO, FULL)).scenario.topology.sites
    supply = plant_spec(site, load_catalog()).supply
    (store,) = supply.stores
    # 400 kW and the UPS's loss at it for five minutes, out of cells at 96 %
    assert store.discharge_max_w == pytest.approx(400e3 / 0.957)
    assert store.capacity_j == pytest.approx(400e3 / 0.957 * 300 / 0.96)
    assert (store.charge_max_w, store.reserve_frac) == (40e3, 0.05)
    sets, gas = supply.generators
    assert (sets.start_s, sets.ramp_w_per_s, sets.for_grid, gas.for_grid) == (40.0, 20e3, True, False)
    assert sets.fuel_j == pytest.approx(8 * 3600 * 600e3 / 0.40)
    assert gas.fuel_j == float("inf")
    assert supply.return_hold_s == 300.0
    assert not supply.islanding


def test_starts_are_drawn_from_a_stream_of_each_bank(tmp_path: Path) -> None:
    (site,) = load_scenario(write(tmp_path, SCENARIO, FULL)).scenario.topology.sites
    first, again, other = start_draws(site, 1), start_draws(site, 1), start_draws(site, 2)
    drawn = [next(first["sets"]) for _ in range(3)]
    assert drawn == [next(again["sets"]) for _ in range(3)]
    assert drawn != [next(other["sets"]) for _ in range(3)]
    assert drawn[0] != next(first["gas"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "diesel_standby",
            "diesel_standbi",
            "topology.yaml:23:22: sites.0.generators.0.part: unknown generator 'diesel_standbi'",
        ),
        ("tank: 8 h, ", "", "topology.yaml:23:9: sites.0.generators.0.tank: is missing: diesel_standby burns a liquid fuel"),
        ("rating: 300 kW", "rating: 300 kW, tank: 8 h", "topology.yaml:24:65: sites.0.generators.1.tank: gas_engine is on piped"),
        ("name: gas", "name: sets", "topology.yaml:24:10: sites.0.generators.1.name: the name 'sets' is taken by item 0"),
        ("rating: 200 kW", "rating: 200", "topology.yaml:23:54: sites.0.generators.0.rating: the unit is missing"),
        (
            "time: 5 min",
            "time: 5 min, reserve: 100 %",
            "topology.yaml:17:55: sites.0.electrical.ups_store.reserve: '100 %' is out of",
        ),
        (
            "time: 5 min",
            "time: 5 min, tim: 5 min",
            "topology.yaml:17:55: sites.0.electrical.ups_store.tim: unknown key (did you mean 'time'?)",
        ),
        ("for_grid: true", "for_grid: maybe", "topology.yaml:23:81: sites.0.generators.0.for_grid: expected true or false"),
    ],
)
def test_bad_input(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = problems(tmp_path, SCENARIO, spoiled(FULL, (old, new)))
    assert found[0].startswith(expected), found
