"""Towers and chillers against hand arithmetic, their limits and a library of fluid properties."""

from __future__ import annotations

import dataclasses
import math

import pytest
from CoolProp.CoolProp import PropsSI
from CoolProp.HumidAirProp import HAPropsSI
from hypothesis import given
from hypothesis import strategies as st

from twin.catalog import load_catalog
from twin.errors import InputError
from twin.facility import Bank, ChillerSpec, TowerSpec, sizing, wet_bulb_c
from twin.facility.circuit import Circuit
from twin.facility.coolant import PG25, WATER
from twin.facility.tower import (
    evaporation_heat_j_per_kg,
    saturated_enthalpy_j_per_kg,
    saturated_humidity,
    saturation_specific_heat_j_per_kg_k,
)

TOWER = TowerSpec.sized(20e3, 15.0, 4.0, 25.6, 4.0, 2e-5, 5.0)
CURVE = (0.222903, 0.313387, 0.46371)


@pytest.mark.parametrize("temperature_c", [5, 15, 25, 35, 45, 55, 65, 75, 80])
def test_coolants_are_those_of_the_library(temperature_c: int) -> None:
    kelvin = temperature_c + 273.15
    for liquid, fluid in ((WATER, "Water"), (PG25, "INCOMP::MPG[0.25]")):
        assert liquid.density_kg_per_m3(temperature_c) == pytest.approx(PropsSI("D", "T", kelvin, "P", 3e5, fluid), rel=2e-4)
        assert liquid.specific_heat_j_per_kg_k(temperature_c) == pytest.approx(
            PropsSI("C", "T", kelvin, "P", 3e5, fluid), rel=2e-4
        )


@pytest.mark.parametrize("temperature_c", [-10, 0, 10, 20, 30, 40, 50, 60])
def test_saturated_air_is_that_of_the_library(temperature_c: int) -> None:
    kelvin = temperature_c + 273.15
    if temperature_c >= 0:  # below, the library's is over ice
        assert saturated_humidity(temperature_c) == pytest.approx(HAPropsSI("W", "T", kelvin, "R", 1, "P", 101325), rel=0.01)
        enthalpy = HAPropsSI("H", "T", kelvin, "R", 1, "P", 101325)
        assert saturated_enthalpy_j_per_kg(temperature_c) == pytest.approx(enthalpy, rel=0.01, abs=150)
        latent = PropsSI("H", "T", max(kelvin, 273.16), "Q", 1, "Water") - PropsSI("H", "T", max(kelvin, 273.16), "Q", 0, "Water")
        assert evaporation_heat_j_per_kg(temperature_c) == pytest.approx(latent, rel=2e-3)
    for humidity in (0.2, 0.5, 0.9):
        library = HAPropsSI("B", "T", kelvin, "R", humidity, "P", 101325) - 273.15
        if temperature_c <= 50 and library > 0.5:
            assert wet_bulb_c(temperature_c, humidity) == pytest.approx(library, abs=0.4)


def test_design_point_by_hand() -> None:
    # 44.6 C in, 29.6 C out at a wet bulb of 25.6 C: 15 / 19 on the water's side
    assert TOWER.effectiveness_frac(1.0, 20e3, 44.6, 25.6) == pytest.approx(15 / 19, rel=1e-12)
    ratio = 4.0 * saturation_specific_heat_j_per_kg_k(44.6, 25.6) / 20e3
    decay = math.exp(-TOWER.transfer_units * (1 - ratio))
    assert ratio * (1 - decay) / (1 - ratio * decay) == pytest.approx(15 / 19)
    with pytest.raises(InputError, match="more air is due"):
        TowerSpec.sized(20e3, 15.0, 4.0, 25.6, 1.0, 2e-5, 5.0)


@given(st.floats(0.05, 1), st.floats(-20, 32), st.floats(0.5, 40))
def test_never_below_the_wet_bulb_and_better_with_less_water(flow: float, wet_c: float, above_k: float) -> None:
    less, more = (TOWER.effectiveness_frac(f, 20e3 * f, wet_c + above_k, wet_c) for f in (flow / 2, flow))
    assert 0 < more <= less < 1


def test_limits() -> None:
    assert TOWER.effectiveness_frac(0.02, 400.0, 40.0, 20.0) > 0.999  # little water comes down to the wet bulb
    assert TOWER.effectiveness_frac(1.0, 20e6, 40.0, 20.0) < 0.01  # much water hardly cools
    # warm wet bulbs are easier to come near to: air holds more per kelvin
    assert TOWER.effectiveness_frac(1.0, 20e3, 40.0, 28.0) > TOWER.effectiveness_frac(1.0, 20e3, 20.0, 8.0)


def test_water_use() -> None:
    # saturated air at 25 C that takes 300 kW per 4 kg/s: nearly all of it is vapour
    heat_w = 300e3
    evaporated = TOWER.evaporated_kg_per_s(heat_w, 4.0, 25.0, 25.0)
    assert 0.75 < evaporated * evaporation_heat_j_per_kg(35.0) / heat_w < 1
    dry = TOWER.evaporated_kg_per_s(heat_w, 4.0, 42.0, 25.0)
    assert dry > evaporated  # dry air gives its own heat too
    cold = TOWER.evaporated_kg_per_s(heat_w, 4.0, -5.0, -6.0)
    assert cold < evaporated  # cold air takes much of it as warmth
    leaving = saturated_enthalpy_j_per_kg(25.0) + heat_w / 4.0
    kelvin = HAPropsSI("T", "H", leaving, "R", 1, "P", 101325)
    taken = HAPropsSI("W", "T", kelvin, "R", 1, "P", 101325) - HAPropsSI("W", "T", 298.15, "R", 1, "P", 101325)
    assert evaporated == pytest.approx(4.0 * taken, rel=0.02)
    assert TOWER.water_kg_per_s(0.1, 5.0) == pytest.approx(0.1 + 0.1 / 4)  # five cycles; drift is less than what must go
    assert TOWER.water_kg_per_s(0.0, 5.0) == pytest.approx(5.0 * 2e-5)


def test_a_tower_circuit_comes_near_the_wet_bulb() -> None:
    catalog = load_catalog()
    part = catalog.part("cooling", "cooling_tower")
    circuit = Circuit(sizing.circuit(part, "warm", 26.0, 15.0, 1e6, None))
    for _ in range(20):
        power = circuit.advance(600.0, 0.988e6, circuit.full_w_per_k, 35.0, 25.6)  # and its pumps' 12 kW
    assert circuit.supply_c == pytest.approx(25.6 + 4, abs=0.01)
    assert power.fan_w == pytest.approx(13e3)
    # 1 MW for an hour: 1.3 to 1.9 m3 of water with a fifth more for blowdown
    assert 1300 < power.water_kg_per_s * 3600 < 2200
    for _ in range(20):
        power = circuit.advance(600.0, 0.988e6, circuit.full_w_per_k, 12.0, 8.0)
    assert circuit.supply_c == pytest.approx(26.0)
    tower = circuit.spec.tower
    assert tower is not None
    reach_k = tower.effectiveness_frac(1.0, circuit.full_w_per_k, 41.0, 8.0) * (41 - 8)
    assert power.fan_w == pytest.approx(13e3 * (15 / reach_k) ** 3)
    assert reach_k > 18


def test_chiller_part_load_by_hand() -> None:
    chiller = ChillerSpec(900e3, 0.5, 2.0, 12.0, 12.0, Bank(4, 3), CURVE, 0.2)
    full_w = 300e3 / chiller.cop(18.0, 35.0)
    assert chiller.power_w(900e3, 4, 18.0, 35.0, 25.0) == pytest.approx(3 * full_w)
    # 420 kW: two of 300 kW at 0.7
    half = 0.222903 + 0.313387 * 0.7 + 0.46371 * 0.49
    assert chiller.power_w(420e3, 4, 18.0, 35.0, 25.0) == pytest.approx(2 * full_w * half)
    # 30 kW: one that runs half of the time at a fifth
    least = 0.222903 + 0.313387 * 0.2 + 0.46371 * 0.04
    assert chiller.power_w(30e3, 4, 18.0, 35.0, 25.0) == pytest.approx(full_w * least / 2)
    powers = [chiller.power_w(x * 300e3, 4, 18.0, 35.0, 25.0) for x in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert powers == sorted(powers)
    assert chiller.water_kg_per_s(3e5, 1e5, 25.0) == 0


def test_water_cooled_chillers_look_at_the_wet_bulb() -> None:
    air = load_catalog().part("cooling", "air_cooled_chiller")
    water = load_catalog().part("cooling", "water_cooled_chiller")
    dry, wet = (sizing.chiller(part, 2e6) for part in (air, water))
    assert dry.cop(7.0, 35.0) == pytest.approx(3.3, abs=0.1)
    assert wet.cop(7.0, 24.0) == pytest.approx(5.5, abs=0.2)
    assert wet.power_w(2e6, 3, 7.0, 35.0, 24.0) < dry.power_w(2e6, 3, 7.0, 35.0, 24.0)
    assert 2.0e6 / 2.45e6 < wet.water_kg_per_s(2e6, 4e5, 24.0) < 1.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"part_load": (0.2, 0.3, 0.4)}, "add up to 1"),
        ({"part_load": (1.5, -1.0, 0.5)}, "not fall"),
        ({"carnot_frac": 1.2}, "from 0 to 1"),
        ({"carnot_frac": 0.98}, "no machine is above 1"),
        ({"condenser": "sea"}, "air or water"),
    ],
)
def test_impossible_chillers(changes: dict[str, object], said: str) -> None:
    chiller = ChillerSpec(900e3, 0.5, 2.0, 12.0, 12.0, Bank(4, 3), CURVE, 0.2)
    with pytest.raises(InputError, match=said):
        dataclasses.replace(chiller, **changes)  # type: ignore[arg-type]
