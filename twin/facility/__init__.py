"""The plant of a site: electrical chain, battery, cooling and weather, as parts that know no clock."""

from twin.facility.bank import Bank, PumpBank
from twin.facility.battery import Battery, BatteryOrder, BatterySpec
from twin.facility.breaker import Breaker, BreakerSpec
from twin.facility.chain import Chain, ChainEvent, Sources
from twin.facility.chain_books import ElementMeans, ElementTotals
from twin.facility.chain_layout import chain_graph, indoor_loss_w
from twin.facility.chain_spec import ELEMENT_KINDS, ChainElementSpec, ChainSpec
from twin.facility.chiller import ChillerSpec
from twin.facility.component import Component
from twin.facility.electrical import ElectricalElement
from twin.facility.generator import Generators, GeneratorSpec
from twin.facility.plant import LoopState, Plant, PlantEnergy, PlantStep
from twin.facility.spec import CircuitSpec, GpuHeatSpec, HeatSinkSpec, LoopSpec, PadSpec, PlantSpec, RackSpec
from twin.facility.store import Store, StoreSpec
from twin.facility.supply import Supply, SupplySpec, SupplyStep
from twin.facility.tower import TowerSpec
from twin.facility.weather import Weather, read_weather, wet_bulb_c

__all__ = [
    "ELEMENT_KINDS",
    "Bank",
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
    "GeneratorSpec",
    "Generators",
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
    "Sources",
    "Store",
    "StoreSpec",
    "Supply",
    "SupplySpec",
    "SupplyStep",
    "TowerSpec",
    "Weather",
    "chain_graph",
    "indoor_loss_w",
    "read_weather",
    "wet_bulb_c",
]
