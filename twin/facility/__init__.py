"""The plant of a site: electrical chain, battery, cooling and weather, as parts that know no clock."""

from twin.facility.battery import Battery, BatteryOrder, BatterySpec
from twin.facility.component import Component
from twin.facility.electrical import ElectricalElement
from twin.facility.generator import Generators, GeneratorSpec
from twin.facility.plant import LoopState, Plant, PlantEnergy, PlantStep
from twin.facility.spec import ChillerSpec, CircuitSpec, GpuHeatSpec, LoopSpec, PlantSpec, RackSpec
from twin.facility.store import Store, StoreSpec
from twin.facility.supply import Supply, SupplySpec, SupplyStep
from twin.facility.weather import Weather, read_weather, wet_bulb_c

__all__ = [
    "Battery",
    "BatteryOrder",
    "BatterySpec",
    "ChillerSpec",
    "CircuitSpec",
    "Component",
    "ElectricalElement",
    "GeneratorSpec",
    "Generators",
    "GpuHeatSpec",
    "LoopSpec",
    "LoopState",
    "Plant",
    "PlantEnergy",
    "PlantSpec",
    "PlantStep",
    "RackSpec",
    "Store",
    "StoreSpec",
    "Supply",
    "SupplySpec",
    "SupplyStep",
    "Weather",
    "read_weather",
    "wet_bulb_c",
]
