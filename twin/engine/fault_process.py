"""Lets components of a site fail and be repaired when their time has come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from twin.analysis import FaultRecord
from twin.engine.fault_plan import Fault
from twin.facility.component import Component


class Fallible(Protocol):
    """A part of the twin whose components can fail: the plant, and the hardware under serving."""

    def components(self) -> tuple[Component, ...]:
        """All that can fail."""

    def fail(self, key: str, units: int = 1) -> None:
        """From the next step on."""

    def repair(self, key: str, units: int = 1) -> None:
        """From the next step on."""


class EventLog(Protocol):
    """Who writes down what happened (`SiteRecorder`)."""

    def event(self, time_s: float, kind: str, subject: str, detail: str) -> None:
        """Something happened."""


@dataclass(frozen=True, slots=True)
class _Change:
    time_s: float
    fault: Fault
    fails: bool


class FaultProcess:
    """The faults of one site. Their times are ends of the plant's steps (`boundaries_s`), at which `act` is called.

    A unit that several faults hit, one scheduled and one drawn, fails with the first of them and works again after the last.
    """

    def __init__(self, faults: Sequence[Fault], parts: Sequence[Fallible], log: EventLog, horizon_s: float):
        self._faults = faults
        self._horizon_s = horizon_s
        self._log = log
        self._owner = {component.key: part for part in parts for component in part.components()} if faults else {}
        self._changes = sorted(_changes(faults, horizon_s), key=lambda change: (change.time_s, change.fails))
        self._next = 0
        self._causes: Counter[tuple[str, int]] = Counter()

    def boundaries_s(self) -> list[float]:
        """When something fails or is repaired."""
        return [change.time_s for change in self._changes]

    def act(self, now_s: float) -> bool:
        """Everything that is due, the plant having been stepped to `now_s`: repairs before failures. Whether there was any."""
        first = self._next
        while self._next < len(self._changes) and self._changes[self._next].time_s <= now_s + 1e-9:
            self._change(self._changes[self._next])
            self._next += 1
        return self._next > first

    def _change(self, change: _Change) -> None:
        fault, causes = change.fault, self._causes
        units = [(fault.component, unit) for unit in fault.units]
        for unit in units:
            causes[unit] += 1 if change.fails else -1
        turned = sum(causes[unit] == (1 if change.fails else 0) for unit in units)
        detail = {"fault": fault.name, "units": len(units), "cause": "drawn" if fault.drawn else "scheduled"}
        if turned < len(units):
            detail["already_failed" if change.fails else "still_failed"] = len(units) - turned
        self._log.event(change.time_s, "fault" if change.fails else "repair", fault.component, json.dumps(detail))
        if turned:
            owner = self._owner[fault.component]
            (owner.fail if change.fails else owner.repair)(fault.component, turned)

    def records(self, site: str) -> Iterator[FaultRecord]:
        """The faults for the summary; one that is not repaired in the run ends with it."""
        for fault in self._faults:
            end_s = min(fault.end_s, self._horizon_s)
            cause = "drawn" if fault.drawn else "scheduled"
            yield FaultRecord(fault.name, site, fault.component, len(fault.units), fault.start_s, end_s, cause)


def _changes(faults: Sequence[Fault], horizon_s: float) -> Iterator[_Change]:
    for fault in faults:
        yield _Change(fault.start_s, fault, True)
        if fault.end_s < horizon_s - 1e-9:
            yield _Change(fault.end_s, fault, False)
