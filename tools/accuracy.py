"""Writes docs/accuracy.md: how well measured machines are predicted, fitted and held out.

    python tools/accuracy.py DATA [--only serving|plant] [--jobs N]

DATA is the folder of measurements (see docs/development.md). Everything is computed anew, which takes about an hour on two cores;
with `--only` one of the two parts is (the plant's takes two minutes), and the other stays as it stands.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from accuracy_notes import note_of
from accuracy_plant import plant_text

from twin.calibration import Prediction, Validation, cross_validate, read_table, validate
from twin.processes import processes

OUT = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
SCHEMES = (("curve", "curves, five folds"), ("system", "one system at a time"), ("model", "one model at a time"))
#: Stands between the two parts.
BORDER = "<!-- tools/accuracy.py: the plant from here on -->\n"
FINEST = ("system", "backend", "model", "precision", "mode")
HEAD = """# Accuracy

How well the step model and the workers predict measured machines. Made by `make accuracy`; the measurements are not part of the
project. Errors are absolute, relative to the measured value: median, 90th percentile and mean over the points of a group.

## Serving points: time to first token and time per output token

{rows:,} points of InferenceX, as shipped in ai-dynamo/aiconfigurator: TensorRT-LLM, SGLang and vLLM on H100, H200, B200 and
GB200, ten models, aggregated and disaggregated, 1 to {most:,} requests in flight. Each is predicted by running the real workers
under a closed-loop client at its concurrency, start-up burst included, and taking the means that the benchmark printed.
{predicted:,} are predicted ({seconds:.0f} s on {cores} cores) and {refused:,} refused with the reason.

A curve is what differs in concurrency alone (model, system, backend, mode, lengths, parallelism, precision). Held-out points are
predicted with coefficients from points that share no curve, system or model with them; where a held-out system or model was the
only one of its backend, GPU generation and format, the nearest group stands in.

| coefficients | points | TPOT median | p90 | mean | TTFT median | p90 |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Compute and write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--jobs", type=int)
    options.add_argument("--only", choices=("serving", "plant"))
    given = options.parse_args()
    serving, _, plant = OUT.read_text(encoding="utf-8").partition(BORDER)
    if given.only != "plant":
        serving = _serving(given.data, given.jobs) + "\n"
    if given.only != "serving":
        plant = "\n" + plant_text(given.data)
    OUT.write_text(serving.rstrip("\n") + "\n\n" + BORDER + plant, encoding="utf-8")
    print(OUT)


def _serving(data: Path, jobs: int | None) -> str:
    points, phases = data / "perf" / "serving_points.csv", data / "perf" / "llama2_70b_bloom_a100_h100.csv"
    began = time.perf_counter()
    fitted = validate(points, jobs)
    seconds = time.perf_counter() - began
    table = read_table(points)
    held = {scheme: cross_validate(table, scheme, jobs, _say) for scheme, _ in SCHEMES}
    most = max(int(float(row.text("concurrency") or 0)) for row in table.rows)
    return text(fitted, held, validate(phases), seconds, processes(jobs), most)


def text(fitted: Validation, held: Mapping[str, Validation], phases: Validation, seconds: float, cores: int, most: int) -> str:
    """The part on serving."""
    by_curve = held["curve"]
    counts = {"rows": fitted.rows, "predicted": len(fitted.predictions), "refused": len(fitted.refused)}
    lines = [HEAD.format(**counts, seconds=seconds, cores=cores, most=most).rstrip("\n")]
    lines.append(_row("fitted to all points", fitted))
    lines += [_row(f"held out: {said}", held[scheme]) for scheme, said in SCHEMES]
    lines.append("| asked of held-out curves | | <= 10 % | <= 30 % | | <= 25 % | |")
    lines += ["", "### By group, curves held out", "", *_groups(by_curve, FINEST)]
    for figure, name in (("tpot", "time per output token"), ("ttft", "time to first token")):
        lines += ["", f"### The ten worst in {name}, curves held out", "", *_worst(by_curve.worst(figure, 10), figure)]
    lines += ["", "### Refused", "", *_refused(fitted)]
    lines += ["", "## Prompt and token times of one batch", "", PHASES.format(count=len(phases.predictions), rows=phases.rows)]
    lines += _phase_groups(phases)
    return "\n".join(lines) + "\n"


PHASES = """{rows} measurements of Llama-2-70B and BLOOM-176B in BF16 on A100 and H100 (Splitwise, Patel et al., ISCA 2024; an
engine of 2023), {count} of them predicted: the prompt phase of a batch and the mean of its decode steps, from the step model
alone. One set of coefficients per GPU generation; asked are medians of at most 10 %.
"""


def _row(name: str, found: Validation) -> str:
    tpot, ttft = (found.metrics()[figure] for figure in ("tpot", "ttft"))
    shares = (tpot["median_ape"], tpot["p90_ape"], tpot["mape"], ttft["median_ape"], ttft["p90_ape"])
    return f"| {name} | {len(found.predictions):,} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def _groups(found: Validation, by: Sequence[str]) -> Iterable[str]:
    yield f"| {' | '.join(by)} | points | TPOT median | p90 | TTFT median | p90 |"
    yield "|---" * (len(by) + 5) + "|"
    for group in found.groups_by(by):
        tpot, ttft = (group["metrics"][figure] for figure in ("tpot", "ttft"))
        shares = (tpot["median_ape"], tpot["p90_ape"], ttft["median_ape"], ttft["p90_ape"])
        yield f"| {' | '.join(group['by'].values())} | {group['rows']} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def _worst(rows: Iterable[Prediction], figure: str) -> Iterable[str]:
    yield "| row | predicted | measured | what we think |"
    yield "|---|---|---|---|"
    scale, unit, digits = (1e3, "ms", 1) if figure == "tpot" else (1.0, "s", 2)
    for row in rows:
        predicted, measured = (f"{scale * value:.{digits}f} {unit}" for value in row.figures[figure])
        yield f"| `{row.row}` | {predicted} | {measured} | {note_of(row.row, figure)} |"


def _refused(found: Validation) -> Iterable[str]:
    kinds = Counter(refusal.kind for refusal in found.refused)
    first = {refusal.kind: refusal.why for refusal in reversed(found.refused)}
    yield "| rows | reason (the first of its kind) |"
    yield "|---|---|"
    for kind, count in kinds.most_common():
        yield f"| {count} | {first[kind]} |"


def _phase_groups(found: Validation) -> Iterable[str]:
    yield "| model | hardware | rows | prompt median | p90 | token median | p90 |"
    yield "|---|---|---|---|---|---|---|"
    whole = {"by": {"model": "all", "hardware": ""}, "rows": len(found.predictions), "metrics": found.metrics()}
    for group in (whole, *found.groups_by(("model", "hardware"))):
        prompt, token = (group["metrics"][figure] for figure in ("prompt_time", "token_time"))
        shares = (prompt["median_ape"], prompt["p90_ape"], token["median_ape"], token["p90_ape"])
        names = f"{group['by']['model']} | {group['by']['hardware']}"
        yield f"| {names} | {group['rows']} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def _say(said: str) -> None:
    print(said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
