"""Whole runs with jobs that can wait: books, tables, the event, bad input, the step of batch inference against real workers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from job_cases import started
from tiny_run import ROOT, TINY

import twin
from twin.catalog import load_catalog
from twin.engine.job_builder import job_spec, training_step
from twin.errors import InputError
from twin.schema import load_scenario
from twin.schema.instances import instance_of
from twin.schema.jobs import TrainingJob

TUNE = """\
  - name: tune
    kind: fine_tuning
    priority: 2
    gpus: 16
    step: {time: 500 ms, gpus: 16, compute_share: 70 %, power: 85 %}
    checkpoint: {interval: 8, cost: 1 s, power: 40 %}
    restart: 2 s
    steps: 40
    deadline: 50 s
"""
TRAIN = """\
  - name: train
    kind: training
    priority: 1
    gpus: {min: 8, max: 24}
    step: {time: 700 ms, gpus: 8, compute_share: 80 %, power: 600 W, scaling: 0.9}
    checkpoint: {interval: 5 s, cost: 1 s}
    restart: 2 s
    steps: 100000
"""
BATCH = """\
  - name: batch
    kind: synthetic_data
    arrival: 3 s
    parallelism: {tp: 4}
    instances: {min: 1, max: 6}
    batch: 64
    input_tokens: 500
    output_tokens: 250
    restart: 1 s
    tokens: 1000000
"""


def scenario(folder: Path, jobs: str = TUNE + TRAIN + BATCH, event: str = "", policy: str = "ladder") -> Path:
    """TINY with a second rack and jobs, for a minute."""
    text = TINY.replace("horizon: 10 s", "horizon: 60 s").replace("policy: uniform_cap", f"policy: {policy}")
    site = "hgx-h100, feed: {contract: 90 kW}, racks: [{name: racks, count: 2}]"
    chain = "electrical: {ups_rating: 150 kW, transformer_rating: 150 kW}"
    topology = f"topology: {{extends: {ROOT / 'topologies' / 'hgx_h100.yaml'}, sites: [{{name: {site}, {chain}}}]}}"
    text = text.replace(next(line for line in text.splitlines() if line.startswith("topology:")), topology)
    text = (
        text.replace("    - {name: dip, start: 4 s, duration: 4 s, target: 90 %}", event)
        if event
        else text.replace("  events:\n    - {name: dip, start: 4 s, duration: 4 s, target: 90 %}\n", "")
    )
    path = folder / "scenario.yaml"
    path.write_text(text + (f"jobs:\n{jobs}" if jobs else ""))
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> twin.Run:
    folder = tmp_path_factory.mktemp("jobs")
    return twin.run(scenario(folder), out=folder / "run")


def test_the_books_are_kept(filled: twin.Run) -> None:
    assert all(filled.summary["invariants"].values())
    assert {"job_steps_conserved", "job_time_adds_up"} <= set(filled.summary["invariants"])
    jobs = filled.jobs
    assert (jobs["steps_done"] == jobs["steps_kept"] + jobs["steps_lost"] + jobs["steps_open"]).all()
    parts = [f"{name}_gpu_hours" for name in ("kept", "lost", "open", "saving", "starting")]
    assert jobs["gpu_hours"].to_numpy() == pytest.approx(jobs[parts].sum(axis=1).to_numpy())


def test_tables_agree_on_what_jobs_held_and_used(filled: twin.Run) -> None:
    power = filled.power
    span_s = np.diff(power["time_s"], prepend=0.0)
    assert (power["job_gpu_w"] * span_s).sum() == pytest.approx(filled.jobs["energy_j"].sum(), rel=1e-9)
    assert (power["job_gpus"] * span_s).sum() / 3600 == pytest.approx(filled.jobs["gpu_hours"].sum(), rel=1e-9)
    assert power["job_gpus"].max() <= 64 - 8
    assert (power["job_gpu_w"] < power["gpu_w"]).all()


def test_the_fine_tuning_does_what_it_was_told(filled: twin.Run) -> None:
    tune = filled.jobs.set_index("job").loc["tune"]
    # 2 s to start, 40 steps of 0.5 s, five checkpoints of 1 s
    assert (tune["outcome"], tune["deadline"], tune["finish_s"]) == ("completed", "met", pytest.approx(27.0))
    assert tune["energy_j"] == pytest.approx(16 * (20 * 0.85 * 700 + 7 * 0.4 * 700))


def test_elastic_jobs_take_what_comes_free(filled: twin.Run) -> None:
    events = filled.events
    starts = events[events["kind"] == "job_start"].set_index("subject")["detail"]
    assert starts["tune"] == '{"gpus": 16}'
    assert starts["batch"] == '{"gpus": 16}'  # 64 less serving 8, tune 16, train 24
    resized = events[events["kind"] == "job_resized"]
    assert ("batch", '{"from_gpus": 16, "gpus": 24}') in set(zip(resized["subject"], resized["detail"], strict=True))


def test_the_summary_tells_where_gpu_hours_went(filled: twin.Run) -> None:
    jobs = filled.summary["jobs"]
    assert (jobs["total"], jobs["completed"], jobs["deadlines"]["met"]) == (3, 2, 1)  # batch and tune
    assert jobs["gpu_hours"]["held"] == pytest.approx(filled.jobs["gpu_hours"].sum())
    assert 0.5 < jobs["kinds"]["training"]["goodput_frac"] < 1.0
    assert jobs["tokens"] == filled.jobs["tokens"].sum() > 0
    assert jobs["sites"] == {"hgx-h100": {"gpus": 64, "serving_gpus": 8}}


def test_the_report_shows_gpus_by_use(filled: twin.Run) -> None:
    assert "GPUs by use" in (filled.path / "report.html").read_text()
    matplotlib.use("Agg")
    axes = filled.plot.jobs()
    assert axes.get_ylim()[1] == 64
    matplotlib.pyplot.close("all")


def test_jobs_leave_serving_alone(filled: twin.Run, tmp_path: Path) -> None:
    alone = twin.run(scenario(tmp_path, jobs=""), out=tmp_path / "run")
    assert "jobs" not in alone.summary
    assert alone.requests.equals(filled.requests)
    assert alone.power["utility_w"].mean() < filled.power["utility_w"].mean()


def test_the_same_bytes_again(filled: twin.Run, tmp_path: Path) -> None:
    again = twin.run(scenario(tmp_path), out=tmp_path / "run")
    for name in ("jobs.parquet", "power.parquet", "events.parquet", "summary.json"):
        assert (again.path / name).read_bytes() == (filled.path / name).read_bytes()


EVENT = "    - {name: dip, start: 30 s, notice: NOTICE, ramp: RAMP, duration: 20 s, target: 45 kW}"


def told(notice: str, ramp: str) -> str:
    return EVENT.replace("NOTICE", notice).replace("RAMP", ramp)


def test_with_notice_nothing_is_lost(tmp_path: Path) -> None:
    run = twin.run(scenario(tmp_path, TRAIN + BATCH, told("20 s", "5 s")), out=tmp_path / "run")
    jobs = run.jobs.set_index("job")
    assert jobs["pauses"].sum() > 0
    assert jobs["steps_lost"].sum() == 0
    assert run.summary["curtailment"][0]["compliance_frac"] == 1.0
    assert run.summary["service"]["slo_attainment_frac"] == 1.0
    assert "set_clock" not in set(run.events["kind"])


def test_without_notice_work_is_lost_and_counted(tmp_path: Path) -> None:
    run = twin.run(scenario(tmp_path, TRAIN, told("0 s", "0 s")), out=tmp_path / "run")
    train = run.jobs.iloc[0]
    stopped = run.events[run.events["kind"] == "job_stopped"].iloc[0]
    assert stopped["detail"] == f'{{"steps_lost": {train["steps_lost"]}}}'
    assert train["steps_lost"] > 0
    assert train["lost_gpu_hours"] > 0
    assert run.summary["jobs"]["steps_lost"] == train["steps_lost"]


def test_a_cap_slows_jobs_too(tmp_path: Path) -> None:
    run = twin.run(scenario(tmp_path, TRAIN, told("0 s", "0 s"), "uniform_cap"), out=tmp_path / "run")
    free = twin.run(scenario(tmp_path, TRAIN, policy="none"), out=tmp_path / "free")
    caps = run.events[run.events["kind"] == "set_cap"]
    assert set(caps["subject"]) == {"chat", "jobs"}
    assert run.jobs["pauses"].sum() == 0
    assert run.jobs["steps_done"].iloc[0] < free.jobs["steps_done"].iloc[0]


def test_a_cap_acts_within_a_long_step(tmp_path: Path) -> None:
    """The first step ends at 42 s and the cap is called at 30 s: GPUs obey it when its delay of 2 s is over."""
    long = TRAIN.replace("time: 700 ms, gpus: 8", "time: 40 s, gpus: 24")
    run = twin.run(scenario(tmp_path, long, told("0 s", "0 s"), "uniform_cap"), out=tmp_path / "run")
    caps = run.events[(run.events["kind"] == "set_cap") & (run.events["subject"] == "jobs")]
    assert caps["time_s"].iloc[0] == 30.0
    cap_w = json.loads(caps["detail"].iloc[0])["cap_w"]
    power = run.power.set_index("time_s")
    gpu_w = power["job_gpu_w"] / power["job_gpus"]
    assert gpu_w[32.0] == pytest.approx(600.0)
    assert gpu_w[33.0] == pytest.approx(cap_w, rel=1e-3)
    assert cap_w < 400.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"jobs.0.gpus": 57}, "jobs.0.gpus: needs 57 GPUs, and racks has 64, of which serving takes 8: it would never begin"),
        ({"jobs.0.step.power": "800 W"}, "jobs.0.step.power: 800 W per GPU: a h100 draws between 72 W (idle) and 700 W (TDP)"),
        ({"jobs.0.arrival": "2 min", "jobs.0.deadline": "3 min"}, "jobs.0.arrival: at 120 s is after the run of 60 s"),
        ({"jobs.0.deadline": "0.0 s"}, "jobs.0.deadline: '0.0 s' is out of range: it must be above 0"),
        ({"jobs.0.arrival": "55 s"}, "jobs.0.deadline: 50 s is not after the arrival at 55 s"),
        ({"jobs.1.gpus.min": 25}, "jobs.1.gpus.min: 25 is above the max of 24"),
        ({"jobs.0.step.time": "0 s"}, "jobs.0.step.time: '0 s' is out of range: it must be above 0"),
        ({"jobs.0.checkpoint.cost": "0 s"}, "jobs.0.checkpoint.cost: '0 s' is out of range: it must be above 0"),
        ({"jobs.0.checkpoint.interval": 0}, "jobs.0.checkpoint.interval: 0 is out of range: it must be at least 1"),
        ({"jobs.0.checkpoint.interval": "0 s"}, "jobs.0.checkpoint.interval: '0 s' is out of range: it must be above 0"),
        ({"jobs.2.batch": 100_000}, "jobs.2.batch: 100000 sequences of 500 + 250 tokens hold 62,500,000 on the mean"),
        ({"jobs.2.parallelism.tp": 3}, "jobs.2.parallelism"),
        ({"jobs.0.kind": "tuning"}, "jobs.0.kind: 'tuning' is not one of"),
        ({"jobs.1.name": "tune"}, "jobs.1.name: the name 'tune' is taken by item 0; names must differ"),
        ({"jobs.0.racks": "rack"}, "jobs.0.racks: unknown rack group 'rack' (did you mean 'racks'?)"),
        ({"serving.pools.0.name": "jobs"}, "serving.pools.0.name: 'jobs' is what policies call all jobs of a site"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(scenario(tmp_path), change)
    assert expected in str(caught.value)


def test_a_job_without_steps_goes_on_to_its_deadline(tmp_path: Path) -> None:
    """At its deadline all is saved; one that got no GPUs by then never began. An instance stands for two, a job for itself."""
    open_ended = TUNE.replace("    steps: 40\n", "")
    late = open_ended.replace("name: tune", "name: late").replace("priority: 2", "priority: 1").replace("gpus: 16", "gpus: 41", 1)
    late = late.replace("deadline: 50 s", "deadline: 40 s")
    run = twin.run(scenario(tmp_path, open_ended + late), set={"represent": 2}, out=tmp_path / "run")
    jobs = run.jobs.set_index("job")
    assert jobs["outcome"].to_dict() == {"tune": "completed", "late": "not_started"}
    assert 45.0 < jobs.loc["tune", "finish_s"] <= 50.0
    assert (jobs["steps_lost"] == 0).all()
    assert jobs.loc["tune", "steps_open"] == 0
    assert jobs["deadline"].isna().all()


def test_limits_hold_figures_of_jobs(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    path.write_text(f"{path.read_text()}limits: [{{value: jobs.steps_lost, max: 0}}]\n")
    load_scenario(path)
    with pytest.raises(InputError, match="the summary has no 'jobs'"):
        load_scenario(path, {"jobs": []})


CSV = """\
name,kind,priority,gpus,gpus.min,gpus.max,step.time,step.gpus,step.compute_share,step.power,checkpoint.interval,checkpoint.cost,steps
tune,fine_tuning,2,16,,,500 ms,16,70 %,85 %,8,1 s,40
train,training,1,,8,24,700 ms,8,0.8,600 W,5 s,1 s,100000
"""


def test_a_job_list_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(CSV)
    path = scenario(tmp_path, jobs="")
    path.write_text(f"{path.read_text()}jobs: list.csv\n")
    loaded = load_scenario(path)
    tune, train = loaded.scenario.jobs
    assert (tune.name, tune.gpus.max, train.gpus.min, train.step.power.power_w) == ("tune", 16, 8, 600.0)
    assert str(tmp_path / "list.csv") in loaded.sources
    (tmp_path / "list.yaml").write_text(f"jobs:\n{TUNE}{TRAIN}")
    path.write_text(path.read_text().replace("list.csv", "list.yaml"))
    assert [job.name for job in load_scenario(path).scenario.jobs] == ["tune", "train"]
    again = load_scenario(load_scenario(path).resolved)
    assert again.scenario == load_scenario(path).scenario


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("train,training", "tune,training", "list.csv:3:1: jobs.1.name: the name 'tune' is taken by item 0"),
        ("train,training", "train,trainning", "list.csv:3:7: jobs.1.kind: 'trainning' is not one of"),
        ("steps\n", "stepps\n", "list.csv:1:129: stepps: unknown column (did you mean 'steps'?)"),
        ("16,,,500 ms", "16,,,0 s", "list.csv:2:25: jobs.0.step.time: '0 s' is out of range"),
        (",8,24,", ",30,24,", "list.csv:3:19: jobs.1.gpus.min: 30 is above the max of 24"),
        ("8,1 s,40", "8,1 s", "list.csv:2:1: has 12 fields, the header has 13"),
        ("16,,,500", "600,,,500", "list.csv:2:20: jobs.0.gpus: needs 600 GPUs"),
    ],
)
def test_a_bad_list_is_told_with_its_places(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in CSV
    (tmp_path / "list.csv").write_text(CSV.replace(old, new, 1))
    path = scenario(tmp_path, jobs="")
    path.write_text(f"{path.read_text()}jobs: list.csv\n")
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert expected in str(caught.value)


def test_a_missing_list_is_said_once(tmp_path: Path) -> None:
    path = scenario(tmp_path, jobs="")
    path.write_text(f"{path.read_text()}jobs: none.csv\n")
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    (said,) = str(caught.value).splitlines()
    assert "jobs: no such file" in said


#: Caps of the measured sweep over 400 W GPUs, and the share of arithmetic that a kind of job is given: nothing else is fitted.
@pytest.mark.parametrize(("prefix", "share", "worst"), [("ft_llama_8b", 0.53, 0.06), ("pt_mpt", 0.34, 0.08)])
def test_caps_slow_jobs_as_measured(prefix: str, share: float, worst: float, shared_data: Callable[[str], Path]) -> None:
    gpu = load_catalog().part("gpu", "a100")
    with shared_data("power/phoenix_dvfs_sweep.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["Workload"].startswith(prefix)]
    free = {row["Workload"]: row for row in rows if row["GPU power cap"] == "400"}
    checked = 0
    for row in rows:
        cap_w = float(row["GPU power cap"])
        if not 200 <= cap_w < 400:
            continue
        step = {"time": "1 s", "gpus": 8, "compute_share": share, "power": f"{free[row['Workload']]['power per GPU']} W"}
        job = TrainingJob.model_validate(
            {"name": "x", "kind": "training", "gpus": 8, "steps": 9, "step": step, "checkpoint": {"interval": 9, "cost": "1 s"}}
        )
        runs = started(step=training_step(job, gpu))
        runs.set_power(0.0, cap_w=cap_w)
        runs.advance(20.0)
        measured = float(row["throughput"]) / float(free[row["Workload"]]["throughput"])
        assert 1.0 / runs.spec.step.step_s(runs.clock, 8) == pytest.approx(measured, rel=worst)
        checked += 1
    assert checked >= 8


def test_batch_inference_is_as_fast_as_a_worker_in_full_work(tmp_path: Path) -> None:
    """An instance that serves the same lengths in a closed loop of as many sequences. Alike, these go in lock step: their prompts
    come all at once and fill steps of their own, where a mixed batch reads them beside the weights that it needs anyway."""
    folder, lengths = tmp_path, {"workload.input_tokens": 500, "workload.output_tokens": 250}
    busy = twin.run(
        scenario(folder, jobs=""),
        set={
            **lengths,
            "workload.arrivals": {"process": "closed_loop", "concurrency": 64},
            "serving.backend": "vllm",
            "serving.pools.0.instances": 1,
            "horizon": "2 min",
        },
        out=folder / "busy",
    )
    one = BATCH.replace("{min: 1, max: 6}", "1").replace("arrival: 3 s", "arrival: 0 s")
    waits = twin.run(scenario(folder, jobs=one), set={"serving.backend": "vllm", "horizon": "2 min"}, out=folder / "waits")
    rate = waits.jobs["tokens"].iloc[0] / 119.0
    assert 1.0 < rate / busy.summary["service"]["output_tokens_per_s"] < 1.2
    served, job = (
        load_scenario(busy.path / "scenario.resolved.yaml"),
        load_scenario(waits.path / "scenario.resolved.yaml").scenario,
    )
    site, catalog = job.topology.sites[0], load_catalog()
    cost = instance_of(served.scenario.serving, served.scenario.serving.pools[0], site, catalog).cost()
    step = job_spec(job, job.jobs[0], catalog).step
    assert step.step_s(0.8, 4) == pytest.approx(cost.step_s(64, 64 * 625, 128, 128 * 250, clock=0.8))
