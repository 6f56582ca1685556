"""Draws an `EnergyFlow` as a Sankey diagram: widths are energies, time of day plays no part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from twin.analysis import style
from twin.analysis.energy_flow import EnergyFlow, Flow

#: Width of a node, and from one column of nodes to the next; the axes are 1 high.
_NODE, _STEP = 0.05, 1.0
#: Inches: of the flows themselves at least; of a label's line, which each end has for itself; between two siblings; above the
#: flows, for the names of columns; below them, for what came of it all.
_FLOWS_IN, _LINE_IN, _GAP_IN, _HEAD_IN, _FOOT_IN = 1.7, 0.24, 0.055, 0.78, 0.42


@dataclass(frozen=True, slots=True)
class _Layout:
    """Those heights as shares of the axes, and axes heights a joule."""

    line: float
    gap: float
    head: float
    foot: float
    scale: float = 0.0


def sankey_height_in(flow: EnergyFlow) -> float:
    """The height in inches that the drawing of `flow` needs."""
    ends = len(flow.used.leaves())
    return _HEAD_IN + _FOOT_IN + _FLOWS_IN + ends * (_LINE_IN + _GAP_IN)


def draw_sankey(axes: Axes, flow: EnergyFlow) -> None:
    """Sources on the left, ends on the right with their share of all; the main stream stays on top."""
    whole_j = flow.used.energy_j
    axes.set_position((0.0, 0.0, 1.0, 1.0))
    height_in = axes.get_window_extent().height / axes.figure.dpi
    layout = _Layout(*(inches / height_in for inches in (_LINE_IN, _GAP_IN, _HEAD_IN, _FOOT_IN)))
    layout = _fit(layout, flow.used, len(flow.sources))
    scale, top = layout.scale, 1.0 - layout.head
    _box(axes, 1, top, whole_j * scale, "bus")
    _head(axes, layout, 1, flow.used.label, whole_j, whole_j)
    at, left = top, top
    for source in flow.sources:
        height = source.energy_j * scale
        _box(axes, 0, left, height, source.colour)
        _ribbon(axes, 0, left, at, height, source.colour)
        # A source of small height still has two lines of its own beside it, clear of the next one's.
        room = max(height, 2 * layout.line)
        text = f"{source.label}\n{_amount(source.energy_j, whole_j)}"
        axes.text(-0.05, left - room / 2, text, ha="right", va="center", fontsize=9, color=style.INK, linespacing=1.3)
        at -= height
        left -= room + layout.gap
    _parts(axes, layout, flow.used, 1, top, whole_j)
    _useful(axes, flow)
    axes.set_xlim(-1.3, _depth(flow.used) + 3.9)
    axes.set_ylim(0, 1)
    axes.set_axis_off()


def _parts(axes: Axes, layout: _Layout, flow: Flow, column: int, top: float, whole_j: float) -> None:
    """Draw what a flow at (`column`, `top`) splits into, each part in a band of its own."""
    inside, band = top, top
    for number, part in enumerate(flow.parts):
        height = part.energy_j * layout.scale
        _ribbon(axes, column, inside, band, height, part.colour)
        _box(axes, column + 1, band, height, part.colour)
        if part.parts:
            if number == 0:
                _head(axes, layout, column + 1, part.label, part.energy_j, whole_j)
            _parts(axes, layout, part, column + 1, band, whole_j)
        else:
            # In the middle of a wide end, level with a thin one.
            text = f"{part.label}  {_amount(part.energy_j, whole_j)}"
            y = band - height / 2
            axes.text(column + 1 + _NODE + 0.05, y, text, va="center", fontsize=9, color=style.INK)
        inside -= height
        band -= _room(part, layout) + layout.gap


def _useful(axes: Axes, flow: EnergyFlow) -> None:
    """Below the flows, what came of it all."""
    text = "no output tokens"
    if flow.tokens > 0:
        whole, gpus = (joules / flow.tokens for joules in (flow.used.energy_j, _gpus_j(flow.used)))
        text = f"{_count(flow.tokens)} output tokens: {whole:.3g} J each with everything, {gpus:.3g} J each in GPUs"
    axes.text(-1.2, 0.02, text, va="bottom", fontsize=10, color=style.INK, fontweight="bold")


def _count(tokens: float) -> str:
    for factor, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if tokens >= factor:
            return f"{tokens / factor:.3g}{word}"
    return f"{tokens:,.0f}"


def _gpus_j(flow: Flow) -> float:
    return sum(part.energy_j if part.label == "GPUs" else _gpus_j(part) for part in flow.parts)


def _amount(energy_j: float, whole_j: float) -> str:
    return f"{energy_text(energy_j)}, {100 * energy_j / whole_j:.1f} %"


def energy_text(energy_j: float) -> str:
    """Energy in the unit that meters use."""
    for factor, unit in ((3.6e12, "GWh"), (3.6e9, "MWh"), (3.6e6, "kWh")):
        if energy_j >= factor:
            return f"{energy_j / factor:.3g} {unit}"
    return f"{energy_j / 3.6e3:.3g} Wh"


def _room(flow: Flow, layout: _Layout) -> float:
    """Height that a flow and all it splits into take."""
    own = flow.energy_j * layout.scale
    if not flow.parts:
        return max(own, layout.line)
    return max(own, sum(_room(part, layout) for part in flow.parts) + layout.gap * (len(flow.parts) - 1))


def _fit(layout: _Layout, used: Flow, sources: int) -> _Layout:
    """With the largest scale at which the flows fit with room for all labels, by bisection; the axes must be high enough."""
    height = 1.0 - layout.head - layout.foot
    low, high = 0.0, (height - (sources - 1) * (2 * layout.line + layout.gap)) / used.energy_j
    for _ in range(60):
        middle = (low + high) / 2
        if _room(used, replace(layout, scale=middle)) <= height:
            low = middle
        else:
            high = middle
    return replace(layout, scale=low)


def _depth(flow: Flow) -> int:
    return 1 + max((_depth(part) for part in flow.parts), default=-1)


def _head(axes: Axes, layout: _Layout, column: int, label: str, energy_j: float, whole_j: float) -> None:
    text = f"{label}\n{energy_text(energy_j)}\n{100 * energy_j / whole_j:.1f} %"
    axes.text(
        column, 1.0 - layout.head + 0.015, text, va="bottom", fontsize=9, color=style.INK, fontweight="bold", linespacing=1.3
    )


def _box(axes: Axes, column: int, top: float, height: float, colour: str) -> None:
    axes.add_patch(Rectangle((column, top - height), _NODE, height, color=style.FLOWS[colour], linewidth=0))


def _ribbon(axes: Axes, column: int, top: float, to_top: float, height: float, colour: str) -> None:
    """A band of constant height from the right side of a node to the left side of one a column further."""
    left, right = column + _NODE, column + _STEP
    middle = (left + right) / 2
    upper = [(left, top), (middle, top), (middle, to_top), (right, to_top)]
    lower = [(x, y - height) for x, y in reversed(upper)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    points = np.array([*upper, *lower, upper[0]])
    axes.add_patch(PathPatch(Path(points, codes), facecolor=style.FLOWS[colour], alpha=0.38, linewidth=0))
