"""Heat maps: a figure of every rack over time, racks in rows. Many racks are shown as the mean and the extreme of neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from twin.analysis import style
from twin.analysis.axes import time_axis, time_unit
from twin.analysis.columns import TableColumns
from twin.errors import InputError, did_you_mean

#: Rows and columns of a picture at most: more cannot be told apart.
ROWS_MOST, COLUMNS_MOST = 96, 240
_NAMES_MOST = 20


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the racks table as it is shown: neighbours that share a row or a bin are put together by `pick`."""

    title: str
    column: str
    factor: float
    unit: str
    colours: str
    pick: str


MEASURES = {
    "die": Measure("Hottest GPU die", "die_c", 1.0, "°C", "inferno", "max"),
    "power": Measure("IT power", "it_w", 1e3, "kW", "viridis", "mean"),
    "clock": Measure("Clock that heat allows", "clock_limit", 0.01, "% of maximum", "cividis", "min"),
}
_LOADING = Measure("Load of the electrical chain", "loading_frac", 0.01, "% of rating", "magma", "max")


@dataclass(frozen=True, slots=True)
class RackMap:
    """`values` (rows, columns) with edges of time in s (columns + 1,); `groups` are (name, first row, rows) from the top.

    `racks_a_row` is the most racks that a row stands for; no row spans two groups. Racks without a value throughout are left out.
    """

    shown: Measure
    values: np.ndarray
    edges_s: np.ndarray
    groups: list[tuple[str, int, int]]
    racks: int
    racks_a_row: int


def rack_map(run_dir: Path, site: str, measure: str) -> RackMap:
    """The map of one of MEASURES at a site. Raises InputError for another measure."""
    if measure not in MEASURES:
        raise InputError(f"no measure {measure!r} of racks{did_you_mean(measure, MEASURES)}")
    return _map(run_dir, site, "racks", "rack", MEASURES[measure])


def element_map(run_dir: Path, site: str) -> RackMap:
    """The map of the elements of a site's electrical chain: their load over their rating, an element a group."""
    return _map(run_dir, site, "elements", "element", _LOADING)


def _map(run_dir: Path, site: str, name: str, thing: str, shown: Measure) -> RackMap:
    table = TableColumns(run_dir, name)
    mine = table.names("site").are(site)
    rack = table.names(thing)
    times_s = np.unique(table.numbers("time_s")[mine])
    codes = rack.codes[mine]
    # Rows come thing by thing at each time, so a site's part of the table is a matrix.
    racks = len(codes) // max(1, len(times_s))
    values = (table.numbers(shown.column)[mine] / shown.factor).reshape(len(times_s), racks).T
    names = [rack.labels[code] for code in codes[:racks]]
    known = ~np.isnan(values).all(axis=1)
    values, names = values[known], [name for name, is_known in zip(names, known, strict=True) if is_known]
    pick = {"max": np.maximum, "min": np.minimum, "mean": np.add}[shown.pick]
    bounds, groups, most = _rows([name.rsplit("/", 1)[0] for name in names])
    values, edges_s = _gather(values, bounds, pick, shown.pick), np.concatenate(([0.0], times_s))
    if len(times_s) > COLUMNS_MOST:
        at = np.unique(np.linspace(0, len(times_s), COLUMNS_MOST + 1).astype(int))
        values, edges_s = _gather(values.T, at[:-1], pick, shown.pick).T, edges_s[at]
    return RackMap(shown, values, edges_s, groups, len(names), most)


def _rows(group_of: list[str]) -> tuple[np.ndarray, list[tuple[str, int, int]], int]:
    """Where each row of the picture begins among the racks, the groups in rows, and the most racks in a row."""
    counts: dict[str, int] = {}
    for group in group_of:
        counts[group] = counts.get(group, 0) + 1
    most = -(-len(group_of) // ROWS_MOST) if group_of else 1
    bounds: list[int] = []
    groups = []
    first = 0
    for group, count in counts.items():
        starts = range(first, first + count, most)
        groups.append((group, len(bounds), len(starts)))
        bounds += starts
        first += count
    return np.array(bounds, dtype=int), groups, most


def _gather(values: np.ndarray, starts: np.ndarray, pick: np.ufunc, kind: str) -> np.ndarray:
    """Rows of `values` from each start to the next put together."""
    if not len(starts):
        return values
    gathered: np.ndarray = pick.reduceat(values, starts, axis=0)
    if kind == "mean":
        gathered = gathered / np.diff(np.append(starts, len(values)))[:, None]
    return gathered


def draw_rack_map(axes: Axes, drawn: RackMap, horizon_s: float) -> None:
    """The map with its groups named at the left and its scale at the right."""
    shown = drawn.shown
    factor, _ = time_unit(horizon_s)
    rows = len(drawn.values)
    low, high = float(np.nanmin(drawn.values)), float(np.nanmax(drawn.values))
    # A scale that is all noise would show a pattern where there is none.
    least = max(0.02 * abs(high), 1e-9)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    mesh = axes.pcolormesh(
        drawn.edges_s / factor,
        np.arange(rows + 1),
        drawn.values,
        cmap=shown.colours,
        norm=Normalize(low, high),
        rasterized=True,
    )
    axes.set_ylim(rows, 0)
    axes.grid(visible=False)
    # As many names as there are lines for them.
    named = drawn.groups[:: max(1, -(-len(drawn.groups) // _NAMES_MOST))]
    axes.set_yticks([first + count / 2 for _, first, count in named], [name for name, _, _ in named])
    for _, first, _ in drawn.groups[1:]:
        axes.axhline(first, color=style.PAPER, linewidth=1.2)
    figure = axes.get_figure(root=True)
    assert figure is not None
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.012, box.y0, 0.012, box.height))
    scale = figure.colorbar(mesh, cax=bar)
    scale.outline.set_visible(False)
    bar.tick_params(length=0, labelsize=9, labelcolor=style.MUTED)
    bar.set_ylabel(shown.unit, color=style.MUTED)
    time_axis(axes, horizon_s)
    most = drawn.racks_a_row
    rows_are = f" (a row: {shown.pick} of up to {most} of {drawn.racks:,} racks)" if most > 1 else ""
    axes.set_title(f"{shown.title}, {shown.unit}{rows_are}", loc="left", fontsize=10.5, fontweight="bold", color=style.INK)


def rack_map_height_in(rows: int) -> float:
    """Height of a figure with so many rows."""
    return 1.1 + min(3.4, max(0.9, 0.2 * rows))
