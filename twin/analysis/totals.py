"""What the engine knows at the end of a run that the tables do not hold, handed to the summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TierObjectives:
    """What a tier promises and costs; None where it promises or charges nothing. Prices are in USD per million tokens.

    Input found in a cache costs as other input where it has no price. `credit_frac` of a call's price is given back where it
    broke a promise. `task_s` is promised to sessions, the others to requests.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    price_usd_per_million_output: float | None = None
    price_usd_per_million_input: float | None = None
    price_usd_per_million_cached_input: float | None = None
    credit_frac: float = 0.0
    task_s: float | None = None


@dataclass(frozen=True, slots=True)
class ElementEnergy:
    """An element of the electrical chain over the run: what it lost, its highest loading in a step of the plant, how often it
    tripped."""

    kind: str
    loss_j: float
    peak_loading_frac: float
    trips: int


@dataclass(frozen=True, slots=True)
class SiteEnergy:
    """Energy of one site over the run, integrated exactly by the plant; signs as in the power table.

    `shelf_loss_j` is the part of `conversion_loss_j` lost in the racks' power shelves. `balance_residual_frac` is what is
    left of the balance utility + battery + generator = it + cooling + conversion_loss + other, over utility. `water_kg` is what
    cooling used, `free_cooling_s` how long of `span_s` all chillers were off. `fuel_j` is what generators burnt, lower heating
    value, `fuel_l` the liquid part of it; `stores` the content of each store at the end, 0..1. `it_shares_j` add up to `it_j`.
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
    water_kg: float = 0.0
    free_cooling_s: float = 0.0
    span_s: float = 0.0
    fuel_j: float = 0.0
    fuel_l: float = 0.0
    stores: Mapping[str, float] = field(default_factory=dict)
    it_shares_j: dict[str, float] = field(default_factory=dict)


#: What keeps GPUs from the speed of light: losses of `PoolTime`, in the order of reports.
LOSSES = ("memory", "compute", "network", "launches", "batching", "clocks", "drafts", "idle")


@dataclass(frozen=True, slots=True)
class PoolTime:
    """GPU seconds of a pool, and what it made of them. `gpus` are those it has at the end.

    `light_s` is what the work done takes at the speed of light: every efficiency 1, no overheads, batches as large as arithmetic
    needs. `lost_s` is what came on top, by cause (`LOSSES`); with it, that adds up to `available_s`. In `down_s` instances could
    not work: hardware had failed, or they were starting again. `phases` are GPU seconds and joules by what the GPUs did:
    `prefill` (steps with prompts alone), `mixed`, `decode`, `idle`.
    """

    gpus: int
    available_s: float
    light_s: float
    lost_s: dict[str, float]
    output_tokens: float
    prompt_tokens: float
    down_s: float = 0.0
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    tdp_w: float | None = None


@dataclass(frozen=True, slots=True)
class CacheTotals:
    """What became of KV that no sequence used, over all instances and sites, as much as the simulated ones stand for.

    Tokens that HBM gave up: `evicted` as others needed the room, `offloaded` and `dropped` by a policy between turns. Tokens that
    went down to lower tiers (`written`), that these had no time for (`lost`), and that came back up (`read_back`); those of
    preempted sequences among them. `recompute_gpu_s` and `recompute_j`: GPU time and energy of prompts computed once more.
    """

    evicted_tokens: int = 0
    offloaded_tokens: int = 0
    dropped_tokens: int = 0
    written_tokens: int = 0
    lost_tokens: int = 0
    read_back_tokens: int = 0
    recompute_gpu_s: float = 0.0
    recompute_j: float = 0.0


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
class FaultRecord:
    """Units of a component that failed from `start_s` to `end_s`, the horizon at most; `cause` is scheduled or drawn."""

    name: str
    site: str
    component: str
    units: int
    start_s: float
    end_s: float
    cause: str


@dataclass(frozen=True, slots=True)
class SiteHardware:
    """What of a site can be down: its racks with GPUs ("GROUP/INDEX"), and its instances with their GPUs."""

    racks: tuple[str, ...]
    instances: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SiteGpus:
    """GPUs of a site, and how many of them belong to instances that serve; the rest is there for jobs."""

    gpus: int
    serving: int


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Totals of a run.

    Requests and tokens are counted as simulated, one for `represent` real ones; energies and `pools` are the whole factory's.
    `requests_arrived` counts every request that reached the twin, so that those without a row show as lost.
    `output_tokens_total` includes what requests still in flight have got so far. `planner_moves` counts instances that a planner
    moved between pools, None without one, `job_sites` the sites that have jobs. `sandboxes` are those of all sites in which
    tools run: infinite where tools never wait, None where nothing is said of tools. `warnings` say where the run went outside
    what its models were made for. `tenants` are those of the scenario, by name, with what each is owed; `token_weights` what an
    input and an output token count in what a tenant is served. `hardware` is what `faults` can take down, by site;
    `elements` are those of each site's electrical chain, by name.
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
    cache: CacheTotals = CacheTotals()
    planner_moves: int | None = None
    job_sites: dict[str, SiteGpus] = field(default_factory=dict)
    sandboxes: float | None = None
    warnings: tuple[str, ...] = ()
    tenants: Mapping[str, float] = field(default_factory=dict)
    token_weights: tuple[float, float] = (1.0, 2.0)
    faults: tuple[FaultRecord, ...] = ()
    hardware: Mapping[str, SiteHardware] = field(default_factory=dict)
    elements: Mapping[str, Mapping[str, ElementEnergy]] = field(default_factory=dict)
