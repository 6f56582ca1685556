"""The fitted model against the measured serving points it was fitted to: real workers replay each point's benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from twin.calibration import validate
from twin.calibration.replay import replay
from twin.calibration.serving_points import ServingPoint, ServingPoints, read_serving_points
from twin.catalog import load_catalog
from twin.performance import Coefficients, FitRange

FILE = "perf/serving_points.csv"


@pytest.fixture
def points(shared_data: Callable[[str], Path]) -> ServingPoints:
    return read_serving_points(shared_data(FILE))


def errors(points: Iterable[ServingPoint]) -> list[tuple[float, float]]:
    """Relative errors of (time per token, time to first token) of each point."""
    found = []
    for point in points:
        backend, generation, weights = point.coefficients_key
        use = Coefficients.of(load_catalog().part("backend", backend), generation, weights)
        done = replay(point, use)
        found.append((done.tpot_s / point.tpot_s - 1, done.ttft_s / point.ttft_s - 1))
    return found


def medians(of: list[tuple[float, float]]) -> tuple[float, float]:
    """Medians of their absolute values."""
    return statistics.median(abs(tpot) for tpot, _ in of), statistics.median(abs(ttft) for _, ttft in of)


def test_what_the_file_holds(points: ServingPoints) -> None:
    assert len(points.points) > 1400
    assert points.rows == 2035
    assert all(why for _, why in points.refused)


def test_r1_decode_on_gb200_with_32_way_experts(points: ServingPoints) -> None:
    """TensorRT-LLM, FP4, 1024 in and 8192 out, EP32: three decode pools with 64, 128 and 256 requests a GPU."""
    name = "dsr1_gb200_trtllm_fp4_disagg_1024x8192_c{}_cfg239"
    pools = {point.row: point for point in points.points}
    three = [pools[name.format(32 * requests)] for requests in (64, 128, 256)]
    assert [point.tpot_s for point in three] == pytest.approx([17.4e-3, 23.6e-3, 34.4e-3], abs=0.1e-3)
    tpot = [abs(error) for error, _ in errors(three)]
    assert statistics.median(tpot) < 0.10
    assert max(tpot) < 0.15


def test_median_error_over_a_sample_of_all_points(points: ServingPoints) -> None:
    """Each 24th: their medians are those of all within a few points of a percent."""
    tpot, ttft = medians(errors(points.points[::24]))
    assert tpot < 0.08
    assert ttft < 0.20


@pytest.mark.slow
def test_median_error_over_all_serving_points(points: ServingPoints, shared_data: Callable[[str], Path]) -> None:
    by_row = {point.row: point for point in points.points}
    found = validate(shared_data(FILE))
    assert found.rows == 2035
    assert len(found.predictions) == len(points.points)
    groups: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for prediction in found.predictions:
        point = by_row[prediction.row]
        both = (prediction.error("tpot"), prediction.error("ttft"))
        for group in (("all",), (point.labels["backend"], point.gpu.text("generation")), point.coefficients_key):
            groups.setdefault(group, []).append(both)
    tpot, ttft = medians(groups["all",])
    assert tpot < 0.07
    assert ttft < 0.18
    for group, both in groups.items():
        if len(group) == 2:
            tpot, ttft = medians(both)
            assert tpot < 0.15, group
            assert ttft < 0.28, group
        if len(group) == 3:
            backend, generation, weights = group
            fit = FitRange.of(load_catalog().part("backend", backend), generation, weights)
            assert fit.points == len(both), group
            assert medians(both) == pytest.approx((fit.tpot_median_ape, fit.ttft_median_ape), rel=0.01, abs=0.001), group
