"""Pictures of tasks: where their time went, how many there were at once, what their tools waited for."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from twin.analysis import style
from twin.units import format_duration

#: Shares of a bar from which their percentage is written into it.
_LEGIBLE = 0.05


def draw_split(axes: Axes, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """A bar for each of the `rows` (name, figures of completed tasks): their mean time, by part."""
    unit_s, unit = _unit(max(figures["completion_s"]["mean"] for _, figures in rows))
    for place, (_, figures) in enumerate(rows):
        whole_s = figures["completion_s"]["mean"]
        left = 0.0
        for key, label, colour, ink in style.TASK_PARTS:
            width = figures["split_s"][key] / unit_s
            axes.barh(-place, width, 0.62, left, color=colour, linewidth=0, label=label if place == 0 else None)
            if width * unit_s >= _LEGIBLE * whole_s:
                said = f"{100 * width * unit_s / whole_s:.0f} %"
                axes.text(left + width / 2, -place, said, ha="center", va="center", fontsize=8.5, color=ink)
            left += width
        said = format_duration(whole_s).removesuffix(" 00 s")
        axes.annotate(said, (left, -place), (5, 0), textcoords="offset points", va="center", fontsize=9, color=style.INK)
    axes.set_yticks([-place for place in range(len(rows))], [name for name, _ in rows])
    axes.grid(visible=False)
    axes.set_xlabel(f"mean time of a completed task, {unit}")
    axes.legend(
        ncols=7, loc="lower left", bbox_to_anchor=(-0.06, 1.0), frameon=False, fontsize=8, handlelength=0.8, columnspacing=1.0
    )


def draw_sandboxes(axes: Axes, at: np.ndarray, busy: np.ndarray, waiting: np.ndarray, sandboxes: int | None) -> None:
    """Sandboxes in use as an area, tools that wait for one on top of it, and how many sandboxes there are."""
    axes.fill_between(at, 0, busy, color=style.SANDBOXES[0], alpha=0.85, linewidth=0)
    axes.fill_between(at, busy, busy + waiting, color=style.SANDBOXES[1], alpha=0.85, linewidth=0)
    if sandboxes is not None:
        axes.axhline(sandboxes, color=style.LIMIT, linestyle=(0, (5, 3)), linewidth=1.2)
    axes.set_ylim(0, max(float(np.nanmax(busy + waiting)), 1e-9) * 1.15)


def _unit(longest_s: float) -> tuple[float, str]:
    """Seconds of the unit in which times of up to `longest_s` are told, and its name."""
    for unit_s, name in ((3600.0, "hours"), (60.0, "minutes")):
        if longest_s >= 2 * unit_s:
            return unit_s, name
    return 1.0, "seconds"
