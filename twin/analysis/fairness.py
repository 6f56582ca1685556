"""What each tenant was served while it and others had to wait: the measures of fairness that schedulers are compared by.

Service of a tenant is what it is charged for: prompt tokens computed (when admitted) and tokens generated (evenly from the first
to the last), weighted, over the tenant's weight. A tenant is backlogged in a bin of time if one of its requests waits throughout.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from twin.analysis.series import ramp

#: Bins of a run over which service and backlog are summed.
BINS = 720
#: Tenants among which gaps are sought: pairs grow with their square.
MOST_COMPARED = 64


def service_of(
    admitted_s: np.ndarray, prompt: np.ndarray, first_s: np.ndarray, last_s: np.ndarray, output: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    """What requests were served in each bin (bins,): `prompt` at `admitted_s`, `output` evenly from `first_s` to `last_s`, both
    weighted; times are NaN where they have not come."""
    there = ~np.isnan(admitted_s)
    served, _ = np.histogram(admitted_s[there], edges, weights=prompt[there])
    begun = ~np.isnan(first_s)
    first_s, output = first_s[begun], output[begun]
    last_s = np.maximum(last_s[begun], first_s + 1e-6)
    rate = output / (last_s - first_s)
    return served + np.maximum(np.diff(ramp(first_s, rate, edges) - ramp(last_s, rate, edges)), 0.0)


def backlogged(arrival_s: np.ndarray, admitted_s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bins (bins,) throughout which a request waits; `admitted_s` is infinite for one that waits to the end."""
    order = np.argsort(arrival_s, kind="stable")
    begin_s, end_s = arrival_s[order], np.maximum.accumulate(admitted_s[order])
    result = np.zeros(len(edges) - 1, bool)
    if not len(begin_s):
        return result
    # Waits that touch are one: a new one begins where a request comes after all before it have been admitted.
    fresh = np.concatenate(([True], begin_s[1:] > end_s[:-1]))
    starts_s, ends_s = begin_s[fresh], end_s[np.concatenate((fresh[1:], [True]))]
    place = np.searchsorted(starts_s, edges[:-1], side="right") - 1
    inside = place >= 0
    result[inside] = ends_s[place[inside]] >= edges[1:][inside]
    return result


def fairness(service: Mapping[str, np.ndarray], waits: Mapping[str, np.ndarray], bin_s: float) -> dict[str, float | None]:
    """Of tenants' service and backlog by bin: Jain's index and the largest gap; None where no two were ever backlogged together.

    `jain_index` is (sum x)^2 / (n sum x^2) of x, the service a second of each tenant over the time in which it and another were
    backlogged: 1 is fair, 1/n is all for one (Jain et al. 1984). `largest_gap` is the largest difference between what two tenants
    were served in any span throughout which both were backlogged (Sheng et al. 2024), of the tenants served most.
    """
    names = list(service)
    if not names:
        return {"jain_index": None, "largest_gap": None}
    waiting = np.array([waits[name] for name in names])
    served = np.array([service[name] for name in names])
    contested = waiting & (waiting.sum(axis=0) > 1)
    spans_s = contested.sum(axis=1) * bin_s
    there = spans_s > 0
    if np.count_nonzero(there) < 2:
        return {"jain_index": None, "largest_gap": None}
    x = (served * contested).sum(axis=1)[there] / spans_s[there]
    jain = float(x.sum() ** 2 / (len(x) * (x**2).sum())) if x.any() else None
    chosen = sorted(np.flatnonzero(there), key=lambda i: -served[i].sum())[:MOST_COMPARED]
    gap = 0.0
    for place, i in enumerate(chosen):
        for j in chosen[:place]:
            gap = max(gap, _largest_swing(served[i] - served[j], waiting[i] & waiting[j]))
    return {"jain_index": jain, "largest_gap": gap}


def _largest_swing(difference: np.ndarray, both: np.ndarray) -> float:
    """Largest absolute sum of consecutive differences within a run of bins in `both`."""
    high = low = largest = 0.0
    for value, inside in zip(difference.tolist(), both.tolist(), strict=True):
        high, low = (max(0.0, high + value), min(0.0, low + value)) if inside else (0.0, 0.0)
        largest = max(largest, high, -low)
    return largest
