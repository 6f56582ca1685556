"""Dies with a mass of their own: exact steps, less flow, trips and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_facility_plant import HOLD, example_spec, racks_w

from twin.catalog import load_catalog
from twin.facility import GpuHeatSpec, HeatSinkSpec, Plant, sizing
from twin.facility.dies import Dies

FULL = np.array([1.0, 1.0, 1.0])


def test_step_by_hand() -> None:
    dies = Dies(example_spec())
    supply_c = np.array([30.0, 30.0, 24.0])
    watts = np.array([1000.0, 0, 0, 0, 500.0, 0])
    first = dies.advance(1.0, watts, supply_c, None)
    assert first[0] == pytest.approx(30 + 30)  # begins at rest
    assert first[4] == pytest.approx(24 + 35)
    # 0.03 K/W x 250 J/K = 7.5 s
    assert dies.advance(3.0, np.zeros(6), supply_c, None)[0] == pytest.approx(30 + 30 * math.exp(-3 / 7.5))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 50), st.floats(0.01, 50), st.floats(0, 1500), st.floats(0.0, 1.0))
def test_two_steps_are_one(first_s: float, second_s: float, watts: float, met: float) -> None:
    supply_c, flow = np.array([30.0, 35.0, 24.0]), np.array([met, 1.0, met])
    power = np.full(6, watts)
    once, twice = Dies(example_spec()), Dies(example_spec())
    for dies in (once, twice):
        dies.advance(1.0, np.zeros(6), supply_c, None)
    whole = once.advance(first_s + second_s, power, supply_c, flow)
    twice.advance(first_s, power, supply_c, flow)
    assert twice.advance(second_s, power, supply_c, flow) == pytest.approx(whole, rel=1e-9)


def test_resistance_rises_as_flow_falls() -> None:
    rest = []
    for met in (1.0, 0.5, 0.1, 0.01, 0.0):
        dies = Dies(example_spec())
        dies.advance(1.0, np.full(6, 1000.0), np.full(3, 30.0), None)
        rest.append(dies.advance(1e6, np.full(6, 1000.0), np.full(3, 30.0), np.array([met, 1.0, met])))
    left = [temperature[0] - 30 for temperature in rest]
    assert left == sorted(left)
    assert left[0] == pytest.approx(30.0)
    assert left[-1] == pytest.approx(30.0 / 0.02)  # conduction alone
    # half the flow: 0.6 + 0.4 x 2^0.8 = 1.2964 of the forced part, beside the conduction
    assert left[1] == pytest.approx(30.0 / (0.02 + 0.98 / (0.6 + 0.4 * 2**0.8)))
    assert all(temperature[2] - 30 == pytest.approx(30.0) for temperature in rest)  # the other loop
    assert all(temperature[4] - 30 == pytest.approx(70.0) for temperature in rest)  # servers' own fans


def test_without_flow_dies_trip_in_seconds() -> None:
    # GB200 at 1200 W on 35 C coolant: 35 + 0.028 x 1200 = 68.6 C; then nearly 1200 W / 250 J/K = 4.8 K/s
    catalog = load_catalog()
    die = sizing.die(catalog.part("gpu", "gb200"), catalog.part("cooling", "cold_plate"))
    spec = example_spec()
    racks = tuple(type(r)(r.name, r.count, r.shelf, r.loop, r.liquid_heat_frac, die if r.loop else r.gpu) for r in spec.racks)
    plant = Plant(type(spec)(**{**{f: getattr(spec, f) for f in spec.__dataclass_fields__}, "racks": racks}))
    clock = np.ones(6)
    times: dict[str, float] = {}

    def go(seconds: float) -> None:
        nonlocal clock
        for _ in range(round(seconds * 10)):
            on = ~plant.cooling.rack_tripped
            gpu_w = np.where(on, 140 + 1060 * clock**2.5, 0.0) * np.array([1, 1, 1, 1, 0.3, 0.3])
            step = plant.advance(plant.now_s + 0.1, on * racks_w(100e3), gpu_w, 10.0, 8.0, HOLD)
            clock = step.rack_clock_limit
            if clock[0] < 1:
                times.setdefault("throttle", plant.now_s)
            if not on[0]:
                times.setdefault("trip", plant.now_s)
            elif "trip" in times:
                times.setdefault("back", plant.now_s)

    plant.settle(racks_w(100e3), 10.0, 8.0)
    go(10)
    assert not times
    plant.fail("leak/left")
    go(60)
    assert 3 < times["throttle"] - 10 < 7
    assert 5 < times["trip"] - 10 < 20
    assert plant.cooling.rack_tripped.tolist() == [True, True, False, False, False, False]
    go(400)
    assert "back" not in times  # cool by itself, but without flow
    plant.repair("leak/left")
    repaired_s = plant.now_s
    go(400)
    assert times["back"] - repaired_s == pytest.approx(300, abs=30)
    assert not plant.cooling.rack_tripped.any()
    assert plant.energy.heat_residual_frac < 1e-9


def test_hall_without_air_handlers_trips_its_racks() -> None:
    plant = Plant(example_spec())
    plant.settle(racks_w(100e3), 10.0, 8.0)
    plant.fail("air_handler/hall")
    for second in range(1, 2000):
        step = plant.advance(float(second), racks_w(100e3), racks_w(600.0), 10.0, 8.0, HOLD)
        if plant.cooling.rack_tripped.any():
            break
    assert plant.cooling.rack_tripped.tolist() == [False] * 4 + [True] * 2
    # 2 x 41.29 kW and more into 2 MJ/K, from 36 C to about 98 - 0.07 x 240 = 81 C
    assert 600 < second < 1500
    assert step.loops[2].supply_c == step.loops[2].return_c


def test_a_trip_below_the_throttle_is_refused() -> None:
    with pytest.raises(Exception, match="trip at 80 C before it slows down at 90 C"):
        GpuHeatSpec(0.03, 90.0, 0.2, 80.0, HeatSinkSpec(250.0, 0.4, 0.02, 300.0))
