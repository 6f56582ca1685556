"""What all plots of a run share: its tables, its sites, its events, and how axes are begun and finished."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from twin.analysis import style
from twin.analysis.axes import (
    PLOT_AREA,
    label_right,
    mark_faults,
    shade_events,
    time_axis,
    time_unit,
)
from twin.analysis.columns import Names, TableColumns
from twin.analysis.series import RequestSeries, StepTable, bin_edges
from twin.errors import InputError, did_you_mean
from twin.recording import EVENT_KINDS
from twin.units import format_si

#: Bins of lines that are recorded each step, and at most of quantiles, which need requests in each bin.
FINE_BINS, COARSE_BINS = 360, 60
_LANES_MOST = 14


class PlotBase:
    """The run in `run_dir` with its `summary`."""

    def __init__(self, run_dir: Path, summary: dict[str, Any]):
        self._run_dir = run_dir
        self._summary = summary
        self._horizon_s: float = summary["horizon_s"]
        self._events: list[dict[str, Any]] = summary["curtailment"]
        self._faults: list[dict[str, Any]] = summary.get("faults", [])
        self._tiers: dict[str, dict[str, Any]] = summary["service"]["tiers"]

    @cached_property
    def _power(self) -> StepTable:
        return StepTable(self._run_dir, "power")

    @cached_property
    def _thermal(self) -> StepTable:
        return StepTable(self._run_dir, "thermal")

    @cached_property
    def _tasks(self) -> StepTable:
        return StepTable(self._run_dir, "tasks")

    @cached_property
    def _requests(self) -> RequestSeries:
        return RequestSeries(self._run_dir, self._horizon_s)

    @cached_property
    def _kinds(self) -> tuple[Names, np.ndarray, list[str]]:
        """Kind and time of the recorded events, and the kinds that get a lane: grid and policy first when there are many, in the
        order of their first moment."""
        table = TableColumns(self._run_dir, "events")
        kind, time_s = table.names("kind"), table.numbers("time_s")
        chosen = sorted(kind.labels, key=lambda label: group_of(label) not in ("grid", "command"))[:_LANES_MOST]
        return kind, time_s, sorted(chosen, key=lambda label: float(time_s[kind.are(label)].min()))

    @property
    def _lanes(self) -> int:
        """Lanes that `actions` draws."""
        return len(self._kinds[2])

    @property
    def _sites(self) -> tuple[str, ...]:
        """Sites that can be plotted."""
        return self._power.sites

    def _site(self, site: str | None) -> str:
        if site is None:
            if not self._sites:
                raise InputError(f"{self._run_dir}: no site has power recorded")
            return self._events[0]["site"] if self._events and self._events[0]["site"] in self._sites else self._sites[0]
        if site not in self._sites:
            raise InputError(f"no site {site!r} in this run{did_you_mean(site, self._sites)}")
        return site

    def _at(self, site: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event["site"] == site]

    def _bins(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Edges in seconds, and centres in the unit of the time axis."""
        edges = bin_edges(self._horizon_s, most)
        return edges, (edges[:-1] + edges[1:]) / 2 / time_unit(self._horizon_s)[0]

    def _name_targets(self, axes: Axes, factor: float, site: str) -> None:
        seconds, _ = time_unit(self._horizon_s)
        for event in self._at(site):
            if event["start_s"] < self._horizon_s:
                axes.annotate(
                    f"target {format_si(event['target_w'], 'W')}",
                    (min(event["end_s"], self._horizon_s) / seconds, event["target_w"] / factor),
                    (-4, 5),
                    textcoords="offset points",
                    ha="right",
                    fontsize=9,
                    color=style.TARGET,
                    fontweight="bold",
                )

    def _finish(
        self,
        axes: Axes,
        title: str,
        unit: str,
        labels: list[tuple[float, str, str]],
        events: list[dict[str, Any]],
        named: bool = False,
        ticks: bool = True,
        site: str | None = None,
    ) -> None:
        shade_events(axes, events, self._horizon_s, named)
        mark_faults(axes, [f for f in self._faults if site in (None, f["site"])], self._horizon_s, named)
        time_axis(axes, self._horizon_s)
        axes.set_title(f"{title}, {unit}" if unit else title, loc="left", fontsize=10.5, fontweight="bold", color=style.INK)
        if ticks and axes.get_yscale() == "linear" and len(axes.get_yticks()):
            axes.yaxis.set_major_locator(MaxNLocator(5))
        label_right(axes, labels)


def group_of(kind: str) -> str:
    known = EVENT_KINDS.get(kind)
    return known.group if known else "other"


def axes_of(axes: Axes | None, height_in: float = 3.6, left_in: float = PLOT_AREA[0]) -> Axes:
    if axes is not None:
        return axes
    # pyplot only here: it picks a display, which a report on a server does not want.
    from matplotlib import pyplot as plt

    # The figure is made outside the settings' context: leaving it would undo a notebook's interactive mode.
    figure = plt.figure(figsize=(9.4, height_in))
    with rc_context(style.SETTINGS):
        _, right, below, above = PLOT_AREA
        figure.subplots_adjust(left_in / 9.4, below / height_in, 1 - right / 9.4, 1 - above / height_in)
        return figure.add_subplot()


def stack_labels(parts: np.ndarray, names: list[tuple[str, str]]) -> list[tuple[float, str, str]]:
    """Labels at the middle of each layer of a stack at its right edge; layers that are empty throughout get none."""
    tops = np.cumsum(parts[:, -1])
    return [
        (float(top - part[-1] / 2), label, colour)
        for part, top, (label, colour) in zip(parts, tops, names, strict=True)
        if part.any()
    ]


def thousands(prefix: str) -> str:
    return {"": "", "k": "thousand ", "M": "million ", "G": "billion "}[prefix]
