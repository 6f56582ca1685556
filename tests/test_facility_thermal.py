"""One lumped loop: closed form against hand calculation and against a fine-step integration."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.facility.coolant import PG25, WATER, coolant
from twin.facility.thermal import rejected_w, rejection, relax


def test_held_setpoint_relaxes_exponentially() -> None:
    # G = 1000 W/K, setpoint 30 C, 10 kW in: the return goes to 30 + 10 = 40 C with tau = C / G = 50 s
    pieces = rejection(1000.0, 0.8, 30.0, 20.0, 0.0)
    assert relax(35.0, 50.0, 10_000.0, 50_000.0, pieces) == pytest.approx(40 - 5 * math.exp(-1), rel=1e-12)


def test_exchanger_at_its_limit() -> None:
    # beyond T = (30 - 0.8 x 28) / 0.2 = 38 C the exchanger gives 800 W/K against 28 C: rest at 28 + 12000 / 800 = 43 C
    pieces = rejection(1000.0, 0.8, 30.0, 28.0, 0.0)
    assert pieces[1].upper_c == pytest.approx(38.0)
    assert rejected_w(38.0, pieces) == pytest.approx(8000.0)
    assert relax(43.0, 1e5, 12_000.0, 50_000.0, pieces) == pytest.approx(43.0)
    assert relax(25.0, 1e6, 12_000.0, 50_000.0, pieces) == pytest.approx(43.0)


def test_shut_valve_warms_in_a_straight_line() -> None:
    pieces = rejection(1000.0, 0.8, 30.0, 20.0, 0.0)
    # 5 kW into 50 kJ/K: 0.1 K/s, 60 s up to 26 C, still below the setpoint
    assert relax(20.0, 60.0, 5000.0, 50_000.0, pieces) == pytest.approx(26.0)


def test_chiller_carries_all_when_the_air_is_warmer_than_the_return() -> None:
    pieces = rejection(1000.0, 0.8, 20.0, 45.0, 15_000.0)
    assert rejected_w(30.0, pieces) == pytest.approx(10_000.0)
    assert rejected_w(40.0, pieces) == pytest.approx(15_000.0)  # at its capacity
    assert rejected_w(50.0, pieces) == pytest.approx(15_000.0 + 800 * 5)


loop_numbers = {
    "start_c": st.floats(5, 80),
    "heat_w": st.floats(0, 30_000),
    "effectiveness": st.floats(0.3, 0.95),
    "setpoint_c": st.floats(15, 45),
    "sink_c": st.floats(-10, 60),
    "boost_w": st.sampled_from([0.0, 2000.0, 12_000.0]),
}


@settings(max_examples=40, deadline=None)
@given(**loop_numbers)
def test_agrees_with_fine_steps(
    start_c: float, heat_w: float, effectiveness: float, setpoint_c: float, sink_c: float, boost_w: float
) -> None:
    pieces = rejection(1000.0, effectiveness, setpoint_c, sink_c, boost_w)
    fine, h, capacity = start_c, 0.05, 40_000.0
    for _ in range(2400):  # classical Runge-Kutta over 120 s
        k1 = (heat_w - rejected_w(fine, pieces)) / capacity
        k2 = (heat_w - rejected_w(fine + h / 2 * k1, pieces)) / capacity
        k3 = (heat_w - rejected_w(fine + h / 2 * k2, pieces)) / capacity
        k4 = (heat_w - rejected_w(fine + h * k3, pieces)) / capacity
        fine += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    assert relax(start_c, 120.0, heat_w, capacity, pieces) == pytest.approx(fine, abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(first_s=st.floats(1e-3, 1e5), second_s=st.floats(1e-3, 1e5), **loop_numbers)
def test_two_steps_are_one(
    first_s: float,
    second_s: float,
    start_c: float,
    heat_w: float,
    effectiveness: float,
    setpoint_c: float,
    sink_c: float,
    boost_w: float,
) -> None:
    pieces = rejection(1000.0, effectiveness, setpoint_c, sink_c, boost_w)
    whole = relax(start_c, first_s + second_s, heat_w, 40_000.0, pieces)
    halves = relax(relax(start_c, first_s, heat_w, 40_000.0, pieces), second_s, heat_w, 40_000.0, pieces)
    assert halves == pytest.approx(whole, rel=1e-9, abs=1e-7)


def test_coolant_properties() -> None:
    # CoolProp 8.0 at 3 bar and 25 C / 45 C
    assert WATER.specific_heat_j_per_kg_k(25) == pytest.approx(4180.7396, rel=2e-4)
    assert WATER.density_kg_per_m3(45) == pytest.approx(990.2997, rel=2e-4)
    assert PG25.specific_heat_j_per_kg_k(25) == pytest.approx(3932.5643, rel=2e-5)
    assert PG25.density_kg_per_m3(45) == pytest.approx(1007.2055, rel=2e-5)
    with pytest.raises(Exception, match="did you mean 'water'"):
        coolant("watr")
    with pytest.raises(Exception, match="not at 290 C"):
        WATER.density_kg_per_m3(290)
