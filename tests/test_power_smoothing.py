"""Power smoothing: ramps, floor and hysteresis by hand, against a walk in fine steps, and in whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import api
from twin.errors import InputError, SimulationError
from twin.performance.smoothing import PowerSmoothing
from twin.schema import load_scenario

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "scenarios/quickstart.yaml"
IDLE_W = 100.0


def _part(
    floor_w: float = 400.0, up: float = 100.0, down: float = 50.0, hysteresis_s: float = 0.0, gpus: int = 1
) -> PowerSmoothing:
    each = np.ones(gpus)
    return PowerSmoothing(floor_w * each, IDLE_W * each, up, down, hysteresis_s)


def _play(part: PowerSmoothing, needs: list[tuple[float, float]]) -> list[float]:
    return [float(part.advance(span_s, np.array([need_w]))[0]) for span_s, need_w in needs]


def test_falls_at_the_rate_to_the_floor_and_stays_there() -> None:
    # 600 W, then 200 W of work: 50 W/s down to the floor of 400 W takes 4 s, 2000 J in all; then the floor for 6 s
    means = _play(_part(), [(10.0, 600.0), (10.0, 200.0), (10.0, 200.0)])
    assert means == pytest.approx([600.0, (4 * 500 + 6 * 400) / 10, 400.0])


def test_an_idle_gpu_is_let_go_after_the_hysteresis() -> None:
    # idle from 600 W: 4 s to the floor, 3 s more on it, then 50 W/s for 3 s to 250 W; 3 s more to idle
    means = _play(_part(hysteresis_s=7.0), [(1.0, 600.0), (10.0, IDLE_W), (10.0, IDLE_W)])
    assert means[1:] == pytest.approx([(4 * 500 + 3 * 400 + 3 * 325) / 10, (3 * 175 + 7 * 100) / 10])


def test_hysteresis_counts_over_several_steps_and_begins_again_with_work() -> None:
    part = _part(hysteresis_s=2.0, down=1e9)
    assert _play(part, [(1.0, 500.0), (1.0, IDLE_W), (0.5, 500.0), (1.5, IDLE_W), (1.0, IDLE_W), (1.0, IDLE_W)]) == pytest.approx(
        [500.0, 400.0, 500.0, 400.0, 250.0, 100.0]
    )


def test_work_that_is_held_back_costs_nothing_and_the_limit_moves_on() -> None:
    part = _part(floor_w=0.0)
    assert _play(part, [(1.0, IDLE_W)]) == [IDLE_W]
    assert part.limit_w(1.0) == pytest.approx([150.0])  # from 100 to 200 W
    assert _play(part, [(1.0, 150.0)]) == pytest.approx([150.0])
    assert part.drawn_w == pytest.approx([200.0])
    assert part.limit_w(1.0) == pytest.approx([250.0])
    # 230 W on average from 200 W on: 100 W/s to L, 230 = L - (L - 200)^2 / 200
    assert _play(part, [(1.0, 230.0)]) == pytest.approx([230.0])
    assert part.drawn_w == pytest.approx([300.0 - np.sqrt(100.0 * 100.0 - 2 * 100.0 * 30.0)])


def test_what_the_cap_cannot_hold_is_drawn() -> None:
    part = _part(floor_w=0.0)
    assert _play(part, [(1.0, IDLE_W), (1.0, 400.0)]) == [IDLE_W, 400.0]
    assert part.drawn_w == pytest.approx([400.0])


def test_a_rise_below_the_floor_is_burnt() -> None:
    # from idle to 150 W of work: the floor of 400 W is reached after 3 s at 100 W/s
    assert _play(_part(), [(1.0, IDLE_W), (4.0, 150.0)])[1] == pytest.approx((3 * 250 + 400) / 4)


def test_a_gpu_without_power_is_off_at_once() -> None:
    part = _part()
    assert _play(part, [(1.0, 600.0), (1.0, 0.0), (1.0, IDLE_W)]) == pytest.approx([600.0, 0.0, IDLE_W])


def test_settings_out_of_range() -> None:
    with pytest.raises(SimulationError, match="ramps above 0"):
        _part(up=0.0)


def _walk(part: dict[str, float], needs: list[tuple[float, float]], steps: int = 4000) -> list[float]:
    """Mean W of each span, by a walk in fine steps: towards what is due by no more than the ramps allow. Work that needs more
    than that was held back: its level is sought such that the mean is the need."""
    power_w, idle_s, means = needs[0][1], float("inf"), []

    def towards(begin_w: float, target_w: float, at_s: float) -> float:
        return min(max(target_w, begin_w - part["down"] * at_s), begin_w + part["up"] * at_s)

    for span_s, need_w in needs:
        fine_s = span_s / steps
        begin_w, total = power_w, 0.0
        at_work = need_w > IDLE_W * (1 + 1e-9)
        for n in range(steps):
            held = at_work or idle_s + (n + 0.5) * fine_s < part["hysteresis_s"]
            target_w = max(need_w, part["floor_w"]) if held else need_w
            after_w = towards(power_w, target_w, fine_s)
            total += 0.5 * (power_w + after_w)
            power_w = after_w
        mean_w = total / steps
        if need_w > max(mean_w, begin_w):
            middle_s = (np.arange(steps) + 0.5) * fine_s
            low, high = need_w, begin_w + part["up"] * span_s
            for _ in range(60):
                level = 0.5 * (low + high)
                low, high = (level, high) if np.minimum(level, begin_w + part["up"] * middle_s).mean() < need_w else (low, level)
            mean_w, power_w = need_w, max(need_w, high)
        means.append(mean_w)
        idle_s = 0.0 if at_work else idle_s + span_s
    return means


@settings(max_examples=25, deadline=None)
@given(
    needs=st.lists(
        st.tuples(st.sampled_from([0.3, 1.0, 2.5]), st.one_of(st.just(IDLE_W), st.floats(IDLE_W, 700.0))), min_size=2, max_size=6
    ),
    floor_w=st.sampled_from([0.0, 300.0, 500.0]),
    up=st.sampled_from([60.0, 400.0]),
    down=st.sampled_from([30.0, 500.0]),
    hysteresis_s=st.sampled_from([0.0, 0.1, 1.7]),
)
def test_as_a_walk_in_fine_steps(
    needs: list[tuple[float, float]], floor_w: float, up: float, down: float, hysteresis_s: float
) -> None:
    found = _play(_part(floor_w, up, down, hysteresis_s), needs)
    walked = _walk({"floor_w": floor_w, "up": up, "down": down, "hysteresis_s": hysteresis_s}, needs)
    assert found == pytest.approx(walked, abs=0.5)


@settings(max_examples=50, deadline=None)
@given(
    needs=st.lists(st.lists(st.floats(IDLE_W, 700.0), min_size=3, max_size=3), min_size=2, max_size=8), span_s=st.floats(0.1, 5.0)
)
def test_never_less_than_the_need_and_never_a_steeper_fall(needs: list[list[float]], span_s: float) -> None:
    part = _part(gpus=3, hysteresis_s=0.3)
    alone = [_part(hysteresis_s=0.3) for _ in range(3)]
    last_w = np.array(needs[0])
    for row in needs:
        need_w = np.minimum(row, part.limit_w(span_s)) if part.drawn_w is not None else np.array(row)
        drawn_w = part.advance(span_s, need_w)
        assert (drawn_w >= need_w).all()
        assert (np.abs(part.drawn_w - last_w) <= np.where(part.drawn_w > last_w, 100.0, 50.0) * span_s * (1 + 1e-9)).all()
        last_w = part.drawn_w
        each = [one.advance(span_s, need_w[i : i + 1])[0] for i, one in enumerate(alone)]
        assert drawn_w.tolist() == each


# --- whole runs ----------------------------------------------------------------------------------------------------------------

SMOOTHING = {"floor": "60 %", "ramp_up": "40 W/s", "ramp_down": "20 W/s", "hysteresis": "2 s"}


def _run(out: Path, **changes: object) -> tuple[dict, dict]:
    """Bursts of two sessions a minute, so that GPUs stand idle between."""
    given = {"horizon": "3 min", "grid.events": [], "workload.arrivals": {"process": "poisson", "rate": "0.05 /s"}, **changes}
    api.run(QUICKSTART, out=out, set=given)
    return json.loads((out / "summary.json").read_text()), pq.read_table(out / "power.parquet").to_pydict()


def test_a_floor_burns_power_and_smooths_the_meter(tmp_path: Path) -> None:
    plain, _ = _run(tmp_path / "plain")
    smoothed, smooth = _run(tmp_path / "smooth", power_smoothing=SMOOTHING)
    waste_j = smoothed["energy"]["smoothing_waste_j"]
    assert plain["energy"]["smoothing_waste_j"] == 0.0
    assert waste_j == pytest.approx(sum(np.array(smooth["smoothing_w"]) * np.diff([0.0, *smooth["time_s"]])))
    assert waste_j > 0.0
    assert smoothed["economics"]["smoothing_waste_usd"] == pytest.approx(waste_j * 70 / 3.6e9)
    gpu_j = {name: each["energy"]["it_shares_j"] for name, each in (("plain", plain), ("smooth", smoothed))}
    assert gpu_j["smooth"]["memory"] == pytest.approx(gpu_j["plain"]["memory"], rel=0.02)  # the same work
    steepest = [each["energy"]["sites"]["hgx-h100"] for each in (smoothed, plain)]
    for key in ("rise_w_per_s_max", "fall_w_per_s_max"):
        assert steepest[0][key] < 0.5 * steepest[1][key]
    # 32 GPUs, each by no more than 40 W/s up and 20 W/s down
    assert np.diff(smooth["gpu_w"]).max() <= 32 * 40 * (1 + 1e-9)
    assert np.diff(smooth["gpu_w"]).min() >= -32 * 20 * (1 + 1e-9)
    assert smoothed["requests"]["completed"] == plain["requests"]["completed"]


def test_a_pool_that_is_not_named_is_not_smoothed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown pool 'chta' \\(did you mean 'chat'"):
        load_scenario(QUICKSTART, overrides={"power_smoothing": {**SMOOTHING, "pools": ["chta"]}})
    with pytest.raises(InputError, match="the scenario has no jobs"):
        load_scenario(QUICKSTART, overrides={"power_smoothing": {**SMOOTHING, "pools": ["jobs"]}})
    with pytest.raises(InputError, match="ramp_up"):
        load_scenario(QUICKSTART, overrides={"power_smoothing": {**SMOOTHING, "ramp_up": "40 W"}})


def test_jobs_are_smoothed_and_a_rise_holds_their_work_back(tmp_path: Path) -> None:
    """A job on 64 GPUs that stops for a checkpoint of 10 s every 40 s: power falls by 20 W/s to the floor instead of at once."""
    given = {
        "horizon": "3 min",
        "grid.events": [],
        "control.policy": "none",
        "workload.arrivals": {"process": "poisson", "rate": "1 /s"},
        "serving.pools.0.instances": 2,
        "jobs": [
            {
                "name": "tune",
                "kind": "training",
                "racks": "racks",
                "gpus": 16,
                "step": {"time": "2 s", "gpus": 16, "compute_share": "50 %", "power": "90 %"},
                "checkpoint": {"interval": 20, "cost": "10 s"},
                "restart": "10 s",
                "steps": 10_000,
            }
        ],
    }
    runs = {}
    for name, more in (("plain", {}), ("smooth", {"power_smoothing": {**SMOOTHING, "hysteresis": "15 s", "pools": ["jobs"]}})):
        out = tmp_path / name
        api.run(QUICKSTART, out=out, set={**given, **more})
        power, jobs = (pq.read_table(out / f"{table}.parquet").to_pydict() for table in ("power", "jobs"))
        runs[name] = np.array(power["job_gpu_w"]), np.array(power["smoothing_w"]), jobs["steps_done"][0], jobs["energy_j"][0]
    (rough_w, none_w, more_steps, _), (smooth_w, burnt_w, fewer_steps, needed_j) = runs["plain"], runs["smooth"]
    assert not none_w.any()
    assert burnt_w.sum() > 0
    assert np.diff(rough_w).min() < -16 * 400
    assert np.diff(smooth_w).min() >= -16 * 20 * (1 + 1e-9)
    assert more_steps > fewer_steps > 0.8 * more_steps
    # steps of 1 s: what the job needed and what was burnt on top is what its GPUs drew
    assert smooth_w.sum() == pytest.approx(needed_j + burnt_w.sum())
