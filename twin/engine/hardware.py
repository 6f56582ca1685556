"""What computes and connects at a site, and what of it works: GPUs by tray, NVSwitches, NICs, leaves and their up-links."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from twin.errors import SimulationError, did_you_mean
from twin.fabric import FabricPlan
from twin.facility.component import Component

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RackHardware:
    """A rack, `name` "GROUP/INDEX": its GPUs, which its trays share evenly, in scale-up domains of `domain_gpus`; its NVSwitches,
    which the domains share evenly (0: not known). Its trays are the fabric's nodes from `first_node` on."""

    name: str
    gpus: int
    trays: int
    domain_gpus: int
    nvswitches: int
    first_node: int


class Hardware:
    """Counts what has failed. Units of a component are alike: the first fail first and are repaired last.

    `dark` are the racks without power; whatever stands in them does not work.
    """

    def __init__(self, racks: Sequence[RackHardware], plan: FabricPlan):
        self.racks = tuple(racks)
        self.plan = plan
        self.dark: Mask = np.zeros(len(self.racks), bool)
        self._failed: dict[str, int] = {}
        self._components: dict[str, Component] = {}
        self._rack_of = {rack.name: number for number, rack in enumerate(self.racks)}

    # --- what can fail -----------------------------------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        """Everything that can fail."""
        if not self._components:
            self._components = {component.key: component for component in self._all()}
        return tuple(self._components.values())

    def _all(self) -> Iterator[Component]:
        nics = self.plan.nics_per_node
        for rack in self.racks:
            yield Component("rack", rack.name)
            if rack.nvswitches:
                yield Component("nvswitch", rack.name, rack.nvswitches)
            for tray in range(rack.trays):
                name = f"{rack.name}/{tray}"
                yield Component("tray", name)
                yield Component("gpu", name, rack.gpus // rack.trays)
                yield Component("nic", name, nics)
        for leaf in range(self.plan.leaves):
            yield Component("leaf", str(leaf))
            if self.plan.tiers > 1:
                yield Component("link", str(leaf), self.plan.leaf_up)

    def fail(self, key: str, units: int) -> Sequence[int]:
        """Units fail: the racks that it may matter to. Raises SimulationError for an unknown key and more units than work."""
        return self._change(key, units)

    def repair(self, key: str, units: int) -> Sequence[int]:
        """Units are repaired: the racks that it may matter to. Raises SimulationError likewise."""
        return self._change(key, -units)

    def _change(self, key: str, units: int) -> Sequence[int]:
        self.components()
        component = self._components.get(key)
        if component is None:
            raise SimulationError(f"no hardware {key!r} can fail{did_you_mean(key, list(self._components))}")
        failed = self._failed.get(key, 0) + units
        if not units or not 0 <= failed <= component.units:
            verb = "fail" if units > 0 else "be repaired"
            now = self._failed.get(key, 0)
            raise SimulationError(f"{abs(units)} of {key} cannot {verb}: {now} of {component.units} have failed")
        self._failed[key] = failed
        if component.kind in ("leaf", "link"):
            return self._racks_on(int(component.name), whole_block=component.kind == "link" or self.plan.tiers > 1)
        return [self._rack_of["/".join(component.name.split("/")[:2])]]

    def _racks_on(self, leaf: int, whole_block: bool) -> list[int]:
        """Racks with a NIC on a leaf, or anywhere on its block."""
        leaves = [leaf]
        if whole_block:
            block, each = self.plan.block_of(leaf), self.plan.block_leaves
            leaves = list(range(block * each, (block + 1) * each))
        nodes = {node for each_leaf in leaves for node in self.plan.nodes_on(each_leaf)}
        return [
            number
            for number, rack in enumerate(self.racks)
            if any(node in nodes for node in range(rack.first_node, rack.first_node + rack.trays))
        ]

    def set_dark(self, dark: Mask) -> Sequence[int]:
        """The racks without power from now on: those whose state this changes."""
        changed = np.flatnonzero(dark != self.dark).tolist()
        self.dark = dark.copy()
        return changed

    # --- what works --------------------------------------------------------------------------------------------------

    def rack_works(self, rack: int) -> bool:
        """Whether a rack has power and has not failed as a whole."""
        return not (self.dark[rack] or self._has_failed("rack", self.racks[rack].name))

    def trays_frac(self, rack: int) -> float:
        """Share of the trays of a rack that work."""
        each = self.racks[rack]
        if not self.rack_works(rack):
            return 0.0
        return 1.0 - sum(self._has_failed("tray", f"{each.name}/{tray}") for tray in range(each.trays)) / each.trays

    def live(self, rack: int) -> Mask:
        """Which GPUs of a rack work: shape (GPUs,)."""
        each = self.racks[rack]
        if not self.rack_works(rack):
            return np.zeros(each.gpus, bool)
        live = np.ones(each.gpus, bool)
        per_tray = each.gpus // each.trays
        for tray in range(each.trays):
            name = f"{each.name}/{tray}"
            dead = per_tray if self._has_failed("tray", name) else self._has_failed("gpu", name)
            live[tray * per_tray : tray * per_tray + dead] = False
        return live

    def scale_up_frac(self, rack: int, first_gpu: int, gpus: int) -> float:
        """Share of the NVSwitches that work, of the domain of these GPUs of a rack where it has fewest."""
        each = self.racks[rack]
        failed = self._has_failed("nvswitch", each.name)
        if not failed:
            return 1.0
        domains = each.gpus // each.domain_gpus
        per_domain = each.nvswitches / domains
        touched = range(first_gpu // each.domain_gpus, ceil((first_gpu + gpus) / each.domain_gpus))
        return min(1.0 - min(max(failed - domain * per_domain, 0.0), per_domain) / per_domain for domain in touched)

    def scale_out_frac(self, rack: int, first_gpu: int, gpus: int) -> tuple[float, bool]:
        """Share of the NICs of these GPUs that work and hang on a leaf that does, and whether each tray can be reached: by a NIC,
        and from other blocks of the fabric."""
        each, plan = self.racks[rack], self.plan
        per_tray = each.gpus // each.trays
        share, reached = 0.0, True
        for tray in range(first_gpu // per_tray, ceil((first_gpu + gpus) / per_tray)):
            node = each.first_node + tray
            failed = self._has_failed("nic", f"{each.name}/{tray}")
            up = sum(not self._has_failed("leaf", str(plan.leaf_of(node, nic))) for nic in range(failed, plan.nics_per_node))
            inside = min(first_gpu + gpus, (tray + 1) * per_tray) - max(first_gpu, tray * per_tray)
            share += inside / gpus * up / plan.nics_per_node
            reached = reached and up > 0 and self.uplinks_frac(plan.block_of(plan.leaf_of(node, 0))) > 0.0
        return share, reached

    def uplinks_frac(self, block: int) -> float:
        """Share of the up-links of a block of leaves that work; 1 with a single tier."""
        plan = self.plan
        if plan.tiers == 1:
            return 1.0
        leaves = range(block * plan.block_leaves, (block + 1) * plan.block_leaves)
        up = sum(plan.leaf_up - self._has_failed("link", str(n)) for n in leaves if not self._has_failed("leaf", str(n)))
        return up / (plan.block_leaves * plan.leaf_up)

    def _has_failed(self, kind: str, name: str) -> int:
        """Units of a component that have failed."""
        return self._failed.get(f"{kind}/{name}", 0)
