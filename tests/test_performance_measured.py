"""The fitted model against the measured serving points it was fitted to, and against GB200 decode pools by name."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from twin.catalog import load_catalog
from twin.performance import (
    Coefficients,
    ModelShape,
    Parallelism,
    Precision,
    closed_loop,
    interconnect_of,
    step_cost,
    step_cost_with,
)

CATALOG = load_catalog()
TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.mark.parametrize(("requests_per_gpu", "measured_s"), [(64, 17.4e-3), (128, 23.6e-3), (256, 34.4e-3)])
def test_r1_decode_on_gb200_with_32_way_experts(requests_per_gpu: int, measured_s: float) -> None:
    """TensorRT-LLM, FP4, 1024 in and 8192 out, EP32: published time per output token of three decode pools."""
    gpu = CATALOG.part("gpu", "gb200")
    shape = ModelShape.from_part(CATALOG.part("model", "deepseek_r1"))
    backend, links = CATALOG.part("backend", "trtllm"), interconnect_of(gpu, 0.95)
    cost = step_cost(shape, Precision("fp4", "fp8"), Parallelism(dp=32, ep=32), gpu, backend, links)
    assert closed_loop(cost, 32 * requests_per_gpu, 1024, 8192, 0).tpot_s == pytest.approx(measured_s, rel=0.1)


def test_median_error_over_all_serving_points(shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_data("perf/serving_points.csv")
    monkeypatch.syspath_prepend(str(TOOLS))
    serving_points = __import__("serving_points")
    points, refused = serving_points.read_points(path)
    assert len(points) > 1400
    assert len(points) + sum(refused.values()) == 2035
    errors: dict[str, list[float]] = {}
    for p in points:
        coefficients = Coefficients.of(CATALOG.part("backend", p.backend), p.generation)
        cost = step_cost_with(coefficients, p.shape, p.precision, p.layout, p.gpu, p.links)
        tpot = closed_loop(cost, p.concurrency, p.input_tokens, p.output_tokens, p.chunk_tokens).tpot_s
        for group in ("all", f"{p.backend} {p.generation}"):
            errors.setdefault(group, []).append(abs(tpot / p.tpot_s - 1))
    medians = {group: statistics.median(values) for group, values in errors.items()}
    assert medians.pop("all") < 0.13
    assert max(medians.values()) < 0.20, medians
    assert sys.modules.pop("serving_points")
