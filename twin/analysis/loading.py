"""How heavily a run loaded the elements of its electrical chain and its racks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twin.analysis.columns import TableColumns
from twin.errors import InputError


@dataclass(frozen=True, slots=True)
class Loading:
    """Over the run: mean and highest of the recorded loads, in W, and the highest over the rating where there is one."""

    mean_w: float
    peak_w: float
    peak_frac: float | None


def loadings(run_dir: Path, site: str) -> dict[str, Loading]:
    """By element of the chain, by `racks/GROUP`, `feed` (its rating is the contract) and `cooling` (with the building's load).

    Raises InputError for a site that the run does not have.
    """
    power = TableColumns(run_dir, "power")
    rows = power.names("site").are(site)
    if not rows.any():
        raise InputError(f"{run_dir}: no site {site!r} in it: it is a run of another topology")
    found = {}
    table = TableColumns(run_dir, "elements")
    mine, element = table.names("site").are(site), table.names("element")
    time_s, output_w, share = table.numbers("time_s"), table.numbers("output_w"), table.numbers("loading_frac")
    for name in element.labels:
        of_it = mine & element.are(name)
        if of_it.any():
            found[name] = _over(output_w[of_it], time_s[of_it], float(share[of_it].max()))
    ends_s = power.numbers("time_s")[rows]
    meter_w, limit_w = power.numbers("utility_w")[rows], power.numbers("limit_w")[rows]
    found["feed"] = _over(meter_w, ends_s, float((meter_w / limit_w).max()))
    found["cooling"] = _over(power.numbers("cooling_w")[rows] + power.numbers("other_w")[rows], ends_s, None)
    racks = TableColumns(run_dir, "racks")
    rows, rack = racks.names("site").are(site), racks.names("rack")
    ends_s, place = np.unique(racks.numbers("time_s")[rows], return_inverse=True)
    group_of = np.array([label.rsplit("/", 1)[0] for label in rack.labels])
    of_row, it_w = group_of[rack.codes[rows]], racks.numbers("it_w")[rows]
    for group in dict.fromkeys(of_row.tolist()):
        chosen = of_row == group
        found[f"racks/{group}"] = _over(np.bincount(place[chosen], it_w[chosen], len(ends_s)), ends_s, None)
    return found


def _over(watts: np.ndarray, ends_s: np.ndarray, peak_frac: float | None) -> Loading:
    spans_s = np.diff(ends_s, prepend=0.0)
    return Loading(float(np.dot(watts, spans_s) / spans_s.sum()), float(watts.max()), peak_frac)
