"""The plots of a run's plant: power and energy, racks, the electrical chain, temperatures, clocks, jobs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from twin.analysis import style
from twin.analysis.axes import (
    last_known,
    nothing_to_show,
    time_unit,
)
from twin.analysis.columns import TableColumns
from twin.analysis.energy_flow import energy_flow
from twin.analysis.job_plot import draw_gpus
from twin.analysis.plot_base import FINE_BINS, PlotBase, axes_of, stack_labels
from twin.analysis.rack_map import draw_rack_map, element_map, rack_map, rack_map_height_in
from twin.analysis.sankey import draw_sankey, sankey_height_in
from twin.analysis.series import busiest_unit

_OTHER_LOOPS_MOST = 4


class PlantPlots(PlotBase):
    """Plots of power and heat."""

    def power(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """Where a site's power goes, stacked, with the meter, the feed's limit and the load target. Hatched: covered by battery
        or generators instead of the feed; dotted, on top: charging the battery."""
        axes, site = axes_of(axes), self._site(site)
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
        labels = stack_labels(parts / factor, [(label, colour) for _, label, colour in style.COMPONENTS])
        for values, text, colour in ((draw, "meter", style.INK), (limit, "feed limit", style.LIMIT)):
            if (y := last_known(values)) is not None:
                labels.append((y / factor, text, colour))
        self._name_targets(axes, factor, site)
        self._finish(axes, f"Power of {site}", unit, labels, self._at(site), named=True, site=site)
        return axes

    def energy(self, axes: Axes | None = None) -> Axes:
        """Where the energy of the whole factory went, from the meter to the tokens, as a Sankey diagram."""
        flow = energy_flow(self._run_dir, self._summary)
        axes = axes_of(axes, sankey_height_in(flow))
        draw_sankey(axes, flow)
        return axes

    def racks(self, axes: Axes | None = None, measure: str = "die", site: str | None = None) -> Axes:
        """A heat map by rack and time: "die" (hottest GPU die), "power" (IT power) or "clock" (that heat allows)."""
        site = self._site(site)
        drawn = rack_map(self._run_dir, site, measure)
        axes = axes_of(axes, rack_map_height_in(len(drawn.values)), left_in=1.1)
        if drawn.values.size:
            draw_rack_map(axes, drawn, self._horizon_s)
        else:
            nothing_to_show(axes, "no rack of this site has such a value")
        return axes

    def elements(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """A heat map of the electrical chain: load over rating of each element over time."""
        site = self._site(site)
        drawn = element_map(self._run_dir, site)
        axes = axes_of(axes, rack_map_height_in(len(drawn.values)), left_in=1.1)
        if drawn.values.size:
            draw_rack_map(axes, drawn, self._horizon_s)
        else:
            nothing_to_show(axes, "no element of the chain was recorded")
        return axes

    def temperature(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """Hottest GPU die, and coolant to and from the racks: mean line over the loops that cool GPUs, band from lowest to
        highest. Thin: the return of each other circuit."""
        axes, site = axes_of(axes), self._site(site)
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
        axes = axes_of(axes)
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

    def pue(self, axes: Axes | None = None, site: str | None = None) -> Axes:
        """Power usage effectiveness of a site over time: everything it consumes over its IT power."""
        axes, site = axes_of(axes), self._site(site)
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
        axes, site = axes_of(axes), self._site(site)
        uses = self._summary.get("jobs", {}).get("sites", {}).get(site)
        labels = []
        if uses is None:
            nothing_to_show(axes, "no jobs at this site")
        else:
            edges, at = self._bins(FINE_BINS)
            labels = draw_gpus(axes, self._power.steps("job_gpus", site), uses, edges, at)
        self._finish(axes, "GPUs by use", "", labels, self._at(site), named=True, site=site)
        return axes

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
