"""Made-up files of measurements: what the model itself gives with coefficients that nobody has fitted."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from twin.calibration.fitting import PRIORS
from twin.calibration.replay import replay
from twin.calibration.serving_points import COLUMNS, read_serving_points
from twin.performance import Coefficients

#: A machine other than the priors describe.
TRUTH = replace(
    Coefficients(*(prior.value for prior in PRIORS.values())),
    gemm_compute_eff=0.42,
    memory_eff=0.66,
    step_overhead_s=2e-3,
    request_overhead_s=60e-3,
)
_DISAGG = [f"{pool}_{key}" for pool in ("prefill", "decode") for key in ("num_workers", "tp_size", "moe_ep_size")]
_ROW = dict.fromkeys([*COLUMNS, "batch_size", "attention_dp_size", "moe_tp_size", "moe_ep_size", *_DISAGG], "") | {
    "id": "",
    "backend": "vllm",
    "model_path": "meta-llama/Llama-3.1-8B-Instruct",
    "system": "h100_sxm",
    "precision": "fp8",
    "mode": "agg",
    "isl": 600,
    "osl": 60,
    "tp_size": 1,
    "silicon_ttft_ms": 1.0,
    "silicon_tpot_ms": 1.0,
}
#: Concurrency, input and output tokens, GPUs.
_POINTS = [(c, i, o, tp) for tp in (1, 2) for i, o in ((300, 60), (2400, 40)) for c in (1, 4, 16)]


def write(path: Path, rows: Iterable[Mapping[str, object]], columns: Iterable[str] | None = None) -> Path:
    """A CSV file."""
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns or rows[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(number: int = 0, **changes: object) -> dict[str, object]:
    """A row of serving points; times are to be filled in."""
    return _ROW | {"id": f"row-{number}", "concurrency": 4, "batch_size": changes.get("concurrency", 4)} | changes


def measured_rows(tmp_path: Path) -> list[dict[str, object]]:
    """Rows whose times are those of `TRUTH`."""
    rows = [row(n, concurrency=c, isl=i, osl=o, tp_size=tp) for n, (c, i, o, tp) in enumerate(_POINTS)]
    points = read_serving_points(write(tmp_path / "blank.csv", rows)).points
    for each, point in zip(rows, points, strict=True):
        done = replay(point, TRUTH)
        each["silicon_ttft_ms"], each["silicon_tpot_ms"] = 1e3 * done.ttft_s, 1e3 * done.tpot_s
    return rows
