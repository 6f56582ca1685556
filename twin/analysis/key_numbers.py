"""The numbers a reader looks for first, with units: for the report's tiles and tables and for `twin summary`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from twin.units import format_duration, format_si


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of texts; the first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_NONE = "–"

#: Tenants in a table; the others are in summary.json.
_MOST_TENANTS = 12

#: Faults in a table; the others are in summary.json.
_MOST_FAULTS = 12

#: Causes of lost GPU time in words, in the order in which they are told.
LOST = {
    "memory": "memory below its peak rate",
    "compute": "arithmetic below its peak rate",
    "network": "collectives",
    "launches": "launches and host work",
    "batching": "batches too small, ranks waiting",
    "clocks": "clocks below the highest",
    "drafts": "drafts refused",
    "idle": "idle",
}

#: Parts of a task's time in words, in the order in which they come.
_TASK_PARTS = {
    "front_end": "Front end",
    "queue": "Queue",
    "prefill": "Prefill",
    "decode": "Decode",
    "tool": "Tools",
    "sandbox_wait": "Wait for a sandbox",
    "human": "People",
}


def tiles(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(value, unit, what it is) of the headline numbers."""
    energy, service, events = summary["energy"], summary["service"], summary["curtailment"]
    found = [
        _split(service["goodput_output_tokens_per_s"], "", "goodput, output tokens/s"),
        _split(_mean_w(summary), "W", "mean draw from the feed"),
        (_fixed(energy["pue"], 3), "", "PUE"),
        _split(energy["output_tokens_per_s_per_mw"], "", "output tokens/s per MW"),
        (_percent(service["slo_attainment_frac"]), "", "of requests met every promise"),
    ]
    judged = [event["compliance_frac"] for event in events if event["compliance_frac"] is not None]
    if judged:
        found.append(
            (_percent(min(judged)), "", "of event time at or below target" + (" (worst event)" if len(judged) > 1 else ""))
        )
    return found


def key_numbers(summary: dict[str, Any]) -> list[Table]:
    """Tables of key numbers: tiers, tasks where a session is more than a call, energy, requests and hardware, events, money where
    there are prices."""
    tables = [
        _tiers(summary),
        *(_tasks(summary) if has_tasks(summary) else ()),
        _energy(summary),
        _requests(summary),
        _light(summary),
    ]
    if summary["curtailment"]:
        tables.append(_events(summary))
    if "availability" in summary:
        tables.append(_availability(summary))
    if summary.get("faults"):
        tables.append(_faults(summary["faults"]))
    if "jobs" in summary:
        tables.append(_jobs(summary["jobs"]))
    tables += _who(summary)
    if summary["economics"]:
        said = {
            "revenue_usd": "Revenue",
            "energy_cost_usd": "Energy cost",
            "smoothing_waste_usd": "of it burnt to smooth power",
            "usd_per_million_output_tokens": "Energy cost per million output tokens",
        }
        money = summary["economics"]
        rows = tuple((said.get(key, key), _money(value)) for key, value in money.items() if not isinstance(value, dict))
        tables.append(Table("Money", ("", "USD"), rows))
        if "revenue_by_tier" in money:
            tables.append(_revenue(money))
    return tables


def summary_text(summary: dict[str, Any]) -> str:
    """The key numbers as text for a terminal."""
    lines = [f"{summary['scenario']}, seed {summary['seed']}, {format_duration(summary['horizon_s'])}"]
    for table in key_numbers(summary):
        lines += ["", table.title]
        rows = [table.header, *table.rows] if any(table.header[1:]) else list(table.rows)
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
        lines += [
            "  " + "  ".join(_pad(cell, width, i) for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
            for row in rows
        ]
    broken = [name for name, held in summary["invariants"].items() if not held]
    lines += [
        "",
        f"invariants: {'BROKEN ' + ', '.join(broken) if broken else 'all ' + str(len(summary['invariants'])) + ' hold'}",
    ]
    return "\n".join(lines)


def _pad(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)


def _availability(summary: dict[str, Any]) -> Table:
    there = summary["availability"]
    named = ((name, there["sites"][name]) for name in there["sites"])
    rows = [*named, *([("all", there)] if len(there["sites"]) > 1 else [])]
    keys = ("racks_frac", "instances_frac", "racks_min_frac", "instances_min_frac")
    cells = tuple((name, *(_percent(row.get(key)) for key in keys)) for name, row in rows)
    return Table("Availability", ("", "racks", "instances", "fewest racks", "fewest instances"), cells)


def _faults(faults: list[dict[str, Any]]) -> Table:
    """The faults that cost most, in order of time; the others are in summary.json."""
    cost = {fault["name"]: 1.0 if fault["goodput_retained_frac"] is None else fault["goodput_retained_frac"] for fault in faults}
    worst = sorted(faults, key=lambda fault: (-fault["instances_down_max"], cost[fault["name"]]))[:_MOST_FAULTS]
    title = "Faults" if len(worst) == len(faults) else f"Faults (the worst {len(worst)} of {len(faults):,})"
    rows = tuple(
        (
            fault["name"],
            fault["component"] + (f" x {fault['units']}" if fault["units"] > 1 else ""),
            _seconds(fault["start_s"]),
            _seconds(fault["end_s"] - fault["start_s"]),
            str(fault["racks_down_max"]),
            str(fault["instances_down_max"]),
            _percent(fault["goodput_retained_frac"]),
        )
        for fault in sorted(worst, key=lambda fault: fault["start_s"])
    )
    return Table(title, ("", "what", "at", "for", "racks down", "instances down", "goodput retained"), rows)


def _tiers(summary: dict[str, Any]) -> Table:
    header = (
        "",
        "requests",
        "met",
        "goodput, tok/s",
        "output, tok/s",
        "TTFT p50",
        "p99",
        "per token p50",
        "p99",
        "end to end p50",
        "p99",
    )
    service = summary["service"]
    groups = list(service["tiers"].items())
    if len(groups) != 1:
        groups.append(("all", service | {"requests": summary["requests"]["total"]}))
    rows = tuple(
        (
            name,
            f"{g['requests']:,}",
            _percent(g["slo_attainment_frac"]),
            _count(g["goodput_output_tokens_per_s"]),
            _count(g["output_tokens_per_s"]),
            *(_seconds(g[measure][q]) for measure in ("ttft_s", "tpot_s", "e2e_s") for q in ("p50", "p99")),
        )
        for name, g in groups
    )
    return Table("Service by tier", header, rows)


def has_tasks(summary: dict[str, Any]) -> bool:
    """Whether sessions are more than their only calls."""
    found = summary.get("tasks")
    return found is not None and ("tools" in found or (found["calls"]["mean"] or 0) > 1)


def _tasks(summary: dict[str, Any]) -> list[Table]:
    found = summary["tasks"]
    groups = list(found["tiers"].items())
    if len(groups) != 1:
        groups.append(("all", found))
    counts = ("tasks", "completed", "failed", "abandoned", "going on")
    header = ("", *counts, "in time", "completed in p50", "p90", "p50 of all", "calls", "output tokens")
    rows = tuple(
        (
            name,
            *(f"{g[key]:,}" for key in ("total", "completed", "failed", "abandoned", "in_flight")),
            _percent(g["deadline_attainment_frac"]),
            *(_seconds(g["completion_s"][q]) for q in ("p50", "p90")),
            _seconds(g["time_to_end_s"]["p50"]),
            *(_count(g[key]["mean"]) for key in ("calls", "output_tokens")),
        )
        for name, g in groups
    )
    names = tuple(name for name, _ in groups)
    split = [(said, *(_seconds(g["split_s"][key]) for _, g in groups)) for key, said in _TASK_PARTS.items()]
    split.append(("Completion time", *(_seconds(g["completion_s"]["mean"]) for _, g in groups)))
    tables = [Table("Tasks by tier", header, rows), Table("Time of a completed task, mean", ("", *names), tuple(split))]
    in_flight = found["sessions_in_flight"]
    more = [
        ("Sessions in flight, mean", _count(in_flight["mean"])),
        ("Sessions in flight, most", _count(in_flight["max"])),
        ("Calls dropped by joins", f"{found['calls_dropped']:,}"),
        ("Output tokens of those who had left", f"{found['tokens_unread']:,}"),
    ]
    if (tools := found.get("tools")) is not None:
        more += [
            ("Sandboxes", "no limit" if tools["sandboxes"] is None else f"{tools['sandboxes']:,}"),
            ("Sandboxes in use, mean", _count(tools["sandboxes_busy"])),
            ("Use of sandboxes", _percent(tools["utilisation_frac"])),
            ("Tool runs", f"{tools['runs']:,}"),
            ("Tool runs failed", f"{tools['outcomes']['failed']:,}"),
            ("Wait for a sandbox, p50", _seconds(tools["wait_s"]["p50"])),
            ("Wait for a sandbox, p95", _seconds(tools["wait_s"]["p95"])),
        ]
    return [*tables, Table("Sessions and tools", ("", ""), tuple(more))]


def _energy(summary: dict[str, Any]) -> Table:
    sites = summary["energy"]["sites"]
    columns = list(sites.items()) if len(sites) == 1 else [*sites.items(), ("all", summary["energy"])]
    said = (
        ("utility_j", "From the feed"),
        ("battery_j", "From the battery, net"),
        ("generator_j", "From generators"),
        ("it_j", "IT equipment"),
        ("cooling_j", "Cooling"),
        ("conversion_loss_j", "Conversion losses"),
        ("other_j", "Building"),
    )
    rows = [(text, *(_energy_said(site[key]) for _, site in columns)) for key, text in said]
    for key, text in (("peak_w", "Peak of the meter"), ("peak_15min_w", "Highest 15 minutes")):
        rows.append((text, *(_watts(site[key]) if key in site else "" for _, site in columns)))
    over = "Time above the contract"
    rows.append((over, *(_seconds(site["over_contract_s"]) if "over_contract_s" in site else "" for _, site in columns)))
    rows.append(("PUE (IT at the DC bus)", *(_fixed(site["pue"], 4) for _, site in columns)))
    rows.append(("PUE (IT at the rack inlet)", *(_fixed(site["pue_iso"], 4) for _, site in columns)))
    rows.append(("Balance residual", *(f"{site['balance_residual_frac']:.1e}" for _, site in columns)))
    return Table("Energy", ("", *(name for name, _ in columns)), tuple(rows))


def _requests(summary: dict[str, Any]) -> Table:
    requests, hardware, energy = summary["requests"], summary["hardware"], summary["energy"]
    rows = [
        (key.replace("_", " ").capitalize(), f"{requests[key]:,}")
        for key in ("total", "completed", "moved", "in_flight", "rejected", "lost")
    ]
    rows.append(("Real requests each stands for", f"{requests['represent']:,}"))
    rows += [
        ("GPUs", f"{hardware['gpus']:,}"),
        ("GPU time busy", _percent(hardware["gpu_busy_frac"])),
        ("Prompt tokens found in a cache", _percent(summary["service"]["cached_input_frac"])),
        ("Output tokens per joule", _fixed(energy["output_tokens_per_j"], 4)),
    ]
    return Table("Requests and hardware", ("", ""), tuple(rows))


def _who(summary: dict[str, Any]) -> Iterator[Table]:
    """What each promise came to by tier, who was refused and why, and what each tenant got."""
    service, rejections = summary["service"], summary["requests"]["rejections"]
    tiers = service["tiers"]
    promises = ("ttft_s", "TTFT"), ("tpot_s", "per token"), ("e2e_s", "call"), ("task_s", "task")
    rows = tuple((name, *(_percent(tier["attainment_frac"][key]) for key, _ in promises)) for name, tier in tiers.items())
    yield Table("Promises kept, each alone", ("", *(spoken for _, spoken in promises)), rows)
    if rejections:
        rows = tuple(
            (reason.replace("_", " "), *(f"{counts.get(tier, 0):,}" for tier in tiers)) for reason, counts in rejections.items()
        )
        yield Table("Calls rejected", ("", *tiers), rows)
    if "tenants" in service:
        tenants = sorted(service["tenants"].items(), key=lambda item: -item[1]["output_tokens_per_s"])
        rows = tuple(
            (
                name,
                f"{tenant['requests']:,}",
                _count(tenant["output_tokens_per_s"]),
                _seconds(tenant["ttft_s"]["p50"]),
                _seconds(tenant["ttft_s"]["p99"]),
            )
            for name, tenant in tenants[:_MOST_TENANTS]
        )
        left = f", {_MOST_TENANTS} of {len(tenants)}" if len(tenants) > _MOST_TENANTS else ""
        yield Table(f"Service by tenant{left}", ("", "requests", "output, tok/s", "TTFT p50", "p99"), rows)


def _revenue(money: dict[str, Any]) -> Table:
    """Revenue by tier and by what was paid for; the last row is their sum."""
    kinds = ("input_usd", "input"), ("cached_input_usd", "cached input"), ("output_usd", "output"), ("credit_usd", "credits")
    tiers = list(money["revenue_by_tier"].items())
    if len(tiers) != 1:
        tiers.append(("all", {**money["revenue_by_kind"], "revenue_usd": money["revenue_usd"]}))
    rows = tuple((name, *(_money(tier[key]) for key, _ in kinds), _money(tier["revenue_usd"])) for name, tier in tiers)
    return Table("Revenue by tier, USD", ("", *(spoken for _, spoken in kinds), "in all"), rows)


def _light(summary: dict[str, Any]) -> Table:
    """How far from the speed of light each pool ran, and what was lost where; a column a pool."""
    hardware = summary["hardware"]
    pools = list(hardware["pools"].items())
    columns = pools if len(pools) == 1 else [*pools, ("all", hardware)]
    rows = [
        ("GPUs", *(f"{c['gpus']:,}" for _, c in columns)),
        ("Output, tok/s", *(_count(c["output_tokens_per_s"]) for _, c in columns)),
        ("at the speed of light", *(_count(c["bound_output_tokens_per_s"]) for _, c in columns)),
        ("Prompts, tok/s", *(_count(c["prompt_tokens_per_s"]) for _, c in columns)),
        ("at the speed of light", *(_count(c["bound_prompt_tokens_per_s"]) for _, c in columns)),
        ("Speed of light reached", *(_percent(c["speed_of_light_frac"]) for _, c in columns)),
    ]
    rows += [(f"Lost: {LOST[cause]}", *(_percent(c["lost_frac"][cause]) for _, c in columns)) for cause in LOST]
    return Table("GPU time against the speed of light", ("", *(name for name, _ in columns)), tuple(rows))


def _events(summary: dict[str, Any]) -> Table:
    events = summary["curtailment"]
    said = (
        ("site", "Site", str),
        ("target_w", "Target", _watts),
        ("draw_before_w", "Mean draw before", _watts),
        ("draw_during_w", "Mean draw in the event", _watts),
        ("compliance_frac", "Time at or below target, after the ramp", _percent),
        ("time_to_comply_s", "Time to comply", _seconds),
        ("overshoot_w_max", "Largest overshoot after the ramp", _watts),
        ("energy_shed_j", "Energy shed", _energy_said),
        ("goodput_retained_frac", "Goodput retained", _percent),
    )
    rows = tuple((text, *(form(event[key]) for event in events)) for key, text, form in said)
    return Table("Grid events", ("", *(event["name"] for event in events)), rows)


def _jobs(jobs: dict[str, Any]) -> Table:
    """What came of the work that can wait; a column a kind."""
    kinds = list(jobs["kinds"].items())
    columns = kinds if len(kinds) == 1 else [*kinds, ("all", jobs)]
    rows: list[tuple[str, ...]] = [
        (text, *(f"{c[key]:,}" for _, c in columns))
        for key, text in (
            ("total", "Jobs"),
            ("completed", "Completed"),
            ("pauses", "Pauses"),
            ("checkpoints", "Checkpoints"),
            ("steps_kept", "Steps kept"),
            ("steps_lost", "Steps lost"),
            ("tokens", "Output tokens"),
        )
    ]
    rows.append(("GPU-hours held", *(f"{c['gpu_hours']['held']:,.1f}" for _, c in columns)))
    rows.append(("of that in steps kept", *(_percent(c["goodput_frac"]) for _, c in columns)))
    rows.append(("GPU-hours lost", *(f"{c['gpu_hours']['lost']:,.2f}" for _, c in columns)))
    rows.append(("Energy of their GPUs", *(_energy_said(c["energy_j"]) for _, c in columns)))
    return Table("Jobs that can wait", ("", *(name.replace("_", " ") for name, _ in columns)), tuple(rows))


def _mean_w(summary: dict[str, Any]) -> float:
    return summary["energy"]["utility_j"] / summary["horizon_s"]


def _split(value: float, unit: str, what: str) -> tuple[str, str, str]:
    number, _, prefixed = format_si(value, unit).partition(" ") if value is not None else (_NONE, "", unit)
    return number, prefixed, what


def _percent(frac: float | None) -> str:
    return _NONE if frac is None else f"{frac * 100:.4g} %"


def _fixed(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _count(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _seconds(value: float | None) -> str:
    return _NONE if value is None else format_duration(value)


def _watts(value: float | None) -> str:
    return _NONE if value is None else format_si(value, "W")


def _energy_said(joules: float | None) -> str:
    if joules is None:
        return _NONE
    # What is left over when a battery ends as full as it began is rounding; summary.json keeps it.
    return format_si(joules / 3600 if abs(joules) >= 1e-3 else 0.0, "Wh")


def _money(value: float | None) -> str:
    return _NONE if value is None else f"{value:,.4f}" if abs(value) < 10 else f"{value:,.2f}"
