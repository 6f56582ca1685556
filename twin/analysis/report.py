"""report.html: one offline file with the story of a run, its figures, its key numbers and where they come from."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from twin.analysis import style
from twin.analysis.axes import PLOT_AREA
from twin.analysis.columns import TableColumns
from twin.analysis.key_numbers import has_tasks, key_numbers, tiles
from twin.analysis.plots import Plots, element_rows, energy_height_in, lanes_of, rack_rows, sites_of
from twin.analysis.rack_map import rack_map_height_in
from twin.analysis.story import clock, lead, spoken_detail, spoken_kind, story
from twin.errors import InputError

#: Left margins of figures whose rows have names, in inches.
_LEFT_IN = {"actions": 2.2, "revenue": 1.2, "rack_die": 1.1, "rack_power": 1.1, "elements": 1.1}

#: Rows of the timeline; the rest stays in events.parquet, and the report says how many.
TIMELINE_ROWS = 60


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the report: inline SVG with a text that stands for it where it is not seen."""

    key: str
    caption: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of the timeline: `count` events of one kind, from `start` to `end`."""

    start: str
    end: str
    site: str
    kind: str
    count: int
    detail: str


def write_report(run_dir: Path, summary: dict[str, Any], manifest: dict[str, Any], out: Path) -> Path:
    """Write the report of the closed tables in `run_dir` to `out` and return it. Raises InputError if it cannot be written."""
    html = render_report(run_dir, summary, manifest)
    try:
        out.write_text(html, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    return out


def render_report(run_dir: Path, summary: dict[str, Any], manifest: dict[str, Any]) -> str:
    """The report as HTML, from the closed tables in `run_dir` and what summary.json and manifest.json hold or will hold."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("twin.analysis"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    moments, left_out = _timeline(run_dir, summary["horizon_s"])
    return environment.get_template("report.html").render(
        summary=summary,
        lead=lead(summary),
        story=story(summary),
        tiles=tiles(summary),
        sections=list(_sections(Plots(run_dir, summary))),
        numbers=key_numbers(summary),
        moments=moments,
        left_out=left_out,
        invariants=[(name.replace("_", " "), held) for name, held in summary["invariants"].items()],
        # Without the wall times, so that the same run gives the same bytes; they stand in manifest.json.
        provenance=list(_flat({key: value for key, value in manifest.items() if key != "wall"})),
    )


def _sections(plots: Plots) -> Iterator[tuple[str, list[Drawing]]]:
    sites = sites_of(plots)
    yield (
        "Power",
        [
            _drawing(
                f"power-{i}",
                f"Power of {site} by component over time, with the meter (line; the grey band spans its lowest and highest "
                "steps), the feed limit (dashed) and the load target (red). Hatched: covered by battery or generators; dotted: "
                "charging the battery. Grid events are shaded, their ramp lighter; dark red bars at the foot are faults.",
                3.9,
                partial(plots.power, site=site),
            )
            for i, site in enumerate(sites)
        ],
    )
    said = (
        "Energy of the whole run from the meter to the tokens; widths are energies. Losses and cooling leave below, the IT "
        "equipment's share goes on to the right. GPU energy is that of the pools' instances, whatever they did."
    )
    yield "Energy", [_drawing("energy", said, energy_height_in(plots), plots.energy)]
    said = "GPU clock of each pool over its maximum, the mean of its instances: what a feed limit does first."
    yield "Clocks", [_drawing("clocks", said, 2.4, plots.clocks)]
    yield "Tokens", [_drawing("tokens", "Output tokens a second by tier, stacked, for the whole factory.", 3.1, plots.tokens)]
    promise = "by tier: median (line with dots), up to the 95th percentile (band); the tier's objective is dotted."
    yield (
        "Latency",
        [
            _drawing("ttft", f"Time to first token {promise}", 2.9, partial(plots.latency, measure="ttft_s")),
            _drawing("tpot", f"Time per output token {promise}", 2.9, partial(plots.latency, measure="tpot_s")),
        ],
    )
    tiers = [
        _drawing(
            "attainment",
            "Share of each tier's requests and tasks that met each objective; below, of requests that met all of theirs.",
            1.2 + 0.2 * 5 * max(len(plots._tiers), 2),
            plots.attainment,
        )
    ]
    if "revenue_by_tier" in plots._summary["economics"]:
        paying = len(plots._summary["economics"]["revenue_by_tier"])
        said = "Revenue by tier and by what was paid for; left of 0, what was given back for broken promises."
        tiers.append(_drawing("revenue", said, 1.3 + 0.34 * paying, plots.revenue))
    yield "Tiers", tiers
    if has_tasks(plots._summary):
        yield "Tasks", list(_tasks(plots))
    said = "GPU time of each pool: what the work done takes at the speed of light (every efficiency 1), and what was lost where."
    pools = len(plots._summary["hardware"]["pools"])
    yield "Speed of light", [_drawing("light", said, 1.3 + 0.34 * (pools + (pools > 1)), plots.light)]
    thermal = []
    for i, site in enumerate(sites):
        said = (
            f"Temperatures of {site}: hottest GPU die, coolant to and from the racks; bands span the loops that cool GPUs. "
            "Thin lines: return of the other circuits."
        )
        thermal.append(_drawing(f"temperature-{i}", said, 2.9, partial(plots.temperature, site=site)))
        said = f"PUE of {site} over time: everything the site consumes over what its IT equipment does."
        thermal.append(_drawing(f"pue-{i}", said, 2.2, partial(plots.pue, site=site)))
    yield "Heat", thermal
    for title, drawings in (("Racks", _racks(plots, sites)), ("Electrical chain", _elements(plots, sites))):
        if drawn := list(drawings):
            yield title, drawn
    if "jobs" in plots._summary:
        said = "GPUs of {} by use: instances that serve, jobs that can wait, idle. Grid events are shaded."
        uses = plots._summary["jobs"]["sites"]
        yield "Jobs", [_drawing(f"jobs-{i}", said.format(s), 2.9, partial(plots.jobs, site=s)) for i, s in enumerate(uses)]
    said = "What was done and when, a lane for each kind of event; darker marks stand for more."
    yield "Actions", [_drawing("actions", said, 1.2 + 0.27 * max(lanes_of(plots), 2), plots.actions)]


def _racks(plots: Plots, sites: tuple[str, ...]) -> Iterator[Drawing]:
    """Temperature and power of each site's racks, where any has GPUs."""
    for i, site in enumerate(sites):
        rows = rack_rows(plots, site)
        if not rows:
            continue
        height_in = rack_map_height_in(rows)
        said = "each rack{} over time, racks from the top in the order of their groups."
        many = f" of {site}" if len(sites) > 1 else ""
        die = f"Hottest GPU die of {said.format(many)} Rows that stand for several racks show the hottest of them."
        yield _drawing(f"rack_die-{i}", die, height_in, partial(plots.racks, measure="die", site=site))
        power = f"IT power of {said.format(many)} Rows that stand for several racks show their mean."
        yield _drawing(f"rack_power-{i}", power, height_in, partial(plots.racks, measure="power", site=site))


def _elements(plots: Plots, sites: tuple[str, ...]) -> Iterator[Drawing]:
    """The load of each element of the sites' electrical chains."""
    for i, site in enumerate(sites):
        if rows := element_rows(plots, site):
            said = f"Load of each element of the electrical chain of {site} over its rating, from the incomer down."
            yield _drawing(f"elements-{i}", said, rack_map_height_in(rows), partial(plots.elements, site=site))


def _tasks(plots: Plots) -> Iterator[Drawing]:
    found = plots._summary["tasks"]
    said = (
        "Mean time of completed tasks, from first call to last along the critical path: what they waited for, and for how long."
    )
    rows = sum(tier["completed"] > 0 for tier in found["tiers"].values())
    yield _drawing("tasks", said, 1.3 + 0.34 * max(1, rows + (rows > 1)), plots.tasks)
    yield _drawing("sessions", "Sessions in flight in the whole factory.", 2.2, plots.sessions)
    if "tools" in found:
        said = "Sandboxes in use, tools that wait for one on top of them, and how many sandboxes there are (dashed)."
        yield _drawing("sandboxes", said, 2.4, plots.sandboxes)


def _drawing(key: str, caption: str, height_in: float, draw: Callable[[Axes], Axes]) -> Drawing:
    with rc_context(style.SETTINGS):
        figure = Figure(figsize=(9.4, height_in))
        FigureCanvasSVG(figure)
        # Margins in inches, so that figures of any height line up under each other.
        left, right, below, above = (_LEFT_IN.get(key.split("-")[0], PLOT_AREA[0]), *PLOT_AREA[1:])
        figure.subplots_adjust(left / 9.4, below / height_in, 1 - right / 9.4, 1 - above / height_in)
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Drawing(key, caption, Markup(_inline(text.getvalue(), key, caption)))


def _inline(svg: str, key: str, caption: str) -> str:
    """matplotlib's SVG file as an element of the page: identifiers of its own, the page's fonts and themed colours."""
    svg = svg[svg.index("<svg") :]
    for part in (
        r"<metadata>.*?</metadata>",
        r"<!--.*?-->\s*",
        r"<defs>\s*<style.*?</style>\s*</defs>",
        r"font-family: [^;\"]*; ",
    ):
        svg = re.sub(part, "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = svg.replace("url(#", f"url(#{key}-").replace('href="#', f'href="#{key}-')
    for colour, variable in style.THEMED.items():
        svg = svg.replace(f": {colour}", f": var({variable})")
    label = str(Markup.escape(caption))
    return re.sub(
        r"<svg ([^>]*?)>", lambda m: f'<svg role="img" aria-label="{label}" {_sized(m[1])}>', svg, count=1, flags=re.DOTALL
    )


def _sized(attributes: str) -> str:
    return re.sub(r'\s(?:width|height|version)="[^"]*"', "", " " + attributes).strip()


def _timeline(run_dir: Path, horizon_s: float) -> tuple[list[Moment], int]:
    """Phases of like events in order of time, and how many were left out. Events of one kind at one site are one phase until
    none comes for a minute, or for a hundredth of a longer run."""
    table = TableColumns(run_dir, "events")
    kind, site, time_s = table.names("kind"), table.names("site"), table.numbers("time_s")
    subject, detail = table.names("subject"), table.names("detail")
    pause_s = max(60.0, horizon_s / 100)
    phases: list[np.ndarray] = []
    for kind_code in range(len(kind.labels)):
        for site_code in range(len(site.labels)):
            rows = np.flatnonzero((kind.codes == kind_code) & (site.codes == site_code))
            if len(rows):
                phases += np.split(rows, np.flatnonzero(np.diff(time_s[rows]) > pause_s) + 1)
    phases.sort(key=lambda rows: int(rows[0]))
    moments = []
    for rows in phases[:TIMELINE_ROWS]:
        first, last = rows[0], rows[-1]
        told = _told(subject.labels[subject.codes[first]], detail.labels[detail.codes[first]])
        moments.append(
            Moment(
                clock(time_s[first]),
                clock(time_s[last]),
                site.labels[site.codes[first]],
                spoken_kind(kind.labels[kind.codes[first]]),
                len(rows),
                told if len(rows) == 1 else f"first {told}" if told else "",
            )
        )
    return moments, max(0, len(phases) - TIMELINE_ROWS)


def _told(subject: str, detail: str) -> str:
    return ": ".join(part for part in (subject, spoken_detail(detail)) if part)


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The manifest as lines; nested keys are joined by dots, long lists by commas."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list):
        yield path, ", ".join(item if isinstance(item, str) else json.dumps(item) for item in content)
    else:
        yield path, content if isinstance(content, str) else json.dumps(content)
