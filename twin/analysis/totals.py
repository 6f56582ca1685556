"""What the engine knows at the end of a run that the tables do not hold, handed to the summary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TierObjectives:
    """What a tier promises and costs; None where it promises or charges nothing. Prices are in USD per million tokens."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    price_usd_per_million_output: float | None = None
    price_usd_per_million_input: float | None = None


@dataclass(frozen=True, slots=True)
class SiteEnergy:
    """Energy of one site over the run, integrated exactly by the plant; signs as in the power table.

    `shelf_loss_j` is the part of `conversion_loss_j` lost in the racks' power shelves. `balance_residual_frac` is what is
    left of the balance utility + battery + generator = it + cooling + conversion_loss + other, over utility.
    """

    utility_j: float
    it_j: float
    cooling_j: float
    conversion_loss_j: float
    shelf_loss_j: float
    battery_j: float
    generator_j: float
    other_j: float
    balance_residual_frac: float


#: What keeps GPUs from the speed of light: losses of `PoolTime`, in the order of reports.
LOSSES = ("memory", "compute", "network", "launches", "batching", "clocks", "drafts", "idle")


@dataclass(frozen=True, slots=True)
class PoolTime:
    """GPU seconds of a pool, and what it made of them. `gpus` are those it has at the end.

    `light_s` is what the work done takes at the speed of light: every efficiency 1, no overheads, batches as large as arithmetic
    needs. `lost_s` is what came on top, by cause (`LOSSES`); with it, that adds up to `available_s`.
    """

    gpus: int
    available_s: float
    light_s: float
    lost_s: dict[str, float]
    output_tokens: float
    prompt_tokens: float


@dataclass(frozen=True, slots=True)
class GridEventRecord:
    """A load target as it was in force at one site. `ramp_end_s` is when the target is due, `announced_s` when the site
    first heard of it (None: at its start)."""

    name: str
    site: str
    start_s: float
    end_s: float
    ramp_end_s: float
    target_w: float
    announced_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Totals of a run.

    Requests and tokens are counted as simulated, one for `represent` real ones; energies and `pools` are the whole factory's.
    `requests_arrived` counts every request that reached the twin, so that those without a row show as lost.
    `output_tokens_total` includes what requests still in flight have got so far. `planner_moves` counts instances that a planner
    moved between pools, None without one. `sandboxes` are those of all sites in which tools run: infinite where tools never
    wait, None where nothing is said of tools. `warnings` say where the run went outside what its models were made for.
    """

    scenario: str
    seed: int
    horizon_s: float
    represent: int
    tiers: dict[str, TierObjectives]
    energy: dict[str, SiteEnergy]
    requests_arrived: int
    output_tokens_total: int
    pools: dict[str, PoolTime]
    events: tuple[GridEventRecord, ...]
    invariants: dict[str, bool]
    energy_price_usd_per_j: float | None = None
    planner_moves: int | None = None
    sandboxes: float | None = None
    warnings: tuple[str, ...] = ()
