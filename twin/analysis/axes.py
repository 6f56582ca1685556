"""What all plots share: the time axis, the shading of grid events, labels beside lines instead of legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from twin.analysis import style

#: Margins of every figure in inches: left, right (where lines are labelled), below, above.
PLOT_AREA = (0.6, 1.35, 0.5, 0.32)

#: Most faults that are told apart in a figure; more are bars only.
FAULTS_NAMED = 8

_TIME_UNITS = ((86400.0, "days", 3 * 86400.0), (3600.0, "h", 3 * 3600.0), (60.0, "min", 600.0), (1.0, "s", 0.0))


def time_unit(horizon_s: float) -> tuple[float, str]:
    """Seconds per unit, and unit, that suit a run of this length."""
    return next((factor, unit) for factor, unit, least_s in _TIME_UNITS if horizon_s >= least_s)


def time_axis(axes: Axes, horizon_s: float, labelled: bool = True) -> None:
    """Set the x axis, whose data are in `time_unit(horizon_s)`, to the whole run."""
    factor, unit = time_unit(horizon_s)
    axes.set_xlim(0, horizon_s / factor)
    if unit in ("min", "s"):
        axes.xaxis.set_major_locator(_sixties(horizon_s / factor))
    if labelled:
        axes.set_xlabel(f"simulated time, {unit}")


def _sixties(span: float) -> MultipleLocator:
    """Ticks on steps that divide an hour or a minute, about seven of them."""
    step = next((s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300) if span / s <= 9), 600)
    return MultipleLocator(step)


def shade_events(axes: Axes, events: Sequence[dict[str, Any]], horizon_s: float, named: bool = False) -> None:
    """Shade each grid event of the summary behind the data; its ramp lighter. `named` writes its name at the top."""
    factor, _ = time_unit(horizon_s)
    for event in events:
        start, end = event["start_s"] / factor, min(event["end_s"], horizon_s) / factor
        ramp_end = min(max(event["ramp_end_s"] / factor, start), end)
        axes.axvspan(start, ramp_end, color=style.EVENT, alpha=0.45, linewidth=0, zorder=0)
        axes.axvspan(ramp_end, end, color=style.EVENT, alpha=0.9, linewidth=0, zorder=0)
        if named and start < horizon_s / factor:
            axes.annotate(
                event["name"],
                (start, 1.0),
                (3, -3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                va="top",
                fontsize=8.5,
                color=style.MUTED,
            )


def mark_faults(axes: Axes, faults: Sequence[dict[str, Any]], horizon_s: float, named: bool = False) -> None:
    """Mark each fault of the summary by a bar along the foot of the axes, darker where several are; a few also by a line where
    they begin. `named` writes the names of these at the top."""
    factor, _ = time_unit(horizon_s)
    few = len(faults) <= FAULTS_NAMED
    foot = axes.get_xaxis_transform()
    for place, fault in enumerate(faults):
        start, end = fault["start_s"] / factor, fault["end_s"] / factor
        axes.plot((start, end), (0.012, 0.012), transform=foot, color=style.FAULT, alpha=0.6, linewidth=4, solid_capstyle="butt")
        if few:
            axes.axvline(start, color=style.FAULT, linewidth=0.8, linestyle=(0, (1, 2)))
        if few and named:
            axes.annotate(
                fault["name"],
                (start, 0.88 - 0.06 * (place % 3)),
                (3, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8.5,
                color=style.FAULT,
            )


def label_right(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (y, text, colour) labels right of the axes at their y (data), moved apart where they would overlap."""
    if not labels:
        return
    wanted = axes.transAxes.inverted().transform(axes.transData.transform([(0, y) for y, _, _ in labels]))[:, 1]
    figure = axes.get_figure(root=True)
    assert figure is not None
    height_points = axes.get_window_extent().height / figure.dpi * 72
    gap = 12.0 / height_points
    order = np.argsort(wanted, kind="stable")
    places = np.clip(wanted[order], 0.0, 1.0)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    highest = 1.0 + gap / 2
    for i in reversed(range(len(places))):
        places[i] = min(places[i], highest)
        highest = places[i] - gap
    for place, index in zip(places, order, strict=True):
        _, text, colour = labels[index]
        axes.annotate(
            text,
            (1.0, place),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
            annotation_clip=False,
        )


def last_known(values: np.ndarray) -> float | None:
    """The last value that is not NaN; None where there is none."""
    known = np.flatnonzero(np.isfinite(values))
    return float(values[known[-1]]) if len(known) else None


def nothing_to_show(axes: Axes, why: str) -> None:
    """Say in the axes that there are no data, and why."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=style.MUTED)
    axes.set_yticks([])
