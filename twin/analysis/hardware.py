"""How far GPUs ran from the speed of light, and what was lost where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from twin.analysis.totals import LOSSES, PoolTime, RunTotals


def hardware(totals: RunTotals) -> dict[str, Any]:
    """The `hardware` of a summary: the whole factory's, and under `pools` each pool's.

    `availability_frac` is the share of the time of GPUs with instances for which these could work; all other shares are of that.
    `speed_of_light_frac` is what the work done takes at the speed of light, over the time that GPUs were there; with the losses
    of `lost_frac` it adds up to 1. `bound_output_tokens_per_s` is the rate at which the same mix would come out at that speed.
    Where a planner moves instances between pools, `planner_moves` counts them; a pool's `gpus` are those at the end, and its
    shares are of the time that it had each.
    A pool's `phases` tell what its GPUs drew in steps with prompts alone (`prefill`), with prompts and decoding sequences
    (`mixed`), with decoding sequences alone (`decode`), and idle.
    """
    pools = list(totals.pools.values())
    return {
        "gpus": sum(pool.gpus for pool in pools),
        **_shares(pools, totals.horizon_s),
        **({} if totals.planner_moves is None else {"planner_moves": totals.planner_moves}),
        "pools": {
            name: {"gpus": pool.gpus, **_shares([pool], totals.horizon_s), "phases": _phases(pool)}
            for name, pool in totals.pools.items()
        },
    }


def _phases(pool: PoolTime) -> dict[str, dict[str, float | None]]:
    """By what the pool's GPUs did: GPU seconds, joules, mean watts of a GPU, and these over its TDP; null where it never did."""
    found: dict[str, dict[str, float | None]] = {}
    for phase, (gpu_s, energy_j) in pool.phases.items():
        gpu_w = energy_j / gpu_s if gpu_s > 0 else None
        tdp_frac = None if gpu_w is None or pool.tdp_w is None else gpu_w / pool.tdp_w
        found[phase] = {"gpu_s": gpu_s, "energy_j": energy_j, "gpu_w": gpu_w, "tdp_frac": tdp_frac}
    return found


def _shares(pools: Sequence[PoolTime], horizon_s: float) -> dict[str, Any]:
    available_s = math.fsum(pool.available_s for pool in pools)
    light_s = math.fsum(pool.light_s for pool in pools)
    lost_frac = {cause: math.fsum(pool.lost_s[cause] for pool in pools) / available_s for cause in LOSSES}
    frac = light_s / available_s
    shares: dict[str, Any] = {"gpu_busy_frac": 1.0 - lost_frac["idle"], "speed_of_light_frac": frac, "lost_frac": lost_frac}
    for name in ("output_tokens", "prompt_tokens"):
        rate = math.fsum(getattr(pool, name) for pool in pools) / horizon_s
        shares[f"{name}_per_s"] = rate
        shares[f"bound_{name}_per_s"] = rate / frac if frac else None
    shares["availability_frac"] = available_s / (available_s + math.fsum(pool.down_s for pool in pools))
    return shares
