"""Cooling that fails and comes back: what is left of flow and heat, what loops do then, and that nothing gets lost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_facility_plant import HOLD, example_spec, racks_w, unbalance

from twin.catalog import load_catalog
from twin.errors import InputError, SimulationError
from twin.facility import Bank, ChainSpec, ElectricalElement, Plant, PlantSpec, PumpBank, RackSpec, TowerSpec, sizing
from twin.facility.coolant import PG25
from twin.facility.thermal import rejection, relax

SHARES = np.array([150e3] * 4 + [50e3] * 2)


def with_units(**changes: Any) -> PlantSpec:
    """The example with two CDUs to a loop, two of three pumps needed, two cells, and three of four chillers needed."""
    spec = example_spec()
    loops = tuple(dataclasses.replace(loop, units=Bank(2, 2), pumps=PumpBank(3, 2)) for loop in spec.loops)
    air = dataclasses.replace(spec.air, units=Bank(3, 2))
    circuits = []
    for circuit in spec.circuits:
        assert circuit.chiller is not None
        chiller = dataclasses.replace(circuit.chiller, bank=Bank(4, 3), part_load=(0.22, 0.32, 0.46), load_min_frac=0.2)
        circuits.append(dataclasses.replace(circuit, pumps=PumpBank(3, 2), coolers=Bank(2, 2), chiller=chiller))
    return dataclasses.replace(spec, **({"loops": loops, "air": air, "circuits": tuple(circuits)} | changes))


def with_tower(spec: PlantSpec) -> PlantSpec:
    warm = spec.circuits[0]
    tower = TowerSpec.sized(6 * 4180.0, 15.0, 4.0, 25.6, 5.0, 2e-5, 5.0)
    return dataclasses.replace(spec, circuits=(dataclasses.replace(warm, tower=tower), spec.circuits[1]))


def run(plant: Plant, seconds: int, watts: float = 100e3, gpu_w: float = 1000.0, air: tuple[float, float] = (10.0, 8.0)) -> Any:
    for _ in range(seconds):
        step = plant.advance(plant.now_s + 1, racks_w(watts), racks_w(gpu_w), *air, HOLD)
    return step


def test_spares_change_nothing_until_they_are_needed() -> None:
    whole, spared = Plant(with_units()), Plant(with_units())
    for key in ("cdu_pump/left", "air_handler/hall", "pump/warm", "chiller/warm"):
        spared.fail(key)
    for air in ((10.0, 8.0), (38.0, 25.0)):
        assert run(whole, 30, air=air).cooling_w == run(spared, 30, air=air).cooling_w
    assert (whole.cooling.loops.return_c == spared.cooling.loops.return_c).all()


def test_what_can_fail_and_what_cannot() -> None:
    plant = Plant(with_units())
    units = {part.key: part.units for part in plant.cooling.components()}
    assert units == {
        **{f"cdu/{loop}": 2 for loop in ("left", "right")},
        **{f"cdu_pump/{loop}": 3 for loop in ("left", "right")},
        **{f"leak/{loop}": 1 for loop in ("left", "right")},
        "air_handler/hall": 3,
        **{f"pump/{circuit}": 3 for circuit in ("warm", "cold")},
        **{f"cooler/{circuit}": 2 for circuit in ("warm", "cold")},
        **{f"chiller/{circuit}": 4 for circuit in ("warm", "cold")},
    }
    with pytest.raises(SimulationError, match=r"no component 'cdu/lefft' \(did you mean 'cdu/left'"):
        plant.fail("cdu/lefft")
    plant.fail("cdu/left", 2)
    with pytest.raises(SimulationError, match="0 of 2 units of cdu/left are up; 1 cannot fail"):
        plant.fail("cdu/left")
    with pytest.raises(SimulationError, match="3 cannot come back"):
        plant.repair("cdu/left", 3)
    with pytest.raises(SimulationError, match="shares of power"):
        plant.cooling.set_powered(1.5, 1.0)


def test_pumps_by_hand() -> None:
    bank = PumpBank(3, 2, 1.25)
    assert [bank.share(left) for left in (3, 2, 0)] == [1.0, 1.0, 0.0]
    # one of two: 1.25 - 0.25 (2 q)^2 = q^2 -> q = sqrt(1.25 / 2)
    assert bank.share(1) == pytest.approx(math.sqrt(0.625))
    shares = [PumpBank(8, 8).share(left) for left in range(9)]
    assert shares == sorted(shares)
    with pytest.raises(InputError, match="must fall with its flow"):
        PumpBank(2, 1, 0.9)
    with pytest.raises(InputError, match="cannot need"):
        Bank(1, 2)


def test_a_loop_without_flow_warms_by_its_mass() -> None:
    plant = Plant(with_units())
    plant.settle(racks_w(100e3), 10.0, 8.0)
    left, right = run(plant, 1).loops[:2]
    plant.fail("leak/left")
    after = run(plant, 20)
    # 2 x 103 kW x 0.87 into 600 kJ/K, and no pump: 0.2987 K/s
    assert after.loops[0].return_c == pytest.approx(left.return_c + 20 * 179_220 / 600e3)
    assert after.loops[0].supply_c == after.loops[0].return_c
    assert after.loops[0].flow_kg_per_s == after.loops[0].pump_w == 0
    assert after.loops[1].return_c == pytest.approx(right.return_c, abs=0.01)
    plant.repair("leak/left")
    assert run(plant, 900).loops[0].return_c == pytest.approx(left.return_c, abs=1e-3)
    assert plant.energy.heat_residual_frac < 1e-12


def test_without_facility_water_loops_flow_and_warm() -> None:
    plant = Plant(with_units())
    plant.settle(racks_w(100e3), 10.0, 8.0)
    before = run(plant, 1)
    plant.fail("pump/warm", 3)
    after = run(plant, 10)
    assert after.loops[0].return_c == pytest.approx(before.loops[0].return_c + 10 * before.loops[0].heat_w / 600e3, abs=0.05)
    assert after.loops[0].flow_kg_per_s > 0
    assert after.loops[3].flow_kg_per_s == after.loops[3].heat_w == after.loops[3].fan_w == 0
    assert after.loops[3].return_c == before.loops[3].return_c


def test_power_lost_and_pumps_on_the_ups() -> None:
    plant = Plant(with_units())
    plant.settle(racks_w(100e3), 30.0, 22.0)
    # the chain decides again after each step
    plant.cooling.set_powered(0.0, 1.0)
    step = run(plant, 1, air=(30.0, 22.0))
    assert step.fan_w == step.chiller_w == 0
    assert step.pump_w > 0
    plant.cooling.set_powered(0.0, 0.0)
    step = run(plant, 1, air=(30.0, 22.0))
    assert step.cooling_w == 0
    assert run(plant, 5, air=(30.0, 22.0)).cooling_w > 0


def test_half_the_cdus_hold_half_the_heat() -> None:
    plant = Plant(with_units())
    plant.fail("cdu/left")
    light = run(plant, 1800, watts=50e3).loops[0]
    assert light.supply_c == pytest.approx(30.0)
    heavy = run(plant, 1800).loops[0]
    assert heavy.flow_kg_per_s == pytest.approx(1.5)
    assert heavy.return_c > light.return_c + 5
    assert heavy.pump_w == pytest.approx(1000.0)  # one of two, flat out


@pytest.mark.parametrize("outdoor_c", [10.0, 30.0, 44.0])
@pytest.mark.parametrize(
    "failed", [(), ("cdu/left",), ("leak/left", "cdu_pump/right", "cdu_pump/right", "pump/warm", "pump/warm")]
)
def test_vector_step_is_the_scalar_step(outdoor_c: float, failed: tuple[str, ...]) -> None:
    """Each loop by itself, through effectiveness and the exact scalar step."""
    plant = Plant(with_units())
    for key in failed:
        plant.fail(key)
    cooling, loops = plant.cooling, plant.cooling.loops
    water = {"warm": 6 * 4180 * (math.sqrt(0.625) if "pump/warm" in failed else 1.0), "cold": 8 * 4180.0}
    units = {"left": 0.5 if "cdu/left" in failed else 1.0}
    flow = {"left": 0.0 if "leak/left" in failed else units["left"], "right": math.sqrt(0.625) if failed[1:] else 1.0}
    rng = np.random.default_rng(3)
    for second in range(300):
        heat_w = np.array([150e3, 40e3, 120e3]) * (rng.uniform(0.2, 1.2, 3) if second % 40 == 0 else 1.0)
        before_c, sinks = loops.return_c, {c.spec.name: c.supply_c for c in cooling.circuits}
        cooling.advance(1.0, heat_w, outdoor_c, outdoor_c - 8)
        rates = {
            x.name: f * x.flow_max_kg_per_s * x.specific_heat_j_per_kg_k
            for f, x in zip(loops.flow_frac.tolist(), loops.specs, strict=True)
        }
        for i, loop in enumerate(loops.specs):
            rate, share = rates[loop.name], flow.get(loop.name, 1.0)
            if not share:
                expected = before_c[i] + heat_w[i] / loop.heat_capacity_j_per_k
            else:
                shared = sum(rates[other.name] for other in loops.specs if other.circuit == loop.circuit)
                scale = units.get(loop.name, 1.0)
                cold = min(loop.water_max_w_per_k * scale, water[loop.circuit] * rate / shared)
                wall = loop.exchanger_w_per_k * scale
                decay = math.exp(-wall * (1 / rate - 1 / cold))
                balanced = abs(rate / cold - 1) < 1e-9
                effectiveness = wall / (wall + rate) if balanced else (1 - decay) / (1 - rate / cold * decay)
                pieces = rejection(rate, effectiveness, loop.supply_c, sinks[loop.circuit], 0.0)
                heat = heat_w[i] + loops.mover_w[i]
                expected = relax(float(before_c[i]), 1.0, float(heat), loop.heat_capacity_j_per_k, pieces)
                assert rate <= loop.flow_max_kg_per_s * loop.specific_heat_j_per_kg_k * share * (1 + 1e-12)
            assert loops.return_c[i] == pytest.approx(expected, abs=1e-9), (second, loop.name)


KEYS = [part.key for part in Plant(with_units()).cooling.components()]


@settings(max_examples=80, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from([1e-3, 0.1, 1.0, 7.0, 10.0, 33.0, 600.0]),
            st.lists(st.floats(0, 1), min_size=6, max_size=6),
            st.floats(-20, 45),
            st.floats(0, 15),
            st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=3),
            st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0])),
        ),
        min_size=1,
        max_size=25,
    ),
)
def test_balances_hold_through_failures(tower: bool, steps: list[Any]) -> None:
    plant = Plant(with_tower(with_units()) if tower else with_units())
    left = {part.key: part.units for part in plant.cooling.components()}
    units = dict(left)
    for duration_s, shares, dry_c, depression_k, changes, powered in steps:
        it_w = np.array(shares) * SHARES
        step = plant.advance(plant.now_s + duration_s, it_w, it_w / 100, dry_c, dry_c - depression_k, HOLD)
        assert unbalance(step) < 1e-9
        assert np.isfinite(plant.cooling.loops.return_c).all()
        for state in step.loops:
            assert min(state.pump_w, state.fan_w, state.chiller_w, state.water_kg_per_s, state.flow_kg_per_s) >= 0
        if duration_s <= plant.spec.coupling_step_s:
            assert math.fsum(state.pump_w for state in step.loops) == pytest.approx(step.pump_w)
            assert math.fsum(state.fan_w for state in step.loops) == pytest.approx(step.fan_w)
            assert math.fsum(state.chiller_w for state in step.loops) == pytest.approx(step.chiller_w)
        for key, fails in changes:  # at the end of a step, which is a change at a record time
            if fails and left[key]:
                plant.fail(key)
                left[key] -= 1
            elif not fails and left[key] < units[key]:
                plant.repair(key)
                left[key] += 1
        plant.cooling.set_powered(*powered)
    assert plant.energy.heat_residual_frac < 1e-6
    assert plant.energy.balance_residual_frac < 1e-9


@pytest.mark.parametrize(("supply_c", "litres_per_min"), [(25, 65.1), (30, 76.5), (35, 92.6), (40, 117.5), (45, 160.0)])
def test_gb300_coolant_flow(supply_c: int, litres_per_min: float) -> None:
    """Eight racks with 116 kW of liquid heat each on one CDU, run to rest: published flow by inlet temperature."""
    catalog = load_catalog()
    cdu, cooler = catalog.part("cooling", "cdu_1mw"), catalog.part("cooling", "dry_cooler")
    handler = catalog.part("cooling", "air_handler")
    lossless = ElectricalElement("shelf", 200e3, 0.0, 0.0, 0.0)
    loop = sizing.liquid_loop(cdu, "row", 1, float(supply_c), "warm")
    heat_w = 8 * 116e3
    range_k = heat_w / sizing.capacity_rate_w_per_k(loop, heat_w)
    water_c = supply_c - cdu.number("approach_k")
    plant = Plant(
        PlantSpec(
            name="gb300",
            racks=(RackSpec("row", 8, lossless, "row", 0.9, None),),
            loops=(loop,),
            air=sizing.air_loop(handler, "air", 120e3, "cold"),
            circuits=(
                sizing.circuit(cooler, "warm", water_c, range_k, heat_w, None),
                sizing.circuit(cooler, "cold", 18.0, 8.0, 120e3, None),
            ),
            chain=ChainSpec.line(
                "utility",
                ElectricalElement("transformer", 2e6, 0.01, 0.0, 0.0),
                ElectricalElement("ups", 2e6, 0.01, 0.0, 0.0),
                1,
            ),
            battery=None,
            other_w=0.0,
        )
    )
    it_w = np.full(8, 116e3 / 0.9)
    plant.settle(it_w, 10.0, 8.0)
    row = plant.advance(1.0, it_w, np.zeros(8), 10.0, 8.0, HOLD).loops[0]
    assert row.supply_c == pytest.approx(supply_c)
    assert row.flow_kg_per_s / 8 / PG25.density_kg_per_m3(supply_c) * 60_000 == pytest.approx(litres_per_min, rel=0.05)


def test_free_cooling_is_time_without_chillers() -> None:
    plant = Plant(with_units())
    plant.settle(racks_w(100e3), 5.0, 3.0)
    run(plant, 60, air=(5.0, 3.0))
    assert plant.energy.free_cooling_s == plant.energy.span_s == 60
    run(plant, 40, air=(40.0, 25.0))
    assert plant.energy.free_cooling_s < 65
    assert plant.energy.water_kg == 0  # pads at 27 C have nothing to give to water at 26 C, so they stay dry
    step = run(plant, 40, air=(30.0, 14.0))
    used = [state.water_kg_per_s for state in step.loops]
    # 20 kW/K of air at full fans from 30 to 16.4 C, with a half more for what is let off
    assert 0 < used[-1] <= 20e3 * 13.6 / 2.46e6 * 1.5
    assert not any(used[:-1])
