"""The plots of a run, the same in a notebook and in the report. Each draws into matplotlib Axes and returns them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from twin.analysis import style
from twin.analysis.axes import (
    last_known,
    nothing_to_show,
)
from twin.analysis.energy_flow import energy_flow
from twin.analysis.plant_plots import PlantPlots
from twin.analysis.plot_base import COARSE_BINS, FINE_BINS, axes_of, group_of, stack_labels, thousands
from twin.analysis.rack_map import element_map, rack_map
from twin.analysis.sankey import sankey_height_in
from twin.analysis.series import busiest_unit
from twin.analysis.story import spoken_kind
from twin.analysis.task_plot import draw_sandboxes, draw_split
from twin.errors import InputError, did_you_mean

_PROMISES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "call", "task_s": "task", "all": "all"}
_PAID = {"input_usd": "input", "cached_input_usd": "cached input", "output_usd": "output", "credit_usd": "given back"}
_LATENCY = {"ttft_s": "Time to first token", "tpot_s": "Time per output token"}


class Plots(PlantPlots):
    """Plots of the run in `run_dir` with its `summary`. Every method takes the Axes to draw into, or makes its own figure."""

    def tokens(self, axes: Axes | None = None) -> Axes:
        """Output tokens a second by tier, stacked, the whole factory."""
        axes = axes_of(axes)
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
        labels = stack_labels(rates / factor, list(zip(self._tiers, colours, strict=True)))
        axes.set_ylim(0, float(rates.sum(axis=0).max()) / factor * 1.1)
        self._finish(axes, "Output tokens by tier", f"{thousands(unit)}tokens/s", labels, self._events)
        return axes

    def latency(self, axes: Axes | None = None, measure: str = "ttft_s") -> Axes:
        """Median (solid) and 95th percentile (thin) of "ttft_s" or "tpot_s" by tier, objectives dotted."""
        if measure not in _LATENCY:
            raise InputError(f"no latency {measure!r} to plot{did_you_mean(measure, _LATENCY)}")
        axes = axes_of(axes)
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

    def light(self, axes: Axes | None = None) -> Axes:
        """GPU time of each pool: what the work takes at the speed of light, and what was lost where."""
        axes = axes_of(axes)
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
        axes = axes_of(axes)
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
        axes = axes_of(axes)
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
        axes = axes_of(axes)
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
        axes = axes_of(axes)
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
        axes = axes_of(axes)
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

    def actions(self, axes: Axes | None = None) -> Axes:
        """What happened and when: a lane for each kind of event, a mark for each moment, darker where there were many."""
        axes = axes_of(axes)
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
            colour = style.GROUPS[group_of(label)]
            y = np.full(int(there.sum()), -row)
            axes.scatter(at[there], y, marker="|", s=130, c=colour, alpha=weight, linewidths=2.2)
            labels.append((-float(row), f"{len(times):,} ×", style.MUTED))
        if lanes:
            axes.set_yticks([-row for row in range(len(lanes))], [spoken_kind(label) for label in lanes])
            axes.set_ylim(-len(lanes) + 0.4, 0.6)
        axes.grid(visible=bool(lanes), axis="y")
        self._finish(axes, "What was done, and when", "", labels, self._events, ticks=False)
        return axes


def sites_of(plots: Plots) -> tuple[str, ...]:
    """Sites that can be plotted. (A function, so that `run.plot.` offers plots and nothing else.)"""
    return plots._sites


def energy_height_in(plots: Plots) -> float:
    """The height that the drawing of a run's energy needs."""
    return sankey_height_in(energy_flow(plots._run_dir, plots._summary))


def rack_rows(plots: Plots, site: str) -> int:
    """Rows that `racks` draws for a site."""
    return len(rack_map(plots._run_dir, site, "die").values)


def element_rows(plots: Plots, site: str) -> int:
    """Rows that `elements` draws for a site."""
    return len(element_map(plots._run_dir, site).values)


def lanes_of(plots: Plots) -> int:
    """Lanes that `actions` draws."""
    return plots._lanes
