"""Two runs side by side: every number of their summaries, the largest relative change first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twin.analysis.leaves import Leaf, is_number, leaves, relative_change

#: Leaves that tell runs apart and measure nothing.
_IDENTITY = ("schema_version", "seed")
#: What is nothing but rounding.
_ROUNDING = "balance_residual_frac"

Difference = dict[str, float | int | None]


def compare_summaries(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Difference]:
    """Path -> {"a", "b", "delta", "delta_frac"} of every numeric leaf of summaries `a` and `b`, worst first.

    `delta` = b - a; `delta_frac` = delta / |a|, None where a is 0 and b is not. A leaf that one run lacks (or has as null) is
    None there, has neither, and stands first; leaves that both lack are left out.
    """
    flat_a, flat_b = _numbers(a), _numbers(b)
    differences = {}
    for path in [*flat_a, *(path for path in flat_b if path not in flat_a)]:
        before, after = flat_a.get(path), flat_b.get(path)
        if before is None or after is None:
            difference: Difference = {"a": before, "b": after, "delta": None, "delta_frac": None}
        else:
            change = relative_change(before, after)
            delta_frac = change if math.isfinite(change) else None
            difference = {"a": before, "b": after, "delta": after - before, "delta_frac": delta_frac}
        differences[path] = difference
    return dict(sorted(differences.items(), key=lambda item: -_weight(item[1])))


def comparison_table(differences: Mapping[str, Difference], unchanged: bool = False) -> str:
    """The differences as a text table with a last line that counts; `unchanged` shows equal leaves too."""
    rows = [
        (path, _said(d["a"]), _said(d["b"]), _signed(d["delta"]), _percent(d))
        for path, d in differences.items()
        if unchanged or d["delta"] != 0
    ]
    same = sum(d["delta"] == 0 for d in differences.values())
    lines = _aligned([("measure", "a", "b", "change", "%"), *rows]) if rows else []
    lines.append(f"{len(differences) - same} measures differ, {same} are the same")
    return "\n".join(lines)


def _numbers(summary: Mapping[str, Any]) -> dict[str, float | int]:
    return {
        path: _number(value)
        for path, value in leaves(summary).items()
        if is_number(value) and path not in _IDENTITY and not path.endswith(_ROUNDING)
    }


def _number(value: Leaf) -> float | int:
    assert isinstance(value, int | float)
    return value


def _weight(difference: Difference) -> float:
    if difference["delta"] is None:
        return math.inf
    if difference["delta_frac"] is None:
        return 1e300
    return abs(difference["delta_frac"])


def _said(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _signed(value: float | int | None) -> str:
    return "-" if value is None else f"{value:+,}" if isinstance(value, int) else f"{value:+,.4g}"


def _percent(difference: Difference) -> str:
    if difference["delta"] is None:
        return "only in " + ("b" if difference["a"] is None else "a")
    return "from 0" if difference["delta_frac"] is None else f"{difference['delta_frac'] * 100:+.2f}"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
