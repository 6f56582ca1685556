"""What becomes of contexts between turns, and what that buys at the same HBM: runs scenarios/agents_kv.yaml under each policy.

    python tools/kv_between_turns.py

Draws docs/images/kv_between_turns.svg and writes the table of docs/kv_between_turns.md; a few minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from twin.analysis import style
from twin.engine import run_scenario
from twin.schema import load_scenario

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = ROOT / "scenarios" / "agents_kv.yaml"
IMAGE = ROOT / "docs" / "images" / "kv_between_turns.svg"
PAGE = ROOT / "docs" / "kv_between_turns.md"
_TABLE = re.compile(r"(<!-- figures -->\n)(.*?)(<!-- end of figures -->)", re.DOTALL)

BLOCK_TOKENS = 64
#: Room in HBM, in blocks; the table has the middle one.
ROOMS = (10_000, 20_000, 40_000, 60_000, 80_000, 120_000)
OF_TABLE = 40_000
#: Rates of each GPU's link to host memory in GB/s, at a room so small that links matter.
LINKS = (0.5, 1.0, 2.0, 4.0, 10.0)
LINK = 100.0
OF_LINKS = 20_000


class Way(NamedTuple):
    """A policy with or without host memory, and how it is drawn."""

    label: str
    turns: dict[str, Any]
    host: bool
    colour: str
    line: Any
    width: float = 1.7


WAYS = (
    Way("keep, no tier below", {"policy": "keep"}, False, style.TIERS[6], "-"),
    Way("drop at once, no tier below", {"policy": "drop"}, False, style.TIERS[6], ":"),
    Way("predict, no tier below", {"policy": "predict"}, False, style.TIERS[6], (0, (5, 2))),
    Way("keep, host memory below", {"policy": "keep"}, True, style.TIERS[0], "-", 4.0),
    Way("offload at once", {"policy": "offload"}, True, style.TIERS[1], ":"),
    Way("offload after 5 s", {"policy": "offload", "after": "5 s"}, True, style.TIERS[1], (0, (5, 2))),
    Way("offload after 30 s", {"policy": "offload", "after": "30 s"}, True, style.TIERS[1], "-"),
    Way("predict, host memory below", {"policy": "predict"}, True, style.TIERS[2], "-"),
)


def summary(way: Way, blocks: int, link_gb_per_s: float, folder: Path) -> dict[str, Any]:
    """The summary of a run of the scenario that way."""
    host = {"capacity": "120 GB", "bandwidth": f"{link_gb_per_s:g} GB/s"} if way.host else None
    cache = {"block_tokens": BLOCK_TOKENS, "host": host, "between_turns": way.turns}
    loaded = load_scenario(SCENARIO, {"serving.kv_cache": cache, "serving.pools.0.kv_blocks": blocks})
    place = folder / f"{WAYS.index(way)}-{blocks}-{link_gb_per_s:g}"
    print(f"{way.label}, {blocks * BLOCK_TOKENS / 1e6:.1f} M tokens, {link_gb_per_s:g} GB/s", file=sys.stderr)
    return run_scenario(loaded, place).summary


def draw(by_room: dict[tuple[str, int], dict[str, Any]], by_link: dict[tuple[str, float], dict[str, Any]]) -> None:
    """Input found, time to first token and answers over the room in HBM; recomputation over the rate of the link."""
    rooms = [blocks * BLOCK_TOKENS / 1e6 for blocks in ROOMS]
    with rc_context(style.SETTINGS):
        figure = Figure(figsize=(10.5, 7.4), layout="constrained", facecolor=style.PAPER)
        (found, answers), (first, again) = figure.subplots(2, 2)
        for way in WAYS:
            seen = [by_room[way.label, blocks] for blocks in ROOMS]
            look: Any = {"color": way.colour, "linestyle": way.line, "linewidth": way.width, "label": way.label}
            found.plot(rooms, [each["cache"]["hit_frac"] for each in seen], **look)
            answers.plot(rooms, [each["service"]["output_tokens_per_s"] for each in seen], **look)
            first.plot(rooms, [each["service"]["ttft_s"]["p90"] for each in seen], **look)
            if way.host:
                linked = [by_link[way.label, link] for link in LINKS]
                again.plot(LINKS, [each["cache"]["recomputed_frac"] for each in linked], **look)
        for axes in (found, answers, first):
            _logarithmic(axes, rooms, "{:.2g}")
            axes.set_xlabel("room for contexts in HBM (million tokens)")
        _logarithmic(again, LINKS, "{:g}")
        again.set_xlabel("link to host memory (GB/s for each GPU)")
        found.set_title("Input found in a cache", loc="left", fontsize=10)
        found.yaxis.set_major_formatter(PercentFormatter(1.0))
        found.set_ylim(0, 1)
        answers.set_title("Output tokens/s", loc="left", fontsize=10)
        answers.set_ylim(bottom=0)
        first.set_title("Time to first token, 90th percentile (s)", loc="left", fontsize=10)
        first.set_yscale("log")
        first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        again.set_title(
            f"Input computed once more, with {OF_LINKS * BLOCK_TOKENS / 1e6:.1f} M tokens of HBM", loc="left", fontsize=10
        )
        again.yaxis.set_major_formatter(PercentFormatter(1.0))
        again.set_ylim(bottom=0)
        handles, labels = found.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        figure.savefig(IMAGE, format="svg", metadata={"Date": None})


def _logarithmic(axes: Axes, ticks: Any, form: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def table(by_room: dict[tuple[str, int], dict[str, Any]]) -> str:
    """The figures at the middle room, as Markdown."""
    lines = [
        "| between turns | found | in HBM | in host memory | computed once more | GPU-s for that | down + up, M tokens | "
        "TTFT p50 / p90 | tokens/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        each = by_room[way.label, OF_TABLE]
        cache, service = each["cache"], each["service"]
        ttft = service["ttft_s"]
        lines.append(
            f"| {way.label} | {cache['hit_frac']:.1%} | {cache['hbm_hit_frac']:.1%} | {cache['host_hit_frac']:.1%} | "
            f"{cache['recomputed_frac']:.1%} | {cache['recompute_gpu_s']:,.0f} | "
            f"{cache['written_tokens'] / 1e6:.0f} + {cache['read_back_tokens'] / 1e6:.0f} | "
            f"{ttft['p50']:.2f} / {ttft['p90']:.2f} s | {service['output_tokens_per_s']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything, draw, and write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        by_room = {(way.label, blocks): summary(way, blocks, LINK, folder) for way in WAYS for blocks in ROOMS}
        below = [way for way in WAYS if way.host]
        by_link = {(way.label, link): summary(way, OF_LINKS, link, folder / "links") for way in below for link in LINKS}
    draw(by_room, by_link)
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_TABLE.sub(lambda found: found[1] + table(by_room) + found[3], text), encoding="utf-8")


if __name__ == "__main__":
    main()
