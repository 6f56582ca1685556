"""Scenario, topology and catalogue files: models with a docstring on every field, loading with places, all problems at once."""

from twin.schema.loading import Loaded, LoadedParts, LoadedScenario, LoadedTopology, load_any, load_scenario, load_topology
from twin.schema.own_parts import OwnParts, catalog_with
from twin.schema.scenario import Scenario
from twin.schema.topology import Topology

__all__ = [
    "Loaded",
    "LoadedParts",
    "LoadedScenario",
    "LoadedTopology",
    "OwnParts",
    "Scenario",
    "Topology",
    "catalog_with",
    "load_any",
    "load_scenario",
    "load_topology",
]
