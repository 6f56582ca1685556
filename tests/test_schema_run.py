"""What cannot fit the run is told when the file is checked, at its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from schema_scenarios import SCENARIO, TOPOLOGY, spoiled, write
from synthetic_run import write_small_run
from tiny_run import write_tiny

from twin.cli.main import main
from twin.errors import InputError
from twin.schema import load_scenario
from twin.schema.run_consistency import FIGURES
from twin.sweeps import run_sweep

AGENTS = (
    "session,agent,depth,idx,spawned_after_parent_idx,in_tokens,out_tokens,cached_prefix_tokens,think_time_s,stop\n"
    "a,0,0,0,,100,10,0,0,end_turn\n"
)
POISSON = "{process: poisson, rate: 2 /s}"


def refused(tmp_path: Path, *changes: tuple[str, str], topology: str = TOPOLOGY) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(write(tmp_path, spoiled(SCENARIO, *changes), topology))
    return str(caught.value)


def trace(tmp_path: Path, content: str, more: str = "") -> tuple[str, str]:
    """The change that makes the scenario replay a trace of that content, without arrivals of its own."""
    (tmp_path / "t").write_text(content)
    return f"kind: agents\n  arrivals: {POISSON}", f"kind: trace\n  trace: t{more}"


def test_an_unknown_trace_format(tmp_path: Path) -> None:
    said = refused(tmp_path, trace(tmp_path, AGENTS, f"\n  arrivals: {POISSON}\n  format: agents_csv"))
    assert said.endswith("workload.format: unknown trace format 'agents_csv' (did you mean 'agent_csv'?)")


@pytest.mark.parametrize("form", ["auto", "agent_csv"])
def test_a_trace_that_records_no_arrivals_needs_some(form: str, tmp_path: Path) -> None:
    said = refused(tmp_path, trace(tmp_path, AGENTS, f"\n  format: {form}"))
    assert "workload.arrivals: is missing" in said
    assert "(format agent_csv) does not record when its sessions began" in said
    change = trace(tmp_path, AGENTS, f"\n  format: {form}\n  arrivals: {POISSON}")
    assert load_scenario(write(tmp_path, spoiled(SCENARIO, change)))


def test_a_trace_of_no_known_format(tmp_path: Path) -> None:
    assert "workload.trace: is a trace of no known format" in refused(tmp_path, trace(tmp_path, "what,is,this\n1,2,3\n"))


@pytest.mark.parametrize("key", ["speedup: 2", "start: 1 min"])
def test_recorded_times_are_not_bent_where_others_are_given(key: str, tmp_path: Path) -> None:
    said = refused(tmp_path, trace(tmp_path, AGENTS, f"\n  arrivals: {POISSON}\n  {key}"))
    assert f"workload.{key.partition(':')[0]}: acts on recorded arrivals" in said


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("ups_rating: 400 kW", "ups_rating: 1 kW"), "ups_rating"),
        (("transformer_rating: 500 kW", "transformer_rating: 1 kW"), "transformer_rating"),
        (("climate:", "fixed_load: 490 kW\n    climate:"), "transformer_rating"),
    ],
)
def test_ratings_below_what_idles(change: tuple[str, str], path: str, tmp_path: Path) -> None:
    said = refused(tmp_path, topology=spoiled(TOPOLOGY, change))
    assert said.startswith(f"{tmp_path}/topology.yaml:")
    assert f"sites.0.electrical.{path}: " in said
    assert "is less than the" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("energie.pue", "the summary has no 'energie' (did you mean 'energy'?)"),
        ("curtailment.1.overshoot_w_max", "the scenario has 1 grid event, and the first is 0: there is no event 1"),
        ("curtailment.overshoot_w_max", "write the number of the event"),
    ],
)
def test_limits_on_what_can_never_be(value: str, said: str, tmp_path: Path) -> None:
    told = refused(tmp_path, ("horizon:", f"limits: [{{value: {value}, max: 1}}]\nhorizon:"))
    assert f"limits.0.value: {said}" in told


def test_the_figures_are_those_of_a_summary(tmp_path: Path) -> None:
    keys = set(write_small_run(tmp_path / "run"))
    assert set(FIGURES) <= keys
    assert keys - set(FIGURES) <= {"schema_version", "scenario", "warnings"}


@pytest.mark.parametrize(("key", "table"), [("interval", "thermal"), ("worker_interval", "workers")])
def test_tables_without_end(key: str, table: str, tmp_path: Path) -> None:
    said = refused(tmp_path, ("horizon:", f"records: {{{key}: 10 us}}\nhorizon:"))
    assert f"records.{key}: a step of 1e-05 s gives" in said
    assert f"rows of {table}.parquet, more than 10,000,000: it must be at least" in said


@pytest.mark.parametrize("reserve", ["1", "99 %"])
def test_a_reserve_that_leaves_no_memory_is_told_at_its_key(reserve: str, tmp_path: Path) -> None:
    said = refused(tmp_path, ("backend: trtllm", f"backend: trtllm\n  kv_reserve: {reserve}"))
    assert "serving.kv_reserve: " in said
    assert len(said.splitlines()) == 1


def test_problems_of_swept_values_are_told_at_the_sweep(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    with pytest.raises(InputError) as caught:
        run_sweep(str(file), {"control.policy": ["ladder", "latter"]}, out=tmp_path / "study", set={"horizon": "1"})
    lines = str(caught.value).splitlines()
    assert any(line.startswith("<--over>:1:1: control.policy: unknown policy 'latter'") for line in lines)
    assert any(line.startswith("<--set>:1:1: horizon: ") for line in lines)


def test_check_asks_for_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert "name the scenario, topology or catalogue files" in capsys.readouterr().err
