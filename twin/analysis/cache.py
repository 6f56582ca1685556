"""What KV caches found of the input, and what it cost that they did not find more."""

from __future__ import annotations

from typing import Any

import numpy as np

from twin.analysis.service import Requests
from twin.analysis.totals import CacheTotals


def cache(requests: Requests, totals: CacheTotals, tiers: list[str], represent: int) -> dict[str, Any]:
    """The summary's section. Shares are of the input tokens of requests that were admitted; None without any."""
    admitted = ~np.isnan(requests.admitted_s)
    return {
        **_found(requests, admitted, represent),
        "recompute_gpu_s": totals.recompute_gpu_s,
        "recompute_j": totals.recompute_j,
        "evicted_tokens": totals.evicted_tokens,
        "offloaded_tokens": totals.offloaded_tokens,
        "dropped_tokens": totals.dropped_tokens,
        "written_tokens": totals.written_tokens,
        "lost_tokens": totals.lost_tokens,
        "read_back_tokens": totals.read_back_tokens,
        "tiers": {name: _found(requests, admitted & requests.of_tier(name), represent) for name in tiers},
    }


def _found(requests: Requests, mask: np.ndarray, represent: int) -> dict[str, Any]:
    """Shares of the input found in each memory tier, and what a cache without bounds would have found besides."""
    asked, cached, lower, storage, again = (
        int(values[mask].sum())
        for values in (
            requests.input_tokens,
            requests.cached_tokens,
            requests.lower_cached_tokens,
            requests.storage_cached_tokens,
            requests.recomputed_tokens,
        )
    )
    parts = {"hit_frac": cached, "hbm_hit_frac": cached - lower, "host_hit_frac": lower - storage, "storage_hit_frac": storage}
    return {
        "input_tokens": asked * represent,
        **{name: part / asked if asked else None for name, part in parts.items()},
        "recomputed_tokens": again * represent,
        "recomputed_frac": again / asked if asked else None,
    }
