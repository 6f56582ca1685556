"""Calibration and validation: reading measurements, replaying them, finding coefficients, and saying what was not predicted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy as np
import pytest
from calibration_rows import TRUTH, measured_rows, row, write
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.calibration import Fitted, calibrate, catalogue_text, cross_validate, read_table, validate
from twin.calibration.campaigns import Campaigns, Rule
from twin.calibration.fitted import stand_in, with_stand_ins
from twin.calibration.fitting import PRIORS, Measured, fit
from twin.calibration.prediction import Prediction, Refusal, Validation, quantile
from twin.calibration.replay import lengths, replay
from twin.calibration.serving_points import read_serving_points
from twin.calibration.step_terms import Column, Setup, terms_of
from twin.calibration.trajectory import trajectory
from twin.catalog import Part, load_catalog
from twin.catalog.catalog import read_parts
from twin.cli.main import main
from twin.errors import InputError
from twin.performance import (
    Coefficients,
    FitRange,
    Interconnect,
    ModelShape,
    Parallelism,
    Precision,
    Speculation,
    interconnect_of,
    step_cost_with,
)

START = Coefficients(*(prior.value for prior in PRIORS.values()))


# --- reading -------------------------------------------------------------------------------------------------------------


def test_every_problem_of_a_file_is_told_with_its_place(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, silicon_ttft_ms=-3),
        row(2, silicon_tpot_ms=0, isl="many"),
        row(3, osl=""),
        row(0),
        row(5, mode="both", isl="1_000", tp_size=2.5),
    ]
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(InputError) as caught:
        validate(path)
    said = str(caught.value).splitlines()
    assert len(said) == 8
    for line, key, message in (
        (3, "silicon_ttft_ms", "-3 must be above 0"),
        (4, "silicon_tpot_ms", "0 must be above 0"),
        (4, "isl", "'many' is no number"),
        (5, "osl", "is missing"),
        (6, "id", "repeats line 2"),
        (7, "mode", "'both' is neither agg nor disagg"),
        (7, "isl", "'1_000' is no number"),
        (7, "tp_size", "2.5 must be a whole number"),
    ):
        assert any(re.search(rf"bad\.csv:{line}:\d+: {key}: {re.escape(message)}", each) for each in said), (line, key, said)


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    columns = [("silicon_ttft" if name == "silicon_ttft_ms" else name) for name in row() if name != "decode_tp_size"]
    path = write(tmp_path / "units.csv", [row() | {"silicon_ttft": 1.0, "mode": "disagg"}], columns)
    with pytest.raises(InputError, match=r"silicon_ttft_ms: this column is missing \(did you mean 'silicon_ttft'\?\)") as caught:
        validate(path)
    assert "decode_tp_size: this column is missing" in str(caught.value)


def test_columns_that_say_nothing_may_be_left_out(tmp_path: Path) -> None:
    """And models and GPUs go by their names in the catalogue as well."""
    named = row(0) | {"model_path": "llama_3_1_8b", "system": "h100"}
    few = [name for name, value in named.items() if value != ""]
    (lean,), (full,) = (
        read_serving_points(write(tmp_path / f"{name}.csv", [given], columns)).points
        for name, given, columns in (("lean", named, few), ("full", row(0), None))
    )
    assert "decode_tp_size" not in few
    assert replace(lean, labels={}) == replace(full, labels={})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no rows"),
        ("a,b\n1,2\n", "of no known kind"),
        ("# Some text\nwith, commas\n", "1:1: its columns are of no known kind"),
        ("silicon_ttft_ms,silicon_tpot_ms,isl,isl,osl\n1,2,3,3,4\n", "1:1: isl: this column stands twice in the header"),
        ("silicon_ttft_ms,silicon_tpot_ms,isl,osl\n1,2,3\n", "has 3 values, the header 4"),
    ],
)
def test_what_is_no_file_of_measurements_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "some.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        validate(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"system": "tpu"}, "'tpu' is no GPU"),
        ({"model_path": "who/knows"}, "'who/knows' is neither a checkpoint"),
        ({"mode": "disagg"}, "does not say over how many"),
        ({"tp_size": 3}, "tp 3 does not divide the 32 attention heads"),
        ({"concurrency": 8, "batch_size": 2}, "does not say over how many instances"),
        ({"silicon_tpot_ms": 0.01}, "is it in milliseconds?"),
        ({"osl": 1}, "answers of one token"),
        ({"concurrency": ""}, "says neither concurrency nor batch_size"),
        (
            {"model_path": "deepseek_r1", "tp_size": 8, "attention_dp_size": 8, "moe_tp_size": 1, "moe_ep_size": 8},
            "experts over 8 GPUs (moe_tp x moe_ep), attention over 64",
        ),
        ({"backend": "new_engine"}, "new_engine"),
        ({"model_path": "meta-llama/Llama-3.1-405B", "precision": "bf16"}, "needs"),
    ],
)
def test_a_row_outside_what_is_known_is_refused_with_the_reason(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    found = validate(write(tmp_path / "some.csv", [row(0), row(1, **changes)]), jobs=1)
    assert [prediction.row for prediction in found.predictions] == ["row-0"]
    assert [refusal.row for refusal in found.refused] == ["row-1"]
    assert why in found.refused[0].why


def test_later_rules_of_campaigns_win() -> None:
    rules = (
        Rule({"batched_tokens": 1}),
        Rule({"batched_tokens": 2, "scheduling": "prefill_first"}, {"dp": "> 1", "backend": ["a", "b"]}),
        Rule({"batched_tokens": 3}, {"lengths": "other", "dp": ">= 8"}),
    )
    known = Campaigns({}, {}, rules)
    facts = {"backend": "b", "lengths": ("other", "1x1")}
    assert known.of(facts | {"dp": 1}).batched_tokens == 1
    assert known.of(facts | {"dp": 2}).batched_tokens == 2
    large = known.of(facts | {"dp": 8})
    assert (large.batched_tokens, large.scheduling) == (3, "prefill_first")


# --- replaying and fitting -----------------------------------------------------------------------------------------------


def test_lengths_repeat_and_stay_in_their_range(tmp_path: Path) -> None:
    point = read_serving_points(write(tmp_path / "one.csv", [row(osl=100, concurrency=64, batch_size=64)])).points[0]
    drawn = lengths(point)
    assert drawn == lengths(point)
    assert len(drawn) == point.campaign.waves * 64
    assert min(output for _, output in drawn) >= int(100 * point.campaign.length_from)
    assert max(output for _, output in drawn) <= 100 * point.campaign.length_to


setups = st.builds(
    lambda tp, dp, ep_all, drafts: (Parallelism(tp=tp, dp=dp, ep=tp * dp if ep_all else 1), drafts),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from([0, 2]),
)


@pytest.fixture(scope="module")
def catalog_parts() -> tuple[ModelShape, Part, Interconnect]:
    """R1 on GB200."""
    gpu = load_catalog().part("gpu", "gb200")
    return ModelShape.from_part(load_catalog().part("model", "deepseek_r1")), gpu, interconnect_of(gpu, 0.95)


@settings(max_examples=60)
@given(
    setup=setups,
    decodes=st.integers(1, 300),
    context=st.integers(1, 200_000),
    prompt=st.sampled_from([0, 17, 4096]),
    gemm=st.floats(0.1, 0.9),
    attention=st.floats(0.05, 0.9),
)
def test_priced_steps_are_those_of_the_step_cost(
    setup: tuple[Parallelism, int],
    decodes: int,
    context: int,
    prompt: int,
    gemm: float,
    attention: float,
    catalog_parts: tuple[ModelShape, Part, Interconnect],
) -> None:
    layout, drafts = setup
    shape, gpu, links = catalog_parts
    use = replace(TRUTH, gemm_compute_eff=gemm, attention_compute_eff=attention, attention_memory_eff=attention)
    precision, speculation = Precision("fp8", "fp8"), Speculation(drafts, 0.5 if drafts else 0.0)
    cost = step_cost_with(use, shape, precision, layout, gpu, links, speculation)
    rows = np.zeros((1, len(Column)))
    pairs = prompt * (prompt + 1) / 2
    rows[0, [Column.DECODES, Column.CONTEXT, Column.PROMPT, Column.PAIRS]] = decodes, context, prompt, pairs
    priced = terms_of(Setup(shape, precision, layout, gpu, links, drafts), rows).step_s(use)
    assert priced[0] == pytest.approx(cost.step_s(decodes, context, prompt, pairs), rel=1e-9)


def test_a_trajectory_gives_back_its_replay_and_prices_others_nearly(tmp_path: Path) -> None:
    rows = [row(0, concurrency=8, batch_size=8, isl=1500, osl=80), row(1, concurrency=1, batch_size=1)]
    slower = replace(START, memory_eff=0.5, gemm_compute_eff=0.4, step_overhead_s=2e-3)
    for point in read_serving_points(write(tmp_path / "two.csv", rows)).points:
        kept = trajectory(point, START)
        done = replay(point, START)
        assert kept.times_s(START) == pytest.approx((done.ttft_s, done.tpot_s), rel=1e-9)
        other = replay(point, slower)
        ttft_s, tpot_s = kept.times_s(slower)
        assert tpot_s == pytest.approx(other.tpot_s, rel=0.03)
        assert ttft_s == pytest.approx(other.ttft_s, rel=0.25)


def test_a_fit_finds_what_made_the_points(tmp_path: Path) -> None:
    path = write(tmp_path / "made.csv", measured_rows(tmp_path))
    told: list[str] = []
    groups = calibrate(path, "made up", jobs=1, say=told.append)
    assert [group.key for group in groups] == [("vllm", "hopper", "fp8")]
    found = groups[0]
    assert found.range.points == 12
    assert found.range.models == ("llama_3_1_8b",)
    assert (found.range.gpus, found.range.sequences) == ((1, 2), (1, 16))
    assert found.range.tpot_median_ape < 0.01
    assert found.range.ttft_median_ape < 0.05
    assert found.coefficients.memory_eff == pytest.approx(TRUTH.memory_eff, rel=0.15)
    assert found.coefficients.gemm_compute_eff == pytest.approx(TRUTH.gemm_compute_eff, rel=0.25)
    assert told


def test_a_group_without_points_of_its_own_stays_at_the_prior(tmp_path: Path) -> None:
    point = read_serving_points(write(tmp_path / "one.csv", [row()])).points[0]
    done = trajectory(point, START)
    same = fit([Measured(done, done.ttft_s, done.tpot_s)])
    assert astuple(same) == pytest.approx(astuple(START), rel=0.02)


def test_held_out_points_are_predicted_from_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "made.csv", measured_rows(tmp_path))
    table = read_table(path)
    found = cross_validate(table, "curve", 1, lambda _: None)
    assert len(found.predictions) == 12
    assert found.metrics()["tpot"]["median_ape"] < 0.05
    alone = cross_validate(table, "system", 1, lambda _: None)
    assert not alone.predictions, "with its only system held out, nothing is left to fit on"
    assert all("no coefficients for vllm" in refusal.why for refusal in alone.refused)


# --- what is stored ------------------------------------------------------------------------------------------------------


def test_the_nearest_group_stands_in() -> None:
    having = [("a", "hopper", "fp8"), ("a", "blackwell", "fp4"), ("b", "hopper", "bf16")]
    assert stand_in(("a", "hopper", "fp8"), having) == ("a", "hopper", "fp8")
    assert stand_in(("a", "hopper", "bf16"), having) == ("a", "hopper", "fp8")
    assert stand_in(("a", "rubin", "fp8"), having) == ("a", "blackwell", "fp4")
    assert stand_in(("a", "ampere", "bf16"), having) == ("a", "hopper", "fp8")
    assert stand_in(("c", "hopper", "fp8"), having) is None
    assert stand_in(("a_0_9", "hopper", "bf16"), having) == ("a", "hopper", "fp8")  # another version of the same engine
    assert stand_in(("a", "hopper", "bf16"), [("a_0_9", "hopper", "bf16"), *having]) == ("a", "hopper", "fp8")
    assert with_stand_ins({having[0]: START}, [("a", "rubin", "bf16"), ("c", "rubin", "bf16")]) == {
        having[0]: START,
        ("a", "rubin", "bf16"): START,
    }


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    groups = calibrate(write(tmp_path / "made.csv", measured_rows(tmp_path)), "made up", jobs=1)
    file = tmp_path / "backends.yaml"
    file.write_text(catalogue_text(groups))
    part = read_parts("backend", file)["vllm"]
    fitted_there = pytest.approx(astuple(groups[0].coefficients), rel=1e-12)
    assert astuple(Coefficients.of(part, "hopper", "fp8")) == fitted_there
    fitted = FitRange.of(part, "hopper", "fp8")
    assert fitted.points == 12
    assert fitted.tpot_median_ape == pytest.approx(groups[0].range.tpot_median_ape, abs=5e-4)
    taken_over = FitRange.of(part, "rubin", "fp4")
    assert taken_over.taken_over_from == "hopper_fp8"
    assert astuple(Coefficients.of(part, "rubin", "fp4")) == fitted_there
    source = part.values[f"hopper_fp8_{fields(Coefficients)[0].name}"]
    assert (source.source, source.status) == ("made up", "measured")
    assert part.values["rubin_fp4_taken_over_from"].status == "projected"


def test_a_coefficient_at_its_limit_is_not_called_measured(tmp_path: Path) -> None:
    found = FitRange(3, ("llama_3_1_8b",), (1, 2), (1, 16), (360, 2440), 0.01, 0.02)
    at_limit = replace(START, attention_compute_eff=PRIORS["attention_compute_eff"].highest, step_overhead_s=1.005e-5)
    path = tmp_path / "mine.yaml"
    path.write_text(catalogue_text([Fitted(("vllm", "hopper", "fp8"), at_limit, found, "our lab")]))
    values = read_parts("backend", path)["vllm"].values
    assumed = {name for name in PRIORS if values[f"hopper_fp8_{name}"].status == "assumed"}
    assert assumed == {"attention_compute_eff", "step_overhead_s"}


def test_outside_the_fitted_range_is_told() -> None:
    fitted = FitRange(9, ("llama_3_1_8b",), (1, 8), (1, 64), (100, 4000), 0.05, 0.1)
    assert list(fitted.outside("llama_3_1_8b", 8, 64, 4000)) == []
    said = list(fitted.outside("qwen3_32b", 16, 65, 4001))
    assert len(said) == 4
    assert said[0].startswith("qwen3_32b is not among")
    assert said[1] == "16 GPUs an instance, measured were 1 to 8"
    assert "hopper_fp8" in next(replace(fitted, taken_over_from="hopper_fp8").outside("llama_3_1_8b", 1, 1, 100))


# --- what is told --------------------------------------------------------------------------------------------------------


def test_errors_by_hand() -> None:
    rows = [
        Prediction(str(n), {"system": s}, {"tpot": (p, 1.0)}) for n, (s, p) in enumerate([("a", 1.1), ("a", 0.7), ("b", 1.2)])
    ]
    found = Validation("serving_points", tuple(rows), (Refusal("x", "never heard of 12 GPUs"),), (("system",),))
    metrics = found.metrics()["tpot"]
    assert metrics["median_ape"] == pytest.approx(0.2)
    assert metrics["mape"] == pytest.approx((0.1 + 0.3 + 0.2) / 3)
    assert metrics["p90_ape"] == pytest.approx(0.28)
    assert metrics["bias"] == pytest.approx(1.1)
    assert [(group["by"], group["rows"]) for group in found.groups()] == [({"system": "a"}, 2), ({"system": "b"}, 1)]
    assert [prediction.row for prediction in found.worst("tpot", 2)] == ["1", "2"]
    assert found.rows == 4
    assert found.refused[0].kind == "never heard of # GPUs"
    assert quantile([1.0], 0.9) == 1.0


def test_the_command_prints_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "some.csv", [row(0), row(1, system="tpu")])
    assert main(["validate", str(path), "--json", "--jobs", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "serving_points"
    assert (document["rows"], document["predicted"]) == (2, 1)
    assert document["refused"] == [{"row": "row-1", "why": "'tpu' is no GPU of the catalogue (`twin catalog gpu`)"}]
    assert set(document["metrics"]) == {"tpot", "ttft"}
    assert {"median_ape", "p90_ape", "mape"} <= set(document["metrics"]["tpot"])
    assert {"by", "rows", "metrics"} == set(document["groups"][0])
    assert main(["validate", str(path), "--jobs", "1"]) == 0
    assert "1 of 2 rows predicted, 1 refused" in capsys.readouterr().out
    assert main(["validate", str(tmp_path / "none.csv")]) == 2


def test_calibrate_writes_a_catalogue_of_backends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "made.csv", measured_rows(tmp_path)[:3])
    out = tmp_path / "mine.yaml"
    assert main(["calibrate", str(path), "--out", str(out), "--source", "our lab", "--jobs", "1"]) == 0
    assert "vllm hopper fp8: 3 points" in capsys.readouterr().err
    mine, shipped = read_parts("backend", out)["vllm"], load_catalog().part("backend", "vllm")
    assert mine.values["hopper_fp8_memory_eff"].source == "our lab"
    for key in (
        "blackwell_fp4_memory_eff",
        "blackwell_fp4_fit_points",
        "hopper_fp4_step_overhead_s",
        "rubin_fp4_taken_over_from",
    ):
        assert mine.values[key].value == shipped.values[key].value, "what was not measured anew is as it ships"
    assert mine.values["blackwell_fp4_memory_eff"].source == shipped.values["blackwell_fp4_memory_eff"].source
    assert main(["calibrate", str(path), "--out", str(tmp_path / "no" / "where.yaml"), "--jobs", "1"]) == 2
    assert main(["calibrate", str(tmp_path / "none.csv")]) == 2


# --- measured machines ---------------------------------------------------------------------------------------------------


def test_prompt_and_token_times_of_one_batch(shared_data: Callable[[str], Path]) -> None:
    """Llama-2-70B and BLOOM-176B on A100 and H100: medians within 10 %."""
    found = validate(shared_data("perf/llama2_70b_bloom_a100_h100.csv"))
    assert found.rows == 840
    assert len(found.predictions) == 750
    kinds = Counter(refusal.kind for refusal in found.refused)
    assert kinds.pop("repeats line #") == 80
    (impossible,) = kinds  # 64 prompts of 512 tokens: those that were split
    assert "at the GPUs' peak rates" in impossible
    assert kinds[impossible] == 10
    for group in [{"metrics": found.metrics()}, *found.groups_by(("model", "hardware"))]:
        assert group["metrics"]["token_time"]["median_ape"] < 0.10, group
    assert found.metrics()["prompt_time"]["median_ape"] < 0.10


@pytest.mark.slow
def test_all_serving_points(shared_data: Callable[[str], Path]) -> None:
    """The catalogue's coefficients on the points they were fitted to; docs/accuracy.md has those that were held out."""
    found = validate(shared_data("perf/serving_points.csv"))
    assert found.rows == 2035
    assert len(found.predictions) > 1450
    metrics = found.metrics()
    assert metrics["tpot"]["median_ape"] < 0.08
    assert metrics["tpot"]["p90_ape"] < 0.30
    assert metrics["ttft"]["median_ape"] < 0.20
    small = [group for group in found.groups_by(("backend", "system")) if group["rows"] >= 20]
    assert max(group["metrics"]["tpot"]["median_ape"] for group in small) < 0.20
