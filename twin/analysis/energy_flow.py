"""Where a run's energy went, from the meter to the tokens, as a tree of flows in which every branch adds up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis.columns import TableColumns
from twin.errors import InputError

#: What rounding may leave of a balance, over the whole.
_ROUNDING = 1e-6
#: Shares of IT energy that are drawn as GPUs by pool, and what the others are called.
_OF_GPUS = ("gpu_core", "memory", "smoothing")
_NAMES = {
    "cpu": "CPUs",
    "nic": "NICs",
    "nvswitch": "NVSwitches",
    "fabric_switch": "fabric switches",
    "optic": "optics",
    "fan": "fans in the racks",
    "rest": "boards, drives, regulators",
    "cpu_racks": "CPU racks",
}


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow of `energy_j` and what it splits into; `colour` names its kind in `style.FLOWS`."""

    label: str
    colour: str
    energy_j: float
    parts: tuple[Flow, ...] = ()

    @classmethod
    def of(cls, label: str, colour: str, parts: list[Flow]) -> Flow:
        """A flow that is the sum of its parts; empty ones are left out."""
        some = tuple(part for part in parts if part.energy_j > 0)
        return cls(label, colour, math.fsum(part.energy_j for part in some), some)

    def leaves(self) -> list[Flow]:
        """Where it ends, from the first to the last."""
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]


@dataclass(frozen=True, slots=True)
class EnergyFlow:
    """The sources of a run's energy and what became of it: `used.energy_j` is the sum of `sources`, rounding apart."""

    sources: tuple[Flow, ...]
    used: Flow
    tokens: float


def energy_flow(run_dir: Path, summary: dict[str, Any]) -> EnergyFlow:
    """The flows of the whole factory, from its summary and tables. Raises InputError where these contradict each other.

    A battery that took more than it gave is a use, else a source. What leaves a battery is counted at its store, as everywhere.
    """
    energy = summary["energy"]
    # A battery at rest leaves rounding, which is no flow.
    battery_j = energy["battery_j"] if abs(energy["battery_j"]) > _ROUNDING * energy["it_j"] else 0.0
    sources = [Flow("utility", "source", energy["utility_j"]), Flow("generators", "source", energy["generator_j"])]
    if battery_j > 0:
        sources.append(Flow("battery", "store", battery_j))
    shelf_j = energy["shelf_loss_j"]
    racks = Flow.of(
        "racks",
        "it",
        [_it(run_dir, summary, energy["it_j"]), Flow("rectifiers in the racks", "loss", shelf_j)],
    )
    used = Flow.of(
        "site",
        "bus",
        [
            racks,
            Flow("cooling", "cooling", energy["cooling_j"]),
            Flow("transformers, UPS, battery inverter", "loss", energy["conversion_loss_j"] - shelf_j),
            Flow("building", "other", energy["other_j"]),
            Flow("into the battery", "store", max(0.0, -battery_j)),
        ],
    )
    given = [source for source in sources if source.energy_j > 0]
    tokens = summary["service"]["output_tokens_per_s"] * summary["horizon_s"]
    _check("energy", math.fsum(source.energy_j for source in given), used.energy_j)
    return EnergyFlow(tuple(given), used, tokens)


def _it(run_dir: Path, summary: dict[str, Any], it_j: float) -> Flow:
    """The IT energy by share: GPUs by pool and by what they did, then the rest."""
    shares = summary["energy"]["it_shares_j"]
    gpu_j = math.fsum(shares[name] for name in _OF_GPUS)
    job_j = _integral(TableColumns(run_dir, "power"), "job_gpu_w")
    parts = [
        Flow.of(
            f"GPUs of pool {name}",
            "gpu",
            [
                Flow(f"{name}: {phase}", "idle" if phase == "idle" else "gpu", totals["energy_j"])
                for phase, totals in pool["phases"].items()
            ],
        )
        for name, pool in summary["hardware"]["pools"].items()
    ]
    if job_j > 0:
        parts.append(Flow("GPUs of jobs", "gpu", job_j))
    spare_j = gpu_j - math.fsum(part.energy_j for part in parts)
    if spare_j < -_ROUNDING * gpu_j:
        raise InputError(f"{run_dir}: pools and jobs took {-spare_j:,.0f} J more than all GPUs did")
    if spare_j > _ROUNDING * gpu_j:
        # What jobs burn is part of theirs.
        parts.append(Flow("GPUs of no pool, smoothing" if shares["smoothing"] else "GPUs of no pool", "idle", spare_j))
    gpus = Flow.of("GPUs", "gpu", parts)
    others = [Flow(_NAMES.get(name, name), "it", share_j) for name, share_j in shares.items() if name not in _OF_GPUS]
    it = Flow.of("IT", "it", [gpus, *others])
    _check("IT energy", it_j, it.energy_j)
    return it


def _integral(table: TableColumns, column: str) -> float:
    """A power column over time, all sites."""
    site, time_s, values = table.names("site"), table.numbers("time_s"), table.numbers(column)
    whole = 0.0
    for code in range(len(site.labels)):
        mine = site.codes == code
        whole += float(np.dot(values[mine], np.diff(time_s[mine], prepend=0.0)))
    return whole


def _check(what: str, one_j: float, other_j: float) -> None:
    if abs(one_j - other_j) > _ROUNDING * max(one_j, other_j, 1.0):
        raise InputError(f"the {what} of this run does not add up: {one_j:,.0f} J and {other_j:,.0f} J")
