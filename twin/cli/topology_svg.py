"""A topology as a picture: a one-line diagram from the utility to the racks, heat on to the sky, the fabric's tiers above."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from twin.analysis.loading import Loading
from twin.cli.one_line import Node, one_line
from twin.schema.topology import Topology
from twin.units import format_si

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _MARGIN = 214, 64, 56, 16, 28
_POWER, _HEAT, _NETWORK, _STORE, _RACK = "#b45309", "#b91c1c", "#1d4ed8", "#5a3f8f", "#334155"
_MUTED = "#475569"
_HEAD_H = 48
#: From this share of a rating on a load is drawn in the colour of a warning, and of an overload.
_HIGH, _OVER = 0.8, 1.0

Box = tuple[float, float]


class _Canvas:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.lines: list[str] = []
        self.width = self.height = 0.0

    def box(self, x: float, y: float, title: str, details: list[str], colour: str) -> Box:
        """A titled box at its upper left corner, which is returned."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="6" fill="#ffffff" stroke="{colour}"/>'
            f'<text x="{x + 10:g}" y="{y + 18:g}" font-weight="600">{escape(_short(title, 26))}</text>'
        )
        for number, detail in enumerate(details[:2]):
            at = y + 35 + 16 * number
            self.parts.append(
                f'<text x="{x + 10:g}" y="{at:g}" font-size="11.5" fill="{_MUTED}">{escape(_short(detail, 34))}</text>'
            )
        self.width = max(self.width, x + _BOX_W + _MARGIN)
        self.height = max(self.height, y + _BOX_H + _MARGIN)
        return x, y

    def across(self, left: Box, right: Box, colour: str, bend: int = 0, dashed: bool = False, early: bool = False) -> None:
        """A line from the right side of one box to the left side of another, its elbow `bend` tracks off the middle of the gap
        before the other, or `early`, of the gap behind the one."""
        x1, y1 = left[0] + _BOX_W, left[1] + _BOX_H / 2
        x2, y2 = right[0], right[1] + _BOX_H / 2
        middle = (x1 + _GAP_X / 2 if early else x2 - _GAP_X / 2) + 8 * (bend % 5 - 2)
        path = f"M{x1:g} {y1:g}H{middle:g}V{y2:g}H{x2:g}"
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.lines.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')

    def up(self, lower: Box, upper: Box, colour: str) -> None:
        """A line from the top of one box to the bottom of another."""
        x1, x2 = lower[0] + _BOX_W / 2, upper[0] + _BOX_W / 2
        path = f"M{x1:g} {lower[1]:g}V{(lower[1] + upper[1] + _BOX_H) / 2:g}H{x2:g}V{upper[1] + _BOX_H:g}"
        self.lines.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')

    def load(self, box: Box, share: float) -> None:
        """A bar along the lower edge of a box, full at its rating."""
        colour = "#15803d" if share < _HIGH else "#d97706" if share <= _OVER else "#dc2626"
        x, y = box[0] + 10, box[1] + _BOX_H - 6
        width = (_BOX_W - 20) * min(share, 1.0)
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W - 20}" height="3" fill="#e2e8f0"/>')
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="3" fill="{colour}"/>')

    def symbol(self, box: Box, kind: str, colour: str) -> None:
        """The sign of one-line diagrams for a kind of element, in the upper right corner of its box."""
        x, y = box[0] + _BOX_W - 24, box[1] + 15
        drawn = f'fill="none" stroke="{colour}" stroke-width="1.4"'
        shapes = {
            "incomer": f'<path d="M{x - 8} {y}H{x + 6}M{x + 1} {y - 5}L{x + 7} {y}L{x + 1} {y + 5}" {drawn}/>',
            "transformer": f'<circle cx="{x - 4}" cy="{y}" r="6" {drawn}/><circle cx="{x + 4}" cy="{y}" r="6" {drawn}/>',
            "ups": f'<path d="M{x - 8} {y - 7}H{x + 8}V{y + 7}H{x - 8}ZM{x - 8} {y + 7}L{x + 8} {y - 7}" {drawn}/>',
            "busway": f'<path d="M{x - 9} {y - 3}H{x + 9}M{x - 9} {y + 3}H{x + 9}" {drawn}/>',
            "switchboard": f'<path d="M{x} {y - 8}V{y + 8}M{x} {y - 4}H{x + 8}M{x} {y + 4}H{x + 8}" {drawn}/>',
            "rectifier": f'<path d="M{x - 6} {y - 6}V{y + 6}L{x + 5} {y}ZM{x + 6} {y - 6}V{y + 6}" {drawn}/>',
            "battery": f'<path d="M{x - 3} {y - 8}V{y + 8}M{x + 3} {y - 4}V{y + 4}M{x - 9} {y}h6m6 0h6" {drawn}/>',
        }
        self.parts.append(shapes.get(kind, ""))

    def breaker(self, box: Box) -> None:
        """A breaker before a box."""
        x, y = box[0] - 9, box[1] + _BOX_H / 2
        self.parts.append(
            f'<rect x="{x - 4:g}" y="{y - 4:g}" width="8" height="8" fill="#ffffff" stroke="{_POWER}" stroke-width="1.4"/>'
        )


def draw(topology: Topology, facts: list[dict[str, Any]], loads: list[dict[str, Loading]]) -> str:
    """One SVG document; `facts` are those of `site_facts` for each site in order, `loads` what a run put on each (or nothing)."""
    canvas = _Canvas()
    top = float(_HEAD_H)
    for site, load in zip(facts, loads, strict=True):
        top = _site(canvas, site, load, top) + 2 * _MARGIN
    title = f'<text x="{_MARGIN}" y="30" font-size="17" font-weight="700">{escape(topology.name)}</text>'
    size = f'width="{canvas.width:g}" height="{canvas.height:g}" viewBox="0 0 {canvas.width:g} {canvas.height:g}"'
    body = "\n".join([title, *canvas.lines, *canvas.parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="#f8fafc"/>\n{body}\n</svg>\n'
    )


def _site(canvas: _Canvas, site: dict[str, Any], loads: dict[str, Loading], top: float) -> float:
    """Draw a site from `top`; returns its lower edge."""
    nodes = one_line(site, _watts)
    ends = max(node.column for node in nodes)
    column = [_MARGIN + i * (_BOX_W + _GAP_X) for i in range(ends + 3)]
    said = f"site {site['name']}" + (": loads are the mean and the peak of the run" if loads else "")
    canvas.parts.append(f'<text x="{_MARGIN}" y="{top + 14:g}" font-weight="600">{escape(said)}</text>')
    fabric = site["fabric"]
    y = top + 26
    switches = []
    for name, count in (("core", fabric["cores"]), ("spine", fabric["spines"]), ("leaf", fabric["leaves"])):
        if count:
            switches.append(canvas.box(column[ends], y, f"{count:,} x {name}", [fabric["switch"]], _NETWORK))
            y += _BOX_H + _GAP_Y
    for upper, lower in pairwise(switches):
        canvas.up(lower, upper, _NETWORK)
    y += _GAP_Y
    row = _BOX_H + _GAP_Y
    placed = {node.name: _draw_node(canvas, node, loads, column[node.column], y + node.row * row) for node in nodes}
    tracks: dict[int, dict[str, int]] = {}
    columns = {node.name: node.column for node in nodes}
    for node in nodes:
        for number, feed in enumerate(node.fed_from):
            # What feeds something in the same column has a track of its own, or two busbars would look like one.
            # A line past several columns turns at once: its end has the row to itself, its beginning may not.
            gap = columns[feed] + 1
            into = tracks.setdefault(gap if gap < node.column else node.column, {})
            track = into.setdefault(feed, 2 + len(into))
            canvas.across(placed[feed], placed[node.name], _POWER, track, dashed=number > 0, early=gap < node.column)
        if node.breaker is not None:
            canvas.breaker(placed[node.name])
    racks = {node.name: placed[node.name] for node in nodes if node.kind == "racks"}
    canvas.up(next(iter(racks.values())), switches[-1], _NETWORK)
    rows = max(node.row for node in nodes) + 1
    if site["battery"] is not None:
        detail = f"{site['battery']['capacity_j'] / 3.6e6:,.0f} kWh, {_watts(site['battery']['power_w'])}"
        tap = max((placed[name] for name in site["electrical"]["cooling_from"]), key=lambda box: box[1])
        battery = canvas.box(tap[0], y + rows * row, "battery", [detail], _STORE)
        canvas.symbol(battery, "battery", _STORE)
        canvas.up(battery, tap, _STORE)
        rows += 1
    return max(y + row * rows - _GAP_Y, _heat(canvas, site, racks, column[ends + 1 :], y))


def _draw_node(canvas: _Canvas, node: Node, loads: dict[str, Loading], x: float, y: float) -> Box:
    colour = {"racks": _RACK, "cooling": _HEAT}.get(node.kind, _POWER)
    details = [node.detail if node.breaker is None else f"{node.detail}, {node.breaker}"]
    load = loads.get("feed" if node.kind == "incomer" else node.name)
    if load is not None:
        share = "" if load.peak_frac is None else f" = {load.peak_frac:.0%}"
        details.append(f"{_watts(load.mean_w)}, peak {_watts(load.peak_w)}{share}")
    box = canvas.box(x, y, node.title, details, colour)
    canvas.symbol(box, node.kind, colour)
    if load is not None and load.peak_frac is not None:
        canvas.load(box, load.peak_frac)
    return box


def _heat(canvas: _Canvas, site: dict[str, Any], racks: dict[str, Box], column: list[int], y: float) -> float:
    """Loops behind the racks and the sky behind them; returns the lower edge."""
    cooling, row = site["cooling"], _BOX_H + _GAP_Y
    loops = {
        loop["name"]: canvas.box(
            column[0], y + i * row, f"loop {loop['name']}", [f"{loop['count']} x {loop['cdu']}, {loop['supply_c']:g} °C"], _HEAT
        )
        for i, loop in enumerate(cooling["loops"])
    }
    air = canvas.box(column[0], y + len(loops) * row, "hall air", [cooling["air_handler"]], _HEAT)
    sky = canvas.box(column[1], y, cooling["dry_cooler"], [cooling["chiller"]], _HEAT)
    for loop in (*loops.values(), air):
        canvas.across(loop, sky, _HEAT)
    names = [*loops, None]
    for rack in (*site["racks"], *site["cpu_racks"]):
        to = air if rack["loop"] is None else loops[rack["loop"]]
        canvas.across(racks[f"racks/{rack['name']}"], to, _HEAT, names.index(rack["loop"]))
    return y + row * (len(loops) + 1) - _GAP_Y


def _watts(value_w: float) -> str:
    return format_si(value_w, "W")


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
