"""The plant of a site: electrical chain, battery, cooling and weather, as parts that know no clock."""

from twin.facility.battery import Battery, BatteryOrder, BatterySpec
from twin.facility.breaker import Breaker, BreakerSpec
from twin.facility.chain import Chain, ChainEvent, Sources
from twin.facility.chain_books import ElementMeans, ElementTotals
from twin.facility.chain_layout import chain_graph, indoor_loss_w
from twin.facility.chain_spec import ELEMENT_KINDS, ChainElementSpec, ChainSpec
from twin.facility.component import Component
from twin.facility.electrical import ElectricalElement
from twin.facility.plant import LoopState, Plant, PlantEnergy, PlantStep
from twin.facility.spec import ChillerSpec, CircuitSpec, GpuHeatSpec, LoopSpec, PlantSpec, RackSpec
from twin.facility.weather import Weather, read_weather, wet_bulb_c

__all__ = [
    "ELEMENT_KINDS",
    "Battery",
    "BatteryOrder",
    "BatterySpec",
    "Breaker",
    "BreakerSpec",
    "Chain",
    "ChainElementSpec",
    "ChainEvent",
    "ChainSpec",
    "ChillerSpec",
    "CircuitSpec",
    "Component",
    "ElectricalElement",
    "ElementMeans",
    "ElementTotals",
    "GpuHeatSpec",
    "LoopSpec",
    "LoopState",
    "Plant",
    "PlantEnergy",
    "PlantSpec",
    "PlantStep",
    "RackSpec",
    "Sources",
    "Weather",
    "chain_graph",
    "indoor_loss_w",
    "read_weather",
    "wet_bulb_c",
]
