"""Wet cooling towers: how far they bring the water down towards the wet bulb, and the water they use for it.

After J. E. Braun, S. A. Klein, J. W. Mitchell, "Effectiveness models for cooling towers and cooling coils", ASHRAE Transactions
95(2), 1989, which puts F. Merkel's equation (1925, Lewis number 1) into the form of a heat exchanger: the air has, per kelvin of
the water, the saturation specific heat c_s = (h_s(T_water) - h_s(T_wet)) / (T_water - T_wet), its sink is the wet bulb, and
effectiveness is that of counterflow at the capacity ratio m* = air c_s / water c_p. NTU goes with (water / air)^0.4, Braun's
exponent for typical fills. Without flow the approach is zero, with endless flow so is the range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twin.errors import InputError
from twin.facility.weather import saturation_pressure_pa

_PRESSURE_PA = 101_325.0
#: specific heats of dry air and vapour, and heat of evaporation at 0 C (ASHRAE Handbook, Fundamentals, psychrometrics).
_AIR_J_PER_KG_K, _VAPOUR_J_PER_KG_K, _EVAPORATION_J_PER_KG = 1006.0, 1860.0, 2.501e6
#: Braun's m for typical fills: NTU goes with (water / air)^(1 + n), n = -0.6.
_FLOW_EXPONENT = 0.4
#: saturated air is reckoned as at most this warm: where water boils no c_s is finite, and no tower of a run gets there.
_WARMEST_C = 60.0


def evaporation_heat_j_per_kg(temperature_c: float) -> float:
    """Heat that a kilogram of water takes along as vapour, from water at this temperature."""
    return _EVAPORATION_J_PER_KG - 2326.0 * temperature_c  # 4186 - 1860 J/kg/K: liquid less vapour


def saturated_humidity(temperature_c: float) -> float:
    """kg of vapour per kg of dry air, saturated at sea level."""
    vapour_pa = saturation_pressure_pa(temperature_c)
    return 0.62198 * vapour_pa / (_PRESSURE_PA - vapour_pa)


def saturated_enthalpy_j_per_kg(temperature_c: float) -> float:
    """Enthalpy of saturated air per kg of dry air, from 0 C."""
    return _AIR_J_PER_KG_K * temperature_c + saturated_humidity(temperature_c) * (
        _EVAPORATION_J_PER_KG + _VAPOUR_J_PER_KG_K * temperature_c
    )


def saturation_specific_heat_j_per_kg_k(water_c: float, wet_bulb_c: float) -> float:
    """c_s, the slope of the chord between wet bulb and water; of a short one where the water is no warmer."""
    warm_c = max(min(water_c, _WARMEST_C), wet_bulb_c + 0.1)
    return (saturated_enthalpy_j_per_kg(warm_c) - saturated_enthalpy_j_per_kg(wet_bulb_c)) / (warm_c - wet_bulb_c)


def _counterflow(transfer_units: float, ratio: float) -> float:
    if abs(1 - ratio) < 1e-9:
        return transfer_units / (1 + transfer_units)
    decay = math.exp(-transfer_units * (1 - ratio))
    return (1 - decay) / (1 - ratio * decay)


@dataclass(frozen=True, slots=True)
class TowerSpec:
    """All cells of a circuit's towers: air at full fans, NTU at rated flows, and what water they lose.

    `drift_frac` of the water that runs over the fill is blown away; `concentration_cycles` is how many times the dissolved matter
    of the water is let thicken before some is let off (blowdown).
    """

    air_kg_per_s: float
    transfer_units: float
    drift_frac: float
    concentration_cycles: float

    def __post_init__(self) -> None:
        for name in ("air_kg_per_s", "transfer_units"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"cooling tower: {name} must be above zero, not {getattr(self, name)!r}")
        if not (0 <= self.drift_frac < 1 and 1 < self.concentration_cycles < math.inf):
            raise InputError("cooling tower: a drift from 0 to below 1 and more than one cycle of concentration are due")

    @classmethod
    def sized(
        cls,
        water_w_per_k: float,
        range_k: float,
        approach_k: float,
        wet_bulb_c: float,
        air_kg_per_s: float,
        drift_frac: float,
        concentration_cycles: float,
    ) -> TowerSpec:
        """The tower that cools this water by `range_k` to `approach_k` above the wet bulb. InputError where its air cannot."""
        heat_j_per_kg_k = saturation_specific_heat_j_per_kg_k(wet_bulb_c + approach_k + range_k, wet_bulb_c)
        ratio = air_kg_per_s * heat_j_per_kg_k / water_w_per_k
        effectiveness = range_k / (range_k + approach_k) / ratio
        if effectiveness >= 1:
            raise InputError(
                f"cooling tower: its air cannot take {range_k:g} K from the water to {approach_k:g} K above a wet bulb of "
                f"{wet_bulb_c:g} C (an effectiveness of {effectiveness:.3g}); more air is due (water_to_air)"
            )
        if abs(1 - ratio) < 1e-9:
            units = effectiveness / (1 - effectiveness)
        else:
            units = math.log((1 - ratio * effectiveness) / (1 - effectiveness)) / (1 - ratio)
        return cls(air_kg_per_s, units, drift_frac, concentration_cycles)

    def effectiveness_frac(self, flow_frac: float, water_w_per_k: float, water_c: float, wet_bulb_c: float) -> float:
        """Range over the water's distance from the wet bulb, at full fans, a flow of `flow_frac` of the rated and this capacity
        rate of it."""
        ratio = self.air_kg_per_s * saturation_specific_heat_j_per_kg_k(water_c, wet_bulb_c) / water_w_per_k
        units = self.transfer_units * flow_frac**_FLOW_EXPONENT
        return ratio * _counterflow(units, ratio)

    def evaporated_kg_per_s(self, heat_w: float, air_kg_per_s: float, dry_bulb_c: float, wet_bulb_c: float) -> float:
        """Water that air of this flow takes up with `heat_w`: it leaves saturated (Braun), at the enthalpy that it has then."""
        entering = saturated_enthalpy_j_per_kg(wet_bulb_c)
        leaving = entering + heat_w / air_kg_per_s
        leaving_c = wet_bulb_c
        for _ in range(50):  # Newton: enthalpy rises and is convex, so from above it comes down in a few steps
            slope = saturated_enthalpy_j_per_kg(leaving_c + 0.01) - saturated_enthalpy_j_per_kg(leaving_c - 0.01)
            change_c = (leaving - saturated_enthalpy_j_per_kg(leaving_c)) / slope * 0.02
            leaving_c = min(leaving_c + change_c, _WARMEST_C)
            if abs(change_c) < 1e-6:
                break
        dry_air_j_per_kg = _EVAPORATION_J_PER_KG + _VAPOUR_J_PER_KG_K * dry_bulb_c
        humidity = max(0.0, (entering - _AIR_J_PER_KG_K * dry_bulb_c) / dry_air_j_per_kg)
        return air_kg_per_s * max(0.0, saturated_humidity(leaving_c) - humidity)

    def water_kg_per_s(self, evaporated_kg_per_s: float, flow_kg_per_s: float) -> float:
        """Make-up water: what evaporates, and what takes dissolved matter away: drift, and blowdown for the rest."""
        return evaporated_kg_per_s + max(evaporated_kg_per_s / (self.concentration_cycles - 1), self.drift_frac * flow_kg_per_s)
