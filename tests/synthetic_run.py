"""A small run directory written by the product's own writer, with numbers that a reader can check by hand; and a busier one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis import GridEventRecord, PoolTime, RunTotals, SiteEnergy, TierObjectives, summarise
from twin.analysis.totals import LOSSES
from twin.recording import RunDirectory

HOUR_S = 3600.0


def request_row(
    request_id: int,
    tier: str,
    arrival_s: float,
    first_token_s: float | None,
    finish_s: float | None,
    output_tokens: int,
    outcome: str = "completed",
    input_tokens: int = 100,
    site: str = "main",
    tenant: str | None = None,
) -> tuple[Any, ...]:
    """A row of the requests table with the latencies that follow from its times."""
    ttft_s = None if first_token_s is None else first_token_s - arrival_s
    done = first_token_s is not None and finish_s is not None
    tpot_s = (finish_s - first_token_s) / (output_tokens - 1) if done and output_tokens > 1 else None  # type: ignore[operator]
    e2e_s = None if finish_s is None else finish_s - arrival_s
    worker = None if first_token_s is None else "w0"
    # fmt: off
    return (
        request_id, request_id, None, 0, site, tier, arrival_s, first_token_s, first_token_s, finish_s, input_tokens, 0,
        output_tokens, worker, worker, outcome, ttft_s, tpot_s, e2e_s, 1.0, 0, 0, tenant,
        "memory" if outcome == "rejected" else None, 0, 0, 0,
    )
    # fmt: on


SHARES = {"gpu_core": 0.75, "memory": 0.125, "cpu": 0.05} | dict.fromkeys(
    ("nic", "nvswitch", "fabric_switch", "optic", "fan", "rest"), 0.0125
)


def it_shares_j(it_j: float) -> dict[str, float]:
    """IT energy by share, as `power_row` has its power."""
    return {name: share * it_j for name, share in (SHARES | {"cpu_racks": 0.0, "smoothing": 0.0}).items()}


def power_row(
    time_s: float,
    utility_w: float,
    target_w: float | None = None,
    tokens_per_s: float = 10.0,
    site: str = "main",
    battery_w: float = 0.0,
) -> tuple[Any, ...]:
    """A row of the power table that balances: of what is consumed 80 % is IT, 10 % cooling, 6 % losses (half of them in the
    shelves), 4 % building."""
    used_w = utility_w + battery_w
    # fmt: off
    return (
        time_s, site, utility_w, 0.8 * used_w, 0.1 * used_w, 0.06 * used_w, battery_w, 0.0, 1200.0, target_w, 0.5,
        0.04 * used_w, 0.03 * used_w, 0.7 * used_w, 0.1 * used_w, tokens_per_s,
        0.0, 0.0, None, 0.0,
        0.6 * used_w, 0.1 * used_w, 0.04 * used_w, *[0.01 * used_w] * 6, 0.0, 0.0,
    )
    # fmt: on


def lost(**seconds: float) -> dict[str, float]:
    """GPU seconds lost by cause, 0 where not given."""
    return dict.fromkeys(LOSSES, 0.0) | seconds


def small_totals(**changes: Any) -> RunTotals:
    """Totals that go with `write_small_run`: 1000 J from the feed, 800 of them in IT."""
    given: dict[str, Any] = {
        "scenario": "by_hand",
        "seed": 7,
        "horizon_s": 40.0,
        "represent": 2,
        "tiers": {
            "chat": TierObjectives(ttft_s=1.0, tpot_s=0.1, price_usd_per_million_output=10.0, price_usd_per_million_input=1.0),
            "batch": TierObjectives(e2e_s=30.0),
        },
        "energy": {
            "main": SiteEnergy(
                utility_j=1000.0,
                it_j=800.0,
                cooling_j=100.0,
                conversion_loss_j=60.0,
                shelf_loss_j=30.0,
                battery_j=0.0,
                generator_j=0.0,
                other_j=40.0,
                balance_residual_frac=0.0,
                it_shares_j=it_shares_j(800.0),
            )
        },
        "requests_arrived": 8,
        "output_tokens_total": 120,
        "pools": {
            "prefill": PoolTime(4, 160.0, 20.0, lost(network=20.0, launches=20.0, idle=100.0), 0.0, 1000.0),
            "decode": PoolTime(4, 160.0, 60.0, lost(memory=20.0, batching=20.0, idle=60.0), 240.0, 0.0),
        },
        "events": (GridEventRecord("peak", "main", 20.0, 40.0, 24.0, 800.0, announced_s=10.0),),
        "invariants": {"energy_balanced": True},
        "energy_price_usd_per_j": 0.001,
    }
    return RunTotals(**(given | changes))


SMALL_REQUESTS = (
    request_row(0, "chat", 0.0, 0.5, 1.5, 11),  # met: ttft 0.5, tpot 0.1
    request_row(1, "chat", 2.0, 4.0, 5.0, 21),  # ttft 2.0: missed
    request_row(2, "chat", 10.0, 10.5, 10.5, 1),  # met: one token has no tpot
    request_row(3, "chat", 21.0, 21.5, 22.5, 11),  # met, in the event
    request_row(4, "batch", 5.0, 6.0, 15.0, 40, "moved"),  # met: e2e 10
    request_row(5, "batch", 5.0, 20.0, None, 30, "in_flight"),  # e2e 35 > 30 at the horizon: missed
    request_row(6, "batch", 30.0, None, None, 0, "in_flight"),  # not judged yet
    request_row(7, "chat", 25.0, None, None, 0, "rejected"),  # missed
)


def write_small_run(final: Path, totals: RunTotals | None = None) -> dict[str, Any]:
    """Forty seconds in 2 s steps: 1000 W until 20, then 900, 850 and 800 W at a target of 800 W from 20 to 40 s."""
    totals = totals or small_totals()
    with RunDirectory.create(final) as run:
        for row in SMALL_REQUESTS:
            run.writer("requests").append(row)
        for i in range(20):
            end_s = 2.0 * (i + 1)
            utility_w = 1000.0 if end_s <= 20 else {22.0: 900.0, 24.0: 850.0}.get(end_s, 800.0)
            run.writer("power").append(power_row(end_s, utility_w, 800.0 if end_s > 20 else None, 10.0 if end_s <= 20 else 8.0))
        for time_s, kind in (
            (5.0, "set_cap"),
            (12.0, "hold_tier"),
            (21.0, "set_cap"),
            (23.0, "set_cap"),
        ):
            run.writer("events").append((time_s, "main", kind, "pool decode", '{"cap_w": 900.0}'))
        run.writer("events").append((20.0, "main", "target_start", "peak", "target in force"))
        return finish(run, totals)


def finish(run: RunDirectory, totals: RunTotals) -> dict[str, Any]:
    """Close the tables, summarise, commit."""
    run.close_tables()
    summary = summarise(run.path, totals)
    run.write_json("summary.json", summary)
    run.write_json(
        "manifest.json", {"version": "0.1.0", "inputs": {"scenario.yaml": "sha256:0f"}, "wall_s": 1.5, "status": "done"}
    )
    run.commit()
    return summary


def write_busy_run(
    final: Path, requests: int = 4000, sites: tuple[str, ...] = ("main",), with_event: bool = True, horizon_s: float = HOUR_S
) -> dict[str, Any]:
    """A run like a real one: three tiers (one without a finished request), power and heat each second, an event."""
    random = np.random.default_rng(1)
    start_s, ramp_end_s, end_s = horizon_s / 3, horizon_s / 3 + 300, horizon_s * 2 / 3
    tiers = {
        "interactive": TierObjectives(2.0, 0.05, None, 12.0, 2.0),
        "agents": TierObjectives(8.0, 0.1, None, 8.0, 1.0),
        "batch": TierObjectives(e2e_s=7200.0),
    }
    tokens = 0
    with RunDirectory.create(final) as run:
        for i in range(requests):
            arrival_s = horizon_s * i / requests
            slow = 1.6 if with_event and start_s < arrival_s < end_s else 1.0
            tier = ("interactive", "agents", "agents", "batch")[i % 4]
            first_s = arrival_s + float(random.lognormal(-0.8, 0.5)) * slow * (3 if tier == "agents" else 1)
            output = int(random.integers(1, 900))
            finish_s: float | None = first_s + 0.02 * slow * float(random.uniform(0.8, 1.3)) * (output - 1)
            if tier == "batch" or (finish_s is not None and finish_s > horizon_s):
                finish_s = None
            started = first_s < horizon_s
            tokens += output if started else 0
            outcome = "completed" if finish_s is not None else "in_flight"
            row = (first_s, finish_s, output) if started else (None, None, 0)
            run.writer("requests").append(request_row(i, tier, arrival_s, *row, outcome, 3000, sites[i % len(sites)]))
        for second in range(1, int(horizon_s) + 1):
            for n, site in enumerate(sites):
                in_event = with_event and n == 0 and start_s < second <= end_s
                ramp = min(max((second - start_s) / (ramp_end_s - start_s), 0.0), 1.0) if in_event else 0.0
                used_w = 920e3 + 12e3 * math.sin(second / 40) - 135e3 * ramp - 8e3 * float(random.random())
                target_w = 800e3 if in_event else None
                fixed = power_row(float(second), used_w, target_w, 40e3 * used_w / 920e3, site)
                run.writer("power").append((*fixed[:8], 1e6, *fixed[9:]))
                run.writer("thermal").append((float(second), site, "air", 24.0, 36.0, 3.0, 40e3, None, 0.0, 0.0, 2e3, 0.0, 0.0))
                for loop in ("cdu-0", "cdu-1"):
                    die_c = 62 + (used_w - 8e5) / 9e3 + (loop == "cdu-1") * 2
                    run.writer("thermal").append(
                        (float(second), site, loop, 30.0, 41.0 + used_w / 5e5, 22.0, used_w / 2, die_c, 0.0, 5e3, 0.0, 0.0, 0.0)
                    )
        if with_event:
            events = run.writer("events")
            events.append((start_s - 600, sites[0], "target_announced", "summer_peak", '{"target_w": 800000.0}'))
            events.append((start_s, sites[0], "target_start", "summer_peak", '{"target_w": 800000.0}'))
            for step in range(60):
                events.append((start_s + 5.0 * step, sites[0], "set_cap", "decode", f'{{"cap_w": {1100 - 5 * step}}}'))
            events.append((start_s + 20, sites[0], "hold_tier", "batch", ""))
            events.append((end_s, sites[0], "target_lifted", "summer_peak", ""))
            for step in range(40):
                events.append((end_s + 5.0 * step, sites[0], "set_clock", "decode", ""))
        record = GridEventRecord("summer_peak", sites[0], start_s, end_s, ramp_end_s, 800e3, start_s - 600)
        one = SiteEnergy(3.1e9, 2.48e9, 3.1e8, 1.86e8, 9.3e7, 0.0, 0.0, 1.24e8, 1e-16, it_shares_j=it_shares_j(2.48e9))
        totals = RunTotals(
            scenario="curtail_80",
            seed=1,
            horizon_s=horizon_s,
            represent=40,
            tiers=tiers,
            energy=dict.fromkeys(sites, one),
            requests_arrived=requests,
            output_tokens_total=tokens,
            pools={
                "all": PoolTime(
                    gpus=576,
                    available_s=576 * horizon_s,
                    light_s=0.3 * 576 * horizon_s,
                    lost_s=lost(memory=0.5 * 576 * horizon_s, idle=0.2 * 576 * horizon_s),
                    output_tokens=float(tokens),
                    prompt_tokens=0.0,
                )
            },
            events=(record,) if with_event else (),
            invariants={"energy_balanced": True, "sessions_conserved": True},
            energy_price_usd_per_j=60 / 3.6e9,
        )
        return finish(run, totals)


def read_json(path: Path) -> Any:
    """The JSON document at `path`."""
    return json.loads(path.read_text(encoding="utf-8"))
