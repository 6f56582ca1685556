"""The plant of a site: electrical chain, battery, cooling and weather, as parts that know no clock."""

from twin.facility.bank import Bank, PumpBank
from twin.facility.battery import Battery, BatteryOrder, BatterySpec
from twin.facility.chiller import ChillerSpec
from twin.facility.component import Component
from twin.facility.electrical import ElectricalElement
from twin.facility.plant import LoopState, Plant, PlantEnergy, PlantStep
from twin.facility.spec import CircuitSpec, GpuHeatSpec, HeatSinkSpec, LoopSpec, PadSpec, PlantSpec, RackSpec
from twin.facility.tower import TowerSpec
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
    "PadSpec",
    "Plant",
    "PlantEnergy",
    "PlantSpec",
    "PlantStep",
    "PumpBank",
    "RackSpec",
    "TowerSpec",
    "Weather",
    "read_weather",
    "wet_bulb_c",
]
