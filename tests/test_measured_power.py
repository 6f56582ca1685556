"""Power and throughput beside measurements: cap sweeps, a node at a request rate, a grid event, a whole machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import twin
from twin.calibration import Validation, calibrate, read_table, validate
from twin.calibration.cap_fit import left_out
from twin.calibration.cap_sweep import JobClass
from twin.calibration.frontier_plant import PUBLISHED_EFFICIENCY, PUBLISHED_MW, frontier
from twin.calibration.grid_event import event_minutes
from twin.calibration.request_rates import Load, played
from twin.catalog import load_catalog
from twin.errors import InputError
from twin.performance import gpu_power, power_at_level

Find = Callable[[str], Path]
SWEEP, RATES = "power/phoenix_dvfs_sweep.csv", "power/h100x4_llama70b_online_instructcoder.csv"
EVENT = "power/phoenix_caiso_two_step_power.csv"
SWEEP_HEAD = "Workload,GPU power cap,normalized throughput,power per GPU\n"
RATES_HEAD = (
    "hf-output-len,num-prompts,request_rate_x,completed,total_input_tokens,total_output_tokens,mean_ttft_ms,mean_tpot_ms,"
    "mean_power[W]\n"
)


def sweep(folder: Path, *rows: str) -> Validation:
    path = folder / "sweep.csv"
    path.write_text(SWEEP_HEAD + "\n".join(rows) + "\n")
    return validate(path)


def rates(folder: Path, *rows: str) -> Validation:
    path = folder / "rates.csv"
    path.write_text(RATES_HEAD + "\n".join(rows) + "\n")
    return validate(path)


# --- throughput under a cap ------------------------------------------------------------------------------------------------


def test_throughput_under_a_cap_is_within_two_points(shared_data: Find) -> None:
    found = validate(shared_data(SWEEP))
    assert (found.kind, len(found.predictions), found.refused) == ("cap_sweep", 48, ())
    assert found.metrics()["throughput"]["mae"] <= 0.02
    binding = [p for p in found.predictions if p.labels["cap"] != "400 W"]
    errors = [abs(predicted - measured) for predicted, measured in (p.figures["throughput"] for p in binding)]
    assert len(errors) == 40
    assert sum(errors) / 40 <= 0.02  # the points that are 1 by definition do not carry it
    assert all(group["metrics"]["throughput"]["mae"] <= 0.02 for group in found.groups_by(("workload",)))
    assert found.metrics()["power"]["mape"] <= 0.05


@pytest.mark.slow
def test_each_workload_is_within_two_points_of_what_the_others_say(shared_data: Find) -> None:
    found = left_out(read_table(shared_data(SWEEP)))
    assert (len(found.predictions), found.refused) == (48, ())
    assert all(group["metrics"]["throughput"]["mae"] <= 0.02 for group in found.groups_by(("workload",)))


def test_inference_holds_better_than_pretraining_under_a_cap(tmp_path: Path) -> None:
    caps = (100, 150, 200, 250, 300, 350)
    found = sweep(tmp_path, *(f"{name}_x,{cap},0.5," for name in ("infer", "pt") for cap in caps))
    throughput = [p.figures["throughput"][0] for p in found.predictions]
    assert all(held > lost for held, lost in zip(throughput[:6], throughput[6:], strict=True))
    assert throughput[:6] == sorted(throughput[:6])
    assert "power" not in found.metrics()  # none was measured


def test_rows_outside_what_is_known_of_caps_are_refused(tmp_path: Path) -> None:
    rows = ("ft_a,300,0.95,280", "resnet_50,300,0.95,280", "ft_a,99,0.2,99", "ft_a,450,1.01,400", "inferno,200,0.7,195")
    found = sweep(tmp_path, *rows)
    assert [p.row for p in found.predictions] == ["line 2"]
    why = {refusal.row: refusal.why for refusal in found.refused}
    assert set(why) == {"line 3", "line 4", "line 5", "line 6"}
    assert "class of work" in why["line 3"]
    assert "class of work" in why["line 6"]
    assert all("100 to 400 W" in why[row] for row in ("line 4", "line 5"))


def test_throughput_is_relative_to_the_row_that_says_one(tmp_path: Path) -> None:
    full = sweep(tmp_path, "pt_a,400,1.0,380", "pt_a,300,0.87,290", "pt_a,200,0.63,195").predictions
    part = sweep(tmp_path, "pt_a,300,1.0,290", "pt_a,200,0.72,195").predictions
    ratio = full[2].figures["throughput"][0] / full[1].figures["throughput"][0]
    assert part[1].figures["throughput"][0] == pytest.approx(ratio)
    assert part[0].figures["throughput"][0] == 1.0


def test_every_problem_of_a_sweep_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        sweep(tmp_path, "ft_a,-3,0.9,280", "ft_a,300,lots,280", ",300,0.9,280")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]


def test_nothing_is_fitted_to_a_sweep_by_calibrate(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text(SWEEP_HEAD + "ft_a,300,0.9,280\n")
    with pytest.raises(InputError, match="nothing is fitted"):
        calibrate(tmp_path / "sweep.csv", "here")


def test_speed_under_a_cap_by_hand() -> None:
    """All arithmetic, above the voltage floor: W = idle + (active + compute) f^e, so the clock follows from the cap."""
    model = gpu_power(load_catalog().part("gpu", "a100"))
    speed, watts = JobClass(1.0, 400.0).under_cap(model, 250.0)
    assert watts == pytest.approx(250.0, rel=1e-6)
    assert speed == pytest.approx(((250.0 - 60.0) / (400.0 - 60.0)) ** (1.0 / model.exponent), rel=1e-6)
    assert JobClass(0.6, 300.0).under_cap(model, 350.0) == pytest.approx((1.0, 300.0))


def test_power_at_level_by_hand() -> None:
    model = gpu_power(load_catalog().part("gpu", "a100"))
    scaled = power_at_level(model, 300.0, 0.5)
    assert scaled.step_energy_j(1.0, 0.5, 0.5) == pytest.approx(300.0)
    assert scaled.active_w / scaled.memory_w == pytest.approx(model.active_w / model.memory_w)
    assert scaled.idle_w == model.idle_w


# --- a node at a request rate ----------------------------------------------------------------------------------------------


def test_node_power_at_a_request_rate(shared_data: Find, tmp_path: Path) -> None:
    with shared_data(RATES).open(newline="") as file:
        lines = file.read().splitlines()
    (tmp_path / "some.csv").write_text("\n".join([lines[0], *lines[1::7]]) + "\n")
    _within(validate(tmp_path / "some.csv"))


@pytest.mark.slow
def test_node_power_at_all_request_rates(shared_data: Find) -> None:
    found = validate(shared_data(RATES))
    assert (found.kind, len(found.predictions), len(found.refused)) == ("request_rates", 512, 1)
    _within(found)
    assert {group["by"].get("rate") for group in found.groups()} >= {"10", "100", "1000"}


def _within(found: Validation) -> None:
    metrics = found.metrics()
    assert metrics["power"]["median_ape"] <= 0.07
    assert metrics["tpot"]["median_ape"] <= 0.10
    assert metrics["ttft"]["median_ape"] <= 0.30


def test_rows_of_rates_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    found = rates(
        tmp_path,
        "256,100,15,100,17400,15900,41,20,2100",
        "256,100,15,,,,,,744",
        "256,100,15,97,17400,15900,41,20,2100",
        "256,100,15,100,17400,35900,41,20,2100",
        "256,100,15,100,17400,15900,,20,2100",
        "256,9000,15,9000,1740000,1590000,41,20,2100",
    )
    assert [p.row for p in found.predictions] == ["line 2"]
    whys = [refusal.why for refusal in found.refused]
    for said, why in zip(("0 of 100", "97 of 100", "cannot be", "no ttft", "memory holds"), whys, strict=True):
        assert said in why


def test_a_node_that_serves_slowly_approaches_one_request_at_a_time() -> None:
    slow, fast = played(Load(0.2, 20, 174, 100.0, 256)), played(Load(200.0, 300, 174, 100.0, 256))
    assert slow.ttft_s < fast.ttft_s
    assert slow.tpot_s < fast.tpot_s
    assert 4 * 72.0 < slow.gpus_w < fast.gpus_w < 4 * 700.0


# --- a grid event ----------------------------------------------------------------------------------------------------------


def test_minutes_beside_a_run_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "event.csv"
    path.write_text("timestamp,total\n" + "".join(f"14:{minute:02},100\n" for minute in range(20)))
    ends = np.arange(1, 27 * 6 + 1) * 10.0
    watts = np.where(ends <= 360.0, 500.0, np.where(ends <= 360.0 + 600.0, 100.0, 110.0))
    minutes = event_minutes(path, ends, watts)
    assert minutes.baseline_w == 100.0
    assert minutes.rmse("14:00", "14:10") == 0.0
    assert minutes.rmse("14:10", "14:20") == pytest.approx(0.10)
    assert minutes.rmse() == pytest.approx(0.1 * 0.5**0.5)
    with pytest.raises(InputError, match="not all in the run"):
        event_minutes(path, ends[:60], watts[:60])


@pytest.mark.slow
def test_the_two_step_event_under_the_twins_own_control(shared_data: Find, tmp_path: Path) -> None:
    scenario = Path(__file__).resolve().parents[1] / "scenarios" / "phoenix_two_step.yaml"
    run = twin.run(scenario, out=tmp_path / "run")
    minutes = event_minutes(shared_data(EVENT), run.power["time_s"].to_numpy(), run.power["gpu_w"].to_numpy())
    assert minutes.rmse() <= 0.03
    held = minutes.by_phase()
    assert held["at 81 %"][1] == pytest.approx(0.81, abs=0.015)
    assert held["at 69 %"][1] == pytest.approx(0.69, abs=0.015)
    assert all(run.summary["invariants"].values())


# --- a whole machine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "peak"])
def test_frontier_idle_and_at_peak(state: str) -> None:
    machine = frontier(state)
    least, most = PUBLISHED_MW[state]
    assert 0.97 * most <= machine.total_w / 1e6 <= 1.03 * least
    assert machine.efficiency == pytest.approx(PUBLISHED_EFFICIENCY[state], abs=0.005)


def test_a_node_of_frontier_by_hand() -> None:
    """(626.26 + 13) / 0.98 after DC-DC, (4 x that + 17) / 0.96 / 4 at the rectifier's input."""
    machine = frontier("idle")
    at_input_w = (4.0 * (626.26 + 13.0) / 0.98 + 17.0) / 0.96 / 4.0
    assert machine.nodes_w == pytest.approx(9472 * 626.26)
    assert machine.loss_w == pytest.approx(9472 * (at_input_w - 626.26))
