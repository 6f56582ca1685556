"""Heat exchangers against the textbook, and the second law over whole plants: heat flows from hot to cold, at rest and moving."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.catalog import load_catalog
from twin.engine.plant_builder import plant_spec
from twin.errors import InputError
from twin.facility import BatteryOrder, Plant, PlantSpec, exchanger, sizing
from twin.schema import load_topology

TOPOLOGIES = Path(__file__).resolve().parents[1] / "topologies"
HOLD = BatteryOrder.hold()
NEAR_K = 1e-6


@cache
def built(name: str) -> tuple[PlantSpec, tuple[float, ...]]:
    """(plant, rated DC power of each rack) of a topology's first site."""
    site, catalog = load_topology(TOPOLOGIES / f"{name}.yaml").topology.sites[0], load_catalog()
    groups = [*site.racks, *site.cpu_racks]
    rated = [catalog.part("rack", group.rack).number("rated_w") for group in groups for _ in range(group.count)]
    return plant_spec(site, catalog), tuple(rated)


plants = st.sampled_from(sorted(file.stem for file in TOPOLOGIES.glob("*.yaml")))


@given(st.floats(0.05, 40), st.floats(0.05, 5))
def test_ratio_is_effectiveness_ntu(transfer_units: float, hot_over_cold: float) -> None:
    # Incropera, table 11.4: counterflow effectiveness on C_min; here turned to the hot side
    smaller, capacity_ratio = (
        (transfer_units, hot_over_cold) if hot_over_cold <= 1 else (transfer_units * hot_over_cold, 1 / hot_over_cold)
    )
    if abs(capacity_ratio - 1) < 1e-6:
        effectiveness = smaller / (1 + smaller)
    else:
        decay = math.exp(-smaller * (1 - capacity_ratio))
        effectiveness = (1 - decay) / (1 - capacity_ratio * decay)
    on_hot = effectiveness if hot_over_cold <= 1 else effectiveness * capacity_ratio
    got = exchanger.ratio(np.array([transfer_units]), np.array([transfer_units * hot_over_cold]))[0]
    assert got / (1 + got) == pytest.approx(on_hot, rel=1e-5)
    assert 0 < got / (1 + got) < 1


@given(st.floats(0.05, 20), st.floats(0.05, 20))
def test_cold_flow_is_the_inverse(transfer_units: float, wall_over_cold: float) -> None:
    units = np.array([transfer_units])
    growth = exchanger.ratio(units, np.array([wall_over_cold])) / units
    needed = (units - exchanger.shift(growth))[0]
    assert transfer_units - needed == pytest.approx(transfer_units - wall_over_cold, rel=1e-5, abs=1e-5)


def test_balanced_flows_by_hand() -> None:
    # UA = 40 kW/K, 10 kW/K on each side: NTU 4, effectiveness 4 / 5, so g = 4
    assert exchanger.ratio(np.array([4.0]), np.array([4.0]))[0] == 4.0
    assert exchanger.wall_w_per_k(40e3, 4.0, 4.0) == 10e3
    assert exchanger.wall_w_per_k(240e3, 10.0, 6.0) == pytest.approx(240e3 / (4 / math.log(10 / 6)))


def test_parts_hold_their_setpoints_at_rated_heat() -> None:
    catalog = load_catalog()
    cdu, handler = catalog.part("cooling", "cdu_1mw"), catalog.part("cooling", "air_handler")
    for loop, heat_w, water_c in (
        (sizing.liquid_loop(cdu, "x", 2, 35.0, "w"), 2 * cdu.number("rated_heat_w"), 31.0),
        (sizing.air_loop(handler, "y", 3e5, "w"), 3e5, sizing.air_water_supply_c(handler)),
    ):
        coolant = np.array([loop.flow_max_kg_per_s * loop.specific_heat_j_per_kg_k])
        wall = loop.exchanger_w_per_k
        most = exchanger.ratio(wall / coolant, np.array([wall / loop.water_max_w_per_k]))[0]
        fall_k = (heat_w + loop.mover_rated_w) / coolant[0]
        assert most == pytest.approx(fall_k / (loop.supply_c - water_c), rel=1e-9)


def test_water_warmer_than_the_air_is_refused() -> None:
    handler = load_catalog().part("cooling", "air_handler")
    values = {**handler.values, "water_range_k": dataclasses.replace(handler.values["water_range_k"], value=30.0)}
    with pytest.raises(InputError, match="warmer than the air enters"):
        sizing.air_loop(type(handler)(handler.name, handler.kind, handler.description, values), "y", 3e5, "w")


def test_circuit_without_heat_is_refused() -> None:
    with pytest.raises(InputError, match="no rack gives heat"):
        sizing.circuit(load_catalog().part("cooling", "dry_cooler"), "x", 31.0, 10.0, 0.0, None)


def assert_no_crossing(plant: Plant) -> None:
    """Steady state: each circuit's water is colder than the loops on it, at both ends."""
    cooling = plant.cooling
    for circuit in cooling.circuits:
        on = [i for i, loop in enumerate(cooling.loops.specs) if loop.circuit == circuit.spec.name]
        assert circuit.return_c <= max(cooling.loops.return_c[on]) + NEAR_K
        assert circuit.supply_c <= min(cooling.loops.supply_c[on]) + NEAR_K
        assert circuit.supply_c < circuit.return_c
        leaving_c = circuit.supply_c + np.array([cooling.loops.heat_w[i] / cooling.loops.water_w_per_k[i] for i in on])
        assert (leaving_c <= cooling.loops.return_c[on] + NEAR_K).all()  # every exchanger, not only the mix
        assert (cooling.loops.supply_c[on] < cooling.loops.return_c[on]).all()


@settings(max_examples=60, deadline=None)
@given(
    plants,
    st.floats(0.05, 1),
    st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
    st.floats(-20, 45),
    st.floats(0, 15),
    st.floats(0.01, 5e3),
)
def test_steady_states_obey_the_second_law(
    name: str, load: float, shares: list[float], dry_c: float, depression_k: float, step_s: float
) -> None:
    spec, rated = built(name)
    it_w = np.array([load * shares[i % len(shares)] * watts for i, watts in enumerate(rated)])
    it_w = np.maximum(it_w, 0.05 * np.array(rated))
    plant = Plant(spec)
    plant.settle(it_w, dry_c, dry_c - depression_k)
    assert_no_crossing(plant)
    plant.advance(step_s, it_w, it_w / 100, dry_c, dry_c - depression_k, HOLD)
    assert_no_crossing(plant)
    assert plant.energy.balance_residual_frac < 1e-9
    assert plant.energy.heat_residual_frac < 1e-6
    for circuit in plant.cooling.circuits:  # nothing is colder than the air without a chiller at work
        assert circuit.supply_c >= min(circuit.spec.supply_c, circuit.sink_c(dry_c, dry_c - depression_k)) - NEAR_K


@settings(max_examples=100, deadline=None)
@given(
    plants,
    st.lists(
        st.tuples(st.floats(1e-3, 10), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(-20, 45)),
        min_size=1,
        max_size=30,
    ),
)
def test_transients_cross_by_no_more_than_thermal_mass(name: str, steps: list[tuple[float, float, list[float], float]]) -> None:
    spec, rated = built(name)
    plant = Plant(spec)
    cooling = plant.cooling
    capacity = np.array([loop.heat_capacity_j_per_k for loop in cooling.loops.specs])
    now_s = 0.0
    for duration_s, load, shares, dry_c in steps:
        loop_c, loads_w = cooling.loops.return_c, np.array([load * shares[i % 3] * watts for i, watts in enumerate(rated)])
        water_c = {c.spec.name: (c.supply_c, c.return_c) for c in cooling.circuits}
        now_s += duration_s
        plant.advance(now_s, loads_w, loads_w / 100, dry_c, dry_c - 3, HOLD)
        moved_w = cooling.loops.heat_w - capacity * (cooling.loops.return_c - loop_c) / duration_s
        warmest_c = np.maximum(loop_c, cooling.loops.return_c)
        for i, loop in enumerate(cooling.loops.specs):
            entering_c = water_c[loop.circuit][0]
            slack_w = 1e-9 * float(capacity[i]) * float(warmest_c[i]) / duration_s  # rounding of the difference of temperatures
            assert moved_w[i] >= -slack_w  # no heat flows from cold to hot
            if moved_w[i] > slack_w:
                leaving_c = entering_c + (moved_w[i] - slack_w) / cooling.loops.water_w_per_k[i]
                assert leaving_c <= warmest_c[i] + NEAR_K
            assert cooling.loops.supply_c[i] >= min(entering_c, cooling.loops.return_c[i]) - NEAR_K
        for circuit in cooling.circuits:
            before_supply_c, before_c = water_c[circuit.spec.name]
            on = [i for i, loop in enumerate(cooling.loops.specs) if loop.circuit == circuit.spec.name]
            pumped_k = circuit.spec.pump_rated_w * circuit.flow_frac**2 / circuit.full_w_per_k
            inflow_c = max(before_supply_c, warmest_c[on].max()) + max(0.0, circuit.supply_c - before_supply_c) + pumped_k
            assert circuit.return_c <= max(before_c, inflow_c) + NEAR_K  # warmer than what enters only where it was so before


def test_the_crossing_that_was() -> None:
    # 35 C coolant of the factory at a third of its load: facility water left its exchangers 4.5 K warmer than the coolant entered
    spec, rated = built("factory_1mw")
    plant = Plant(spec)
    it_w = 0.4 * np.array(rated)
    plant.settle(it_w, 22.0, 15.0)
    row, _, _, water, _ = plant.advance(1.0, it_w, it_w / 100, 22.0, 15.0, HOLD).loops
    assert row.return_c - 4.5 < water.return_c < row.return_c - 3.5  # the approach, with the pump's heat
    assert water.supply_c == pytest.approx(row.supply_c - 4)


def test_use_of_power_by_weather() -> None:
    spec, rated = built("factory_1mw")
    for load, mild in ((0.3, 1.25), (0.8, 1.15)):
        pue = []
        for dry_c in (-5.0, 10.0, 20.0, 30.0, 38.0):
            plant = Plant(spec)
            it_w = load * np.array(rated)
            plant.settle(it_w, dry_c, dry_c - 5)
            plant.advance(600.0, it_w, it_w / 100, dry_c, dry_c - 5, HOLD)
            pue.append(plant.energy.utility_j / plant.energy.it_j)
        assert pue == sorted(pue)
        assert 1.08 < pue[1] < mild
