"""Hardware that fails and is repaired in whole runs, and what works of it, counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import ROOT
from outage_cases import Act, Played, play, scenario

from twin.engine.hardware import Hardware, RackHardware
from twin.errors import SimulationError
from twin.fabric import plan_fabric

# --- what works --------------------------------------------------------------------------------------------------------------


def _rails() -> Hardware:
    """Two racks of 18 trays of four GPUs and four NICs, on rails: blocks of 8 nodes, 4 leaves each with 8 up-links."""
    racks = [RackHardware(f"row/{n}", 72, 18, 72, 18, 18 * n) for n in (0, 1)]
    plan = plan_fabric("rail_optimized", 36, 4, 16)
    assert (plan.leaf_down, plan.leaf_up, plan.tiers) == (8, 8, 3)
    return Hardware(racks, plan)


def test_components_are_named_by_group_rack_and_tray() -> None:
    by_key = {component.key: component.units for component in _rails().components()}
    assert {key: by_key[key] for key in ("rack/row/1", "nvswitch/row/0", "tray/row/0/17", "gpu/row/1/3", "nic/row/1/3")} == {
        "rack/row/1": 1,
        "nvswitch/row/0": 18,
        "tray/row/0/17": 1,
        "gpu/row/1/3": 4,
        "nic/row/1/3": 4,
    }
    assert by_key["link/0"] == 8
    assert "tray/row/0/18" not in by_key


def test_gpus_and_trays() -> None:
    hardware = _rails()
    assert hardware.fail("tray/row/0/2", 1) == [0]
    assert hardware.fail("gpu/row/0/3", 3) == [0]
    live = hardware.live(0)
    assert np.flatnonzero(~live).tolist() == [8, 9, 10, 11, 12, 13, 14]
    assert hardware.trays_frac(0) == pytest.approx(17 / 18)
    hardware.repair("gpu/row/0/3", 1)
    assert np.flatnonzero(~hardware.live(0)).tolist() == [8, 9, 10, 11, 12, 13]
    assert hardware.set_dark(np.array([False, True])) == [1]
    assert not hardware.live(1).any()
    assert hardware.trays_frac(1) == 0.0


def test_switches_of_a_rack_and_of_domains_in_it() -> None:
    hardware = _rails()
    hardware.fail("nvswitch/row/0", 1)
    assert hardware.scale_up_frac(0, 8, 4) == pytest.approx(17 / 18)
    assert hardware.scale_up_frac(1, 8, 4) == 1.0
    boxes = Hardware([RackHardware("row/0", 32, 4, 8, 16, 0)], plan_fabric("fat_tree", 4, 8, 64))
    boxes.fail("nvswitch/row/0", 5)  # four of the first box, one of the second
    assert [boxes.scale_up_frac(0, first, 4) for first in (0, 8, 12, 16)] == [0.0, 0.75, 0.75, 1.0]
    assert boxes.scale_up_frac(0, 8, 16) == 0.75


def test_nics_and_their_leaves() -> None:
    hardware = _rails()
    hardware.fail("nic/row/0/1", 1)  # NIC 0, on leaf 0
    assert hardware.scale_out_frac(0, 0, 8) == (pytest.approx((1.0 + 0.75) / 2), True)
    assert hardware.fail("leaf/1", 1) == [0]  # NIC 1 of nodes 0 to 7
    assert hardware.scale_out_frac(0, 0, 8) == (pytest.approx((0.75 + 0.5) / 2), True)
    assert hardware.scale_out_frac(0, 32, 4) == (1.0, True)  # another block
    hardware.fail("nic/row/0/1", 3)
    assert hardware.scale_out_frac(0, 0, 8) == (pytest.approx(0.75 / 2), False)


def test_uplinks_of_a_block() -> None:
    hardware = _rails()
    hardware.fail("link/0", 2)
    assert hardware.uplinks_frac(0) == pytest.approx(30 / 32)
    hardware.fail("leaf/0", 1)  # and its two others with it
    assert hardware.uplinks_frac(0) == pytest.approx(24 / 32)
    for leaf in (1, 2, 3):
        hardware.fail(f"link/{leaf}", 8)
    assert hardware.uplinks_frac(0) == 0.0
    assert hardware.scale_out_frac(0, 0, 4) == (pytest.approx(0.75), False)  # nothing leads to it
    assert hardware.fail("leaf/8", 1) == [0, 1]  # block 2: nodes 16 to 23


@pytest.mark.parametrize(
    ("key", "units", "said"),
    [
        ("tray/row/0/18", 1, r"no hardware 'tray/row/0/18' can fail \(did you mean 'tray/row/0/8'"),
        ("nvswitch/row/0", 19, "19 of nvswitch/row/0 cannot fail: 0 of 18 have failed"),
        ("rack/row/0", 0, "0 of rack/row/0 cannot be repaired"),
    ],
)
def test_what_cannot_fail(key: str, units: int, said: str) -> None:
    with pytest.raises(SimulationError, match=said):
        _rails().fail(key, units)


def test_what_has_not_failed_cannot_be_repaired() -> None:
    with pytest.raises(SimulationError, match="1 of leaf/2 cannot be repaired: 0 of 1 have failed"):
        _rails().repair("leaf/2", 1)


# --- whole runs --------------------------------------------------------------------------------------------------------------


def _kinds(run: Played, subject: str) -> list[tuple[float, str]]:
    events = run.events[run.events["subject"] == subject]
    return list(zip(events["time_s"].tolist(), events["kind"].astype(str).tolist(), strict=True))


def test_a_tray_fails_and_comes_back() -> None:
    run = play(scenario(), [Act(5.5, "fail", "tray/racks/0/1"), Act(20.5, "repair", "tray/racks/0/1")])
    # Instances are dealt out over the trays in turn, those that read first: the second and the sixth are on this one.
    assert _kinds(run, "write-0") == [(5.5, "instance_down"), (20.5, "instance_restarting"), (25.5, "instance_up")]
    assert _kinds(run, "read-1") == _kinds(run, "write-0")
    assert (run.requests["outcome"] == "completed").all()
    assert run.requests["failovers"].sum() >= 1
    pools = run.totals.pools
    assert (pools["read"].down_s, pools["write"].down_s) == (pytest.approx(4 * 20.0), pytest.approx(4 * 20.0))
    assert pools["read"].available_s == pytest.approx(5 * 4 * 120.0 - 4 * 20.0)
    workers = run.workers[run.workers["worker"] == "write-0"].set_index("time_s")
    power = run.power.set_index("time_s")
    idle_w = run.site.runtime.loads.idle_gpu_w[0]
    assert power["gpu_w"].loc[10.0] < power["gpu_w"].loc[4.0]
    assert workers["power_w"].loc[20.0] == pytest.approx(0.0, abs=1e-6)
    assert power["gpu_w"].min() >= (32 - 8) * idle_w - 1e-6


def test_a_dark_rack_draws_nothing_and_all_goes_on_after_it() -> None:
    run = play(scenario(), [Act(8.5, "dark", units=0), Act(30.5, "live", units=0)])
    power = run.power.set_index("time_s")
    assert (power.loc[10.0:30.0, ["it_w", "gpu_w", "tokens_per_s"]] == 0.0).all(axis=None)
    assert run.site.runtime.outages.downs == run.site.runtime.outages.ups == 8
    assert _kinds(run, "racks/0") == [(8.5, "rack_down"), (30.5, "rack_up")]
    assert (run.requests["outcome"] == "completed").all()
    waited = run.requests[(run.requests["arrival_s"] > 9.0) & (run.requests["arrival_s"] < 30.0)]
    assert (waited["admitted_s"] >= 35.5).all()
    assert (waited["failovers"] == 0).all()  # they had no instance to lose


def test_all_that_write_are_down_for_a_while() -> None:
    acts = [Act(time_s, verb, f"tray/racks/0/{n}") for time_s, verb in ((6.5, "fail"), (30.5, "repair")) for n in (1, 2, 3)]
    run = play(scenario(), acts)
    assert all(_kinds(run, f"write-{n}")[0] == (6.5, "instance_down") for n in range(3))
    assert (run.requests["outcome"] == "completed").all()
    late = run.requests[(run.requests["arrival_s"] > 7.0) & (run.requests["arrival_s"] < 25.0)]
    assert (late["first_token_s"].dropna() < 30.5).any()  # read-0 and read-4 go on reading while there is room
    assert (late["finish_s"] >= 35.5).all()


def test_fewer_nvswitches_make_slower_steps_and_lose_nothing() -> None:
    acts = [Act(5.5, "fail", "nvswitch/racks/0", 3), Act(15.5, "repair", "nvswitch/racks/0", 3)]
    run, whole = play(scenario(), acts), play(scenario())
    worker = next(s.worker for s in run.site.runtime.stations if s.worker.name == "read-0")
    whole_worker = next(s.worker for s in whole.site.runtime.stations if s.worker.name == "read-0")
    assert _kinds(run, "read-0") == [(5.5, "instance_degraded"), (15.5, "instance_restored")]
    assert json.loads(run.events["detail"].iloc[0]) == {"scale_up_frac": 0.25, "scale_out_frac": 1.0}
    assert worker.spec.cost == whole_worker.spec.cost
    assert run.requests["failovers"].sum() == 0
    assert (run.requests["outcome"] == "completed").all()
    slow = run.requests.set_index("request_id")["e2e_s"] - whole.requests.set_index("request_id")["e2e_s"]
    assert slow.max() > 0.005


def test_the_cost_of_a_step_with_a_share_of_the_switches() -> None:
    """Of what a token adds to a step's collectives, all is NVLink's time inside a domain: four times as long at a quarter."""
    site = play(scenario(horizon="30 s")).site
    whole, part = (site.runtime.outages._cost_at("read", frac, 1.0) for frac in (1.0, 0.25))
    assert part.network_s_per_token == pytest.approx(4 * whole.network_s_per_token)
    assert part.network_s == whole.network_s


def test_a_leaf_with_all_nics_takes_its_instances_down() -> None:
    run = play(scenario(), [Act(5.5, "fail", "leaf/0"), Act(9.5, "repair", "leaf/0")])
    assert run.site.runtime.outages.downs == 8
    assert (run.requests["outcome"] == "completed").all()


def test_one_nic_less_is_slower_and_the_last_is_down() -> None:
    acts = [Act(5.5, "fail", "nic/racks/0/0", 6), Act(8.5, "fail", "nic/racks/0/0", 2), Act(12.5, "repair", "nic/racks/0/0", 8)]
    run = play(scenario(), acts)
    kinds = [(5.5, "instance_degraded"), (8.5, "instance_down"), (12.5, "instance_restored"), (12.5, "instance_restarting")]
    assert _kinds(run, "read-0") == [*kinds, (17.5, "instance_up")]


def test_a_restart_that_fails_begins_anew() -> None:
    times = ((5.5, "fail"), (10.5, "repair"), (12.5, "fail"), (20.5, "repair"))
    run = play(scenario(), [Act(time_s, verb, "gpu/racks/0/0") for time_s, verb in times])
    kinds = [kind for _, kind in _kinds(run, "read-0")]
    assert kinds == ["instance_down", "instance_restarting", "instance_restarting", "instance_up"]
    assert _kinds(run, "read-0")[-1][0] == 25.5
    assert run.totals.pools["read"].down_s == pytest.approx(4 * 20.0)


def test_an_instance_that_fails_on_its_way_between_pools_stays_in_its_own() -> None:
    made = scenario(horizon="200 s")
    made["serving"]["planner"] = {"step": "2 s", "ratio": 1.05, "patience": 1, "restart": "5 s"}
    made["workload"] |= {"sessions": 400, "output_tokens": 400, "arrivals": {"process": "poisson", "rate": "20 /s"}}
    first = play(made)
    restart = first.events[first.events["kind"] == "planner_restart"].iloc[0]
    number = [station.worker.name for station in first.site.runtime.stations].index(restart["subject"])
    ((_, gpu, _),) = first.site.runtime.stations[number].slots
    at_s = restart["time_s"] + 0.25
    acts = [Act(at_s, "fail", f"gpu/racks/0/{gpu // 8}", 8), Act(at_s + 10.5, "repair", f"gpu/racks/0/{gpu // 8}", 8)]
    run = play(made, acts)
    kinds = [kind for time_s, kind in _kinds(run, restart["subject"]) if time_s >= at_s]
    assert kinds[:4] == ["instance_down", "planner_called_off", "instance_restarting", "instance_up"]
    assert (run.requests["outcome"] == "completed").all()


def test_a_run_without_faults_has_no_trace_of_them() -> None:
    run = play(scenario())
    assert run.events.empty
    assert (run.requests["failovers"] == 0).all()
    assert run.site.runtime.loads.live is None


def test_the_same_faults_twice_give_the_same() -> None:
    acts = [Act(5.5, "fail", "tray/racks/0/0"), Act(8.5, "dark", units=0), Act(9.0, "live", units=0)]
    one, other = play(scenario(), acts), play(scenario(), acts)
    assert one.requests.equals(other.requests)
    assert one.power.equals(other.power)


def test_an_instance_that_stands_for_several_cannot_fail() -> None:
    made = scenario(represent=1)
    made["serving"]["pools"] = [{**made["serving"]["pools"][0], "role": "aggregated", "instances": 8}]
    with pytest.raises(SimulationError, match="an instance that stands for 2 cannot fail in parts: set represent to 1"):
        play({**made, "represent": 2}, [Act(5.5, "fail", "gpu/racks/0/0")])


# --- jobs --------------------------------------------------------------------------------------------------------------------


def _with_job(least: int = 16) -> dict[str, object]:
    made = scenario(topology=str(ROOT / "topologies" / "hgx_h100.yaml"))
    made["serving"]["pools"] = [{**made["serving"]["pools"][0], "role": "aggregated", "instances": 4}]
    made["workload"]["sessions"] = 20
    step = {"time": "0.7 s", "gpus": 16, "power": "80 %", "compute_share": "70 %"}
    made["jobs"] = [
        {
            "name": "tune",
            "kind": "fine_tuning",
            "gpus": {"min": least, "max": 16},
            "step": step,
            "steps": 60,
            "checkpoint": {"cost": "1 s", "interval": 10},
            "restart": "2 s",
        }
    ]
    return made


def test_a_job_loses_what_is_not_saved_and_waits_for_its_gpus() -> None:
    # Starts at 0, steps from 2 s on, saved at 10 s; 8 steps from 10 s on are lost, with the one under way.
    run = play(_with_job(), [Act(15.9, "fail", "gpu/racks/0/0", 8), Act(30.5, "repair", "gpu/racks/0/0", 8)])
    (job,) = run.jobs.to_dict("records")
    kinds = [(time_s, kind) for time_s, kind in _kinds(run, "tune") if kind in ("job_start", "job_failed", "job_done")]
    assert [kind for _, kind in kinds] == ["job_start", "job_failed", "job_start", "job_done"]
    assert [time_s for time_s, _ in kinds][:3] == [0.0, 15.9, 30.5]
    assert (job["outcome"], job["steps_kept"], job["steps_lost"], job["pauses"]) == ("completed", 60, 8, 0)


def test_an_elastic_job_goes_on_with_fewer_gpus() -> None:
    run = play(_with_job(least=4), [Act(15.9, "fail", "gpu/racks/0/0", 8), Act(30.5, "repair", "gpu/racks/0/0", 8)])
    starts = run.events[run.events["kind"] == "job_start"]
    assert [(row.time_s, json.loads(row.detail)["gpus"]) for row in starts.itertuples()] == [(0.0, 16), (15.9, 12)]
    assert (run.jobs["outcome"] == "completed").all()
    assert "job_resized" in set(run.events["kind"].astype(str))  # it grows again once they are back
