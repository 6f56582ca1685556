"""The command: exit codes, what goes to which stream, and that nothing half-written is ever left."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from tiny_run import write_tiny

from twin.cli.main import main
from twin.engine.simulation import Simulation
from twin.errors import SimulationError

FILES = {
    "events.parquet",
    "fabric.parquet",
    "jobs.parquet",
    "elements.parquet",
    "racks.parquet",
    "manifest.json",
    "power.parquet",
    "report.html",
    "requests.parquet",
    "scenario.resolved.yaml",
    "sessions.parquet",
    "summary.json",
    "thermal.parquet",
    "workers.parquet",
    "tasks.parquet",
    "tool_runs.parquet",
}


def _everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny scenario, in a folder of its own where the command is run."""
    monkeypatch.chdir(tmp_path)
    return write_tiny(tmp_path)


# --- what is printed ---------------------------------------------------------------------------------------------------


def test_a_run_says_what_came_out_and_where_it_is(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny), "--set", "horizon=5 s"]) == 0
    said = capsys.readouterr()
    (made,) = (tiny.parent / "runs").iterdir()
    assert made.name.startswith("tiny-")
    assert made.name.endswith("-s3")
    assert {p.name for p in made.iterdir()} == FILES
    assert str(made) in said.out
    assert "set horizon: 10 s -> 5 s" in said.err
    assert "simulated in" in said.err
    assert "\x1b" not in said.out + said.err  # no colour off a terminal


def test_json_is_one_document_and_nothing_else(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny), "--json", "--out", "out", "--seed", "9", "--set", "horizon=5 s"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((tiny.parent / "out" / "summary.json").read_text())
    assert json.loads(said.out)["seed"] == 9
    assert main(["summary", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(said.out)


def test_quiet_narrates_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny), "--quiet", "--json", "--out", "out", "--set", "horizon=5 s"]) == 0
    assert capsys.readouterr().err == ""


def test_bare_command_helps_and_says_so_by_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [[], ["run"], ["check"], ["sweep"], ["trace"], ["trace", "generate"], ["topology", "show"], ["catalog"]]
)
def test_every_help_page_prints(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "usage: twin" in capsys.readouterr().out


# --- bad usage and bad input: 2, and nothing is written ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "SCENARIO"),
        (["rum", "tiny.yaml"], "rum"),
        (["run", "tiny.yaml", "--sed", "1", "2"], "unrecognized arguments"),
        (["run", "missing.yaml"], "missing.yaml"),
        (["run", "tiny.yaml", "--seed", "-1"], "--seed -1"),
        (["run", "tiny.yaml", "--seed", "one"], "--seed"),
        (["run", "tiny.yaml", "--seed", str(2**70)], "seed"),
        (["run", "tiny.yaml", "--set", "horizon"], "write path=value"),
        (["run", "tiny.yaml", "--set", "=3"], "write path=value"),
        (["run", "tiny.yaml", "--set", "horizon=3 s", "--set", "horizon=4 s"], "given twice"),
        (["run", "tiny.yaml", "--set", "horizont=3 s"], "did you mean 'horizon'"),
        (["run", "tiny.yaml", "--set", "horizon=3"], "the unit is missing"),
        (["run", "tiny.yaml", "--set", "horizon=-3 s"], "horizon"),
        (["run", "tiny.yaml", "--set", "horizon=nan s"], "horizon"),
        (["run", "tiny.yaml", "--set", "control.policy=lader"], "did you mean 'ladder'"),
        (["run", "tiny.yaml", "--set", "control.settings.haste=1"], "takes no settings"),
        (["run", "tiny.yaml", "--set", "serving.model=llama_4"], "llama"),
        (["run", "tiny.yaml", "--set", "serving.pools.0.instances=9"], "find no room"),
        (["run", "tiny.yaml", "--set", "serving.precision.weights=bf16", "--set", "serving.pools.0.parallelism.tp=1"], "GB"),
        (["run", "tiny.yaml", "--set", "represent=4"], "represent"),
        (["run", "tiny.yaml", "--set", "grid.events.0.duration=0 s"], "duration"),
        (["run", "tiny.yaml", "--set", "workload.arrivals.rate=0.001 /h"], "no session arrives"),
        (["run", "tiny.yaml", "--out", "tiny.yaml"], "is not a run directory"),
        (["run", "tiny.yaml", "--out", "tiny.yaml/below"], "tiny.yaml/below"),
        (["sweep", "tiny.yaml"], "--over"),
        (["summary", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["compare", "nowhere", "nowhere"], "nowhere"),
        (["topology", "show", "nowhere.yaml"], "nowhere.yaml"),
        (["catalog", "gppu"], "did you mean 'gpu'"),
        (["trace", "info", "nowhere.csv"], "nowhere.csv"),
        (["trace", "generate", "chats", "--out", "t.csv", "--sessions", "3"], "did you mean 'chat'"),
        (["trace", "generate", "chat", "--out", "t.csv", "--sessions", "3", "--rate", "5"], "unit is missing"),
        (["new", "tiny.yaml"], "tiny.yaml"),
        (["regress", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_two_is_said_and_writes_nothing(
    tiny: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _everything(tiny.parent)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert _everything(tiny.parent) == before


def test_all_problems_of_a_file_are_said_at_once_with_their_places(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(
        tiny.read_text().replace("seed: 3", "sead: 3").replace("horizon: 10 s", "horizon: 10 kg").replace("tp: 4", "tp: 0")
    )
    assert main(["run", str(tiny)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{tiny}:") for line in lines)
    assert main(["check", str(tiny)]) == 2


# --- limits, bugs, simulations that cannot go on -----------------------------------------------------------------------


def test_a_broken_limit_is_one_and_the_run_is_kept(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny(
        tiny.parent,
        more="limits:\n  - {value: energy.pue, max: 1.01}\n  - {value: requests.lost, max: 0}\n  - {value: energy.x, min: 1}\n",
    )
    assert main(["run", str(tiny), "--out", "out", "--json"]) == 1
    said = capsys.readouterr()
    json.loads(said.out)
    broken = [line for line in said.err.splitlines() if line.startswith("limit broken: ")]
    assert len(broken) == 2
    assert "energy.pue is 1." in broken[0]
    assert "energy.x: no such figure" in broken[1]
    manifest = json.loads((tiny.parent / "out" / "manifest.json").read_text())
    assert manifest["status"] == "limits broken"
    assert len(manifest["broken_limits"]) == 2


def test_a_kept_limit_is_zero(tiny: Path) -> None:
    write_tiny(tiny.parent, more="limits: [{value: energy.pue, min: 1, max: 3}]\n")
    assert main(["run", str(tiny), "--out", "out", "--quiet"]) == 0


def test_a_simulation_that_cannot_go_on_is_three(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stuck(self: Simulation) -> None:
        raise SimulationError("the pump has stopped")

    monkeypatch.setattr(Simulation, "run", stuck)
    assert main(["run", str(tiny), "--out", "out"]) == 3
    assert "the pump has stopped" in capsys.readouterr().err
    assert _everything(tiny.parent) == ["tiny.yaml"]


def test_a_bug_is_seventy_with_its_traceback(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Simulation, "run", lambda self: 1 / 0)
    assert main(["run", str(tiny), "--out", "out"]) == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "bug in twin" in said
    assert _everything(tiny.parent) == ["tiny.yaml"]


def test_an_interrupt_within_the_run_is_130_and_keeps_the_run_before(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tiny), "--out", "out", "--quiet", "--set", "horizon=5 s"]) == 0
    before = {p.name: p.read_bytes() for p in (tiny.parent / "out").iterdir()}

    def interrupted(self: Simulation) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "run", interrupted)
    assert main(["run", str(tiny), "--out", "out", "--quiet"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(p.name for p in tiny.parent.iterdir()) == ["out", "tiny.yaml"]
    assert {p.name: p.read_bytes() for p in (tiny.parent / "out").iterdir()} == before


# --- processes of their own --------------------------------------------------------------------------------------------

_TWIN = [sys.executable, "-m", "twin.cli.main"]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_ctrl_c_leaves_nothing_half_written(tiny: Path) -> None:
    command = [*_TWIN, "run", str(tiny), "--out", "out", "--set", "horizon=100 h", "--set", "grid.events=[]"]
    process = subprocess.Popen(
        command, cwd=tiny.parent, env=_ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    # Once rows are on the disk, it is in the middle of the run.
    while not any(p.stat().st_size > 10_000 for p in tiny.parent.glob(".out.partial-*/requests.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "interrupted; nothing was kept"
    assert "Traceback" not in err
    assert _everything(tiny.parent) == ["tiny.yaml"]


def _with_files_up_to(size: int) -> object:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [0, 100, 4_000, 20_000, 200_000])
def test_a_full_disk_is_said_and_leaves_nothing(tiny: Path, size: int) -> None:
    """No file may grow beyond `size`: the run fails at its first text, a table, the summary, or only at its report."""
    done = subprocess.run(
        [*_TWIN, "run", str(tiny), "--out", "out", "--quiet"],
        cwd=tiny.parent,
        env={**_ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=_with_files_up_to(size),  # type: ignore[arg-type]
        check=False,
    )
    assert done.returncode in (2, 3), done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert _everything(tiny.parent) == ["tiny.yaml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_an_unwritable_place_is_two(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tiny.parent / "closed"
    closed.mkdir(mode=0o500)
    assert main(["run", str(tiny), "--out", str(closed / "out")]) == 2
    assert "cannot write the output directory" in capsys.readouterr().err


def test_a_place_that_no_one_can_write_to_is_two(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny), "--out", "/proc/twin/out"]) == 2
    assert "cannot write the output directory" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error_of_ours(tmp_path: Path) -> None:
    done = subprocess.run(
        f"set -o pipefail; {' '.join(_TWIN)} catalog --json | head -c 1",
        shell=True, executable="/bin/bash", cwd=tmp_path, env=_ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def _cpu_s(*arguments: str) -> float:
    """CPU seconds of a fresh interpreter; the least of three."""
    best = float("inf")
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=_ENVIRONMENT, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def test_help_and_check_answer_at_once() -> None:
    """A bare interpreter is the yardstick, measured in the same minute: some 25 ms where `check` may take 600."""
    bare_s = _cpu_s("-c", "pass")
    help_s = _cpu_s("-m", "twin.cli.main", "--help")
    check_s = _cpu_s("-m", "twin.cli.main", "check", "scenarios/curtail_80.yaml")
    print(f"bare {bare_s:.3f} s, --help {help_s:.3f} s, check {check_s:.3f} s")
    assert help_s < 8 * bare_s
    assert check_s < 30 * bare_s


def test_check_knows_the_settings_of_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(ROOT / "scenarios" / "quickstart.yaml")
    assert main(["check", file, "--set", "control.settings={clock_flor: 0.4}"]) == 2
    said = capsys.readouterr().err
    assert f"{file}:1:1: control.settings: policy 'ladder' has no setting 'clock_flor' (did you mean 'clock_floor'?)" in said
    assert main(["check", file, "--set", "control.settings={clock_floor: 0.4}"]) == 0
