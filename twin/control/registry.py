"""Policies by name: our own and those that other packages register under the entry-point group `twin.policies`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from twin.control.ladder import Ladder
from twin.control.protocol import Command, Observation, Policy, PolicySettings
from twin.control.uniform_cap import UniformCap
from twin.errors import InputError, did_you_mean
from twin.schema.scenario import Control


class NoControl:
    """Lets things happen: what a factory does that has no one to answer the utility."""

    def __init__(self, settings: PolicySettings):
        if settings.extra:
            raise InputError(f"policy 'none' takes no settings, not {sorted(settings.extra)}")

    def decide(self, seen: Observation) -> list[Command]:
        """Nothing."""
        return []


PolicyMaker = Callable[[PolicySettings], Policy]

POLICIES: dict[str, PolicyMaker] = {"none": NoControl, "uniform_cap": UniformCap, "ladder": Ladder}


def policy_of(control: Control) -> Policy:
    """A fresh policy as a scenario's `control` section asks for it. Raises InputError for a name or setting that is not known."""
    settings = PolicySettings(control.margin, control.ramp_back, control.clock_delay, control.cap_delay, dict(control.settings))
    return policy(control.policy, settings)


def policy(name: str, settings: PolicySettings) -> Policy:
    """A fresh policy. Raises InputError with the nearest known name."""
    if name in POLICIES:
        return POLICIES[name](settings)
    found = {point.name: point for point in entry_points(group="twin.policies")}
    if name not in found:
        raise InputError(f"unknown policy {name!r}{did_you_mean(name, [*POLICIES, *found])}")
    maker: PolicyMaker = found[name].load()
    return maker(settings)
