"""How a site answered a load target: did the meter come down, how soon, and what it cost in tokens and promises kept.

The meter is `utility_w`, a mean over each step. A step belongs to the event after its ramp if it lies in it wholly. The
reference is the equally long window before the event, or as much of it as the run has (`reference_s`). Goodput counts when a
request finishes, in the whole factory, so that work moved to another site is not called lost; a promise counts in the window
in which its request arrived.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis.columns import TableColumns
from twin.analysis.service import Requests
from twin.analysis.totals import GridEventRecord
from twin.recording import COMMAND_KINDS

#: A meter this far above its target still counts as at the target: rounding, far below what any meter resolves.
TOLERANCE_FRAC = 1e-6
_TIME_ROUNDING_S = 1e-9


class Meter:
    """The power of one site as steps: `start_s`, `end_s`, and means over them."""

    def __init__(self, run_dir: Path, site: str):
        table = TableColumns(run_dir, "power")
        rows = table.names("site").are(site)
        self.end_s = table.numbers("time_s")[rows]
        self.start_s = np.concatenate(([0.0], self.end_s[:-1])) if len(self.end_s) else self.end_s
        self.utility_w = table.numbers("utility_w")[rows]
        self.tokens_per_s = table.numbers("tokens_per_s")[rows]

    def integral(self, values: np.ndarray, start_s: float, end_s: float) -> float:
        """Integral of `values` (steps,) from `start_s` to `end_s`, steps cut where the window cuts them."""
        overlap_s = np.minimum(self.end_s, end_s) - np.maximum(self.start_s, start_s)
        inside = overlap_s > 0
        return math.fsum((values[inside] * overlap_s[inside]).tolist())

    def within(self, start_s: float, end_s: float) -> np.ndarray:
        """Mask of the steps that lie wholly in the window."""
        return (self.start_s >= start_s - _TIME_ROUNDING_S) & (self.end_s <= end_s + _TIME_ROUNDING_S)


def curtailment(
    run_dir: Path, events: tuple[GridEventRecord, ...], requests: Requests, tiers: list[str], horizon_s: float
) -> list[dict[str, Any]]:
    """One entry for each grid event, as in summary.json; measures that the run cannot give are None.

    An event that outlasts the run is judged until the horizon; one that starts after it has no measures at all.
    """
    if not events:
        return []
    meters = {site: Meter(run_dir, site) for site in TableColumns(run_dir, "power").names("site").labels}
    return [_entry(run_dir, event, meters, requests, tiers, horizon_s) for event in events]


def _entry(
    run_dir: Path,
    event: GridEventRecord,
    meters: dict[str, Meter],
    requests: Requests,
    tiers: list[str],
    horizon_s: float,
) -> dict[str, Any]:
    start_s, end_s = event.start_s, min(event.end_s, horizon_s)
    entry: dict[str, Any] = {
        "name": event.name,
        "site": event.site,
        "start_s": event.start_s,
        "end_s": event.end_s,
        "ramp_end_s": event.ramp_end_s,
        "target_w": event.target_w,
    }
    duration_s = max(0.0, end_s - start_s)
    reference_s = min(duration_s, start_s)
    entry["reference_s"] = reference_s
    entry |= _compliance(meters.get(event.site), event, start_s, end_s)
    entry |= _draw(meters, event.site, start_s, end_s, reference_s)
    entry |= _goodput(requests, tiers, start_s, end_s, reference_s)
    entry["actions"] = _actions(run_dir, event, end_s)
    return entry


def _compliance(meter: Meter | None, event: GridEventRecord, start_s: float, end_s: float) -> dict[str, float | None]:
    nothing = {"compliance_frac": None, "time_to_comply_s": None, "overshoot_w_max": None}
    if meter is None or end_s <= start_s:
        return dict(nothing)
    above = meter.utility_w > event.target_w * (1 + TOLERANCE_FRAC)
    held = meter.within(event.ramp_end_s, end_s)
    result: dict[str, float | None] = dict(nothing)
    if held.any():
        step_s = meter.end_s - meter.start_s
        result["compliance_frac"] = math.fsum(step_s[held & ~above].tolist()) / math.fsum(step_s[held].tolist())
        over = held & above
        result["overshoot_w_max"] = float((meter.utility_w[over] - event.target_w).max()) if over.any() else 0.0
    during = np.flatnonzero((meter.end_s > start_s + _TIME_ROUNDING_S) & (meter.start_s < end_s - _TIME_ROUNDING_S))
    if len(during):
        late = during[above[during]]
        if not len(late):
            result["time_to_comply_s"] = 0.0
        elif late[-1] != during[-1]:
            result["time_to_comply_s"] = float(meter.end_s[late[-1]] - start_s)
    return result


def _draw(meters: dict[str, Meter], site: str, start_s: float, end_s: float, reference_s: float) -> dict[str, float | None]:
    """Draw of the site and output tokens of the factory, before and during."""
    result: dict[str, float | None] = dict.fromkeys(
        ("draw_before_w", "draw_during_w", "energy_shed_j", "output_tokens_per_s_before", "output_tokens_per_s_during")
    )
    duration_s = end_s - start_s
    meter = meters.get(site)
    if meter is None or duration_s <= 0:
        return result
    during_j = meter.integral(meter.utility_w, start_s, end_s)
    result["draw_during_w"] = during_j / duration_s
    everyone = list(meters.values())
    result["output_tokens_per_s_during"] = math.fsum(m.integral(m.tokens_per_s, start_s, end_s) for m in everyone) / duration_s
    if reference_s > 0:
        before_w = meter.integral(meter.utility_w, start_s - reference_s, start_s) / reference_s
        result["draw_before_w"] = before_w
        result["energy_shed_j"] = before_w * duration_s - during_j
        tokens = math.fsum(m.integral(m.tokens_per_s, start_s - reference_s, start_s) for m in everyone)
        result["output_tokens_per_s_before"] = tokens / reference_s
    return result


def _goodput(requests: Requests, tiers: list[str], start_s: float, end_s: float, reference_s: float) -> dict[str, Any]:
    before_s = start_s - reference_s
    everyone = np.ones(len(requests.arrival_s), bool)
    came_before = (requests.arrival_s >= before_s) & (requests.arrival_s < start_s)
    came_during = (requests.arrival_s >= start_s) & (requests.arrival_s < end_s)

    by_tier = {}
    for tier in tiers:
        mask = requests.of_tier(tier)
        by_tier[tier] = {
            "goodput_retained_frac": retained_goodput(requests, mask, start_s, end_s, reference_s),
            "slo_attainment_frac_before": requests.attainment_frac(mask & came_before),
            "slo_attainment_frac_during": requests.attainment_frac(mask & came_during),
        }
    whole = retained_goodput(requests, everyone, start_s, end_s, reference_s)
    return {"goodput_retained_frac": whole, "by_tier": by_tier}


def retained_goodput(requests: Requests, mask: np.ndarray, start_s: float, end_s: float, reference_s: float) -> float | None:
    """Goodput of the requests in `mask` from `start_s` to `end_s` over that in the `reference_s` before; None without either."""
    # NaN (not finished) is in no window.
    done_before = (requests.finish_s > start_s - reference_s) & (requests.finish_s <= start_s)
    done_during = (requests.finish_s > start_s) & (requests.finish_s <= end_s)
    before = requests.good_tokens(mask & done_before)
    if not before or end_s <= start_s:
        return None
    return (requests.good_tokens(mask & done_during) / (end_s - start_s)) / (before / reference_s)


def _actions(run_dir: Path, event: GridEventRecord, end_s: float) -> dict[str, dict[str, float]]:
    """Commands of the policy at the event's site from its announcement to its end: how many of each kind, and when first."""
    table = TableColumns(run_dir, "events")
    kind, time_s = table.names("kind"), table.numbers("time_s")
    since_s = event.start_s if event.announced_s is None else event.announced_s
    chosen = table.names("site").are(event.site) & (time_s >= since_s) & (time_s <= end_s)
    actions = {}
    for command in COMMAND_KINDS:
        times = time_s[chosen & kind.are(command)]
        if len(times):
            actions[command] = {"count": len(times), "first_s": float(times.min())}
    return actions
