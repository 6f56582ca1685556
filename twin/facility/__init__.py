"""The plant of a site: electrical chain, battery, cooling and weather, as parts that know no clock."""

from twin.facility.battery import Battery, BatteryOrder, BatterySpec
from twin.facility.electrical import ElectricalElement
from twin.facility.plant import LoopState, Plant, PlantEnergy, PlantStep
from twin.facility.spec import ChillerSpec, CircuitSpec, GpuHeatSpec, LoopSpec, PlantSpec, RackSpec
from twin.facility.weather import Weather, read_weather, wet_bulb_c

__all__ = [
    "Battery",
    "BatteryOrder",
    "BatterySpec",
    "ChillerSpec",
    "CircuitSpec",
    "ElectricalElement",
    "GpuHeatSpec",
    "LoopSpec",
    "LoopState",
    "Plant",
    "PlantEnergy",
    "PlantSpec",
    "PlantStep",
    "RackSpec",
    "Weather",
    "read_weather",
    "wet_bulb_c",
]
