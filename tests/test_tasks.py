"""Tasks, tools and CPU racks in whole scenarios: summary, books, power, bad input; the real coding-agent sessions replayed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from test_invariants import check_books

import twin
from twin.analysis.tasks import tasks
from twin.errors import InputError
from twin.recording import RunDirectory


def scenario(**parts: Any) -> dict[str, Any]:
    """Agents on one GB200 NVL72 in a hurry, their tools in 4 sandboxes on a rack of Grace CPUs."""
    base: dict[str, Any] = {
        "name": "agents",
        "topology": str(ROOT / "topologies" / "agents_gb200.yaml"),
        "tiers": [
            {"name": "premium", "objectives": {"ttft": "3 s", "task": "2 min"}, "patience": "6 s"},
            {"name": "free"},
        ],
        "workload": {
            "kind": "agents",
            "arrivals": {"process": "poisson", "rate": "16 /min"},
            "think_time_scale": 0.03,
            "warm_start": False,
            "tiers": {"premium": 0.5, "free": 0.5},
        },
        "tools": {
            "racks": "cpus",
            "sandboxes": 4,
            "cores_per_sandbox": 648,
            "failure": {"probability": "20 %", "retries": 1, "backoff": "500 ms"},
        },
        "serving": {
            "model": "deepseek_r1",
            "precision": {"weights": "fp4", "kv": "fp8"},
            "backend": "trtllm",
            "router": "kv_affinity",
            "pools": [
                {
                    "name": "all",
                    "role": "aggregated",
                    "racks": "racks",
                    "parallelism": {"dp": 8, "ep": 8},
                    "instances": 8,
                    "max_batched_tokens": 65_536,
                }
            ],
        },
        "control": {"policy": "none"},
        "horizon": "4 min",
        "seed": 0,
    }
    return {**base, **parts}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> twin.Run:
    return twin.run(scenario(), out=tmp_path_factory.mktemp("tasks") / "run")


def test_the_books_balance(run: twin.Run) -> None:
    check_books(run, scenario())
    held = run.summary["invariants"]
    assert held.keys() >= {"sessions_conserved", "task_time_adds_up", "tool_runs_conserved", "sandbox_power_reaches_the_plant"}


def test_the_tasks_of_the_summary_are_those_of_the_table(run: twin.Run) -> None:
    tasks, sessions = run.summary["tasks"], run.sessions
    assert tasks["total"] == len(sessions)
    for ending in ("completed", "failed", "abandoned", "rejected", "in_flight"):
        assert tasks[ending] == (sessions["outcome"] == ending).sum()
        assert tasks[ending] == sum(tier[ending] for tier in tasks["tiers"].values())
    assert min(tasks[ending] for ending in ("completed", "failed", "abandoned", "in_flight")) > 0
    done = sessions[sessions["outcome"] == "completed"]
    took_s = done["finish_s"] - done["start_s"]
    assert tasks["completion_s"]["mean"] == pytest.approx(took_s.mean())
    assert sum(tasks["split_s"].values()) == pytest.approx(took_s.mean())
    assert tasks["output_tokens"]["mean"] == pytest.approx(done["tokens"].mean())
    of_done = run.requests[run.requests["session_id"].isin(done["session_id"])]
    assert tasks["input_tokens"]["mean"] == pytest.approx(of_done["input_tokens"].sum() / len(done))
    assert (sessions["deadline_s"].isna() == (sessions["tier"] == "free")).all()
    judged = sessions["deadline"].value_counts()
    assert tasks["deadline_attainment_frac"] == judged["met"] / (judged["met"] + judged["missed"])
    assert set(judged.index) == {"met", "missed", "open"}
    good = done[done["deadline"] != "missed"]["tokens"].sum()
    assert tasks["goodput_output_tokens_per_s"] == pytest.approx(good / 240)
    end_s = sessions["end_s"].fillna(240.0)
    assert tasks["sessions_in_flight"]["mean"] == pytest.approx((end_s - sessions["start_s"]).sum() / 240)
    at_once = max(((sessions["start_s"] <= t) & (end_s > t)).sum() for t in sessions["start_s"])
    assert tasks["sessions_in_flight"]["max"] == at_once
    assert tasks["tokens_unread"] == sessions["tokens_unread"].sum() > 0


def test_sandboxes_are_used_waited_for_and_draw_power(run: twin.Run) -> None:
    tools, runs, rows = run.summary["tasks"]["tools"], run.tool_runs, run.tasks
    assert tools["runs"] == len(runs) == sum(tools["outcomes"].values())
    assert tools["sandboxes"] == 4
    span_s = rows["time_s"].diff().fillna(rows["time_s"].iloc[0])
    assert rows["sandboxes_busy"].max() <= 4 + 1e-9
    assert (rows["sandboxes_busy"] * span_s).sum() / 240 == pytest.approx(tools["sandboxes_busy"])
    assert tools["utilisation_frac"] == pytest.approx(tools["sandboxes_busy"] / 4)
    assert tools["wait_s"]["p95"] == pytest.approx((runs["begun_s"] - runs["asked_s"]).dropna().quantile(0.95))
    assert tools["wait_s"]["p95"] > 0
    # One Grace rack of 5,184 cores: 7.2 kW idle, 37.4 kW with all in use, of which each sandbox takes an eighth.
    assert np.allclose(rows["cpu_racks_w"], 7_200 + 30_200 * rows["sandboxes_busy"] / 8)
    assert run.power["cpu_and_other_it_w"].min() > rows["cpu_racks_w"].min()
    failed = runs["outcome"].isin(["failed"]).sum() / runs["outcome"].isin(["failed", "done"]).sum()
    assert failed == pytest.approx(0.2, abs=0.06)


def test_the_heat_of_air_cooled_cpu_racks_is_in_the_hall(run: twin.Run, tmp_path: Path) -> None:
    quiet = scenario(tools={"sandboxes": 4, "failure": scenario()["tools"]["failure"]})  # elsewhere: the racks are idle
    other = twin.run(quiet, out=tmp_path / "other")
    assert other.summary["tasks"] == run.summary["tasks"]
    more_w = 30_200 * run.summary["tasks"]["tools"]["sandboxes_busy"] / 8
    it_w = [each.summary["energy"]["it_j"] / 240 for each in (run, other)]
    assert it_w[0] - it_w[1] == pytest.approx(more_w)
    air_w = [each.thermal[each.thermal["loop"] == "air"]["heat_w"].mean() for each in (run, other)]
    assert air_w[0] - air_w[1] > more_w
    assert (run.thermal[run.thermal["loop"] == "air"]["gpu_max_c"].isna()).all()


def test_the_report_shows_tasks_and_a_chat_has_none(run: twin.Run, tmp_path: Path) -> None:
    html = (run.path / "report.html").read_text()
    assert all(f'id="{key}-' in html for key in ("tasks", "sessions", "sandboxes"))
    chat = scenario(horizon="20 s", tools=None)
    chat["workload"] = {"kind": "chat", "arrivals": {"process": "poisson", "rate": "2 /s"}, "tiers": {"free": 1.0}}
    made = twin.run(chat, out=tmp_path / "chat")
    assert "tools" not in made.summary["tasks"]
    assert 'id="tasks-' not in (made.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ({"racks": "cpu"}, "tools.racks: site gb200-nvl72 has no group 'cpu' among its cpu_racks (did you mean 'cpus'?)"),
        ({"racks": "cpus", "sandboxes": 9, "sandboxes_per_cpu": 2}, "tools.sandboxes_per_cpu: is given beside `sandboxes`"),
        ({"sandboxes_per_cpu": 2}, "tools.sandboxes_per_cpu: needs `racks`"),
        ({"sandboxes": 0}, "tools.sandboxes: "),
        ({"failure": {"probability": "100 %"}}, "tools.failure.probability: "),
        ({"failure": {"probability": "1 %", "backoff": "-1 s"}}, "tools.failure.backoff: "),
    ],
)
def test_tools_that_cannot_be_are_told_of(tools: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        twin.load(scenario(tools=tools))
    assert said in str(error.value)


def test_too_few_sandboxes_to_stand_for_many_are_told_of() -> None:
    with pytest.raises(InputError, match="2 sandboxes cannot stand for groups of `represent: 4`"):
        twin.load(scenario(tools={"sandboxes": 2}, represent=4))


def test_cpu_racks_without_their_loop_or_in_place_of_gpus_are_told_of() -> None:
    topology = {
        "extends": scenario()["topology"],
        "sites": [{"name": "gb200-nvl72", "cpu_racks": [{"name": "cpus", "rack": "vera_cpu"}]}],
    }
    with pytest.raises(InputError, match=r"cpu_racks\.0\.loop: is missing: rack vera_cpu gives heat to a liquid loop"):
        twin.load(scenario(topology=topology))
    topology["sites"] = [{"name": "gb200-nvl72", "cpu_racks": [{"name": "racks", "rack": "gb200_nvl72", "count": 1}]}]
    with pytest.raises(InputError) as error:
        twin.load(scenario(topology=topology))
    assert "'gb200_nvl72' is no CPU rack" in str(error.value)


@pytest.mark.slow
def test_the_real_coding_agents_find_what_they_had_and_take_their_time(
    shared_data: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """344 sessions on one instance of eight GPUs with room below HBM for all of it, waits a tenth of the recorded ones."""
    trace = shared_data("traces/claude_code_agentic/requests_flat.csv")
    made = scenario(
        topology=str(ROOT / "topologies" / "gb200_nvl72.yaml"),
        tiers=[{"name": "coding"}],
        workload={
            "kind": "trace",
            "trace": str(trace),
            "arrivals": {"process": "poisson", "rate": "2 /min"},
            "think_time_scale": 0.1,
            "tiers": {"coding": 1.0},
        },
        tools=None,
        records={"interval": "10 s", "worker_interval": "60 s"},
        horizon="16 h",
    )
    made["control"]["step"] = "10 s"
    made["serving"] |= {"kv_cache": {"host": {"capacity": "4 TB", "bandwidth": "100 GB/s"}}}
    made["serving"]["pools"][0] |= {"instances": 1, "max_sequences": 512, "max_batched_tokens": 16_384}
    began_s = time.process_time()
    run = twin.run(made, out=tmp_path / "run")
    cpu_s = time.process_time() - began_s
    tasks = run.summary["tasks"]
    with capsys.disabled():
        print(json.dumps({"cpu_s": round(cpu_s, 1), "cached": run.summary["service"]["cached_input_frac"], **tasks["split_s"]}))
    assert (tasks["total"], tasks["completed"], len(run.requests)) == (344, 344, 21_177)
    recorded = 2_447_554_496 / 2_542_209_908  # cached_prefix_tokens over in_tokens of all rows
    assert run.summary["service"]["cached_input_frac"] == pytest.approx(recorded, abs=0.01)
    assert cpu_s <= 20


def test_how_long_tasks_take_reckons_with_those_that_go_on(tmp_path: Path) -> None:
    """Ends after 10 (done), 20 (given up), 30 (done), and two go on at 40 and 50 s: of five 4/5 go on after 10 s, of three left
    2/3 of these after 30 s, 53 %: no median. With two done at 50 s there is one."""
    for endings, median_s in ((("in_flight", "in_flight"), None), (("completed", "in_flight"), 40.0)):
        with RunDirectory.create(tmp_path / endings[0]) as output:
            for number, (span_s, outcome) in enumerate(
                [(10.0, "completed"), (20.0, "abandoned"), (30.0, "completed"), (40.0, endings[0]), (50.0, endings[1])]
            ):
                end_s = None if outcome == "in_flight" else span_s
                finish_s = span_s if outcome == "completed" else None
                row = (number, "a", "free", 50.0 - span_s if end_s is None else 0.0, finish_s, 1, 0, 0.0, 1, outcome, end_s)
                output.writer("sessions").append((*row, *[0.0] * 6, 0, 0, 0, None, None, ""))
            output.close_tables()
            found = tasks(output.path, ["free"], 50.0, 1, None)["time_to_end_s"]
        assert found == {"p50": median_s, "p90": None}
