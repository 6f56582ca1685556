"""How figures look: one palette and one set of matplotlib settings for notebooks and the report.

The colours hold their contrast on white and on near-black, so a figure works in either; the report swaps ink and paper for the
reader's theme by CSS variables (`THEMED`).
"""

from __future__ import annotations

from typing import Any

INK = "#1f2933"
MUTED = "#66727f"
RULE = "#d9dee4"
PAPER = "#fefefe"
EVENT = "#f4e3c1"
TARGET = "#c8352b"
LIMIT = "#66727e"

#: Colours that stand for text, rules and paper rather than for data, and the CSS variable that takes their place in the report.
THEMED = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    EVENT: "--event",
    TARGET: "--target",
    LIMIT: "--limit",
}

#: Parts of a site's power, from the bottom of the stack: column, label, colour.
COMPONENTS = (
    ("gpu_w", "GPUs", "#2f6db3"),
    ("cpu_and_other_it_w", "other IT", "#7fb0e0"),
    ("cooling_w", "cooling", "#2ba39a"),
    ("conversion_loss_w", "conversion losses", "#d99a2b"),
    ("other_w", "building", "#a7a29a"),
)
#: Colours of tiers, in the order of the scenario. Told apart by people who see no red or no green as well (after Okabe and Ito).
TIERS = ("#2f6db3", "#d9792b", "#2b9a77", "#b75a9b", "#8a7a2b", "#5f8fd0", "#c2574b", "#6b7785")
#: Hottest die, coolant from and to the racks: label, colour.
TEMPERATURES = (("hottest GPU", "#cf4b3a"), ("return", "#d99a2b"), ("supply", "#2f7fc1"))
#: The speed of light and what is lost on the way to it: key, label, colour.
LIGHT = (
    ("light", "speed of light", "#2f6db3"),
    ("memory", "memory", "#7fb0e0"),
    ("compute", "arithmetic", "#2ba39a"),
    ("network", "collectives", "#5b5bb5"),
    ("launches", "launches, host", "#d99a2b"),
    ("batching", "small batches", "#cf7a3a"),
    ("clocks", "clocks", "#c2574b"),
    ("drafts", "drafts", "#b75a9b"),
    ("idle", "idle", "#d9dee4"),
)
#: What GPUs are used for: label, colour.
GPU_USES = (("serving", "#2f6db3"), ("jobs", "#d9792b"))
#: What customers pay for, and what they are given back: input, cached input, output, credits.
PAID = ("#2f6db3", "#7fb0e0", "#2ba39a", "#c8352b")
#: Parts of a task's time: key, label, colour, and the ink that can be read on it. What GPUs do is blue, what CPUs do is green.
TASK_PARTS = (
    ("front_end", "front end", "#a7a29a", INK),
    ("queue", "queue", "#c2574b", PAPER),
    ("prefill", "prefill", "#5b5bb5", PAPER),
    ("decode", "decode", "#2f6db3", PAPER),
    ("tool", "tools", "#2b9a77", PAPER),
    ("sandbox_wait", "wait for a sandbox", "#d99a2b", INK),
    ("human", "people", "#d9dee4", INK),
)
#: Sandboxes in use, and tools that wait for one.
SANDBOXES = ("#2b9a77", "#d99a2b")
STORAGE = "#5a3f8f"
FAULT = "#8f1f3c"
#: Flows of energy by what they are.
FLOWS = {
    "source": "#66727f",
    "bus": "#66727f",
    "store": STORAGE,
    "gpu": "#2f6db3",
    "idle": "#b9c2cc",
    "it": "#7fb0e0",
    "cooling": "#2ba39a",
    "loss": "#d99a2b",
    "other": "#a7a29a",
}
#: Colours of events by who caused them.
GROUPS = {
    "grid": TARGET,
    "command": "#5b5bb5",
    "report": "#8a7a2b",
    "plant": "#cf7a3a",
    "serving": "#2f8f83",
    "job": "#b75a9b",
    "other": MUTED,
}

#: matplotlib settings of every figure. `svg.fonttype` none leaves text as text, so that it can be read aloud, searched and
#: themed; a fixed hash salt gives the same file for the same run. (Any, since matplotlib types its keys as literals.)
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "twin",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    # Names come from users' files: a dollar sign in one is no formula.
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


def tier_colour(index: int) -> str:
    """Colour of the tier at `index` in the scenario's order."""
    return TIERS[index % len(TIERS)]
