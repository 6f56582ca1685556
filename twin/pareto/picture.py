"""The frontiers of a study as a picture: tokens/s per GPU, and per MW at the meter, over tokens/s for each user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from twin.analysis import style
from twin.analysis.axes import nothing_to_show
from twin.schema.pareto import AGGREGATED

if TYPE_CHECKING:
    from twin.pareto.study import ParetoStudy

_PANELS = (
    ("per_gpu", "tokens_per_s_per_gpu", "Output tokens/s per GPU"),
    ("per_mw", "tokens_per_s_per_mw", "Output tokens/s per MW"),
)
_X = "tokens_per_s_per_user"
#: How a point of the frontier serves: what it is called, and its mark.
_APART, _TOGETHER = ("prefill and decode apart", "o"), ("aggregated", "s")


def draw(study: ParetoStudy, file: Path) -> None:
    """Write the picture. The same study gives the same bytes. Raises OSError where it cannot be written."""
    with rc_context(style.SETTINGS):
        figure = Figure(figsize=(11, 4.8), layout="constrained", facecolor=style.PAPER)
        panels = figure.subplots(1, 2)
        for axes, (axis, column, title) in zip(panels, _PANELS, strict=True):
            for number, system in enumerate(study.content["frontiers"]):
                _curve(axes, study, system, axis, column, style.tier_colour(number))
            _finish(axes, title)
        figure.legend(handles=_legend(study), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
        figure.suptitle(_title(study), x=0.01, ha="left", fontsize=11, color=style.INK)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _curve(axes: Axes, study: ParetoStudy, system: str, axis: str, column: str, colour: str) -> None:
    """The frontier as a line, with a mark for how each of its points serves, hollow where the point is an extrapolation."""
    best = study.frontier(system, axis)
    if not best:
        return
    axes.plot([row[_X] for row in best], [row[column] for row in best], "-", color=colour)
    for row in best:
        mark = (_TOGETHER if row["split"] == AGGREGATED else _APART)[1]
        face = style.PAPER if row["outside"] else colour
        axes.plot(row[_X], row[column], mark, color=colour, markersize=4.5, markerfacecolor=face)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("tokens/s for each user")
    if not axes.lines:
        nothing_to_show(axes, "no point counts")
        return
    axes.set_xscale("log")
    axes.set_yscale("log")
    for each in (axes.xaxis, axes.yaxis):
        each.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        each.set_major_formatter(FuncFormatter(_short))
        each.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, axis="both")


def _short(value: float, _: int) -> str:
    """A tick: 500, 20k, 5M."""
    return f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:,.0f}k" if value < 1e6 else f"{value / 1e6:g}M"


def _legend(study: ParetoStudy) -> list[Line2D]:
    systems = enumerate(study.content["frontiers"])
    lines = [Line2D([], [], color=style.tier_colour(number), label=system) for number, system in systems]
    return [
        *lines,
        _mark(*_TOGETHER, style.MUTED),
        _mark(*_APART, style.MUTED),
        _mark("outside what was measured", "o", style.PAPER),
    ]


def _mark(label: str, mark: str, face: str) -> Line2D:
    return Line2D([], [], color=style.MUTED, linestyle="none", marker=mark, markersize=5, markerfacecolor=face, label=label)


def _title(study: ParetoStudy) -> str:
    work = study.content["workload"]
    inputs, outputs = work["input_tokens_mean"], work["output_tokens_mean"]
    return f"{study.content['model']}, {inputs:,.0f} tokens in and {outputs:,.0f} out in the mean"
