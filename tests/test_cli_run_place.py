"""What `twin run` does with the place of its output: what killed runs left, another run there, signals, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_run import ROOT, write_tiny

from twin.analysis import open_run
from twin.cli.main import main
from twin.engine.simulation import Simulation

TWIN = [sys.executable, "-m", "twin.cli.main"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tiny(tmp_path)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_sigterm_leaves_nothing_half_written(tiny: Path) -> None:
    command = [*TWIN, "run", str(tiny), "--out", "out", "--set", "horizon=100 h", "--set", "grid.events=[]"]
    process = subprocess.Popen(command, cwd=tiny.parent, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not any(tiny.parent.glob(".out.partial-*/requests.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # an impatient user does not disturb the cleaning up
    _, err = process.communicate(timeout=30)
    assert process.returncode in (143, 130), err  # whichever of the two came first
    assert "Traceback" not in err
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny.yaml"]


def test_sigterm_alone_is_143_and_the_handlers_come_back(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(self: Simulation) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(Simulation, "run", terminated)
    assert main(["run", str(tiny), "--out", "out", "--quiet"]) == 143
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny.yaml"]


def test_what_killed_runs_left_is_swept_away_and_nothing_else(tiny: Path) -> None:
    gone, alive, other = (
        tiny.parent / name for name in (f".out.partial-{dead_pid()}", f".out.partial-{os.getppid()}", ".out.partial-notes")
    )
    for folder in (gone, alive, other):
        folder.mkdir()
        (folder / "requests.parquet").write_text("half")
    assert main(["run", str(tiny), "--out", "out", "--quiet"]) == 0
    assert not gone.exists()
    assert alive.exists()
    assert other.exists()


def test_replacing_the_run_of_something_else_is_said(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_tiny(tiny.parent, "other")
    told = []
    for scenario, *more in ((tiny,), (tiny,), (tiny, "--seed", "9"), (tiny, "--set", "horizon=9 s"), (other,)):
        assert main(["run", str(scenario), "--out", "out", "--quiet", *map(str, more)]) == 0
        told.append(capsys.readouterr().err)
    assert told[:3] == ["", "", ""]
    assert told[3] == "replacing an earlier run of tiny with other content at out\n"
    assert told[4] == "replacing an earlier run of tiny at out\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (range(2), "the trace ends early: its last session arrives at 1 s of a run of 10 s"),
        (range(10), ""),
    ],
)
def test_a_trace_that_ends_early_is_told(rows: range, said: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        f"2023-11-16 18:15:{second + part / 10:06.3f},100,5"
        for second in rows
        for part in range(10)
        if second + part / 10 <= rows[-1]
    ]
    (tiny.parent / "t.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    work = tiny.read_text()
    begin, end = work.index("workload:"), work.index("serving:")
    tiny.write_text(f"{work[:begin]}workload:\n  kind: trace\n  trace: t.csv\n  tiers: {{chat: 1}}\n{work[end:]}")
    assert main(["run", str(tiny), "--out", "out", "--quiet"]) == 0
    assert capsys.readouterr().err.strip() == said


def test_the_same_run_has_the_same_report(tiny: Path) -> None:
    for out in ("a", "b"):
        assert main(["run", str(tiny), "--out", out, "--quiet"]) == 0
    first, second = ((tiny.parent / out / "report.html").read_bytes() for out in ("a", "b"))
    assert first == second
    assert b"wall" not in first


def test_without_a_battery_its_charge_is_unknown(tiny: Path) -> None:
    topology = (ROOT / "topologies" / "hgx_h100.yaml").read_text()
    lines = [line for line in topology.splitlines() if not line.strip().startswith("battery:")]
    (tiny.parent / "bare.yaml").write_text("\n".join(lines) + "\n")
    assert main(["run", str(tiny), "--set", "topology=bare.yaml", "--out", "out", "--quiet"]) == 0
    run = open_run("out")
    assert run.power["battery_soc_frac"].isna().all()
    assert main(["report", "out"]) == 0
    assert main(["summary", "out"]) == 0
