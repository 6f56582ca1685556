"""A topology as a picture: the chain from feed to racks, heat on to the sky, the fabric's tiers above."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from twin.schema.topology import Topology
from twin.units import format_si

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _MARGIN = 190, 54, 56, 18, 28
_POWER, _HEAT, _NETWORK = "#b45309", "#b91c1c", "#1d4ed8"
_HEAD_H = 48

Box = tuple[float, float]


class _Canvas:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.width = self.height = 0.0

    def box(self, x: float, y: float, title: str, detail: str, colour: str) -> Box:
        """A titled box at its upper left corner, which is returned."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{_BOX_W}" height="{_BOX_H}" rx="6" fill="#ffffff" stroke="{colour}"/>'
            f'<text x="{x + 10:g}" y="{y + 22:g}" font-weight="600">{escape(_short(title, 26))}</text>'
            f'<text x="{x + 10:g}" y="{y + 41:g}" fill="#475569">{escape(_short(detail, 30))}</text>'
        )
        self.width = max(self.width, x + _BOX_W + _MARGIN)
        self.height = max(self.height, y + _BOX_H + _MARGIN)
        return x, y

    def across(self, left: Box, right: Box, colour: str, bend: int = 0) -> None:
        """A line from the right side of one box to the left side of another, its elbow `bend` tracks off the middle."""
        x1, y1 = left[0] + _BOX_W, left[1] + _BOX_H / 2
        x2, y2 = right[0], right[1] + _BOX_H / 2
        middle = (x1 + x2) / 2 + 8 * (bend % 5 - 2)
        path = f"M{x1:g} {y1:g}H{middle:g}V{y2:g}H{x2:g}"
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')

    def up(self, lower: Box, upper: Box, colour: str) -> None:
        """A line from the top of one box to the bottom of another."""
        x1, x2 = lower[0] + _BOX_W / 2, upper[0] + _BOX_W / 2
        path = f"M{x1:g} {lower[1]:g}V{(lower[1] + upper[1] + _BOX_H) / 2:g}H{x2:g}V{upper[1] + _BOX_H:g}"
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')


def draw(topology: Topology, facts: list[dict[str, Any]]) -> str:
    """One SVG document; `facts` are those of `site_facts` for each site in order."""
    canvas = _Canvas()
    top = float(_HEAD_H)
    for site in facts:
        top = _site(canvas, site, top) + 2 * _MARGIN
    title = f'<text x="{_MARGIN}" y="30" font-size="17" font-weight="700">{escape(topology.name)}</text>'
    size = f'width="{canvas.width:g}" height="{canvas.height:g}" viewBox="0 0 {canvas.width:g} {canvas.height:g}"'
    body = "\n".join([title, *canvas.parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="#f8fafc"/>\n{body}\n</svg>\n'
    )


def _site(canvas: _Canvas, site: dict[str, Any], top: float) -> float:
    """Draw a site from `top`; returns its lower edge."""
    column = [_MARGIN + i * (_BOX_W + _GAP_X) for i in range(6)]
    canvas.parts.append(f'<text x="{_MARGIN}" y="{top + 14:g}" font-weight="600">site {escape(site["name"])}</text>')
    fabric = site["fabric"]
    y = top + 26
    tiers = [("core", fabric["cores"]), ("spine", fabric["spines"]), ("leaf", fabric["leaves"])]
    switches = []
    for name, count in tiers:
        if count:
            switches.append(canvas.box(column[3], y, f"{count} x {name}", fabric["switch"], _NETWORK))
            y += _BOX_H + _GAP_Y
    for upper, lower in pairwise(switches):
        canvas.up(lower, upper, _NETWORK)
    y += _GAP_Y
    row = _BOX_H + _GAP_Y
    racks = [
        canvas.box(column[3], y + i * row, f"{rack['count']} x {rack['rack']}", f"{rack['name']}, {rack['gpus']} GPUs", "#334155")
        for i, rack in enumerate(site["racks"])
    ]
    canvas.up(racks[0], switches[-1], _NETWORK)
    electrical = site["electrical"]
    feed = canvas.box(column[0], y, f"feed {site['feed']['name']}", format_si(site["feed"]["contract_w"], "W"), _POWER)
    transformer_w, ups_w = (format_si(electrical[name]["rated_w"], "W") for name in ("transformer", "ups"))
    transformer = canvas.box(column[1], y, "transformer", transformer_w, _POWER)
    ups = canvas.box(column[2], y, "UPS", ups_w, _POWER)
    canvas.across(feed, transformer, _POWER)
    canvas.across(transformer, ups, _POWER)
    if site["battery"] is not None:
        kwh = f"{site['battery']['capacity_j'] / 3.6e6:,.0f} kWh, {format_si(site['battery']['power_w'], 'W')}"
        battery = canvas.box(column[1], y + row, "battery", kwh, _POWER)
        canvas.up(battery, transformer, _POWER)
    loops = {
        loop["name"]: canvas.box(column[4], y + i * row, f"loop {loop['name']}", f"{loop['count']} x {loop['cdu']}", _HEAT)
        for i, loop in enumerate(site["cooling"]["loops"])
    }
    air = canvas.box(column[4], y + len(loops) * row, "hall air", site["cooling"]["air_handler"], _HEAT)
    sky = canvas.box(column[5], y, site["cooling"]["dry_cooler"], site["cooling"]["chiller"], _HEAT)
    for loop in (*loops.values(), air):
        canvas.across(loop, sky, _HEAT)
    for rack, box in zip(site["racks"], racks, strict=True):
        canvas.across(ups, box, _POWER)
        names = [*loops, None]
        canvas.across(box, air if rack["loop"] is None else loops[rack["loop"]], _HEAT, names.index(rack["loop"]))
    return y + row * max(len(racks), len(loops) + 1, 2) - _GAP_Y


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
