"""summary.json of a run small enough to check by hand (see synthetic_run.py for its rows)."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import SMALL_REQUESTS, lost, power_row, request_row, small_totals, write_busy_run, write_small_run

from twin.analysis import GridEventRecord, PoolTime, TierObjectives, summarise
from twin.analysis.peak import peak
from twin.analysis.service import Requests, distribution
from twin.analysis.summary import sampling_error_frac
from twin.analysis.totals import LOSSES
from twin.errors import InputError
from twin.recording import RunDirectory


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_small_run(tmp_path_factory.mktemp("summary") / "run")


def test_every_request_is_accounted_for(summary: dict[str, Any]) -> None:
    assert summary["requests"] == {
        "total": 8,
        "completed": 4,
        "moved": 1,
        "in_flight": 2,
        "rejected": 1,
        "lost": 0,
        "represent": 2,
        "sampling_error_frac": None,  # no session of the small run has a token
        "rejections": {"memory": {"chat": 1}},
    }
    assert summary["invariants"] == {"nothing_lost": True, "energy_balanced": True}


def test_a_request_without_a_row_is_lost(tmp_path: Path) -> None:
    lost = write_small_run(tmp_path / "run", small_totals(requests_arrived=9))
    assert lost["requests"]["lost"] == 1
    assert lost["requests"]["total"] == 9
    assert lost["invariants"]["nothing_lost"] is False


def test_rates_stand_for_all_the_requests_represented(summary: dict[str, Any]) -> None:
    service = summary["service"]
    assert service["output_tokens_per_s"] == pytest.approx(120 * 2 / 40)
    assert service["input_tokens_per_s"] == pytest.approx(6 * 100 * 2 / 40)  # six requests have their first token
    assert service["goodput_output_tokens_per_s"] == pytest.approx((11 + 1 + 11 + 40) * 2 / 40)
    assert service["tiers"]["batch"]["output_tokens_per_s"] == pytest.approx((40 + 30) * 2 / 40)


def test_promises_count_rejected_and_late_requests_as_broken(summary: dict[str, Any]) -> None:
    tiers = summary["service"]["tiers"]
    assert tiers["chat"]["slo_attainment_frac"] == pytest.approx(3 / 5)  # of five, one slow to start and one rejected
    assert tiers["batch"]["slo_attainment_frac"] == pytest.approx(1 / 2)  # one in flight is late, one is not judged
    assert summary["service"]["slo_attainment_frac"] == pytest.approx(4 / 7)
    assert tiers["batch"]["objectives"] == {"ttft_s": None, "tpot_s": None, "e2e_s": 30.0, "task_s": None}
    # Of batch, three finish, are late or are known; of chat, five are known to have kept their first token's time or not.
    assert tiers["batch"]["attainment_frac"] == {"ttft_s": None, "tpot_s": None, "e2e_s": 0.5, "task_s": None}
    assert tiers["chat"]["attainment_frac"] == {"ttft_s": 3 / 5, "tpot_s": 4 / 5, "e2e_s": None, "task_s": None}


def test_quantiles_are_exact(summary: dict[str, Any]) -> None:
    ttft = summary["service"]["tiers"]["chat"]["ttft_s"]  # 0.5 0.5 0.5 2.0
    assert ttft == pytest.approx({"mean": 0.875, "p50": 0.5, "p90": 0.5 + 0.7 * 1.5, "p99": 0.5 + 0.97 * 1.5})
    assert summary["service"]["tiers"]["chat"]["tpot_s"]["p50"] == pytest.approx(0.1)  # 0.1, 0.05, 0.1; one token has none
    assert summary["service"]["tiers"]["batch"]["e2e_s"]["mean"] == pytest.approx(10.0)


def test_a_measure_without_values_is_null(tmp_path: Path) -> None:
    nothing = PoolTime(8, 320.0, 0.0, lost(idle=320.0), 0.0, 0.0)
    totals = small_totals(tiers=small_totals().tiers | {"idle": TierObjectives()}, pools={"all": nothing})
    idle = write_small_run(tmp_path / "run", totals)
    assert idle["service"]["tiers"]["idle"]["ttft_s"] == {"mean": None, "p50": None, "p90": None, "p99": None}
    assert idle["service"]["tiers"]["idle"]["slo_attainment_frac"] is None
    assert idle["hardware"]["gpu_busy_frac"] == 0.0
    assert idle["hardware"]["speed_of_light_frac"] == 0.0
    assert idle["hardware"]["bound_output_tokens_per_s"] is None
    assert "NaN" not in (tmp_path / "run" / "summary.json").read_text()


def test_energy_hardware_and_money(summary: dict[str, Any]) -> None:
    energy = summary["energy"]
    assert energy["pue"] == pytest.approx(1000 / 800)
    assert energy["pue_iso"] == pytest.approx(1000 / 830)
    assert energy["output_tokens_per_j"] == pytest.approx(240 / 1000)
    assert energy["output_tokens_per_s_per_mw"] == pytest.approx(240_000)
    assert energy["sites"]["main"]["utility_j"] == 1000.0
    hardware = summary["hardware"]
    pools = hardware.pop("pools")
    shares = {"network": 1 / 16, "launches": 1 / 16, "memory": 1 / 16, "batching": 1 / 16, "idle": 0.5}
    assert hardware.pop("lost_frac") == pytest.approx(dict.fromkeys(LOSSES, 0.0) | shares)
    assert hardware == pytest.approx(
        {
            "gpus": 8,
            "availability_frac": 1.0,
            "gpu_busy_frac": 0.5,
            "speed_of_light_frac": 0.25,
            "output_tokens_per_s": 6.0,
            "bound_output_tokens_per_s": 24.0,
            "prompt_tokens_per_s": 25.0,
            "bound_prompt_tokens_per_s": 100.0,
        }
    )
    assert {name: pool["speed_of_light_frac"] for name, pool in pools.items()} == {"prefill": 0.125, "decode": 0.375}
    for pool in pools.values():
        assert pool["speed_of_light_frac"] + sum(pool["lost_frac"].values()) == pytest.approx(1.0)
    chat_usd = (44 * 10 + 400 * 1) * 1e-6 * 2
    money = summary["economics"]
    by_tier, by_kind = money.pop("revenue_by_tier"), money.pop("revenue_by_kind")
    assert money == pytest.approx({"revenue_usd": chat_usd, "energy_cost_usd": 1.0, "usd_per_million_output_tokens": 1e6 / 240})
    kinds = {"input_usd": 400e-6 * 2, "cached_input_usd": 0.0, "output_usd": 440e-6 * 2, "credit_usd": 0.0}
    assert by_kind == pytest.approx(kinds)
    assert by_tier == {"chat": pytest.approx({"revenue_usd": chat_usd, **kinds})}


def test_sites_add_up(tmp_path: Path) -> None:
    one = small_totals().energy["main"]
    other = dataclasses.replace(one, utility_j=500.0, battery_j=500.0, balance_residual_frac=-3e-10)
    both = write_small_run(tmp_path / "run", small_totals(energy={"east": one, "west": other}))["energy"]
    assert both["utility_j"] == 1500.0
    assert both["battery_j"] == 500.0
    assert both["balance_residual_frac"] == 3e-10
    assert both["output_tokens_per_j"] == pytest.approx(240 / 2000)  # what the battery gave counts as consumed
    assert both["sites"]["west"]["pue"] == pytest.approx(1.25)


def test_no_prices_no_money(tmp_path: Path) -> None:
    totals = small_totals(tiers={"chat": TierObjectives(), "batch": TierObjectives()}, energy_price_usd_per_j=None)
    assert write_small_run(tmp_path / "run", totals)["economics"] == {}


def test_the_event_by_hand(summary: dict[str, Any]) -> None:
    (event,) = summary["curtailment"]
    expected = {
        "name": "peak",
        "site": "main",
        "start_s": 20.0,
        "end_s": 40.0,
        "ramp_end_s": 24.0,
        "target_w": 800.0,
        "reference_s": 20.0,
        "compliance_frac": 1.0,
        "time_to_comply_s": 4.0,
        "overshoot_w_max": 0.0,
        "draw_before_w": 1000.0,
        "draw_during_w": (2 * 900 + 2 * 850 + 16 * 800) / 20,
        "energy_shed_j": 20 * 1000 - 16300.0,
        "output_tokens_per_s_before": 10.0,
        "output_tokens_per_s_during": 8.0,
        "goodput_retained_frac": 11 / 52,
    }
    assert {key: event[key] for key in expected} == pytest.approx(expected)
    assert set(event) == {*expected, "by_tier", "actions"}
    assert event["by_tier"]["chat"] == pytest.approx(
        {"goodput_retained_frac": 11 / 12, "slo_attainment_frac_before": 2 / 3, "slo_attainment_frac_during": 1 / 2}
    )
    assert event["by_tier"]["batch"]["goodput_retained_frac"] == 0.0
    assert event["by_tier"]["batch"]["slo_attainment_frac_before"] == pytest.approx(1 / 2)
    assert event["by_tier"]["batch"]["slo_attainment_frac_during"] is None
    # The cap at 5 s came before the event was announced at 10 s.
    assert event["actions"] == {"set_cap": {"count": 2, "first_s": 21.0}, "hold_tier": {"count": 1, "first_s": 12.0}}


def event_of(tmp_path: Path, record: GridEventRecord) -> dict[str, Any]:
    (entry,) = write_small_run(tmp_path / "run", small_totals(events=(record,)))["curtailment"]
    return entry


def test_a_site_above_its_target_is_told_by_how_much(tmp_path: Path) -> None:
    entry = event_of(tmp_path, GridEventRecord("hard", "main", 20.0, 40.0, 22.0, 820.0))
    assert entry["compliance_frac"] == pytest.approx(16 / 18)  # the step to 24 s stood at 850 W
    assert entry["overshoot_w_max"] == pytest.approx(30.0)
    assert entry["time_to_comply_s"] == pytest.approx(4.0)


def test_a_site_that_never_comes_down_has_no_time_to_comply(tmp_path: Path) -> None:
    entry = event_of(tmp_path, GridEventRecord("hard", "main", 20.0, 40.0, 20.0, 700.0))
    assert entry["compliance_frac"] == 0.0
    assert entry["time_to_comply_s"] is None
    assert entry["overshoot_w_max"] == pytest.approx(200.0)


def test_rounding_above_the_target_still_complies_and_more_does_not(tmp_path: Path) -> None:
    near = event_of(tmp_path, GridEventRecord("near", "main", 24.0, 40.0, 24.0, 800.0 / (1 + 0.9e-6)))
    assert (near["compliance_frac"], near["overshoot_w_max"], near["time_to_comply_s"]) == (1.0, 0.0, 0.0)
    over = event_of(tmp_path, GridEventRecord("over", "main", 24.0, 40.0, 24.0, 800.0 / (1 + 1.1e-6)))
    assert over["compliance_frac"] == 0.0


def test_an_event_that_outlasts_the_run_is_judged_to_its_end(tmp_path: Path) -> None:
    entry = event_of(tmp_path, GridEventRecord("long", "main", 30.0, 90.0, 32.0, 800.0))
    assert entry["end_s"] == 90.0
    assert entry["reference_s"] == pytest.approx(10.0)
    assert entry["energy_shed_j"] == pytest.approx(2 * 900 + 2 * 850 + 6 * 800 - 10 * 800)
    assert entry["compliance_frac"] == 1.0


def test_an_event_at_the_very_start_has_nothing_to_be_held_against(tmp_path: Path) -> None:
    entry = event_of(tmp_path, GridEventRecord("early", "main", 0.0, 10.0, 2.0, 1000.0))
    assert entry["compliance_frac"] == 1.0
    assert entry["reference_s"] == 0.0
    assert entry["energy_shed_j"] is None
    assert entry["goodput_retained_frac"] is None


def test_an_event_after_the_run_has_no_measures(tmp_path: Path) -> None:
    entry = event_of(tmp_path, GridEventRecord("late", "main", 50.0, 60.0, 52.0, 800.0))
    measures = (
        "compliance_frac",
        "time_to_comply_s",
        "overshoot_w_max",
        "energy_shed_j",
        "goodput_retained_frac",
        "draw_during_w",
    )
    assert [entry[name] for name in measures] == [None] * len(measures)


def test_only_the_meter_of_the_site_asked_is_judged(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run") as run:
        for row in SMALL_REQUESTS:
            run.writer("requests").append(row)
        for i in range(4):
            run.writer("power").append(power_row(10.0 * (i + 1), 500.0, None, 3.0, "east"))
            run.writer("power").append(power_row(10.0 * (i + 1), 2000.0, None, 5.0, "west"))
        run.close_tables()
        record = GridEventRecord("peak", "east", 20.0, 40.0, 20.0, 600.0)
        (entry,) = summarise(run.path, small_totals(events=(record,)))["curtailment"]
    assert entry["compliance_frac"] == 1.0
    assert entry["draw_before_w"] == pytest.approx(500.0)
    assert entry["output_tokens_per_s_before"] == pytest.approx(8.0)  # the whole factory's


def test_the_summary_repeats_to_the_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_busy_run(tmp_path / name, requests=300, horizon_s=600.0)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_missing_table_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"requests\.parquet"):
        summarise(tmp_path, small_totals())


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=60))
def test_a_distribution_is_ordered_and_inside_its_values(values: list[float]) -> None:
    result = distribution(np.array(values, float))
    known = [v for v in values if not math.isnan(v)]
    if not known:
        assert set(result.values()) == {None}
        return
    low, high = min(known), max(known)
    order = [low, result["p50"], result["p90"], result["p99"], high]
    assert all(a <= b + 1e-9 * high for a, b in itertools.pairwise(order))
    assert low - 1e-9 * high <= result["mean"] <= high * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_met_requests_are_judged_and_finished(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5), st.floats(0, 9), st.integers(1, 50)), max_size=12))
    with RunDirectory.create(tmp_path_factory.mktemp("judged") / "run") as run:
        for i, (arrival_s, wait_s, service_s, tokens) in enumerate(kinds):
            outcome = ("completed", "in_flight", "rejected", "moved")[i % 4]
            done = outcome in ("completed", "moved")
            first_s = arrival_s + wait_s if outcome != "rejected" else None
            finish_s = arrival_s + wait_s + service_s if done else None
            run.writer("requests").append(request_row(i, "chat", arrival_s, first_s, finish_s, tokens, outcome))
        run.close_tables()
        requests = Requests(run.path, {"chat": TierObjectives(1.0, 0.2, 6.0)}, 60.0)
    assert not np.any(requests.met & ~requests.judged)
    assert not np.any(requests.met & ~requests.finished)
    assert not np.any(requests.finished & ~requests.judged)


def test_summary_file_holds_what_summarise_returned(tmp_path: Path) -> None:
    returned = write_small_run(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == returned


def test_the_sampling_error_of_thinned_sessions_by_hand(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run") as output:
        for number, tokens in enumerate((300, 400)):
            row = (number, "a", "free", 0.0, 1.0, 1, 0, 0.0, tokens, "completed", 1.0, *[0.0] * 6, 0, 0, 0, None, None, "")
            output.writer("sessions").append(row)
        output.close_tables()
        assert sampling_error_frac(output.path, 2) == pytest.approx(math.sqrt(0.5) * 500 / 700)
        assert sampling_error_frac(output.path, 4) == pytest.approx(math.sqrt(0.75) * 500 / 700)
        assert sampling_error_frac(output.path, 1) == 0.0


def test_peaks_of_a_meter_by_hand(tmp_path: Path) -> None:
    """10 minutes at 100 W, 10 at 300 W, 10 at 200 W on a contract of 250 W: the dearest 15 minutes hold all of the second."""
    with RunDirectory.create(tmp_path / "run") as output:
        for end_s, watts in ((600.0, 100.0), (1200.0, 300.0), (1800.0, 200.0)):
            known = (end_s, "a", watts, watts, 0.0, 0.0, 0.0, 0.0, 250.0, None, None, 0.0, 0.0, 0.0, watts)
            row = (*known, 0.0, 0.0, 0.0, None, 0.0, *[0.0] * 11)
            output.writer("power").append(row)
        output.close_tables()
        found = peak(output.path, "a")
        assert found == {
            "peak_w": 300.0,
            "peak_15min_w": pytest.approx((600 * 300 + 300 * 200) / 900),
            "over_contract_s": 600.0,
            "rise_w_per_s_max": pytest.approx(200.0 / 600.0),
            "fall_w_per_s_max": pytest.approx(100.0 / 600.0),
        }
        assert peak(output.path, "b")["peak_w"] is None
