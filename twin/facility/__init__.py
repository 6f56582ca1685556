"""The plant of a site: electrical chain, battery, cooling and weather, as parts that know no clock."""

from twin.facility.bank import Bank, PumpBank
from twin.facility.battery import Battery, BatteryOrder, BatterySpec
from twin.facility.component import Component
from twin.facility.electrical import ElectricalElement
from twin.facility.plant import LoopState, Plant, PlantEnergy, PlantStep
from twin.facility.spec import ChillerSpec, CircuitSpec, GpuHeatSpec, HeatSinkSpec, LoopSpec, PlantSpec, RackSpec
from twin.facility.weather import Weather, read_weather, wet_bulb_c

__all__ = [
    "Bank",
    "Battery",
    "BatteryOrder",
    "BatterySpec",
    "ChillerSpec",
    "CircuitSpec",
    "Component",
    "ElectricalElement",
    "GpuHeatSpec",
    "HeatSinkSpec",
    "LoopSpec",
    "LoopState",
    "Plant",
    "PlantEnergy",
    "PlantSpec",
    "PlantStep",
    "PumpBank",
    "RackSpec",
    "Weather",
    "read_weather",
    "wet_bulb_c",
]
