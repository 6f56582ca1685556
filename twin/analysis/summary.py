"""summary.json: what a run came to, in numbers that repeat to the byte.

Windows: every rate is over the whole horizon and the whole factory (scaled by `represent`); counts under `requests` are rows
as simulated, with `represent` beside them. Output tokens count when they are generated, requests in flight included; goodput
counts the output of requests that finished and met every objective of their tier; input counts when its first token is out. A
measure without a single value is null, never zero.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis.cache import cache
from twin.analysis.columns import TableColumns
from twin.analysis.curtailment import curtailment
from twin.analysis.fairness import BINS, backlogged, fairness, service_of
from twin.analysis.faults import SiteDowns, availability, faults
from twin.analysis.hardware import hardware
from twin.analysis.jobs import jobs
from twin.analysis.money import revenue
from twin.analysis.peak import peak
from twin.analysis.service import LATENCIES, Requests, distribution, task_attainment_frac
from twin.analysis.tasks import tasks
from twin.analysis.totals import RunTotals, SiteEnergy
from twin.recording import SUMMARY_VERSION, tables

_COOLING = ("water_kg", "free_cooling_s", "span_s")
_ENERGIES = ("utility_j", "it_j", "cooling_j", "conversion_loss_j", "shelf_loss_j", "battery_j", "generator_j", "other_j")
_FUEL = ("fuel_j", "fuel_l")


def summarise(run_dir: Path, totals: RunTotals) -> dict[str, Any]:
    """The summary of the run whose closed tables stand in `run_dir`. Raises InputError if a table is missing."""
    requests = Requests(run_dir, totals.tiers, totals.horizon_s)
    counts = _counts(run_dir, requests, totals)
    summary: dict[str, Any] = {
        "schema_version": SUMMARY_VERSION,
        "scenario": totals.scenario,
        "seed": totals.seed,
        "horizon_s": totals.horizon_s,
        "requests": counts,
        "service": _service(run_dir, requests, totals),
        "cache": cache(requests, totals.cache, list(totals.tiers), totals.represent),
        "tasks": tasks(run_dir, list(totals.tiers), totals.horizon_s, totals.represent, totals.sandboxes),
        "energy": _energy(run_dir, totals),
        "hardware": hardware(totals),
        "curtailment": curtailment(run_dir, totals.events, requests, list(totals.tiers), totals.horizon_s),
        **_reliability(run_dir, requests, totals),
        **({"jobs": jobs(run_dir, totals.job_sites, totals.horizon_s)} if totals.job_sites else {}),
        "economics": _economics(requests, totals),
        "warnings": list(totals.warnings),
        "invariants": {"nothing_lost": counts["lost"] == 0, **totals.invariants},
    }
    return summary


def _reliability(run_dir: Path, requests: Requests, totals: RunTotals) -> dict[str, Any]:
    """Faults, and what was there in spite of them; nothing where nothing failed or went down."""
    hardware, records = totals.hardware, totals.faults
    downs = {name: SiteDowns(run_dir, name, site, records, totals.horizon_s) for name, site in hardware.items()}
    if not records and not any(down.events for down in downs.values()):
        return {}
    return {
        "faults": faults(records, downs, requests, totals.horizon_s),
        "availability": availability(hardware, downs, totals.horizon_s),
    }


def _counts(run_dir: Path, requests: Requests, totals: RunTotals) -> dict[str, Any]:
    counts = {outcome: int(np.count_nonzero(requests.outcome.are(outcome))) for outcome in tables.OUTCOMES}
    lost = totals.requests_arrived - sum(counts.values())
    represent = {"represent": totals.represent, "sampling_error_frac": sampling_error_frac(run_dir, totals.represent)}
    reasons = {name: requests.reason.are(name) for name in tables.REFUSALS}
    rejections = {
        name: {tier: n for tier in totals.tiers if (n := int(np.count_nonzero(mask & requests.of_tier(tier))))}
        for name, mask in reasons.items()
        if mask.any()
    }
    return {"total": totals.requests_arrived, **counts, "lost": lost, **represent, "rejections": rejections}


def sampling_error_frac(run_dir: Path, represent: int) -> float | None:
    """Relative standard error of the factory's token rate that comes from simulating one session in `represent`; 0 for all.

    A rate scaled up from a random one in n has the variance (n - 1) times the sum over all sessions of tokens squared
    (Horvitz and Thompson 1952), estimated from those simulated: sqrt((n - 1) / n) sqrt(sum t^2) / sum t. None without tokens.
    """
    if represent == 1:
        return 0.0
    tokens = TableColumns(run_dir, "sessions").integers("tokens").astype(float)
    total = float(tokens.sum())
    return math.sqrt((represent - 1) / represent * float((tokens**2).sum())) / total if total else None


def _service(run_dir: Path, requests: Requests, totals: RunTotals) -> dict[str, Any]:
    everyone = np.ones(len(requests.arrival_s), bool)
    service = _group(requests, everyone, totals, totals.output_tokens_total)
    service["tiers"] = {}
    for name, objectives in totals.tiers.items():
        mask = requests.of_tier(name)
        tier = _group(requests, mask, totals, int(requests.output_tokens[mask].sum()))
        tier["requests"] = int(np.count_nonzero(mask))
        tier["objectives"] = {measure: getattr(objectives, measure) for measure in (*LATENCIES, "task_s")}
        tier["attainment_frac"] = {
            **requests.attainment_by_objective(name, objectives),
            "task_s": task_attainment_frac(run_dir, name, objectives.task_s, totals.horizon_s),
        }
        service["tiers"][name] = tier
    if totals.tenants or requests.tenant.labels:
        service.update(_tenants(requests, totals))
    return service


def _tenants(requests: Requests, totals: RunTotals) -> dict[str, Any]:
    """The service keys of each tenant, those of the scenario first, and how fair they were served beside each other."""
    edges = np.linspace(0.0, totals.horizon_s, BINS + 1)
    per_input, per_output = totals.token_weights
    tenants, service, waits = {}, {}, {}
    for name in dict.fromkeys([*totals.tenants, *sorted(requests.tenant.labels)]):
        mask, weight = requests.tenant.are(name), totals.tenants.get(name, 1.0)
        tenants[name] = _group(requests, mask, totals, int(requests.output_tokens[mask].sum()))
        tenants[name].update(requests=int(np.count_nonzero(mask)), weight=weight)
        mask &= ~requests.outcome.are("rejected")
        first_s, finish_s = requests.first_token_s[mask], requests.finish_s[mask]
        service[name] = service_of(
            requests.admitted_s[mask],
            (requests.input_tokens - requests.cached_tokens)[mask] * (per_input / weight),
            first_s,
            np.where(np.isnan(finish_s), totals.horizon_s, finish_s),
            requests.output_tokens[mask] * (per_output / weight),
            edges,
        )
        admitted_s = requests.admitted_s[mask]
        waits[name] = backlogged(requests.arrival_s[mask], np.where(np.isnan(admitted_s), np.inf, admitted_s), edges)
    return {"tenants": tenants, "fairness": fairness(service, waits, totals.horizon_s / BINS)}


def _group(requests: Requests, mask: np.ndarray, totals: RunTotals, output_tokens: int) -> dict[str, Any]:
    """The service keys of the requests in `mask`, which generated `output_tokens` (as simulated)."""
    scale = totals.represent / totals.horizon_s
    read = mask & ~np.isnan(requests.latency["ttft_s"])
    return {
        "output_tokens_per_s": output_tokens * scale,
        "input_tokens_per_s": int(requests.input_tokens[read].sum()) * scale,
        "goodput_output_tokens_per_s": requests.good_tokens(mask) * scale,
        **_cached(requests, mask & ~np.isnan(requests.admitted_s)),
        **{name: distribution(requests.latency[name][mask]) for name in LATENCIES},
        "slo_attainment_frac": requests.attainment_frac(mask),
    }


def _cached(requests: Requests, admitted: np.ndarray) -> dict[str, float | None]:
    """Share of the prompt tokens of admitted requests that were found in a cache, and that came from below HBM."""
    asked = int(requests.input_tokens[admitted].sum())
    return {
        "cached_input_frac": _ratio(int(requests.cached_tokens[admitted].sum()), asked),
        "lower_cached_input_frac": _ratio(int(requests.lower_cached_tokens[admitted].sum()), asked),
    }


def _energy(run_dir: Path, totals: RunTotals) -> dict[str, Any]:
    sites = list(totals.energy.values())
    whole = SiteEnergy(
        **{name: math.fsum(getattr(site, name) for site in sites) for name in (*_ENERGIES, *_COOLING, *_FUEL)},
        stores={},
        balance_residual_frac=max((abs(site.balance_residual_frac) for site in sites), default=0.0),
        it_shares_j={
            share: math.fsum(site.it_shares_j[share] for site in sites) for share in (sites[0].it_shares_j if sites else ())
        },
    )
    energy = _site_energy(whole)
    # Per joule consumed, not per joule bought: a battery that ends emptier than it began must not flatter the factory.
    tokens = totals.output_tokens_total * totals.represent
    energy["output_tokens_per_j"] = _ratio(tokens, _consumed_j(whole))
    energy["output_tokens_per_s_per_mw"] = _ratio(tokens * 1e6, _consumed_j(whole))
    energy["sites"] = {
        name: {
            **_site_energy(site),
            **({"stores": dict(site.stores)} if site.stores else {}),
            **peak(run_dir, name),
            "elements": _elements(totals, name),
        }
        for name, site in totals.energy.items()
    }
    return energy


def _elements(totals: RunTotals, site: str) -> dict[str, Any]:
    """By element of the site's electrical chain: `kind`, `loss_j`, `peak_loading_frac`, `trips`."""
    return {name: asdict(element) for name, element in totals.elements.get(site, {}).items()}


def _site_energy(energy: SiteEnergy) -> dict[str, Any]:
    """Energies with PUE = all that the site consumed / IT energy. `pue` takes IT at the rack's DC bus, so the shelves' losses are
    overhead; `pue_iso` takes it at the rack's AC inlet, where ISO/IEC 30134-2 puts the meter, so they are IT.
    `wue_l_per_kwh` is ISO/IEC 30134-9's water usage effectiveness, with a kilogram for a litre and IT at the DC bus."""
    return {
        **{name: getattr(energy, name) for name in _ENERGIES},
        "pue": _ratio(_consumed_j(energy), energy.it_j),
        "pue_iso": _ratio(_consumed_j(energy), energy.it_j + energy.shelf_loss_j),
        "balance_residual_frac": energy.balance_residual_frac,
        "ppue_cooling": _partial(energy, energy.cooling_j),
        "ppue_conversion": _partial(energy, energy.conversion_loss_j),
        "ppue_other": _partial(energy, energy.other_j),
        "water_l": energy.water_kg,
        "wue_l_per_kwh": _ratio(energy.water_kg * 3.6e6, energy.it_j),
        "free_cooling_frac": _ratio(energy.free_cooling_s, energy.span_s),
        **{name: getattr(energy, name) for name in _FUEL},
        "it_shares_j": dict(energy.it_shares_j),
        "smoothing_waste_j": _smoothing_j(energy),
    }


def _partial(energy: SiteEnergy, part_j: float) -> float | None:
    """Partial PUE: what PUE would be if nothing but this part came on top of IT; the parts less 1 add up to PUE less 1."""
    return _ratio(energy.it_j + part_j, energy.it_j)


def _smoothing_j(energy: SiteEnergy) -> float:
    """What GPUs burnt to smooth their power; conversion and cooling come on top of it."""
    return energy.it_shares_j.get("smoothing", 0.0)


def _consumed_j(energy: SiteEnergy) -> float:
    return math.fsum((energy.it_j, energy.cooling_j, energy.conversion_loss_j, energy.other_j))


def _economics(requests: Requests, totals: RunTotals) -> dict[str, Any]:
    """Revenue from answers delivered in the tiers that have a price; cost of the energy drawn where it has one."""
    economics = revenue(requests, totals)
    if totals.energy_price_usd_per_j is not None:
        cost_usd = math.fsum(site.utility_j for site in totals.energy.values()) * totals.energy_price_usd_per_j
        economics["energy_cost_usd"] = cost_usd
        if waste_j := math.fsum(_smoothing_j(site) for site in totals.energy.values()):
            economics["smoothing_waste_usd"] = waste_j * totals.energy_price_usd_per_j
        economics["usd_per_million_output_tokens"] = _ratio(cost_usd * 1e6, totals.output_tokens_total * totals.represent)
    return economics


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
