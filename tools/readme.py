"""Refresh the README from two runs of scenarios/curtail_80.yaml: its picture from the first, its numbers from both.

    python tools/readme.py RUN_WITH_LADDER RUN_WITH_UNIFORM_CAP

`make readme` makes the runs as well.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from twin import Run, open_run
from twin.analysis import style
from twin.analysis.axes import label_right, shade_events, time_axis
from twin.analysis.series import RequestSeries, StepTable, bin_edges

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
IMAGE = ROOT / "docs" / "images" / "curtail_80.png"
BIN_S = 30.0
POOL_COLOURS = {"prefill": "#5b5bb5", "decode": "#cf7a3a", "aggregated": "#5b5bb5"}


def draw_power(axes: Axes, run: Run, edges: np.ndarray, at: np.ndarray) -> None:
    """Stacked power of the site, hatched where the battery gives it; the meter, the contract and the target."""
    table = StepTable(run.path, "power")
    site = table.sites[0]
    parts = np.array([table.steps(name, site).mean(edges) / 1e3 for name, _, _ in style.COMPONENTS])
    battery, meter, limit, target = (
        table.steps(name, site).mean(edges) / 1e3 for name in ("battery_w", "utility_w", "limit_w", "target_w")
    )
    total = parts.sum(axis=0)
    contract = float(limit.max())
    axes.stackplot(at, parts, colors=[colour for _, _, colour in style.COMPONENTS], linewidth=0)
    given = np.clip(battery, 0.0, None)
    axes.fill_between(at, total - given, total, where=given > 2, fc="none", ec=style.STORAGE, hatch="//////", linewidth=0)
    axes.plot(at, meter, color=style.INK, linewidth=1.4)
    axes.plot(at, limit, color=style.LIMIT, linestyle=(0, (5, 3)), linewidth=1.3)
    axes.plot(at, target, color=style.TARGET, linewidth=2.6)
    axes.set_ylim(0, 1.16 * contract)
    event = run.summary["curtailment"][0]
    note = f"target {event['target_w'] / 1e3:.0f} kW, kept {100 * event['compliance_frac']:.0f} % of the time"
    middle = (event["start_s"] + event["end_s"]) / 120
    axes.text(middle, 1.1 * contract, note, color=style.TARGET, fontsize=9.5, fontweight="bold", ha="center", va="center")
    usual = parts[:, -3:].mean(axis=1)
    heights = np.cumsum(usual) - usual / 2
    labels = [(float(y), label, colour) for y, (_, label, colour) in zip(heights, style.COMPONENTS, strict=True)]
    labels += [(contract, "contract", style.LIMIT), (0.93 * contract, "meter", style.INK)]
    if (given > 2).any():
        labels.append((1.07 * contract, "battery (hatched)", style.STORAGE))
    label_right(axes, labels)


def draw_clocks(axes: Axes, run: Run) -> None:
    """Mean GPU clock of each pool over its maximum."""
    clocks = run.workers.groupby(["pool", "role", "time_s"], observed=True)["clock_frac"].mean().reset_index()
    labels = []
    for (pool, role), rows in clocks.groupby(["pool", "role"], observed=True):
        percent = 100 * rows["clock_frac"].to_numpy()
        axes.plot(rows["time_s"] / 60, percent, color=POOL_COLOURS[role], linewidth=1.5)
        labels.append((float(percent[-10:].mean()), f"{pool} pool", POOL_COLOURS[role]))
    axes.set_ylim(0, 108)
    label_right(axes, labels)


def draw_tokens(axes: Axes, run: Run, edges: np.ndarray, at: np.ndarray) -> None:
    """Output tokens per second, stacked by tier, the most important at the bottom."""
    series = RequestSeries(run.path, run.summary["horizon_s"])
    tiers = list(run.summary["service"]["tiers"])
    represent = run.summary["requests"]["represent"]
    rates = np.array([series.tokens_per_s(tier, edges) for tier in tiers]) * represent / 1e3
    colours = [style.tier_colour(i) for i in range(len(tiers))]
    axes.stackplot(at, rates, colors=colours, linewidth=0)
    axes.set_ylim(0, 1.1 * float(rates.sum(axis=0).max()))
    usual = rates[:, -6:].mean(axis=1)
    heights = np.cumsum(usual) - usual / 2
    label_right(axes, [(float(y), tier, colour) for y, tier, colour in zip(heights, tiers, colours, strict=True)])


def draw(run: Run, out: Path) -> None:
    """Write the picture of `run` to `out`."""
    horizon_s = run.summary["horizon_s"]
    edges = bin_edges(horizon_s, max(1, round(horizon_s / BIN_S)))
    at = (edges[:-1] + edges[1:]) / 120
    with plt.rc_context(style.SETTINGS):
        figure, panels = plt.subplots(3, 1, figsize=(9.6, 7.4), sharex=True, height_ratios=(2.3, 0.8, 1.1))
        figure.subplots_adjust(left=0.06, right=0.855, top=0.96, bottom=0.065, hspace=0.24)
        draw_power(panels[0], run, edges, at)
        draw_clocks(panels[1], run)
        draw_tokens(panels[2], run, edges, at)
        titles = (
            f"Power of the site, kW (means of {BIN_S:.0f} s)",
            "GPU clock, % of maximum",
            "Output tokens, thousand a second",
        )
        for axes, title in zip(panels, titles, strict=True):
            shade_events(axes, run.summary["curtailment"], horizon_s)
            time_axis(axes, horizon_s, labelled=axes is panels[-1])
            axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=style.INK)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=120, facecolor=style.PAPER, metadata={"Software": None})
        plt.close(figure)


def numbers(summary: dict[str, Any]) -> dict[str, str]:
    """What the README's table says of a run: row heading -> text."""
    event, service, counts = summary["curtailment"][0], summary["service"], summary["requests"]
    comply_s = event["time_to_comply_s"]
    met = ", ".join(f"{100 * tier['slo_attainment_frac']:.1f}" for tier in service["tiers"].values())
    return {
        "draw in the 20 minutes before": f"{event['draw_before_w'] / 1e3:.0f} kW",
        "draw in the event": f"{event['draw_during_w'] / 1e3:.0f} kW",
        "at or below the target after the ramp": f"{100 * event['compliance_frac']:.1f} % of the time",
        "largest overshoot after the ramp": f"{event['overshoot_w_max'] / 1e3:.1f} kW",
        "from the start of the ramp until it stays there": "never" if comply_s is None else f"{comply_s:.0f} s",
        "goodput over the hour": f"{service['goodput_output_tokens_per_s']:,.0f} tokens/s",
        "goodput in the event over its own before": f"{100 * event['goodput_retained_frac']:.1f} %",
        f"promises kept over the hour ({', '.join(service['tiers'])})": f"{met} %",
        "time to first token, median and p99": f"{service['ttft_s']['p50']:.2f}, {service['ttft_s']['p99']:.1f} s",
        "time per output token, median and p99": f"{1e3 * service['tpot_s']['p50']:.1f}, {1e3 * service['tpot_s']['p99']:.1f} ms",
        "calls accepted, lost": f"{counts['total'] - counts['rejected']:,}, {counts['lost']}",
    }


def table(ladder: Run, cap: Run) -> str:
    """The README's table in Markdown."""
    first, second = numbers(ladder.summary), numbers(cap.summary)
    rows = [f"| {name} | {text} | {second[name]} |" for name, text in first.items()]
    return "\n".join(["| | `ladder` | `uniform_cap` |", "|---|---|---|", *rows])


def with_table(text: str, new: str) -> str:
    """The README with its table replaced."""
    block = f"<!-- numbers -->\n{new}\n<!-- end of numbers -->"
    changed, count = re.subn(r"<!-- numbers -->.*?<!-- end of numbers -->", block, text, flags=re.DOTALL)
    if count != 1:
        raise ValueError("the README has no place for its numbers")
    return changed


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", type=Path, help="run of scenarios/curtail_80.yaml")
    parser.add_argument("cap", type=Path, help="the same with --set control.policy=uniform_cap")
    options = parser.parse_args()
    ladder, cap = open_run(options.ladder), open_run(options.cap)
    draw(ladder, IMAGE)
    README.write_text(with_table(README.read_text(encoding="utf-8"), table(ladder, cap)), encoding="utf-8")
    print(f"{IMAGE}\n{README}")


if __name__ == "__main__":
    main()
