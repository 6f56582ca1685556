"""The shapes that people who serve DeepSeek-R1 know, on a coarse study: no numbers of ours, only who wins where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from twin.pareto import ParetoStudy, run_pareto
from twin.pareto.frontier import best_at

R1 = ROOT / "scenarios" / "pareto_r1.yaml"
B200, GB200 = "HGX-B200", "GB200-NVL72"
COARSE: dict[str, Any] = {
    "pareto.parallelism": [{"tp": 8}, {"dp": 4, "ep": 4}, {"tp": 2, "dp": 4, "ep": 8}, {"tp": 4, "dp": 8, "ep": 32}],
    "pareto.splits": ["aggregated", "1P1D", "1P2D"],
    "pareto.sequences": [1, 8, 64, 256, 512, 1024, 2048],
    "pareto.speculation": [],
}


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> ParetoStudy:
    return run_pareto(R1, out=tmp_path_factory.mktemp("coarse") / "study", set=COARSE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ParetoStudy:
    return run_pareto(R1, out=tmp_path_factory.mktemp("whole") / "study")


def ratio(study: ParetoStudy, least_speed: float, figure: str = "tokens_per_s_per_gpu") -> float:
    """GB200 NVL72 over HGX B200 at the best that each has for so many tokens/s for each user."""
    most = []
    for system in (GB200, B200):
        best = study.frontier(system, "per_gpu" if figure.endswith("gpu") else "per_mw")
        value = best_at([(row["tokens_per_s_per_user"], row[figure]) for row in best], least_speed)
        assert value is not None
        most.append(value)
    return most[0] / most[1]


def ends_and_middle(study: ParetoStudy) -> tuple[float, float, float]:
    """Speeds (tokens/s for each user): throughput end and fast end of what both systems reach, and their geometric middle."""
    speeds = [[row["tokens_per_s_per_user"] for row in study.frontier(system)] for system in (B200, GB200)]
    slow, fast = max(each[0] for each in speeds), 0.98 * min(each[-1] for each in speeds)
    return slow, (slow * fast) ** 0.5, fast


def check_shapes(study: ParetoStudy) -> None:
    slow, middle, fast = ends_and_middle(study)
    # The larger scale-up domain helps where experts spread widely, and not where batches are tiny or all is arithmetic.
    assert ratio(study, middle) > 1.4
    assert ratio(study, slow) == pytest.approx(1.0, abs=0.15)
    assert ratio(study, fast) == pytest.approx(1.0, abs=0.15)
    for system in (B200, GB200):
        best = study.frontier(system)
        # The throughput end: big batches, and nothing apart.
        assert best[0]["split"] == "aggregated"
        assert best[0]["sequences"] >= 1024
        assert best[0]["dp"] == best[0]["ep"] > 1
        # The fast end: tensor parallelism with one sequence.
        assert best[-1]["sequences"] == 1
        assert best[-1]["dp"] == 1
        assert best[-1]["tp"] >= 8
    # The middle of GB200: experts over more GPUs than an HGX node has, prefill apart.
    widest = max(study.frontier(GB200), key=lambda row: row["ep"])
    assert widest["ep"] > 8
    assert widest["split"] != "aggregated"
    assert best_speeds(study, GB200, lambda row: row["ep"] > 8)[0] > slow
    assert best_speeds(study, GB200, lambda row: row["ep"] > 8)[-1] < fast
    # Across InfiniBand the same experts do not pay.
    assert not [row for row in study.frontier(B200) if row["ep"] > 8]


def best_speeds(study: ParetoStudy, system: str, wanted: Any) -> list[float]:
    return [row["tokens_per_s_per_user"] for row in study.frontier(system) if wanted(row)]


def test_the_coarse_study_has_the_shapes(coarse: ParetoStudy) -> None:
    check_shapes(coarse)


def test_watts_take_more_from_air_cooled_racks(coarse: ParetoStudy) -> None:
    """Per MW the liquid-cooled rack gains on the air-cooled nodes at every speed."""
    for speed in ends_and_middle(coarse):
        assert ratio(coarse, speed, "tokens_per_s_per_mw") > 1.1 * ratio(coarse, speed)


def test_a_generation_is_worth_more_than_a_factor_of_two(coarse: ParetoStudy) -> None:
    hopper, blackwell = ([row["tokens_per_s_per_gpu"] for row in coarse.frontier(name)] for name in ("HGX-H100", B200))
    assert max(blackwell) > 2 * max(hopper)


def test_instances_over_four_nodes_are_tried_on_both_hgx(coarse: ParetoStudy) -> None:
    for system in ("HGX-H100", B200):
        played = {row["parallelism"] for row in coarse.points if row["system"] == system and row["status"] == "counts"}
        assert "TP4 DP8 EP32" in played


@pytest.mark.slow
def test_the_whole_study_has_the_shapes(whole: ParetoStudy) -> None:
    check_shapes(whole)
    slow, middle, _ = ends_and_middle(whole)
    steps = [slow * (middle / slow) ** share for share in (0.0, 0.5, 1.0)]
    assert ratio(whole, steps[0]) < ratio(whole, steps[1]) < ratio(whole, steps[2])
    # and with speculation the middle is faster than without, for as many tokens
    plain = [row for row in whole.points if row["system"] == GB200 and row["status"] == "counts" and row["draft_tokens"] == 0]
    without = best_at([(row["tokens_per_s_per_user"], row["tokens_per_s_per_gpu"]) for row in plain], middle)
    best = best_at([(row["tokens_per_s_per_user"], row["tokens_per_s_per_gpu"]) for row in whole.frontier(GB200)], middle)
    assert best is not None
    assert without is None or best > 1.2 * without


@pytest.mark.slow
def test_the_reasoning_mix_runs(tmp_path: Path) -> None:
    study = run_pareto(ROOT / "scenarios" / "pareto_r1_reasoning.yaml", out=tmp_path / "study")
    for system in ("HGX-H100", B200, GB200):
        assert len(study.frontier(system)) > 5
    assert ratio(study, ends_and_middle(study)[1]) > 1.4
