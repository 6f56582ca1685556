"""A summary against its committed baseline: what is missing, what is new, what moved beyond its tolerance.

Baselines never move by themselves: a change is accepted by a person, who commits the new file.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twin.analysis.leaves import Leaf, is_number, leaves, relative_change


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a leaf that matches `pattern` (shell style, on the dotted path) may move: rel x |baseline| + abs."""

    pattern: str
    rel: float
    abs: float = 0.0


#: First match wins; what matches none, and every text and truth value, must be equal. Counts and identities are listed first
#: so that no later pattern loosens them. Physics gets 1e-6: libraries' exp and log may differ in their last bit between
#: machines.
TOLERANCES = (
    Tolerance("schema_version", 0.0),
    Tolerance("seed", 0.0),
    Tolerance("horizon_s", 0.0),
    Tolerance("requests.*", 0.0),
    Tolerance("service.tiers.*.requests", 0.0),
    Tolerance("service.tiers.*.objectives.*", 0.0),
    Tolerance("hardware.gpus", 0.0),
    Tolerance("curtailment.*.actions.*.count", 0.0),
    # Rounding noise around zero, bounded and not compared; the run itself fails when the balance is off.
    Tolerance("energy.*balance_residual_frac", 0.0, 1e-8),
    Tolerance("curtailment.*.overshoot_w_max", 1e-6, 1e-3),
    Tolerance("curtailment.*.energy_shed_j", 1e-6, 1.0),
    Tolerance("service.*", 1e-6),
    Tolerance("energy.*", 1e-6),
    Tolerance("hardware.*", 1e-6),
    Tolerance("curtailment.*", 1e-6),
    Tolerance("economics.*", 1e-6),
)


@dataclass(frozen=True, slots=True)
class Change:
    """A leaf that is not as in the baseline. `kind` is "missing" (the summary lacks it), "extra" (the baseline does) or
    "changed"; `excess` says how many tolerances it moved, infinite where none is allowed."""

    path: str
    kind: str
    baseline: Leaf
    current: Leaf
    excess: float

    def __str__(self) -> str:
        if self.kind == "missing":
            return f"{self.path}: missing, was {_said(self.baseline)}"
        if self.kind == "extra":
            return f"{self.path}: extra, is {_said(self.current)}, not in the baseline"
        if isinstance(self.baseline, int | float) and isinstance(self.current, int | float) and is_number(self.baseline):
            moved = relative_change(self.baseline, self.current)
            by = f" ({moved * 100:+.4g} %)" if math.isfinite(moved) else ""
            return f"{self.path}: {_said(self.baseline)} -> {_said(self.current)}{by}"
        return f"{self.path}: {_said(self.baseline)} -> {_said(self.current)}"


def check_baseline(
    summary: Mapping[str, Any], baseline: Mapping[str, Any], tolerances: Sequence[Tolerance] = TOLERANCES
) -> list[Change]:
    """What differs from the baseline, worst first: missing, extra, then changed by how many tolerances."""
    now, then = leaves(summary), leaves(baseline)
    changes = [Change(path, "missing", value, None, math.inf) for path, value in then.items() if path not in now]
    changes += [Change(path, "extra", None, value, math.inf) for path, value in now.items() if path not in then]
    moved = [
        Change(path, "changed", value, now[path], excess)
        for path, value in then.items()
        if path in now and (excess := _excess(path, value, now[path], tolerances)) > 1
    ]
    return changes + sorted(moved, key=lambda change: (-change.excess, -_moved(change)))


def _excess(path: str, baseline: Leaf, current: Leaf, tolerances: Sequence[Tolerance]) -> float:
    """How many tolerances a leaf moved; at most 1 passes."""
    if baseline == current and isinstance(baseline, bool) == isinstance(current, bool):
        return 0.0
    if not (is_number(baseline) and is_number(current)):
        return math.inf
    assert isinstance(baseline, int | float)
    assert isinstance(current, int | float)
    tolerance = next((t for t in tolerances if fnmatch.fnmatchcase(path, t.pattern)), None)
    allowed = 0.0 if tolerance is None else tolerance.rel * abs(baseline) + tolerance.abs
    return abs(current - baseline) / allowed if allowed else math.inf


def _moved(change: Change) -> float:
    if isinstance(change.baseline, int | float) and isinstance(change.current, int | float):
        return abs(relative_change(change.baseline, change.current))
    return math.inf


def _said(value: Leaf) -> str:
    if value is None:
        return "null"
    return repr(value) if not isinstance(value, float) else f"{value:.10g}"
