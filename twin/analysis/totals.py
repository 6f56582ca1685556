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

    Requests and tokens are counted as simulated, one for `represent` real ones; energies, `gpus`, `gpu_busy_s`,
    `gpu_available_s` and `ideal_s` (GPU seconds) are the whole factory's. `requests_arrived` counts every request that
    reached the twin, so that those without a row show as lost. `output_tokens_total` includes what requests still in flight
    have got so far. `warnings` say where the run went outside what its models were made for. `ideal_s` is what the work done
    would have taken with all efficiencies 1: the speed of light.
    """

    scenario: str
    seed: int
    horizon_s: float
    represent: int
    gpus: int
    tiers: dict[str, TierObjectives]
    energy: dict[str, SiteEnergy]
    requests_arrived: int
    output_tokens_total: int
    gpu_busy_s: float
    gpu_available_s: float
    ideal_s: float
    events: tuple[GridEventRecord, ...]
    invariants: dict[str, bool]
    energy_price_usd_per_j: float | None = None
    warnings: tuple[str, ...] = ()
