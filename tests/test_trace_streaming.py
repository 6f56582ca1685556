"""A trace of any length in flat memory: each link of the chain in a process of its own, at N and at 10 N calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def measured(*options: str) -> list[dict[str, object]]:
    command = [sys.executable, str(ROOT / "bench" / "replay.py"), "--json", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_info_reads_in_flat_memory() -> None:
    """Small enough for every day: 1,000 and 10,000 calls; a trace in memory would be 10 MB more."""
    rows = measured("--calls", "1000", "--links", "info", "--forms", "agent_csv")
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        assert (small["calls"], large["calls"]) == (1000, 10_000)
        assert float(str(large["peak_rss_mb"])) <= float(str(small["peak_rss_mb"])) + 3, large


@pytest.mark.slow
def test_every_link_is_flat() -> None:
    """200,000 calls against 20,000. The table of which instance served a hashed prefix last grows to its bound."""
    rows = measured("--calls", "20000", "--links", "check", "info", "simulate")
    for small, large in zip(rows[::2], rows[1::2], strict=True):
        grown = float(str(large["rss_ratio"]))
        bound = 1.25 if (large["link"], large["form"]) == ("simulate", "mooncake") else 1.08
        assert grown <= bound, (small, large)
