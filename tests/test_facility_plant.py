"""The whole plant: balances, hand calculation, throttling, cooling by weather, the battery as a follower."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError, SimulationError
from twin.facility import (
    BatteryOrder,
    BatterySpec,
    ChainSpec,
    ChillerSpec,
    CircuitSpec,
    ElectricalElement,
    GpuHeatSpec,
    LoopSpec,
    Plant,
    PlantSpec,
    PlantStep,
    RackSpec,
)
from twin.facility.coolant import PG25
from twin.facility.racks import Racks

HOLD = BatteryOrder.hold()


def example_spec(**changes: Any) -> PlantSpec:
    """Four 100 kW racks on two loops and two air-cooled racks, in round numbers."""
    shelf = ElectricalElement("shelf", 200_000.0, 0.005, 0.01, 0.02)
    liquid = LoopSpec("left", "warm", 30.0, 50.0, 0.0, 3.0, 0.3, 4000.0, 600e3, 2000.0, 60e3, 12e3, 4.0)
    air = LoopSpec("hall", "cold", 24.0, 12.0, 1.0, 20.0, 0.3, 1000.0, 2e6, 8000.0, 31e3, 30e3, 10.0)
    chiller = ChillerSpec(300e3, 0.5, 2.0, 12.0, 12.0)
    warm = CircuitSpec("warm", 26.0, 6.0, 0.3, 4180.0, 3e6, 4000.0, 0.7, 9000.0, 0.0, 60.0, chiller)
    cold = CircuitSpec("cold", 18.0, 8.0, 0.3, 4180.0, 3e6, 3000.0, 0.5, 5000.0, 0.85, 20.0, chiller)
    values: dict[str, Any] = {
        "name": "site",
        "racks": (
            RackSpec("a", 2, shelf, "left", 0.87, GpuHeatSpec(0.03, 88.0, 0.2)),
            RackSpec("b", 2, shelf, "right", 1.0, GpuHeatSpec(0.03, 88.0, 0.2)),
            RackSpec("c", 2, dataclasses.replace(shelf, rated_w=50_000.0), None, 0.0, GpuHeatSpec(0.07, 88.0, 0.2)),
        ),
        "loops": (liquid, dataclasses.replace(liquid, name="right")),
        "air": air,
        "circuits": (warm, cold),
        "chain": ChainSpec.line(
            "utility",
            ElectricalElement("transformer", 1.5e6, 0.001, 0.0, 0.005),
            ElectricalElement("ups", 1e6, 0.008, 0.01, 0.025),
            3,
        ),
        "battery": BatterySpec(3.6e8, 3e5, 1e5, 0.95, 0.95, 0.1, 0.6),
        "other_w": 5000.0,
    }
    return PlantSpec(**(values | changes))


def racks_w(watts: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([1.0, 1.0, 1.0, 1.0, 0.4, 0.4]) * watts


def unbalance(step: PlantStep) -> float:
    supplied = step.utility_w + step.battery_w + step.generator_w
    used = step.it_w + step.cooling_w + step.conversion_loss_w + step.other_w
    return abs(supplied - used) / used


def test_chain_by_hand() -> None:
    plant = Plant(example_spec(battery=None))
    step = plant.advance(1.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    # shelf at 100 of 200 kW: 200 kW x (0.005 + 0.5 x 0.01 + 0.25 x 0.02) = 3 kW;
    # at 40 of 50 kW: 50 kW x (0.005 + 0.8 x 0.01 + 0.64 x 0.02) = 1.29 kW
    assert step.shelf_loss_w == pytest.approx(4 * 3000 + 2 * 1290)
    load = (480e3 + 14_580) / 1e6
    assert step.ups_loss_w == pytest.approx(1e6 * (0.008 + 0.01 * load + 0.025 * load**2))
    behind = 480e3 + 14_580 + step.ups_loss_w + step.cooling_w + 5000
    assert step.transformer_loss_w == pytest.approx(1.5e6 * (0.001 + 0.005 * (behind / 1.5e6) ** 2))
    assert step.utility_w == pytest.approx(behind + step.transformer_loss_w)
    assert step.battery_soc_frac is None
    assert step.cooling_w == pytest.approx(step.pump_w + step.fan_w + step.chiller_w)
    assert unbalance(step) < 1e-12


def test_steady_loop_by_hand() -> None:
    plant = Plant(example_spec())
    plant.settle(racks_w(100e3), 5.0, 3.0)
    step = plant.advance(1.0, racks_w(100e3), racks_w(1000.0), 5.0, 3.0, HOLD)
    left, right, hall, warm, cold = step.loops
    # left: 2 x 103 kW x 0.87 = 179.22 kW; flow for 30 -> 50 C is 179.22e3 / (4000 x 20) = 2.240 kg/s, 0.7468 of full;
    # pump 2 kW x 0.7468^3 = 833 W; return 30 + (179.22e3 + 833) / (2.240 x 4000) = 50.093 C
    assert left.flow_kg_per_s == pytest.approx(2.24025)
    assert left.heat_w == pytest.approx(179_220 + 2000 * 0.74675**3)
    assert left.supply_c == pytest.approx(30.0, abs=1e-6)
    assert left.return_c == pytest.approx(50.09295, abs=1e-4)
    assert left.gpu_max_c == pytest.approx(30 + 0.03 * 1000)
    assert right.heat_w > left.heat_w  # all of its racks' heat is in the liquid
    # hall: 0.13 x 2 x 103 kW + 2 x 41.29 kW + UPS + 5 kW, and its own fans
    air_w = 0.13 * 206e3 + 2 * 41_290 + step.ups_loss_w + 5000
    assert hall.heat_w == pytest.approx(air_w + 8000 * (air_w / (12 * 1000 * 20)) ** 3)
    assert hall.gpu_max_c == pytest.approx(hall.supply_c + 0.07 * 400)
    assert warm.gpu_max_c is None
    assert warm.heat_w == pytest.approx(left.heat_w + right.heat_w + 4000 * (warm.flow_kg_per_s / 6) ** 3, rel=1e-9)
    # facility water 4 K below the loops' return, 4 K below their supply: as much of it, times specific heat, as there is coolant;
    # right: 206 kW / (4000 x 20) = 2.575 kg/s
    assert warm.supply_c == pytest.approx(26.0, abs=1e-6)
    assert warm.flow_kg_per_s == pytest.approx((2.24025 + 2.575) * 4000 / 4180)
    assert warm.return_c == pytest.approx(26 + warm.heat_w / (4000 * (2.24025 + 2.575)), abs=1e-6)
    # chilled water 10 K below the hall's return
    assert cold.supply_c == pytest.approx(18.0, abs=1e-6)
    assert cold.flow_kg_per_s == pytest.approx(hall.heat_w / (hall.return_c - 10 - 18) / 4180)
    assert step.chiller_w == 0  # free cooling at 5 C


def test_settled_means_nothing_moves() -> None:
    for outdoor_c in (0.0, 25.0, 42.0):
        plant = Plant(example_spec())
        plant.settle(racks_w(90e3), outdoor_c, outdoor_c - 5)
        before = plant.cooling.return_c.copy()
        step = plant.advance(600.0, racks_w(90e3), racks_w(1000.0), outdoor_c, outdoor_c - 5, HOLD)
        assert plant.cooling.return_c == pytest.approx(before, abs=1e-6)
        assert plant.energy.heat_stored_j == pytest.approx(0.0, abs=1e-6 * plant.energy.heat_in_j)
        assert unbalance(step) < 1e-12
        with pytest.raises(SimulationError, match="before its first step"):
            plant.settle(racks_w(90e3), 20.0, 15.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(1e-3, 5e3),
            st.lists(st.floats(0, 1), min_size=6, max_size=6),
            st.floats(-20, 45),
            st.floats(0, 15),
            st.sampled_from(["hold", "follow", "charge", "give"]),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_every_step_balances(steps: list[tuple[float, list[float], float, float, str]]) -> None:
    orders = {
        "hold": HOLD,
        "follow": BatteryOrder.follow(350e3, recharge_w=50e3),
        "charge": BatteryOrder.power(-80e3),
        "give": BatteryOrder.power(200e3),
    }
    plant = Plant(example_spec())
    now_s, utility_j = 0.0, 0.0
    for duration_s, shares, dry_c, depression_k, order in steps:
        now_s += duration_s
        it_w = np.array(shares) * np.array([150e3] * 4 + [50e3] * 2)
        step = plant.advance(now_s, it_w, it_w / 100, dry_c, dry_c - depression_k, orders[order])
        assert unbalance(step) < 1e-9
        assert step.utility_w >= 0
        assert step.it_w == pytest.approx(it_w.sum())
        assert ((step.rack_clock_limit >= 0.2) & (step.rack_clock_limit <= 1)).all()
        utility_j += step.utility_w * step.duration_s
    energy = plant.energy
    assert energy.utility_j == pytest.approx(utility_j, rel=1e-12)
    assert energy.balance_residual_frac < 1e-9
    assert energy.heat_residual_frac < 1e-6
    assert plant.battery is not None
    assert energy.battery_j == pytest.approx(0.6 * 3.6e8 - plant.battery.stored_j, rel=1e-9, abs=1.0)


@pytest.mark.parametrize("outdoor_c", [10.0, 33.0])
def test_long_steps_agree_with_short_ones(outdoor_c: float) -> None:
    def run(step_s: float, coupling_s: float) -> Plant:
        plant = Plant(example_spec(coupling_step_s=coupling_s))
        plant.settle(racks_w(40e3), outdoor_c, outdoor_c - 4)
        for i in range(round(600 / step_s)):
            plant.advance((i + 1) * step_s, racks_w(110e3), racks_w(1000.0), outdoor_c, outdoor_c - 4, HOLD)
        return plant

    fine = run(0.1, 10.0)
    coarse = run(600.0, 10.0)
    assert coarse.cooling.return_c == pytest.approx(fine.cooling.return_c, abs=0.05)
    assert coarse.energy.cooling_j == pytest.approx(fine.energy.cooling_j, rel=0.02)


def test_vector_step_is_the_scalar_step() -> None:
    plant = Plant(example_spec())
    cooling = plant.cooling
    from twin.facility.thermal import rejection, relax

    full_w_per_k = {c.name: c.flow_max_kg_per_s * c.specific_heat_j_per_kg_k for c in plant.spec.circuits}
    heat_w = np.array([150e3, 40e3, 120e3])
    for second in range(1, 200):
        before_c, sinks = cooling.return_c.copy(), [c.supply_c for c in cooling.circuits]
        cooling.advance(1.0, heat_w, 44.0, 30.0)
        coolant = [
            f * x.flow_max_kg_per_s * x.specific_heat_j_per_kg_k for f, x in zip(cooling.flow_frac, cooling.loops, strict=True)
        ]
        for i, loop in enumerate(cooling.loops):
            conductance = coolant[i]
            sink_c = sinks[0 if loop.circuit == "warm" else 1]
            shared = sum(x for x, other in zip(coolant, cooling.loops, strict=True) if other.circuit == loop.circuit)
            water = min(loop.water_max_w_per_k, full_w_per_k[loop.circuit] * conductance / shared)
            decay = math.exp(-loop.exchanger_w_per_k * (1 / conductance - 1 / water))
            effectiveness = (1 - decay) / (1 - conductance / water * decay)
            pieces = rejection(conductance, effectiveness, loop.supply_c, sink_c, 0.0)
            expected = relax(before_c[i], 1.0, cooling.heat_w[i], loop.heat_capacity_j_per_k, pieces)
            assert cooling.return_c[i] == pytest.approx(expected, abs=1e-9), (second, loop.name)


def test_cooling_power_rises_with_outdoor_temperature() -> None:
    powers = []
    for outdoor_c in (-5.0, 5.0, 15.0, 25.0, 35.0, 42.0):
        plant = Plant(example_spec())
        plant.settle(racks_w(90e3), outdoor_c, outdoor_c - 6)
        powers.append(plant.advance(60.0, racks_w(90e3), racks_w(1000.0), outdoor_c, outdoor_c - 6, HOLD).cooling_w)
    assert powers == sorted(powers)
    assert powers[-1] > 3 * powers[0]


def test_no_chiller_in_heat_lets_everything_warm_up() -> None:
    spec = example_spec()
    plant = Plant(dataclasses.replace(spec, circuits=tuple(dataclasses.replace(c, chiller=None) for c in spec.circuits)))
    plant.settle(racks_w(90e3), 40.0, 30.0)
    step = plant.advance(1.0, racks_w(90e3), racks_w(1000.0), 40.0, 30.0, HOLD)
    left, _, _, warm, _ = step.loops
    assert warm.supply_c > 40.0  # water cannot be colder than the air that cools it
    assert left.supply_c > warm.supply_c
    assert step.chiller_w == 0


def test_hot_dies_slow_down_and_recover() -> None:
    plant = Plant(example_spec())
    # 30 C + 0.03 K/W x 2200 W = 96 C; allowed are (88 - 30) / 0.03 = 1933 W
    clock = np.ones(6)
    for second in range(1, 121):
        gpu_w = np.array([2200.0, 1000, 1000, 1000, 300, 300]) * clock**2.5
        step = plant.advance(float(second), racks_w(100e3), gpu_w, 5.0, 3.0, HOLD)
        clock = step.rack_clock_limit
    assert gpu_w[0] == pytest.approx((88 - 30) / 0.03, rel=1e-3)
    assert clock[0] == pytest.approx((1933.33 / 2200) ** 0.4, rel=1e-3)
    assert (clock[1:] == 1).all()
    left = step.loops[0]
    assert left.throttled_frac == 0.5
    assert left.gpu_max_c == pytest.approx(88.0, abs=0.1)
    for second in range(121, 140):
        step = plant.advance(float(second), racks_w(50e3), racks_w(900.0), 5.0, 3.0, HOLD)
    assert (step.rack_clock_limit == 1).all()
    assert (clock[0] < 1).all()  # the array of an earlier step stays as it was


def test_follower_holds_the_limit_to_the_watt() -> None:
    plant = Plant(example_spec())
    plant.settle(racks_w(100e3), 10.0, 8.0)
    free = plant.advance(1.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, HOLD)
    limit_w = 0.8 * free.utility_w
    step = plant.advance(2.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, BatteryOrder.follow(limit_w))
    assert step.utility_w == pytest.approx(limit_w, rel=1e-9)
    assert step.battery_w > 0
    assert step.battery_loss_w == pytest.approx(step.battery_w * 0.05)
    assert step.battery_short_w == pytest.approx(0.0, abs=1e-6)
    # recharge uses the room below the limit, and no more
    step = plant.advance(3.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, BatteryOrder.follow(free.utility_w + 30e3, 90e3))
    assert step.utility_w == pytest.approx(free.utility_w + 30e3, rel=1e-6)
    step = plant.advance(4.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, BatteryOrder.follow(1.2e6, 20e3))
    assert step.battery_w == pytest.approx(-20e3 * 0.95)


def test_what_the_battery_cannot_give_is_said() -> None:
    plant = Plant(example_spec())
    step = plant.advance(1.0, racks_w(100e3), racks_w(1000.0), 10.0, 8.0, BatteryOrder.follow(100e3))
    assert step.battery_short_w > 0
    assert step.battery_w == pytest.approx(3e5 / 0.95)
    step = plant.advance(2.0, racks_w(5e3), racks_w(100.0), 10.0, 8.0, BatteryOrder.power(250e3))
    assert step.utility_w == pytest.approx(1500.0)  # no export: the transformer's no-load loss is left
    assert step.battery_short_w > 0


def test_return_law_meets_published_coolant_flow() -> None:
    # GB300 NVL72, 116 kW of liquid heat: litres per minute by inlet temperature, as published
    published = {25: 65.1, 30: 76.5, 35: 92.6, 40: 117.5, 45: 160.0}
    from twin.catalog import load_catalog
    from twin.facility import sizing

    for supply_c, litres in published.items():
        loop = sizing.liquid_loop(load_catalog().part("cooling", "cdu_1mw"), "x", 1, float(supply_c), "w")
        return_c = loop.return_intercept_c + loop.return_slope * supply_c
        flow = 116e3 / (loop.specific_heat_j_per_kg_k * (return_c - supply_c))
        assert flow / PG25.density_kg_per_m3(supply_c) * 60_000 == pytest.approx(litres, rel=0.05)


def test_bad_steps_are_refused() -> None:
    plant = Plant(example_spec(battery=None))
    good, gpu = racks_w(1e4), racks_w(100.0)
    with pytest.raises(SimulationError, match="cannot advance"):
        plant.advance(0.0, good, gpu, 20.0, 15.0, HOLD)
    with pytest.raises(SimulationError, match="no battery"):
        plant.advance(1.0, good, gpu, 20.0, 15.0, BatteryOrder.follow(1.0))
    with pytest.raises(InputError, match="another unit"):
        plant.advance(1.0, good, gpu, 300.0, 290.0, HOLD)
    for bad in (-1.0, float("nan"), 1e9):
        it_w = good.copy()
        it_w[4] = bad
        with pytest.raises(SimulationError, match=r"rack 4 \(c\)"):
            plant.advance(1.0, it_w, gpu, 20.0, 15.0, HOLD)
    with pytest.raises(SimulationError, match="hottest GPU"):
        plant.advance(1.0, good, gpu * float("nan"), 20.0, 15.0, HOLD)
    with pytest.raises(SimulationError, match="6 rack powers"):
        plant.advance(1.0, good[:3], gpu, 20.0, 15.0, HOLD)
    assert plant.now_s == 0.0


def test_bad_specs_are_refused() -> None:
    spec = example_spec()
    with pytest.raises(InputError, match="did you mean 'left'"):
        example_spec(racks=(dataclasses.replace(spec.racks[0], loop="lef"),))
    with pytest.raises(InputError, match="known circuit"):
        example_spec(air=dataclasses.replace(spec.air, circuit="none"))
    with pytest.raises(InputError, match="names must differ"):
        example_spec(loops=(spec.loops[0], spec.loops[0]))
    with pytest.raises(InputError, match="does not fit loop"):
        dataclasses.replace(spec.racks[2], liquid_heat_frac=0.5)
    with pytest.raises(InputError, match="another unit"):
        dataclasses.replace(spec.loops[0], supply_c=303.0)
    with pytest.raises(InputError, match="warmer than the supply"):
        dataclasses.replace(spec.loops[0], supply_c=55.0)
    with pytest.raises(InputError, match="no racks"):
        example_spec(racks=())
    with pytest.raises(InputError, match="must be above zero"):
        dataclasses.replace(spec.circuits[0], flow_max_kg_per_s=0.0)
    with pytest.raises(InputError, match="must be above zero"):
        dataclasses.replace(spec.loops[0], exchanger_w_per_k=0.0)
    with pytest.raises(InputError, match="mover_rated_w must be at least"):
        dataclasses.replace(spec.loops[0], mover_rated_w=-1.0)
    with pytest.raises(InputError, match="too warm for loop left"):
        example_spec(circuits=(dataclasses.replace(spec.circuits[0], supply_c=30.0), spec.circuits[1]))


def test_racks_are_numbered_through_the_groups() -> None:
    racks = Racks(example_spec())
    assert racks.count == 6
    heat_w, _, it_w, drawn_w = racks.heat(racks_w(100e3))
    assert it_w == pytest.approx(480e3)
    assert heat_w.sum() == pytest.approx(drawn_w)
