"""What must hold in every run, over random factories: books that balance, tables that agree, a meter that obeys."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import twin
from twin.errors import InputError

BATTERY = {"part": "lfp_container", "capacity": "20 kWh", "power": "60 kW", "floor": "20 %", "initial": "90 %"}

#: KV blocks of 16 tokens that leave room for some twenty thousand: with long answers, preemption is the rule.
FEW_BLOCKS = 1250

#: name of topology -> (rack's GPUs, its loads in the model's terms)
H100, GB200 = "hgx_h100", "gb200_nvl72"


def _scenario(**parts: Any) -> dict[str, Any]:
    """A scenario as a mapping, H100 by default: two instances of four GPUs, fixed requests, nothing asked by the utility."""
    base: dict[str, Any] = {
        "name": "made",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [
            {"name": "premium", "objectives": {"ttft": "1 s", "tpot": "50 ms"}, "price": {"input": 1, "output": 2}},
            {"name": "free", "curtailment": "defer"},
        ],
        "workload": {
            "kind": "fixed",
            "arrivals": {"process": "poisson", "rate": "6 /s"},
            "tiers": {"premium": 0.5, "free": 0.5},
            "input_tokens": 600,
            "output_tokens": 40,
        },
        "serving": {
            "model": "llama_3_1_70b",
            "precision": {"weights": "fp8", "kv": "fp8"},
            "backend": "vllm",
            "pools": [{"name": "chat", "role": "aggregated", "racks": "racks", "parallelism": {"tp": 4}, "instances": 2}],
        },
        "control": {"policy": "none"},
        "records": {"worker_interval": "5 s"},
        "horizon": "20 s",
        "seed": 1,
    }
    return {**base, **parts}


def _play(folder: Path, scenario: dict[str, Any]) -> twin.Run:
    return twin.run(scenario, out=folder / "run")


# --- what is checked -----------------------------------------------------------------------------------------------------


def check_books(run: twin.Run, scenario: dict[str, Any]) -> None:
    """Every promise that a run's tables make to each other."""
    summary = run.summary
    assert summary["invariants"]
    assert all(summary["invariants"].values())
    assert summary["requests"]["lost"] == 0
    _check_requests(run.requests, run.sessions, summary)
    _check_power(run.power, summary)
    check_workers(run, scenario)


def _check_requests(requests: pd.DataFrame, sessions: pd.DataFrame, summary: dict[str, Any]) -> None:
    counts = summary["requests"]
    assert len(requests) == counts["total"] == sum(counts[k] for k in ("completed", "moved", "in_flight", "rejected"))
    for outcome, count in requests["outcome"].value_counts().items():
        assert counts[outcome] == count
    assert requests["request_id"].is_unique
    horizon_s, slack = summary["horizon_s"], 1e-9

    def in_order(*names: str) -> None:
        for before, after in itertools.pairwise(names):
            both = requests[[before, after]].dropna()
            assert (both[after] >= both[before] - slack).all()

    in_order("arrival_s", "admitted_s", "first_token_s", "finish_s")
    assert requests[["arrival_s", "admitted_s", "first_token_s", "finish_s"]].max().max() <= horizon_s + slack
    done = requests[requests["outcome"] == "completed"]
    assert done[["admitted_s", "first_token_s", "finish_s", "prefill_worker", "ttft_s", "e2e_s"]].notna().all(axis=None)
    open_ = requests[requests["outcome"] == "in_flight"]
    assert open_["finish_s"].isna().all()
    refused = requests[requests["outcome"] == "rejected"]
    assert (refused["output_tokens"] == 0).all()
    assert refused["admitted_s"].isna().all()

    _same(requests["ttft_s"], requests["first_token_s"] - requests["arrival_s"])
    _same(requests["e2e_s"], requests["finish_s"] - requests["arrival_s"])
    tpot = (requests["finish_s"] - requests["first_token_s"]) / (requests["output_tokens"] - 1)
    _same(requests["tpot_s"], tpot.where(requests["output_tokens"] > 1))
    assert (requests["cached_tokens"] < requests["input_tokens"]).all()
    assert (requests["energy_j"] >= 0).all()

    parents = requests.set_index("request_id")["finish_s"]
    led = requests.dropna(subset=["parent_id"])
    assert (led["arrival_s"].to_numpy() >= parents.loc[led["parent_id"].astype(int)].to_numpy() - slack).all()

    by_session = requests.groupby("session_id").agg(calls=("request_id", "size"), tokens=("output_tokens", "sum"))
    booked = sessions.set_index("session_id")
    assert set(booked.index) == set(by_session.index)
    assert booked.loc[by_session.index, ["calls", "tokens"]].to_numpy().tolist() == by_session.to_numpy().tolist()


def _same(told: pd.Series, computed: pd.Series) -> None:
    assert (told.isna() == computed.isna()).all()
    assert np.allclose(told.dropna(), computed.dropna(), rtol=1e-12, atol=1e-12)


def _check_power(power: pd.DataFrame, summary: dict[str, Any]) -> None:
    supplied = power["utility_w"] + power["battery_w"] + power["generator_w"]
    used = power["it_w"] + power["cooling_w"] + power["conversion_loss_w"] + power["other_w"]
    assert ((supplied - used).abs() <= 1e-9 * used).all()
    assert ((power["gpu_w"] + power["cpu_and_other_it_w"] - power["it_w"]).abs() <= 1e-9 * power["it_w"]).all()
    assert (power[["utility_w", "it_w", "cooling_w", "gpu_w"]] >= 0).all(axis=None)
    charge = power["battery_soc_frac"]  # null throughout, where there is no battery
    assert charge.isna().all() or charge.between(0, 1).all()
    energy = summary["energy"]
    for _, site in power.groupby("site", observed=True):
        assert site["time_s"].is_monotonic_increasing
        assert site["time_s"].iloc[-1] == summary["horizon_s"]
    for column in ("utility", "it", "cooling", "conversion_loss", "battery"):
        total_j = sum((site[f"{column}_w"] * _spans(site)).sum() for _, site in power.groupby("site", observed=True))
        assert total_j == pytest.approx(energy[f"{column}_j"], rel=1e-9, abs=1e-6 * energy["it_j"])


def _spans(site: pd.DataFrame) -> pd.Series:
    return site["time_s"].diff().fillna(site["time_s"].iloc[0])


def check_workers(run: twin.Run, scenario: dict[str, Any]) -> None:
    """Tokens and joules of the instances are those of the requests and of the meter."""
    workers = pd.read_parquet(run.path / "workers.parquet")
    represent = scenario.get("represent", 1)
    tokens = prefilled = joules = busy_s = 0.0
    for _, one in workers.groupby("worker", observed=True):
        spans = _spans(one)
        tokens += (one["output_tokens_per_s"] * spans).sum()
        prefilled += (one["prefill_tokens_per_s"] * spans).sum()
        joules += (one["power_w"] * spans).sum()
        busy_s += (one["busy_frac"] * spans).sum()
    requests = run.requests
    # What steps had done when they broke off is work that reached no request.
    events = pd.read_parquet(run.path / "events.parquet")
    broken = [json.loads(detail) for detail in events.loc[events["kind"] == "instance_down", "detail"]]
    tokens -= sum(each["broken_output_tokens"] for each in broken)
    prefilled -= sum(each["broken_prompt_tokens"] for each in broken)
    # Within a step tokens accrue evenly in the workers' rows; a request is booked whole tokens. A step is one token each, with
    # speculation up to one more than it drafts, of which the workers' rows have the mean: less than one token apart again.
    in_flight = (requests["outcome"] == "in_flight").sum()
    drafts = max((pool.get("speculation") or {"draft_tokens": -1})["draft_tokens"] for pool in scenario["serving"]["pools"])
    assert requests["output_tokens"].sum() == pytest.approx(tokens, rel=1e-9, abs=in_flight * (2 + drafts) + 1e-6)
    admitted = requests.dropna(subset=["admitted_s"])
    fresh = (admitted["input_tokens"] - admitted["cached_tokens"])[admitted["first_token_s"].notna()].sum()
    assert prefilled >= fresh - 1e-6  # more where a preemption made a prompt be computed again, or one is half-way
    if not in_flight and not requests["preemptions"].sum() and not requests["failovers"].sum():
        assert prefilled == pytest.approx(fresh, rel=1e-9)
    assert (workers["busy_frac"] <= 1 + 1e-9).all()
    assert (workers["kv_used_frac"] <= 1).all()
    assert (workers["running"] >= 0).all()
    power = run.power
    gpu_j = sum((site["gpu_w"] * _spans(site)).sum() for _, site in power.groupby("site", observed=True))
    assert represent * joules <= gpu_j * (1 + 1e-9)  # the rest is GPUs without an instance
    assert requests["energy_j"].sum() <= joules * (1 + 1e-9)


# --- random factories ----------------------------------------------------------------------------------------------------

_SECONDS = st.one_of(
    st.integers(0, 12).map(float),  # at record and control times
    st.integers(1, 120).map(lambda n: n * 0.1),  # at multiples that rounding makes differ
    st.floats(0.01, 12.0),
)


@st.composite
def _scenarios(draw: st.DrawFn) -> dict[str, Any]:
    horizon_s = draw(st.sampled_from([15, 20.5, 30]))
    gb200 = draw(st.booleans())
    tight = draw(st.booleans())
    split = gb200 and draw(st.booleans())
    represent = draw(st.sampled_from([1, 1, 2]))
    events = []
    for number in range(draw(st.integers(0, 2))):
        start_s, ramp_s, hold_s = draw(_SECONDS), draw(_SECONDS), draw(_SECONDS)
        events.append(
            {
                "name": f"e{number}",
                "start": f"{start_s!r} s",
                "ramp": f"{ramp_s!r} s",
                "duration": f"{ramp_s + hold_s + 0.5!r} s",
                "notice": f"{draw(_SECONDS)!r} s",
                "target": f"{draw(st.sampled_from([60, 80, 95]))} %",
                "force": draw(st.sampled_from(["mandatory", "best_effort"])),
            }
        )
    sites: dict[str, Any] = {"name": "gb200-nvl72" if gb200 else "hgx-h100"}
    if draw(st.booleans()):
        sites["battery"] = BATTERY
    topology = {"extends": str(ROOT / "topologies" / f"{GB200 if gb200 else H100}.yaml"), "sites": [sites]}
    block_tokens = draw(st.sampled_from([1, 16, 64]))
    common = {
        "racks": "racks",
        "max_sequences": draw(st.sampled_from([16, 256])),
        "admission": draw(st.sampled_from(["prompts", "answers"])),
        "prompt_wait": draw(st.sampled_from([None, {"steps": 20}, {"steps": 5, "tokens": 4_000}])),
        "speculation": draw(
            st.sampled_from([None, {"draft_tokens": 1, "acceptance": 0.9}, {"draft_tokens": 3, "acceptance": 0.6}])
        ),
        "kv_blocks": FEW_BLOCKS * 16 // block_tokens if tight else None,
    }
    if gb200:
        shape = draw(st.sampled_from([{"tp": 1, "dp": 8, "ep": 8}, {"tp": 2, "dp": 2, "ep": 4, "pp": 2}]))
        pools = [{"name": "all", "role": "aggregated", "parallelism": shape, "instances": 4, **common}]
        if split:
            pools = [
                {"name": "read", "role": "prefill", "parallelism": shape, "instances": 4, **common},
                {"name": "write", "role": "decode", "parallelism": shape, "instances": 2, **common},
            ]
        serving = {"model": "deepseek_r1", "precision": {"weights": "fp4", "kv": "fp8"}, "backend": "trtllm", "pools": pools}
    else:
        shape = draw(st.sampled_from([{"tp": 4}, {"tp": 2, "pp": 2}]))
        pools = [{"name": "all", "role": "aggregated", "parallelism": shape, "instances": 2, **common}]
        pools[0]["scheduling"] = draw(st.sampled_from(["chunked", "prefill_first"]))
        serving = {"model": "llama_3_1_70b", "precision": {"weights": "fp8", "kv": "fp8"}, "backend": "vllm", "pools": pools}
    serving["router"] = draw(st.sampled_from(["least_loaded", "kv_affinity"]))
    serving["kv_cache"] = {"block_tokens": block_tokens}
    if draw(st.booleans()):
        serving["kv_cache"]["host"] = {"capacity": draw(st.sampled_from(["1 GB", "200 GB"])), "bandwidth": "25 GB/s"}
        serving["preemption"] = draw(st.sampled_from(["recompute", "swap"]))
        if draw(st.booleans()):
            serving["kv_cache"]["storage"] = {"capacity": "1 TB", "bandwidth": draw(st.sampled_from(["1 GB/s", "40 GB/s"]))}
    if gb200:
        serving["expert_imbalance"] = draw(st.sampled_from([0, 1, 4]))
    kind = draw(st.sampled_from(["fixed", "chat", "agents"]))
    rate = draw(st.sampled_from([0.7, 4.0, 15.0]))
    workload: dict[str, Any] = {
        "kind": kind,
        "arrivals": draw(
            st.sampled_from(
                [
                    {"process": "poisson", "rate": f"{rate} /s"},
                    {"process": "gamma", "rate": f"{rate} /s", "burstiness": 2.5},
                    {"process": "profile", "profile": [{"time": "0 s", "rate": f"{rate} /s"}, {"time": "60 s", "rate": "1 /s"}]},
                ]
            )
        ),
        "tiers": {"premium": 0.4, "free": 0.6},
    }
    if kind == "fixed":
        tokens = draw(st.integers(1, 3_000))
        workload |= {"input_tokens": tokens, "output_tokens": draw(st.sampled_from([1, 2, 150, 1_500]))}
        workload["system_prompt_tokens"] = draw(st.sampled_from([0, tokens // 2, tokens - 1]))
    if kind == "chat":
        workload["system_prompt_tokens"] = draw(st.sampled_from([0, 700]))
    if kind == "agents":
        workload |= {"think_time_scale": 0.05, "warm_start": draw(st.booleans())}
        workload["system_prompts"] = draw(st.sampled_from([None, 1, 10]))
    return _scenario(
        topology=topology,
        serving=serving,
        workload=workload,
        control={
            "policy": draw(st.sampled_from(["none", "uniform_cap", "ladder"])),
            "step": draw(st.sampled_from(["1 s", "0.3 s"])),
        },
        grid={"events": events, "energy_price": "60 USD/MWh"},
        records={
            "interval": draw(st.sampled_from(["1 s", "0.7 s", "4 s"])),
            "worker_interval": draw(st.sampled_from(["1 s", "3 s"])),
        },
        horizon=f"{horizon_s} s",
        represent=represent,
        seed=draw(st.integers(0, 1_000)),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenario=_scenarios())
def test_the_books_of_random_factories_balance(scenario: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = _play(Path(folder), scenario)
        except InputError as error:
            if "no session arrives" in str(error):  # at the lowest rate it happens
                return
            raise
        check_books(run, scenario)


# --- a meter that obeys --------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start_s=st.floats(2.0, 15.0),
    ramp_s=st.sampled_from([0.0, 3.0, 7.5]),
    hold_s=st.floats(1.0, 30.0),
    share=st.sampled_from([30, 60, 90]),
    rate=st.sampled_from([2, 10]),
    seed=st.integers(0, 100),
)
def test_where_the_battery_suffices_the_meter_never_exceeds_the_level(
    start_s: float, ramp_s: float, hold_s: float, share: int, rate: int, seed: int
) -> None:
    """60 kW of battery under a rack of 45 kW: every target is feasible for half a minute, from the first second on."""
    scenario = _scenario(
        topology={
            "extends": str(ROOT / "topologies" / "hgx_h100.yaml"),
            "sites": [{"name": "hgx-h100", "feed": {"contract": "50 kW"}, "battery": BATTERY}],
        },
        control={"policy": "ladder"},
        grid={
            "events": [
                {
                    "name": "dip",
                    "start": f"{start_s!r} s",
                    "ramp": f"{ramp_s!r} s",
                    "duration": f"{ramp_s + hold_s!r} s",
                    "target": f"{share} %",
                }
            ]
        },
        horizon="50 s",
        seed=seed,
    )
    scenario["workload"]["arrivals"]["rate"] = f"{rate} /s"
    with tempfile.TemporaryDirectory() as folder:
        run = _play(Path(folder), scenario)
        check_books(run, scenario)
        power = run.power
        during = power[power["target_w"].notna()]
        assert len(during) >= hold_s
        assert (during["utility_w"] <= during["target_w"] * (1 + 1e-6)).all()
        (event,) = run.summary["curtailment"]
        assert event["overshoot_w_max"] in (0.0, None)  # None: no whole step after the ramp
        assert event["compliance_frac"] in (1.0, None)
        assert "report" not in event["actions"]
        assert not (run.events["kind"] == "limit_exceeded").any()


@pytest.mark.parametrize("policy", ["uniform_cap", "ladder"])
def test_a_target_below_what_an_idle_rack_draws_is_never_met_and_nothing_is_lost(policy: str, tmp_path: Path) -> None:
    scenario = _scenario(
        control={"policy": policy},
        grid={"events": [{"name": "dark", "start": "5 s", "duration": "50 s", "target": "5 kW"}]},
        horizon="60 s",
    )
    run = _play(tmp_path, scenario)
    check_books(run, scenario)
    (event,) = run.summary["curtailment"]
    assert event["compliance_frac"] == 0.0
    assert event["time_to_comply_s"] is None
    assert (run.events["kind"] == "limit_exceeded").sum() == 1
    if policy == "ladder":
        said = run.events[run.events["kind"] == "report"]
        assert len(said) == 1  # once, with the shortfall
        assert "cannot be met" in said["detail"].iloc[0]
        assert (run.events["kind"] == "hold_tier").sum() == 1


def test_preempted_prompts_are_computed_again_and_still_balance(tmp_path: Path) -> None:
    scenario = _scenario(horizon="30 s")
    scenario["workload"] |= {"input_tokens": 1_500, "output_tokens": 1_500}
    scenario["serving"]["pools"][0]["kv_blocks"] = FEW_BLOCKS
    run = _play(tmp_path, scenario)
    assert run.requests["preemptions"].sum() > 0
    check_books(run, scenario)


def test_preempted_sequences_are_swapped_and_nothing_is_computed_twice(tmp_path: Path) -> None:
    scenario = _scenario(horizon="30 s")
    scenario["workload"] |= {"input_tokens": 1_500, "output_tokens": 1_500}
    scenario["serving"]["pools"][0]["kv_blocks"] = FEW_BLOCKS
    scenario["serving"] |= {
        "preemption": "swap",
        "kv_cache": {"host": {"capacity": "500 GB", "bandwidth": "50 GB/s"}},
    }
    run = _play(tmp_path, scenario)
    assert run.requests["preemptions"].sum() > 0
    check_books(run, scenario)
    workers = pd.read_parquet(run.path / "workers.parquet")
    prefilled = sum((one["prefill_tokens_per_s"] * _spans(one)).sum() for _, one in workers.groupby("worker", observed=True))
    assert prefilled <= run.requests.dropna(subset=["admitted_s"])["input_tokens"].sum() * (1 + 1e-9)


def test_with_answers_admitted_whole_nobody_is_preempted(tmp_path: Path) -> None:
    scenario = _scenario(horizon="30 s")
    scenario["workload"] |= {"input_tokens": 1_500, "output_tokens": 1_500}
    scenario["serving"]["pools"][0] |= {"kv_blocks": FEW_BLOCKS, "admission": "answers"}
    run = _play(tmp_path, scenario)
    assert run.requests["preemptions"].sum() == 0
    workers = pd.read_parquet(run.path / "workers.parquet")
    # 20,000 tokens less the watermark of 1 %: six times 3,000 fit, and more want in.
    assert workers["running"].max() == 6
    assert run.requests["outcome"].value_counts()["completed"] >= 2 * 6
    check_books(run, scenario)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("fixed", {"input_tokens": 600, "output_tokens": 40, "system_prompt_tokens": 400}),
        ("chat", {"system_prompt_tokens": 700}),
        ("agents", {"system_prompts": 2, "warm_start": False, "arrivals": {"process": "poisson", "rate": "0.2 /s"}}),
    ],
)
def test_system_prompts_in_common_raise_the_cached_share(kind: str, asked: dict[str, Any], tmp_path: Path) -> None:
    """The same sessions, once with system prompts of their own and once with them in common."""
    shares, inputs = {}, {}
    for shared in (False, True):
        settings_of_it = {key: value for key, value in asked.items() if shared or "system" not in key}
        scenario = _scenario(horizon="100 s" if kind == "agents" else "40 s")
        workload = {"kind": kind, "arrivals": scenario["workload"]["arrivals"], "tiers": {"premium": 0.5, "free": 0.5}}
        scenario["workload"] = workload | settings_of_it
        run = _play(tmp_path / str(shared), scenario)
        check_books(run, scenario)
        admitted = run.requests.dropna(subset=["admitted_s"])
        first = admitted[~admitted["session_id"].duplicated()]  # their sessions' first calls
        shares[shared] = first["cached_tokens"].sum() / first["input_tokens"].sum()
        inputs[shared] = first["cached_tokens"].reset_index(drop=True)
    assert shares[False] == 0.0
    if kind == "agents":  # their first inputs are long beside a system prompt, and few
        assert inputs[True].between(5_000, 20_000).sum() >= 2
    else:
        assert shares[True] > 0.1
    if kind == "fixed":
        # All but those that came before the prompt was first computed find its whole blocks: 400 = 25 x 16 tokens.
        found = inputs[True].value_counts()
        assert set(found.index) == {0, 400}
        assert found[0] <= 6


def test_a_call_that_fits_nowhere_is_rejected_and_counted(tmp_path: Path) -> None:
    scenario = _scenario()
    scenario["workload"] |= {"input_tokens": 900_000, "output_tokens": 10}
    scenario["serving"]["pools"][0]["kv_blocks"] = FEW_BLOCKS
    run = _play(tmp_path, scenario)
    # The front end reads a prompt before anyone can say that it fits nowhere: of 900,000 tokens, for less than 3 s.
    outcomes = run.requests.set_index("arrival_s")["outcome"]
    assert set(outcomes[outcomes.index < 17.0]) == {"rejected"}
    assert run.summary["requests"]["rejected"] + run.summary["requests"]["in_flight"] == run.summary["requests"]["total"]
    check_books(run, scenario)


@pytest.mark.parametrize("interval_s", [0.3, 2.0])
def test_events_between_records_whose_times_only_rounding_tells_apart(interval_s: float, tmp_path: Path) -> None:
    """0.1 s + 0.2 s is not 0.3 s: the end of the event is a boundary of the plant's steps all the same."""
    events = [
        {"name": "a", "start": "0.1 s", "duration": "0.2 s", "target": "90 %"},
        {"name": "b", "start": "1.1 s", "duration": "2.2 s", "target": "90 %"},
    ]
    scenario = _scenario(
        control={"policy": "none", "step": "0.3 s"},
        grid={"events": events},
        records={"interval": f"{interval_s} s", "worker_interval": "3 s"},
        horizon="6 s",
    )
    run = _play(tmp_path, scenario)
    check_books(run, scenario)
    power = run.power
    in_force_s = _spans(power)[power["target_w"].notna()].sum()
    assert in_force_s == pytest.approx(0.2 + 2.2, abs=1e-9)


# --- one for four --------------------------------------------------------------------------------------------------------


def _sixteen(represent: int, seed: int) -> dict[str, Any]:
    """Two racks of 16 instances under chat that leaves no queue: what one instance sees does not depend on how many there are."""
    site = {
        "name": "hgx-h100",
        "feed": {"contract": "200 kW"},
        "racks": [{"name": "racks", "rack": "hgx_h100", "count": 2}],
        "electrical": {"ups_rating": "200 kW", "transformer_rating": "200 kW"},
    }
    made = _scenario(
        topology={"extends": str(ROOT / "topologies" / "hgx_h100.yaml"), "sites": [site]},
        represent=represent,
        seed=seed,
        horizon="60 s",
    )
    arrivals = {"process": "poisson", "rate": "30 /s"}
    made["workload"] = {"kind": "chat", "arrivals": arrivals, "tiers": {"premium": 0.5, "free": 0.5}}
    made["serving"]["router"] = "least_loaded"
    made["serving"]["pools"][0]["instances"] = 16
    return made


def test_one_that_stands_for_four_agrees_within_its_sampling_error(tmp_path: Path) -> None:
    """Means over six seeds each, with and without `represent: 4`.

    Throughput is a sum over N requests that come at random: relative standard error sqrt((1 + cv^2) / N), cv of their output
    tokens. That of latencies and power is taken from the spread over the seeds. Four standard errors of the difference, and
    one percent for what thinning really changes: four instances balance a little worse than sixteen.
    """
    figures: dict[int, np.ndarray] = {}
    throughput_error: dict[int, float] = {}
    for represent in (1, 4):
        rows, tokens = [], []
        for seed in range(1, 7):
            run = _play(tmp_path / f"{represent}-{seed}", _sixteen(represent, seed))
            service, energy = run.summary["service"], run.summary["energy"]
            rows.append(
                [
                    service["output_tokens_per_s"],
                    service["ttft_s"]["p50"],
                    service["tpot_s"]["p50"],
                    service["e2e_s"]["p50"],
                    energy["it_j"] / run.summary["horizon_s"],
                    energy["utility_j"] / run.summary["horizon_s"],
                ]
            )
            tokens.append(run.requests["output_tokens"].to_numpy())
            assert run.summary["hardware"]["gpus"] == 64
        figures[represent] = np.array(rows)
        each = np.concatenate(tokens)
        throughput_error[represent] = float(np.sqrt((1 + (each.std() / each.mean()) ** 2) / len(each)))
    means = {n: rows.mean(axis=0) for n, rows in figures.items()}
    errors = {n: rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) / means[n] for n, rows in figures.items()}
    for n, error in throughput_error.items():
        errors[n][0] = error
    apart = np.abs(means[4] / means[1] - 1)
    allowed = 4 * np.hypot(errors[1], errors[4]) + 0.01
    names = ("tokens/s", "TTFT p50", "TPOT p50", "e2e p50", "IT W", "meter W")
    assert (apart <= allowed).all(), dict(zip(names, zip(apart.round(4), allowed.round(4), strict=True), strict=True))
    assert (allowed < (0.15, 0.08, 0.06, 0.15, 0.02, 0.02)).all(), "an agreement within anything is none"
