"""Scenario and topology files: models with a docstring on every field, loading with places, checks with all problems at once."""

from twin.schema.loading import Loaded, LoadedScenario, LoadedTopology, load_any, load_scenario, load_topology
from twin.schema.scenario import Scenario
from twin.schema.topology import Topology

__all__ = [
    "Loaded",
    "LoadedScenario",
    "LoadedTopology",
    "Scenario",
    "Topology",
    "load_any",
    "load_scenario",
    "load_topology",
]
