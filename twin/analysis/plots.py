"""The plots of a run, the same in a notebook and in the report. Each draws into matplotlib Axes and returns them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from twin.analysis import style
from twin.analysis.axes import (
    PLOT_AREA,
    label_right,
    last_known,
    mark_faults,
    nothing_to_show,
    shade_events,
    time_axis,
    time_unit,
)
from twin.analysis.columns import Names, TableColumns
from twin.analysis.energy_flow import energy_flow
from twin.analysis.job_plot import draw_gpus
from twin.analysis.rack_map import draw_rack_map, element_map, rack_map, rack_map_height_in
from twin.analysis.sankey import draw_sankey
from twin.analysis.series import RequestSeries, StepTable, bin_edges, busiest_unit
from twin.analysis.story import spoken_kind
from twin.analysis.task_plot import draw_sandboxes, draw_split
from twin.errors import InputError, did_you_mean
from twin.recording import EVENT_KINDS
from twin.units import format_si

#: Bins of lines that are recorded each step, and at most of quantiles, which need requests in each bin.
FINE_BINS, COARSE_BINS = 360, 60
_LANES_MOST = 14
_OTHER_LOOPS_MOST = 4
_PROMISES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "call", "task_s": "task", "all": "all"}
_PAID = {"input_usd": "input", "cached_input_usd": "cached input", "output_usd": "output", "credit_usd": "given back"}
_LATENCY = {"ttft_s": "Time to first token", "tpot_s": "Time per output token"}


class Plots:
    """Plots of the run in `run_dir` with its `summary`. Every method takes the Axes to draw into, or makes its own figure."""

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
        chosen = sorted(kind.labels, key=lambda label: _group(label) not in ("grid", "command"))[:_LANES_MOST]
        return kind, time_s, sorted(chosen, key=lambda label: float(time_s[kind.are(label)].min()))

    @property
    def _lanes(self) -> int:
        """Lanes that `actions` draws."""
        return len(self._kinds[2])

    @property
    def _sites(self) -> tuple[str, ...]:
        """Sites that can be plotted."""
        return self._power.sites

    def power(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """Where a site's power goes, stacked, with the meter, the feed's limit and the load target. Hatched: covered by battery
        or generators instead of the feed; dotted, on top: charging the battery."""
        axes, site = _axes(axes), self._site(site)
        edges, at = self._bins(FINE_BINS)
        columns = {name: self._power.steps(name, site) for name, _, _ in style.COMPONENTS}
        parts = np.array([np.nan_to_num(steps.mean(edges)) for steps in columns.values()])
        meter = self._power.steps("utility_w", site)
        target = self._power.steps("target_w", site).mean(edges)
        limit = self._power.steps("limit_w", site).mean(edges)
        draw = meter.mean(edges)
        factor, unit = busiest_unit(np.concatenate((draw, limit, parts.sum(axis=0))), "W")
        axes.stackplot(at, parts / factor, colors=[colour for _, _, colour in style.COMPONENTS], linewidth=0, alpha=0.85)
        self._hatch_storage(axes, site, edges, parts.sum(axis=0), factor)
        axes.fill_between(at, meter.minimum(edges) / factor, meter.maximum(edges) / factor, color=style.INK, alpha=0.15, lw=0)
        axes.plot(at, draw / factor, color=style.INK)
        axes.plot(at, limit / factor, color=style.LIMIT, linestyle=(0, (5, 3)), linewidth=1.2)
        axes.plot(at, target / factor, color=style.TARGET, linewidth=2.2)
        highest = np.nanmax(np.concatenate((draw, limit, meter.maximum(edges), parts.sum(axis=0), [0.0])))
        axes.set_ylim(0, max(highest / factor * 1.08, 1e-9))
        labels = _stack_labels(parts / factor, [(label, colour) for _, label, colour in style.COMPONENTS])
        for values, text, colour in ((draw, "meter", style.INK), (limit, "feed limit", style.LIMIT)):
            if (y := last_known(values)) is not None:
                labels.append((y / factor, text, colour))
        self._name_targets(axes, factor, site)
        self._finish(axes, f"Power of {site}", unit, labels, self._at(site), named=True, site=site)
        return axes

    def energy(self, axes: Axes | None = None) -> Axes:
        """Where the energy of the whole factory went, from the meter to the tokens, as a Sankey diagram."""
        axes = _axes(axes, 4.6)
        draw_sankey(axes, energy_flow(self._run_dir, self._summary))
        return axes

    def racks(self, axes: Axes | None = None, measure: str = "die", site: str | None = None) -> Axes:
        """A heat map by rack and time: "die" (hottest GPU die), "power" (IT power) or "clock" (that heat allows)."""
        site = self._site(site)
        drawn = rack_map(self._run_dir, site, measure)
        axes = _axes(axes, rack_map_height_in(len(drawn.values)), left_in=1.1)
        if drawn.values.size:
            draw_rack_map(axes, drawn, self._horizon_s)
        else:
            nothing_to_show(axes, "no rack of this site has such a value")
        return axes

    def elements(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """A heat map of the electrical chain: load over rating of each element over time."""
        site = self._site(site)
        drawn = element_map(self._run_dir, site)
        axes = _axes(axes, rack_map_height_in(len(drawn.values)), left_in=1.1)
        if drawn.values.size:
            draw_rack_map(axes, drawn, self._horizon_s)
        else:
            nothing_to_show(axes, "no element of the chain was recorded")
        return axes

    def tokens(self, axes: Axes | None = None) -> Axes:
        """Output tokens a second by tier, stacked, the whole factory."""
        axes = _axes(axes)
        edges, at = self._bins(FINE_BINS // 2)
        represent = self._summary["requests"]["represent"]
        rates = np.array([self._requests.tokens_per_s(tier, edges) * represent for tier in self._tiers])
        if not len(rates) or not rates.any():
            nothing_to_show(axes, "no output tokens in this run")
            self._finish(axes, "Output tokens", "", [], self._events)
            return axes
        factor, unit = busiest_unit(rates.sum(axis=0), "")
        colours = [style.tier_colour(i) for i in range(len(self._tiers))]
        axes.stackplot(at, rates / factor, colors=colours, linewidth=0, alpha=0.85)
        labels = _stack_labels(rates / factor, list(zip(self._tiers, colours, strict=True)))
        axes.set_ylim(0, float(rates.sum(axis=0).max()) / factor * 1.1)
        self._finish(axes, "Output tokens by tier", f"{_thousands(unit)}tokens/s", labels, self._events)
        return axes

    def latency(self, axes: Axes | None = None, measure: str = "ttft_s") -> Axes:
        """Median (solid) and 95th percentile (thin) of "ttft_s" or "tpot_s" by tier, objectives dotted."""
        if measure not in _LATENCY:
            raise InputError(f"no latency {measure!r} to plot{did_you_mean(measure, _LATENCY)}")
        axes = _axes(axes)
        each = self._summary["requests"]["total"] / max(1, len(self._tiers))
        edges, at = self._bins(int(np.clip(each / 8, 5, COARSE_BINS)))
        found = {tier: self._requests.quantiles(tier, measure, edges, (0.5, 0.95)) for tier in self._tiers}
        known = np.concatenate([q[np.isfinite(q)] for q in found.values()]) if found else np.zeros(0)
        if not len(known):
            nothing_to_show(axes, "too few requests to give quantiles over time")
            self._finish(axes, _LATENCY[measure], "", [], self._events)
            return axes
        bounds = [t["objectives"][measure] for t in self._tiers.values() if t["objectives"][measure] is not None]
        scale, unit = (1.0, "s") if known.max() >= 1 else (1e-3, "ms")
        labels = []
        for i, (tier, (p50, p95)) in enumerate(found.items()):
            colour, bound = style.tier_colour(i), self._tiers[tier]["objectives"][measure]
            axes.fill_between(at, p50 / scale, p95 / scale, color=colour, alpha=0.13, linewidth=0)
            axes.plot(at, p50 / scale, color=colour, marker="o", markersize=1.8)
            axes.plot(at, p95 / scale, color=colour, linewidth=0.9)
            if bound is not None:
                axes.axhline(bound / scale, color=colour, linestyle=(0, (1, 2)), linewidth=1.3)
            if (y := last_known(p50)) is not None:
                labels.append((y / scale, tier, colour))
        everything = np.concatenate((known, bounds))
        if everything.min() > 0 and everything.max() / everything.min() > 15:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(0, float(everything.max()) / scale * 1.1)
        self._finish(axes, _LATENCY[measure], unit, labels, self._events)
        return axes

    def temperature(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """Hottest GPU die, and coolant to and from the racks: mean line over the loops that cool GPUs, band from lowest to
        highest. Thin: the return of each other circuit."""
        axes, site = _axes(axes), self._site(site)
        edges, at = self._bins(FINE_BINS)
        found = {
            column: {name: steps.mean(edges) for name, steps in self._thermal.grouped(column, site, "loop").items()}
            for column in ("gpu_max_c", "return_c", "supply_c")
        }
        with_gpus = [name for name, die_c in found["gpu_max_c"].items() if np.isfinite(die_c).any()]
        labels = []
        for (column, lines), (label, colour) in zip(found.items(), style.TEMPERATURES, strict=True):
            loops = [lines[name] for name in with_gpus]
            if loops:
                line = np.max(loops, axis=0) if column == "gpu_max_c" else np.mean(loops, axis=0)
                axes.fill_between(at, np.min(loops, axis=0), np.max(loops, axis=0), color=colour, alpha=0.18, linewidth=0)
                axes.plot(at, line, color=colour)
                if (y := last_known(line)) is not None:
                    labels.append((y, label, colour))
        others = [name for name in found["return_c"] if name not in with_gpus]
        for name in others[:_OTHER_LOOPS_MOST]:
            axes.plot(at, found["return_c"][name], color=style.MUTED, linewidth=0.9)
            if (y := last_known(found["return_c"][name])) is not None:
                labels.append((y, name.replace("_", " "), style.MUTED))
        if not found["return_c"]:
            nothing_to_show(axes, "no cooling loop was recorded")
        self._finish(axes, f"Temperatures of {site}", "°C", labels, self._at(site), site=site)
        return axes

    def clocks(self, axes: Axes | None = None) -> Axes:
        """GPU clock of each pool over its maximum, the mean of its instances: what a feed limit does first."""
        axes = _axes(axes)
        table = TableColumns(self._run_dir, "workers")
        pool, time_s, clock = table.names("pool"), table.numbers("time_s"), table.numbers("clock_frac")
        labels = []
        for number, name in enumerate(pool.labels):
            mine = pool.are(name)
            times, place = np.unique(time_s[mine], return_inverse=True)
            percent = 100 * np.bincount(place, clock[mine]) / np.bincount(place)
            axes.plot(times / time_unit(self._horizon_s)[0], percent, color=style.tier_colour(number))
            labels.append((float(percent[-1]), f"{name} pool", style.tier_colour(number)))
        if not labels:
            nothing_to_show(axes, "no instance was recorded")
        axes.set_ylim(0, 108)
        self._finish(axes, "GPU clock", "% of maximum", labels, self._events)
        return axes

    def light(self, axes: Axes | None = None) -> Axes:
        """GPU time of each pool: what the work takes at the speed of light, and what was lost where."""
        axes = _axes(axes)
        hardware = self._summary["hardware"]
        pools = hardware["pools"]
        rows = [*pools.items(), *([("all", hardware)] if len(pools) > 1 else [])]
        for place, (_, pool) in enumerate(rows):
            left = 0.0
            for key, label, colour in style.LIGHT:
                share = 100 * (pool["speed_of_light_frac"] if key == "light" else pool["lost_frac"][key])
                axes.barh(-place, share, 0.62, left, color=colour, linewidth=0, label=label if place == 0 else None)
                if share >= 5:
                    ink = style.INK if key in ("idle", "memory") else style.PAPER
                    axes.text(left + share / 2, -place, f"{share:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
                left += share
        axes.set_yticks([-place for place in range(len(rows))], [name for name, _ in rows])
        axes.set_xlim(0, 100)
        axes.grid(visible=False)
        axes.set_xlabel("% of GPU time")
        axes.legend(
            ncols=9, loc="lower left", bbox_to_anchor=(-0.06, 1.0), frameon=False, fontsize=8, handlelength=0.8, columnspacing=1.0
        )
        return axes

    def attainment(self, axes: Axes | None = None) -> Axes:
        """Share of each tier's requests and tasks that met each of its objectives, and of requests that met all."""
        axes = _axes(axes)
        shares = {name: {**tier["attainment_frac"], "all": tier["slo_attainment_frac"]} for name, tier in self._tiers.items()}
        asked = [key for key in _PROMISES if any(share[key] is not None for share in shares.values())]
        height = 0.8 / max(1, len(shares))
        for i, (name, share) in enumerate(shares.items()):
            for place, key in enumerate(asked):
                if share[key] is not None:
                    y = -place - (i - (len(shares) - 1) / 2) * height
                    axes.barh(y, 100 * share[key], height * 0.9, color=style.tier_colour(i), linewidth=0)
                    axes.text(101, y, f"{100 * share[key]:.4g}", va="center", fontsize=8, color=style.MUTED)
            axes.barh(0, 0, color=style.tier_colour(i), label=name)
        if not asked:
            nothing_to_show(axes, "no request is judged yet")
        axes.set_yticks([-place for place in range(len(asked))], [_PROMISES[key] for key in asked])
        self._by_tier(axes, "%")
        axes.set_xlim(0, 106)
        return axes

    def revenue(self, axes: Axes | None = None) -> Axes:
        """Revenue of each tier by what was paid for; what was given back stands left of 0."""
        axes = _axes(axes)
        tiers = self._summary["economics"].get("revenue_by_tier", {})
        if not tiers:
            nothing_to_show(axes, "no tier has a price")
        for i, (key, label) in enumerate(_PAID.items()):
            for place, tier in enumerate(tiers.values()):
                before = sum(tier[other] for other in list(_PAID)[:i]) if tier[key] >= 0 else 0.0
                axes.barh(-place, tier[key], 0.62, before, color=style.PAID[i], linewidth=0, label=label if not place else None)
        for place, tier in enumerate(tiers.values()):
            at = sum(max(tier[key], 0.0) for key in _PAID)
            axes.annotate(
                f"{tier['revenue_usd']:,.4g}", (at, -place), (4, 0), textcoords="offset points", va="center", fontsize=8.5
            )
        axes.set_yticks([-place for place in range(len(tiers))], list(tiers))
        self._by_tier(axes, "USD")
        return axes

    @staticmethod
    def _by_tier(axes: Axes, unit: str) -> None:
        axes.grid(visible=False)
        axes.set_xlabel(unit)
        axes.legend(ncols=9, loc="lower left", bbox_to_anchor=(-0.06, 1.0), frameon=False, fontsize=8, handlelength=0.8)

    def tasks(self, axes: Axes | None = None) -> Axes:
        """Where the time of completed tasks went, the mean of each tier, along the critical path from first call to last."""
        axes = _axes(axes)
        found = self._summary["tasks"]
        rows = [*found["tiers"].items(), *([("all", found)] if len(found["tiers"]) > 1 else [])]
        rows = [(name, figures) for name, figures in rows if figures["completed"]]
        if rows:
            draw_split(axes, rows)
        else:
            nothing_to_show(axes, "no task was completed in this run")
        return axes

    def sessions(self, axes: Axes | None = None) -> Axes:
        """Sessions in flight over time, of the whole factory."""
        axes = _axes(axes)
        edges, at = self._bins(FINE_BINS // 2)
        count = np.sum([self._tasks.steps("sessions_in_flight", site).mean(edges) for site in self._tasks.sites], axis=0)
        axes.plot(at, count, color=style.TIERS[0])
        axes.set_ylim(0, max(float(np.nanmax(count, initial=0.0)), 1e-9) * 1.1)
        y = last_known(count)
        labels = [] if y is None else [(y, f"{y:,.4g}", style.TIERS[0])]
        self._finish(axes, "Sessions in flight", "", labels, self._events)
        return axes

    def sandboxes(self, axes: Axes | None = None) -> Axes:
        """Sandboxes in use over time, the tools that wait for one on top, and how many there are (dashed); all sites."""
        axes = _axes(axes)
        tools = self._summary["tasks"].get("tools")
        labels = []
        if tools is None:
            nothing_to_show(axes, "tools needed no sandboxes in this run")
        else:
            edges, at = self._bins(FINE_BINS // 2)
            busy, waiting = (
                np.sum([self._tasks.steps(column, site).mean(edges) for site in self._tasks.sites], axis=0)
                for column in ("sandboxes_busy", "sandboxes_waiting")
            )
            draw_sandboxes(axes, at, busy, waiting, tools["sandboxes"])
            labels.append((float(busy[-1]) / 2, "in use", style.SANDBOXES[0]))
            if waiting.any():
                labels.append((float(busy[-1] + waiting[-1] / 2), "tools waiting", style.SANDBOXES[1]))
            if tools["sandboxes"] is not None:
                labels.append((float(tools["sandboxes"]), "sandboxes", style.LIMIT))
        self._finish(axes, "Sandboxes", "", labels, self._events)
        return axes

    def pue(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """Power usage effectiveness of a site over time: everything it consumes over its IT power."""
        axes, site = _axes(axes), self._site(site)
        edges, at = self._bins(FINE_BINS)
        mean = {c: self._power.steps(c, site).mean(edges) for c in ("it_w", "cooling_w", "conversion_loss_w", "other_w")}
        with np.errstate(invalid="ignore", divide="ignore"):
            pue = np.where(mean["it_w"] > 0, np.sum(list(mean.values()), axis=0) / mean["it_w"], np.nan)
        labels = []
        if (y := last_known(pue)) is None:
            nothing_to_show(axes, "no IT power in this run")
        else:
            axes.plot(at, pue, color=style.COMPONENTS[2][2])
            axes.set_ylim(1.0, max(1.02, 1 + (float(np.nanmax(pue)) - 1) * 1.25))
            labels.append((y, f"{y:.3f}", style.COMPONENTS[2][2]))
        self._finish(axes, f"PUE of {site}", "", labels, self._at(site), site=site)
        return axes

    def jobs(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """GPUs of a site by use, stacked: those of instances that serve, those that jobs hold, and idle ones."""
        axes, site = _axes(axes), self._site(site)
        uses = self._summary.get("jobs", {}).get("sites", {}).get(site)
        labels = []
        if uses is None:
            nothing_to_show(axes, "no jobs at this site")
        else:
            edges, at = self._bins(FINE_BINS)
            labels = draw_gpus(axes, self._power.steps("job_gpus", site), uses, edges, at)
        self._finish(axes, "GPUs by use", "", labels, self._at(site), named=True, site=site)
        return axes

    def actions(self, axes: Axes | None = None) -> Axes:
        """What happened and when: a lane for each kind of event, a mark for each moment, darker where there were many."""
        axes = _axes(axes)
        kind, time_s, lanes = self._kinds
        if not lanes:
            nothing_to_show(axes, "nothing happened that was recorded")
        edges, at = self._bins(FINE_BINS)
        labels = []
        for row, label in enumerate(lanes):
            times = time_s[kind.are(label)]
            counts, _ = np.histogram(np.clip(times, 0, self._horizon_s), edges)
            there = counts > 0
            weight = 0.45 + 0.55 * np.log1p(counts[there]) / np.log1p(max(counts.max(), 1))
            colour = style.GROUPS[_group(label)]
            y = np.full(int(there.sum()), -row)
            axes.scatter(at[there], y, marker="|", s=130, c=colour, alpha=weight, linewidths=2.2)
            labels.append((-float(row), f"{len(times):,} ×", style.MUTED))
        if lanes:
            axes.set_yticks([-row for row in range(len(lanes))], [spoken_kind(label) for label in lanes])
            axes.set_ylim(-len(lanes) + 0.4, 0.6)
        axes.grid(visible=bool(lanes), axis="y")
        self._finish(axes, "What was done, and when", "", labels, self._events, ticks=False)
        return axes

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

    def _hatch_storage(self, axes: Axes, site: str, edges: np.ndarray, used_w: np.ndarray, factor: float) -> None:
        """Hatch what battery and generators cover, down from the top of the stack; dot what charges the battery, on top."""
        at = (edges[:-1] + edges[1:]) / 2 / time_unit(self._horizon_s)[0]
        battery_w = self._power.steps("battery_w", site).mean(edges)
        own_w = np.clip(battery_w, 0.0, None) + self._power.steps("generator_w", site).mean(edges)
        charge_w = np.clip(-battery_w, 0.0, None)
        for low_w, high_w, hatch in ((used_w - own_w, used_w, "////"), (used_w, used_w + charge_w, "....")):
            some = high_w - low_w > 0.003 * np.nanmax(used_w, initial=1.0)
            if some.any():
                low, high = low_w / factor, high_w / factor
                axes.fill_between(at, low, high, where=some, fc="none", ec=style.STORAGE, hatch=hatch, linewidth=0)

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


def sites_of(plots: Plots) -> tuple[str, ...]:
    """Sites that can be plotted. (A function, so that `run.plot.` offers plots and nothing else.)"""
    return plots._sites


def rack_rows(plots: Plots, site: str) -> int:
    """Rows that `racks` draws for a site."""
    return len(rack_map(plots._run_dir, site, "die").values)


def element_rows(plots: Plots, site: str) -> int:
    """Rows that `elements` draws for a site."""
    return len(element_map(plots._run_dir, site).values)


def lanes_of(plots: Plots) -> int:
    """Lanes that `actions` draws."""
    return plots._lanes


def _group(kind: str) -> str:
    known = EVENT_KINDS.get(kind)
    return known.group if known else "other"


def _axes(axes: Axes | None, height_in: float = 3.6, left_in: float = PLOT_AREA[0]) -> Axes:
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


def _stack_labels(parts: np.ndarray, names: list[tuple[str, str]]) -> list[tuple[float, str, str]]:
    """Labels at the middle of each layer of a stack at its right edge; layers that are empty throughout get none."""
    tops = np.cumsum(parts[:, -1])
    return [
        (float(top - part[-1] / 2), label, colour)
        for part, top, (label, colour) in zip(parts, tops, names, strict=True)
        if part.any()
    ]


def _thousands(prefix: str) -> str:
    return {"": "", "k": "thousand ", "M": "million ", "G": "billion "}[prefix]
