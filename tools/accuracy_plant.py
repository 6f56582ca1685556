"""The plant's part of docs/accuracy.md: power and throughput under caps, a node's power, a grid event, a whole machine,
coolant."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import twin
from twin.calibration import Validation, read_table, validate
from twin.calibration.cap_fit import left_out
from twin.calibration.frontier_plant import PUBLISHED_EFFICIENCY, PUBLISHED_MW, frontier
from twin.calibration.grid_event import event_minutes
from twin.calibration.request_rates import NODE_OTHER_W
from twin.catalog import load_catalog
from twin.facility.coolant import coolant

ROOT = Path(__file__).resolve().parents[1]

CAPS = """## Throughput under a power cap

{rows} points of eight workloads on 256 A100-class GPUs under six caps (Phoenix field demonstration,
ai-emerald/emerald-ai-demo-may-2025), predicted from the class that a workload's name tells (`twin catalog job_class`): two
numbers for each of three classes, *fitted to these same points* at the clock exponent and voltage floor of the GPU's entry.
Errors are mean absolute errors in points, a point being a percent of the throughput at 400 W; asked are at most 2. "Left
out": the workload is predicted by what is fitted to the others alone, exponent and floor included. The three inference
workloads are one curve at three sizes, so theirs is a held-out size and not a held-out kind of work. {clipped}

| workload | class | fitted | left out | power under the cap, fitted |
|---|---|---|---|---|
"""
NODE = """## Node power, time to first token and per output token at a request rate

{rows} runs of Llama-3.1-70B in BF16 on four H100 under vLLM (IsabellaLiu99/genai-gpu-power-analysis, Vercellino et al. 2026):
1,000 prompts of about 174 tokens at 10 to 1,000 a second, answers of up to 256, 512 or 1,024 tokens. The real worker plays
each: a Poisson process at the row's rate, answers spread as a gamma distribution with the row's mean (its shape fitted to the
three mean lengths). The step model's coefficients are those of the catalogue, from other models and other runs. All prompts
but their last block are found in the cache: at 200 a second or more they could not be computed otherwise.
What is fitted to these runs: the H100's power terms in the catalogue (an earlier fit), and {other:.0f} W for what in the node
is no GPU. Fitted to two of the three answer lengths and tried on the third, the latter gives median errors of {held}. A run in
which nothing was completed drew 744 W, 456 W above four idle GPUs: a part of the host's power is in the GPU's `power_active_w`.

| | power median | p90 | bias | TTFT median | p90 | TPOT median | p90 |
|---|---|---|---|---|---|---|---|
"""
EVENT = """## A measured two-step grid event

Power of 256 A100-class GPUs, minute by minute, through an event that asked for 81 and then 69 percent (Phoenix, as above),
and the same event run by `scenarios/phoenix_two_step.yaml` under the twin's `uniform_cap`. The scenario says what is stated:
the event's two levels; begin and end of its ramps, which are *read off the curve* to a few minutes, as the announcement is
not in the data; the mix of jobs, with sizes *chosen* such that power before the event, its two hourly dips (checkpoints,
read off the first hour) and power after the event (a job that ends) are as measured. What the control makes of it is not
fitted. GPU power; the meter's target is what that level of GPU power shows at the meter. RMSE over the measured baseline of
{base:.1f} kW, asked are at most 3 % over all: **{all:.2%}**.

| phase | measured | run | RMSE |
|---|---|---|---|
"""
MACHINE = """## Frontier: a whole machine, idle and at peak

9,472 nodes with two converters in series (rectifiers of four nodes, about 96 % and 17 W; DC-DC, about 98 % and 13 W), as
`ElectricalElement`; switches, pumps of 25 CDUs. All numbers are ExaDigiT's (ExaDigiT/RAPS, config/frontier; Brewer et al., SC
2024), who fitted the converters to the machine; nothing is fitted here. The published MW hold nodes, conversion, switches and
CDU pumps: with them the sums agree, without the pumps they would be 0.2 MW short. Efficiency: IT, switches included, over IT
and losses. Asked: MW within 3 %, efficiency within 0.5 points.

| state | MW | published | error | chain efficiency | published |
|---|---|---|---|---|---|
"""
COOLANT = """## GB300: coolant flow against inlet temperature

Published flow of a GB300 NVL72 at 116 kW of liquid heat (press), against the rack loop of the catalogue, whose line of return
over supply temperature was *fitted to these five points* (two numbers). Asked: within 5 %.

| inlet | L/min | published | error |
|---|---|---|---|
"""
_COOLANT_LITRES_PER_MIN = {25: 65.1, 30: 76.5, 35: 92.6, 40: 117.5, 45: 160.0}
_COOLANT_HEAT_W = 116e3


def plant_text(data: Path) -> str:
    """The sections."""
    power = data / "power"
    parts = [
        _caps(power / "phoenix_dvfs_sweep.csv"),
        _node(power / "h100x4_llama70b_online_instructcoder.csv"),
        _event(power / "phoenix_caiso_two_step_power.csv"),
        _machine(),
        _coolant(),
    ]
    return "\n".join(parts)


def _caps(path: Path) -> str:
    found, held = validate(path), left_out(read_table(path))
    held_of = {group["by"]["workload"]: group["metrics"] for group in held.groups_by(("workload",))}
    binding = [p for p in found.predictions if p.figures["throughput"][1] != 1.0]
    error = sum(abs(a - b) for a, b in (p.figures["throughput"] for p in binding)) / len(binding)
    clipped = (
        f"Without the {len(found.predictions) - len(binding)} points at 400 W, which are 1 by definition: {100 * error:.2f}."
    )
    lines = [CAPS.format(rows=found.rows, clipped=clipped).rstrip("\n")]
    for group in (None, *found.groups_by(("workload", "class"))):
        name, kind = ("**all**", "") if group is None else (group["by"]["workload"], group["by"]["class"])
        own = found.metrics() if group is None else group["metrics"]
        out = held.metrics() if group is None else held_of[name]
        shares = f"{100 * own['throughput']['mae']:.2f} | {100 * out['throughput']['mae']:.2f} | {own['power']['mape']:.1%}"
        lines.append(f"| {name} | {kind} | {shares} |")
    lines += ["", "Throughput kept at a cap, measured and predicted: inference and fine-tuning hold better than pretraining.", ""]
    lines += _kept(found)
    return "\n".join(lines) + "\n"


def _kept(found: Validation) -> Iterable[str]:
    caps = ("300 W", "200 W", "100 W")
    yield f"| class | {' | '.join(caps)} |"
    yield "|---" * (len(caps) + 1) + "|"
    for name in sorted({p.labels["class"] for p in found.predictions}):
        cells = []
        for cap in caps:
            figures = [p.figures["throughput"] for p in found.predictions if p.labels["class"] == name and p.labels["cap"] == cap]
            predicted, measured = (sum(column) / len(figures) for column in zip(*figures, strict=True))
            cells.append(f"{measured:.3f} measured, {predicted:.3f}")
        yield f"| {name} | {' | '.join(cells)} |"


def _node(path: Path) -> str:
    found = validate(path)
    lines = [NODE.format(rows=len(found.predictions), other=NODE_OTHER_W, held=", ".join(_held(found))).rstrip("\n")]
    whole = {"by": {"": "**all**"}, "metrics": found.metrics()}
    by_rate = sorted(found.groups_by(("rate",)), key=lambda group: float(group["by"]["rate"]))
    for group in (whole, *found.groups_by(("longest",)), *by_rate):
        metrics = group["metrics"]
        (key, value), power = next(iter(group["by"].items())), metrics["power"]
        name = {"rate": f"{value} requests/s", "longest": f"answers up to {value}"}.get(key, value)
        times = " | ".join(f"{metrics[which][what]:.1%}" for which in ("ttft", "tpot") for what in ("median_ape", "p90_ape"))
        lines.append(f"| {name} | {power['median_ape']:.1%} | {power['p90_ape']:.1%} | {power['bias'] - 1.0:+.1%} | {times} |")
    refused = [f"`{refusal.row}`: {refusal.why}." for refusal in found.refused]
    return "\n".join([*lines, "", f"Refused: {' '.join(refused) or 'none.'}"]) + "\n"


def _held(found: Validation) -> Iterable[str]:
    """Median error of power for each answer length, what is no GPU fitted to the others."""
    for longest in sorted({p.labels["longest"] for p in found.predictions}, key=int):
        others = sorted(b - a + NODE_OTHER_W for a, b in _powers(found, longest, kept=False))
        other_w = others[len(others) // 2]
        errors = sorted(abs((a - NODE_OTHER_W + other_w) / b - 1.0) for a, b in _powers(found, longest, kept=True))
        yield f"{errors[len(errors) // 2]:.1%}"


def _powers(found: Validation, longest: str, *, kept: bool) -> Iterable[tuple[float, float]]:
    return (p.figures["power"] for p in found.predictions if (p.labels["longest"] == longest) is kept)


def _event(path: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        run = twin.run(ROOT / "scenarios" / "phoenix_two_step.yaml", out=Path(folder) / "run")
        power = run.power
        minutes = event_minutes(path, power["time_s"].to_numpy(), power["gpu_w"].to_numpy())
    lines = [EVENT.format(base=minutes.baseline_w / 1e3, all=minutes.rmse()).rstrip("\n")]
    for name, (measured, mine, rmse) in minutes.by_phase().items():
        lines.append(f"| {name} | {measured:.1%} | {mine:.1%} | {rmse:.2%} |")
    return "\n".join(lines) + "\n"


def _machine() -> str:
    lines = [MACHINE.rstrip("\n")]
    for state, (least, most) in PUBLISHED_MW.items():
        machine = frontier(state)
        mw = machine.total_w / 1e6
        error = mw / most - 1.0 if mw > most else min(0.0, mw / least - 1.0)
        published = f"{least:g}" if least == most else f"{least:g} to {most:g}"
        efficiency = f"{machine.efficiency:.2%} | {PUBLISHED_EFFICIENCY[state]:.1%}"
        lines.append(f"| {state} | {mw:.2f} | {published} | {error:+.2%} | {efficiency} |")
    return "\n".join(lines) + "\n"


def _coolant() -> str:
    cdu = load_catalog().part("cooling", "cdu_1mw")
    liquid = coolant(cdu.text("coolant"))
    lines = [COOLANT.rstrip("\n")]
    for inlet_c, published in _COOLANT_LITRES_PER_MIN.items():
        back_c = cdu.number("return_intercept_c") + cdu.number("return_slope") * inlet_c
        mean_c = 0.5 * (inlet_c + back_c)
        kg_per_s = _COOLANT_HEAT_W / (liquid.specific_heat_j_per_kg_k(mean_c) * (back_c - inlet_c))
        litres = kg_per_s / liquid.density_kg_per_m3(inlet_c) * 60e3
        lines.append(f"| {inlet_c} C | {litres:.1f} | {published} | {litres / published - 1.0:+.2%} |")
    return "\n".join(lines) + "\n"
