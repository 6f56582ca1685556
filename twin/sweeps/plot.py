"""A figure of a study over a swept key."""

from __future__ import annotations

import re
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from twin.analysis import style
from twin.analysis.axes import label_right
from twin.sweeps.axis import value_text
from twin.units import SI_UNIT, UNITS, UnitError, parse_quantity

_QUANTITY = re.compile(r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*([^\d\s].*?)\s*$")


def plot_study(frame: pd.DataFrame, x: str, y: str, by: str | None) -> Axes:
    """`y` over `x` of a study's frame, a line for each value of `by` in the order of the grid. Points without a value are left
    out; several runs at one x are dots, with the line through their mean."""
    # The figure outside the settings: the first one of a session starts a notebook's display, which a context would end again.
    figure = plt.figure(figsize=(6.4, 3.6), layout="constrained", facecolor=style.PAPER)
    with plt.rc_context(style.SETTINGS):
        axes = figure.add_subplot()
        positions, unit = axis_values(frame[x].tolist())
        numeric = all(isinstance(each, float) for each in positions)
        heights, y_unit = axis_values(frame[y].tolist())
        drawn = pd.DataFrame({"x": positions, "y": heights, "by": "" if by is None else frame[by].map(value_text)})
        drawn = drawn[drawn["y"].notna()]
        labels = []
        for number, (name, part) in enumerate(drawn.groupby("by", sort=False)):
            colour = style.tier_colour(number)
            mean = part.groupby("x", sort=numeric, as_index=False)["y"].mean()
            axes.plot(mean["x"], mean["y"], color=colour, marker="o", markersize=5, linestyle="-" if numeric else "none")
            if len(mean) < len(part):
                axes.plot(part["x"], part["y"], color=colour, marker="o", markersize=3, linestyle="none", alpha=0.5)
            if by is not None:
                labels.append((float(mean["y"].iloc[-1]), str(name), colour))
        axes.set_xlabel(_labelled(x, unit))
        axes.set_ylabel(_labelled(y, y_unit))
        if labels:
            assert by is not None
            axes.set_title(f"by {by}", fontsize=9.5, color=style.MUTED, loc="left")
            figure.canvas.draw()
            label_right(axes, labels)
    return axes


def axis_values(values: list[Any]) -> tuple[list[Any], str]:
    """Values to draw, and their unit: numbers as floats; quantities of one unit as numbers of it, of several units of one
    dimension in SI; anything else as text."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values], ""
    texts = [value_text(value) for value in values]
    matches = [_QUANTITY.match(text) for text in texts]
    parts = [(float(match[1]), match[2]) for match in matches if match]
    known = {unit for units in UNITS.values() for unit in units}
    if len(parts) == len(texts) and all(unit in known for _, unit in parts):
        if len({unit for _, unit in parts}) == 1:
            return [number for number, _ in parts], parts[0][1]
        for dimension in UNITS:
            try:
                return [parse_quantity(text, dimension) for text in texts], SI_UNIT[dimension]
            except UnitError:
                continue
    return texts, ""


def _labelled(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name
