"""What the meter of a site peaked at, which is what demand charges and breaches of contract go by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twin.analysis.columns import TableColumns

#: The averaging window of a demand meter, the usual one of US tariffs.
DEMAND_WINDOW_S = 900.0


def peak(run_dir: Path, site: str) -> dict[str, float | None]:
    """`peak_w` is the highest mean over a recorded step, `peak_15min_w` over any 15 minutes (None for a shorter run),
    `over_contract_s` how long recorded steps were above the feed's contract, and `rise_w_per_s_max` and `fall_w_per_s_max` the
    steepest change from one recorded step to the next (None where there is but one). None without rows."""
    table = TableColumns(run_dir, "power")
    rows = table.names("site").are(site)
    end_s, utility_w, limit_w = (table.numbers(name)[rows] for name in ("time_s", "utility_w", "limit_w"))
    if not len(end_s):
        return dict.fromkeys(("peak_w", "peak_15min_w", "over_contract_s", "rise_w_per_s_max", "fall_w_per_s_max"))
    edges_s = np.concatenate(([0.0], end_s))
    lasts_s = np.diff(edges_s)
    energy_j = np.concatenate(([0.0], np.cumsum(utility_w * lasts_s)))
    # The mean over a moving window is piecewise linear in its end: the highest is where an end of it meets a step's.
    ends_s = np.concatenate((edges_s, edges_s + DEMAND_WINDOW_S))
    ends_s = ends_s[(ends_s >= DEMAND_WINDOW_S) & (ends_s <= edges_s[-1])]
    moved_j = np.interp(ends_s, edges_s, energy_j) - np.interp(ends_s - DEMAND_WINDOW_S, edges_s, energy_j)
    # from the middle of a step to the middle of the next
    slopes = np.diff(utility_w) / (0.5 * (lasts_s[1:] + lasts_s[:-1]))
    return {
        "peak_w": float(utility_w.max()),
        "peak_15min_w": float(moved_j.max()) / DEMAND_WINDOW_S if len(ends_s) else None,
        "over_contract_s": float(lasts_s[utility_w > limit_w * (1 + 1e-6)].sum()),
        "rise_w_per_s_max": max(0.0, float(slopes.max())) if len(slopes) else None,
        "fall_w_per_s_max": max(0.0, float(-slopes.min())) if len(slopes) else None,
    }
