"""What a run earned, by tier and by what was paid for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from twin.analysis.service import Requests
from twin.analysis.totals import RunTotals, TierObjectives

#: What is paid for, and what is given back; revenue is their sum.
KINDS = ("input_usd", "cached_input_usd", "output_usd", "credit_usd")


def revenue(requests: Requests, totals: RunTotals) -> dict[str, Any]:
    """`revenue_usd` of answers delivered in the tiers that have a price, `revenue_by_kind` and `revenue_by_tier`; nothing without
    prices. The parts of the tiers add up to the revenue: it is their correctly rounded sum. Credits are negative."""
    tiers = {}
    for name, tier in totals.tiers.items():
        if tier.price_usd_per_million_output is not None or tier.price_usd_per_million_input is not None:
            tiers[name] = _tier(requests, requests.of_tier(name) & requests.finished, tier, totals.represent)
    if not tiers:
        return {}
    return {
        "revenue_usd": math.fsum(tier[kind] for tier in tiers.values() for kind in KINDS),
        "revenue_by_kind": {kind: math.fsum(tier[kind] for tier in tiers.values()) for kind in KINDS},
        "revenue_by_tier": {
            name: {"revenue_usd": math.fsum(tier[kind] for kind in KINDS), **tier} for name, tier in tiers.items()
        },
    }


def _tier(requests: Requests, delivered: np.ndarray, tier: TierObjectives, represent: int) -> dict[str, float]:
    """What the requests `delivered` paid by kind."""
    own, cached = tier.price_usd_per_million_input or 0.0, tier.price_usd_per_million_cached_input
    prices = (own, own if cached is None else cached, tier.price_usd_per_million_output or 0.0)

    def paid(mask: np.ndarray) -> list[float]:
        found = requests.cached_tokens[mask]
        tokens = (requests.input_tokens[mask] - found, found, requests.output_tokens[mask])
        return [price * 1e-6 * int(each.sum()) * represent for price, each in zip(prices, tokens, strict=True)]

    given_back = math.fsum(paid(delivered & ~requests.met)) * tier.credit_frac
    return dict(zip(KINDS, (*paid(delivered), 0.0 - given_back), strict=True))
