"""What broke, what went down with it and what it cost; how much of the factory was there.

A rack is down without power, tripped by heat, or failed as a whole; an instance from its failure until it serves again, its
restart included. Goodput is the whole factory's, against the equally long window before the fault, as for grid events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis.columns import TableColumns
from twin.analysis.curtailment import retained_goodput
from twin.analysis.service import Requests
from twin.analysis.totals import FaultRecord, SiteHardware

#: A thing that was down: its name, from when, until when.
Span = tuple[str, float, float]


class DownCount:
    """How much of a site was down over time: a step function from the merged spans of each thing, with its `weight`."""

    def __init__(self, spans: Sequence[Span], weight: Mapping[str, float] | None = None):
        deltas: list[tuple[float, float]] = []
        for name in dict.fromkeys(span[0] for span in spans):
            amount = 1.0 if weight is None else weight[name]
            for start_s, end_s in _merged([(start, end) for each, start, end in spans if each == name]):
                deltas += [(start_s, amount), (end_s, -amount)]
        times, place = np.unique([time_s for time_s, _ in deltas], return_inverse=True)
        self._time_s = times
        self._level = np.cumsum(np.bincount(place, [change for _, change in deltas])) if deltas else np.zeros(0)

    def most(self, start_s: float, end_s: float) -> float:
        """The most that was down at any moment of the window."""
        if not len(self._time_s) or end_s < start_s:
            return 0.0
        first = int(np.searchsorted(self._time_s, start_s, side="right"))
        last = int(np.searchsorted(self._time_s, end_s, side="left"))
        before = [float(self._level[first - 1])] if first else []
        return max([*before, *self._level[first:last].tolist()], default=0.0)

    def integral_s(self) -> float:
        """Amount times seconds, over all."""
        return math.fsum((self._level[:-1] * np.diff(self._time_s)).tolist()) if len(self._time_s) else 0.0


class SiteDowns:
    """What went down at one site, from its events and faults. `events` counts the spans."""

    def __init__(self, run_dir: Path, site: str, hardware: SiteHardware, records: Sequence[FaultRecord], horizon_s: float):
        table = TableColumns(run_dir, "events")
        here = table.names("site").are(site)
        kind, subject, time_s = table.names("kind"), table.names("subject"), table.numbers("time_s")

        def spans(down: str, up: str) -> list[Span]:
            rows = np.flatnonzero(here & (kind.are(down) | kind.are(up)))
            begun: dict[str, float] = {}
            found: list[Span] = []
            for row in rows.tolist():
                name = subject.labels[subject.codes[row]]
                if kind.labels[kind.codes[row]] == down:
                    begun.setdefault(name, float(time_s[row]))
                elif name in begun:
                    found.append((name, begun.pop(name), float(time_s[row])))
            return [*found, *((name, start_s, horizon_s) for name, start_s in begun.items())]

        failed = [
            (record.component.partition("/")[2], record.start_s, record.end_s)
            for record in records
            if record.site == site and record.component.startswith("rack/")
        ]
        racks, instances = [*spans("rack_down", "rack_up"), *failed], spans("instance_down", "instance_up")
        self.events = len(racks) + len(instances)
        self.racks = DownCount(racks)
        self.instances = DownCount(instances)
        self.gpus = DownCount(instances, hardware.instances)


def faults(
    records: Sequence[FaultRecord], downs: Mapping[str, SiteDowns], requests: Requests, horizon_s: float
) -> list[dict[str, Any]]:
    """One entry for each fault, in order of start, as in summary.json. `end_s` is at most the horizon."""
    everyone = np.ones(len(requests.arrival_s), bool)
    entries = []
    for record in sorted(records, key=lambda each: each.start_s):
        down, reference_s = downs[record.site], min(record.end_s - record.start_s, record.start_s)
        entries.append(
            {
                "name": record.name,
                "site": record.site,
                "component": record.component,
                "units": record.units,
                "cause": record.cause,
                "start_s": record.start_s,
                "end_s": record.end_s,
                "racks_down_max": int(down.racks.most(record.start_s, record.end_s)),
                "instances_down_max": int(down.instances.most(record.start_s, record.end_s)),
                "goodput_retained_frac": retained_goodput(requests, everyone, record.start_s, record.end_s, reference_s),
            }
        )
    return entries


def availability(hardware: Mapping[str, SiteHardware], downs: Mapping[str, SiteDowns], horizon_s: float) -> dict[str, Any]:
    """Shares of rack, instance and GPU time (of instances) that were there, means over the run and the least at any moment; of
    the factory and by site."""

    def shares(names: Sequence[str]) -> dict[str, float]:
        sites = [(hardware[name], downs[name]) for name in names]
        racks = sum(len(site.racks) for site, _ in sites)
        count = sum(len(site.instances) for site, _ in sites)
        gpus = math.fsum(gpus for site, _ in sites for gpus in site.instances.values())
        return {
            "racks_frac": 1.0 - math.fsum(down.racks.integral_s() for _, down in sites) / (racks * horizon_s),
            "instances_frac": 1.0 - math.fsum(down.instances.integral_s() for _, down in sites) / (count * horizon_s),
            "gpus_frac": 1.0 - math.fsum(down.gpus.integral_s() for _, down in sites) / (gpus * horizon_s),
        }

    whole: dict[str, Any] = shares(list(hardware))
    whole["sites"] = {
        name: {
            **shares([name]),
            "racks_min_frac": 1.0 - downs[name].racks.most(0.0, horizon_s) / len(site.racks),
            "instances_min_frac": 1.0 - downs[name].instances.most(0.0, horizon_s) / len(site.instances),
        }
        for name, site in hardware.items()
    }
    return whole


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((start_s, end_s))
    return merged
