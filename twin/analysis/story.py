"""A run told in plain sentences, from its summary alone: for a reader who knows what watts and tokens are, and no more."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twin.recording import EVENT_KINDS
from twin.units import format_duration, format_si

#: Below this change a measure is said to have stayed.
_NOTICEABLE_FRAC = 0.01


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some sentences under a heading; `tone` is "good", "bad" or "plain"."""

    heading: str
    sentences: tuple[str, ...]
    tone: str = "plain"


def story(summary: dict[str, Any]) -> list[Paragraph]:
    """What happened, what it cost and whether anything was lost, the most important first."""
    paragraphs = [_event(summary, event) for event in summary["curtailment"]]
    if summary.get("faults"):
        paragraphs.append(_faults(summary))
    warnings = summary["warnings"]
    outside = [Paragraph("Outside what the models were made for", tuple(f"{w}." for w in warnings), "bad")] if warnings else []
    return [*paragraphs, *outside, _service(summary), _kept(summary)]


def lead(summary: dict[str, Any]) -> str:
    """One sentence on what was simulated."""
    requests, represent = summary["requests"], summary["requests"]["represent"]
    each = f", each standing for {represent}" if represent > 1 else ""
    events = len(summary["curtailment"])
    grid = (
        "no load target from the utility" if not events else f"{events} load target{'s' if events > 1 else ''} from the utility"
    )
    return (
        f"{_duration(summary['horizon_s'])} of a factory with {summary['hardware']['gpus']:,} GPUs, "
        f"{requests['total']:,} requests{each}, {grid}."
    )


def _event(summary: dict[str, Any], event: dict[str, Any]) -> Paragraph:
    heading = f"{event['name']}: {event['site']} asked down to {format_si(event['target_w'], 'W')}"
    if event["draw_during_w"] is None:
        return Paragraph(heading, ("The event lies outside what was simulated, so there is nothing to tell.",))
    duration = _duration(event["end_s"] - event["start_s"])
    sentences = [
        f"From {clock(event['start_s'])} on, for {duration}, the utility wanted the meter at {_watts(event['target_w'])}."
    ]
    if event["draw_before_w"] is not None:
        before, during = event["draw_before_w"], event["draw_during_w"]
        sentences.append(
            f"The site had drawn {_watts(before)} on average over the {_duration(event['reference_s'])} before; "
            f"in the event it drew {_watts(during)}, {_percent(1 - during / before)} less."
            if during < before
            else f"The site had drawn {_watts(before)} before and drew {_watts(during)} in the event: no less."
        )
    sentences += _complied(event)
    sentences += _cost(event)
    sentences += _acted(event)
    good = event["compliance_frac"] == 1.0
    return Paragraph(heading, tuple(sentences), "good" if good else "bad")


def _faults(summary: dict[str, Any]) -> Paragraph:
    faults, there = summary["faults"], summary["availability"]
    racks, instances = (max(fault[f"{what}_down_max"] for fault in faults) for what in ("racks", "instances"))
    if len(faults) == 1:
        (fault,) = faults
        sentences = [
            f"{fault['component']} failed at {clock(fault['start_s'])}, for {_duration(fault['end_s'] - fault['start_s'])}."
        ]
    else:
        first, last = min(fault["start_s"] for fault in faults), max(fault["start_s"] for fault in faults)
        kinds = dict.fromkeys(fault["component"].partition("/")[0] for fault in faults)
        sentences = [
            f"{len(faults):,} faults began between {clock(first)} and {clock(last)}, of these kinds: {_listed(list(kinds))}."
        ]
    down = [f"{count} {what}{'' if count == 1 else 's'}" for count, what in ((racks, "rack"), (instances, "instance")) if count]
    sentences.append(f"At the worst moment {_listed(down)} were down at once." if down else "No rack and no instance went down.")
    sentences.append(f"Over the run {_percent(there['instances_frac'])} of the instances' time was there.")
    kept = [fault for fault in faults if fault["goodput_retained_frac"] is not None]
    if kept:
        worst = min(kept, key=lambda fault: fault["goodput_retained_frac"])
        left = worst["goodput_retained_frac"]
        sentences.append(
            f"The tokens delivered within their promises fell most in {worst['name']}, to {_percent(left)} of what they had been "
            "just before."
            if left < 1.0 - _NOTICEABLE_FRAC
            else "The tokens delivered within their promises did not fall in any of them."
        )
    return Paragraph("Faults", tuple(sentences))


def _complied(event: dict[str, Any]) -> Iterable[str]:
    compliance, soon, over = event["compliance_frac"], event["time_to_comply_s"], event["overshoot_w_max"]
    ramp_s = event["ramp_end_s"] - event["start_s"]
    if soon is None:
        yield "It did not come down to the target and stay there before the end."
    elif soon == 0:
        yield "It was at or below the target from the first moment."
    else:
        due = f", {'within' if soon <= ramp_s else 'after'} the {_duration(ramp_s)} given to ramp down" if ramp_s > 0 else ""
        yield f"It was there {_duration(soon)} after the start{due}, and stayed."
    if compliance is not None:
        if compliance == 1.0:
            yield "Once the ramp was over it was never above the target."
        else:
            above = _percent(1 - compliance)
            yield f"Once the ramp was over it was above the target {above} of the time, by {_watts(over)} at most."


def _cost(event: dict[str, Any]) -> Iterable[str]:
    kept = {tier: t["goodput_retained_frac"] for tier, t in event["by_tier"].items() if t["goodput_retained_frac"] is not None}
    whole = event["goodput_retained_frac"]
    if whole is not None:
        each = ", ".join(f"{tier} {_percent(frac)}" for tier, frac in kept.items())
        split = f" (by tier: {each})" if len(kept) > 1 else ""
        yield f"The tokens delivered within their promises were {_percent(whole)} of what they had been just before{split}."
    for tier, t in event["by_tier"].items():
        before, during = t["slo_attainment_frac_before"], t["slo_attainment_frac_during"]
        if before is not None and during is not None and during < before - _NOTICEABLE_FRAC:
            yield f"Requests of {tier} that met every promise went from {_percent(before)} to {_percent(during)}."


def _acted(event: dict[str, Any]) -> Iterable[str]:
    actions = sorted(event["actions"].items(), key=lambda item: (item[1]["first_s"], item[0]))
    if actions:
        said = ", ".join(f"{spoken_kind(kind)} ({_times(a['count'])}, first at {clock(a['first_s'])})" for kind, a in actions)
        yield f"To get there the policy used: {said}."


def _service(summary: dict[str, Any]) -> Paragraph:
    service, energy, hardware = summary["service"], summary["energy"], summary["hardware"]
    out, good = service["output_tokens_per_s"], service["goodput_output_tokens_per_s"]
    sentences = [
        f"Over the whole run the factory generated {_count(out)} output tokens a second, {_count(good)} of them within promises."
    ]
    for tier, t in service["tiers"].items():
        if t["slo_attainment_frac"] is None:
            sentences.append(f"No request of {tier} came to an end." if t["requests"] else f"{tier} had no requests.")
        else:
            promises = any(bound is not None for bound in t["objectives"].values())
            kept = f"met its promises for {_percent(t['slo_attainment_frac'])} of requests" if promises else "promises nothing"
            said = f"{tier} {kept}"
            if t["ttft_s"]["p50"] is not None:
                said += f"; first token after {_duration(t['ttft_s']['p50'])} (median), {_duration(t['ttft_s']['p99'])} (p99)"
            sentences.append(said + ".")
    if energy["pue"] is not None:
        said = f"It used {format_si(energy['utility_j'] / 3600, 'Wh')} from the feed at a PUE of {energy['pue']:.3f}"
        if energy["output_tokens_per_j"] is not None:
            said += f", {energy['output_tokens_per_j']:.3g} output tokens a joule"
        sentences.append(said + ".")
    if hardware["speed_of_light_frac"] is not None:
        sentences.append(
            f"GPUs were busy {_percent(hardware['gpu_busy_frac'])} of the time; at the speed of light, with every "
            f"efficiency at 1, the work done would have taken {_percent(hardware['speed_of_light_frac'])} of it."
        )
    return Paragraph("Service", tuple(sentences))


def _kept(summary: dict[str, Any]) -> Paragraph:
    r = summary["requests"]
    told = [f"{r['completed']:,} completed here"]
    told += [
        f"{r[key]:,} {said}"
        for key, said in (("moved", "moved and completed elsewhere"), ("rejected", "refused at the door"))
        if r[key]
    ]
    told.append(f"{r['in_flight']:,} still in flight at the end")
    broken = [name for name, held in summary["invariants"].items() if not held]
    counted = f"Of {r['total']:,} requests {_listed(told)}."
    if r["lost"] or broken:
        said = [counted]
        if r["lost"]:
            said.append(f"{r['lost']:,} requests are unaccounted for.")
        if broken:
            said.append(f"Broken: {_listed([name.replace('_', ' ') for name in broken])}.")
        return Paragraph("Something that must hold did not", tuple(said), "bad")
    if r["represent"] > 1:
        error = r["sampling_error_frac"]
        counted += f" Each stands for {r['represent']}"
        counted += "." if error is None else f": rates carry a sampling error of about {_percent(error)}."
    return Paragraph("Nothing was lost", (counted, f"All {len(summary['invariants'])} invariants held."), "good")


def spoken_kind(kind: str) -> str:
    """An event kind for people; one that is not known under its own name."""
    known = EVENT_KINDS.get(kind)
    return known.said if known else kind.replace("_", " ")


def spoken_detail(detail: str) -> str:
    """An event's detail for people: a JSON object as "key value, key value", anything else as it stands."""
    if not detail.startswith("{"):
        return detail
    try:
        content = json.loads(detail)
    except ValueError:
        return detail
    return ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in content.items())


def clock(time_s: float) -> str:
    """Simulated time as h:mm:ss, with the day in front of longer runs."""
    whole = round(time_s)
    days, rest = divmod(whole, 86400)
    said = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"day {days + 1}, {said}" if days else said


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value) if isinstance(value, str | int) else json.dumps(value)


def _duration(seconds: float) -> str:
    """Simulated or waited time without a trailing zero part: "20 min", not "20 min 00 s"."""
    return format_duration(seconds).removesuffix(" 00 s").removesuffix(" 00 min")


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count:,} times"


def _watts(value: float) -> str:
    return format_si(value, "W")


def _percent(frac: float) -> str:
    """A share as a percentage, never rounded to 0 or 100 % unless it is."""
    percent = frac * 100
    if 0 < abs(percent) < 0.1:
        return "less than 0.1 %"
    if 99.95 <= percent < 100:
        return f"{math.floor(percent * 1000) / 1000:g} %" if percent < 99.999 else "just under 100 %"
    return f"{percent:.1f} %" if percent != round(percent) else f"{percent:.0f} %"


def _count(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
