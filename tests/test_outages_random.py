"""Random failures in random factories: nothing is lost, everything is finished once all is repaired, and every book adds up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outage_cases import Act, play, scenario

from twin.errors import InputError

#: The one rack of `hgx_h100`: four trays, each a scale-up domain with its NVSwitches, of eight GPUs and NICs.
_UNITS = {"rack/racks/0": 1, "nvswitch/racks/0": 16, "leaf/0": 1}
for _tray in range(4):
    _UNITS |= {f"tray/racks/0/{_tray}": 1, f"gpu/racks/0/{_tray}": 8, f"nic/racks/0/{_tray}": 8}

#: All is repaired by then.
REPAIRED_S = 60.0


@st.composite
def faults(draw: st.DrawFn) -> list[Act]:
    """Failures and repairs, at times that may coincide, all repaired in the end."""
    acts = []
    for key in draw(st.lists(st.sampled_from(sorted(_UNITS)), min_size=1, max_size=5, unique=True)):
        units = draw(st.integers(1, _UNITS[key]))
        times = draw(st.lists(st.one_of(st.integers(1, 55).map(float), st.floats(0.5, 55.0)), min_size=1, max_size=5))
        for number, time_s in enumerate(sorted(times)):
            acts.append(Act(time_s, "repair" if number % 2 else "fail", key, units))
        if len(times) % 2:
            acts.append(Act(REPAIRED_S, "repair", key, units))
    if draw(st.booleans()):
        dark_s = draw(st.floats(0.5, 50.0))
        acts += [Act(dark_s, "dark", units=0), Act(dark_s + draw(st.floats(0.1, 9.0)), "live", units=0)]
    return sorted(acts, key=lambda one: one.time_s)


@st.composite
def factories(draw: st.DrawFn) -> dict[str, Any]:
    """A factory of 32 GPUs with little memory and every kind of queue, reuse and role; its sessions come in the first minute."""
    serving = scenario()["serving"]
    limits = {
        "max_sequences": draw(st.sampled_from([2, 8, 64])),
        "kv_blocks": draw(st.sampled_from([None, 1_500, 4_000])),
        "admission": draw(st.sampled_from(["prompts", "answers"])),
        "scheduling": draw(st.sampled_from(["chunked", "prefill_first"])),
    }
    split = draw(st.booleans())
    gpus_of_jobs = draw(st.sampled_from([0, 0, 8, 16]))
    instances = 8 - gpus_of_jobs // 4
    if split:
        reads = draw(st.integers(1, instances - 1))
        for pool, count in zip(serving["pools"], (reads, instances - reads), strict=True):
            pool |= {**limits, "instances": count}
    else:
        (pool, _) = serving["pools"]
        big = draw(st.booleans())
        pool |= {**limits, "role": "aggregated", "instances": instances // 2 if big else instances}
        pool |= {"parallelism": {"tp": 8}} if big else {}
        serving["pools"] = [pool]
    if draw(st.booleans()):
        serving["kv_cache"] = {"host": {"capacity": "20 GB", "bandwidth": "20 GB/s"}}
        if draw(st.booleans()):
            serving["kv_cache"]["storage"] = {"capacity": "200 GB", "bandwidth": "10 GB/s"}
        serving["preemption"] = draw(st.sampled_from(["recompute", "swap"]))
        between = draw(st.sampled_from(["keep", "drop", "offload", "predict"]))
        serving["kv_cache"]["between_turns"] = {"policy": between}
    if draw(st.booleans()):
        serving["pools"][-1]["speculation"] = {"draft_tokens": 2, "acceptance": 0.7}
    serving["router"] = draw(st.sampled_from(["least_loaded", "kv_affinity"]))
    serving["queue"] = draw(st.sampled_from(["fifo", "priority", "fair"]))
    serving["restart"] = draw(st.sampled_from(["0.1 s", "5 s"]))
    if split and draw(st.booleans()):
        serving["planner"] = {"step": "2 s", "ratio": 1.05, "patience": 1, "restart": "3 s"}
    kind = draw(st.sampled_from(["fixed", "chat", "agents"]))
    arrivals = {"process": "poisson", "rate": draw(st.sampled_from(["0.5 /s", "5 /s"]))}
    workload: dict[str, Any] = {"kind": kind, "arrivals": arrivals, "tiers": {"all": 0.5, "free": 0.5}, "sessions": 60}
    if serving["queue"] == "fair":
        workload["tenants"] = {"large": {"share": 0.7, "weight": 2}, "small": {"share": 0.3}}
    if kind == "fixed":
        workload |= {"input_tokens": draw(st.integers(1, 6_000)), "output_tokens": draw(st.sampled_from([1, 2, 300]))}
    if kind == "agents":
        workload |= {"think_time_scale": 0.02, "sessions": 6}
    jobs = []
    if gpus_of_jobs:
        step = {"time": "0.7 s", "gpus": gpus_of_jobs, "power": "80 %", "compute_share": "70 %"}
        checkpoint = {"cost": "1 s", "interval": draw(st.sampled_from([4, "5 s"]))}
        least = draw(st.sampled_from([4, gpus_of_jobs]))
        jobs = [
            {
                "name": "tune",
                "kind": "fine_tuning",
                "gpus": {"min": least, "max": gpus_of_jobs},
                "step": step,
                "steps": 60,
                "checkpoint": checkpoint,
                "restart": "2 s",
            }
        ]
    return scenario(
        serving=serving,
        workload=workload,
        tiers=[{"name": "all"}, {"name": "free", "curtailment": "defer"}],
        control={"policy": draw(st.sampled_from(["none", "uniform_cap", "ladder"]))},
        grid={"events": [{"name": "dip", "start": "12 s", "ramp": "3 s", "duration": "20 s", "target": "60 %"}]},
        horizon="1500 s",
        records={"interval": "10 s", "worker_interval": "20 s"},
        seed=draw(st.integers(0, 1_000)),
        **({"jobs": jobs} if jobs else {}),
    )


def check(made: dict[str, Any], acts: list[Act]) -> None:
    """Play it, and see that all that came in came out."""
    try:
        run = play(made, acts)
    except InputError as error:
        if "no room" in str(error) or "no session arrives" in str(error):
            return
        raise
    under_way = run.requests[~run.requests["outcome"].isin(["completed", "rejected"])]
    if made["workload"]["kind"] == "agents":  # whose calls go on for long
        assert (under_way["arrival_s"] > 900.0).all()
    else:
        assert under_way.empty
    done = run.requests[run.requests["outcome"] == "completed"]
    assert done[["admitted_s", "first_token_s", "finish_s", "prefill_worker"]].notna().all(axis=None)
    assert (done["admitted_s"] <= done["first_token_s"]).all()
    assert (done["first_token_s"] <= done["finish_s"]).all()
    assert all(station.up for station in run.site.runtime.stations)
    assert run.site.runtime.outages.downs == run.site.runtime.outages.ups
    assert run.site.runtime.loads.live is None
    assert (run.power["gpu_w"] >= 0).all()
    assert (run.power["tokens_per_s"] >= 0).all()
    assert (run.workers["output_tokens_per_s"] >= 0).all()
    assert (run.workers["power_w"] >= 0).all()
    if run.jobs is not None and made.get("jobs"):
        assert (run.jobs["outcome"] == "completed").all()
        assert (run.jobs["steps_kept"] == 60).all()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=factories(), acts=faults())
def test_nothing_is_lost_whatever_fails(made: dict[str, Any], acts: list[Act]) -> None:
    check(made, acts)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=factories(), acts=faults())
def test_nothing_is_lost_whatever_fails_many_times(made: dict[str, Any], acts: list[Act]) -> None:
    check(made, acts)
