"""Cap and clock lock are two actuators, each with its own delay from command to effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from twin import api

ROOT = Path(__file__).resolve().parents[1]


def _run(out: Path, policy: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events and workers, the latter each half second, of a run in which the utility asks for much less from 4 s on."""
    event = {"name": "less", "start": "4 s", "ramp": "2 s", "duration": "30 s", "target": "70 %"}
    given = {
        "horizon": "16 s",
        "grid.events": [event],
        "control": {"policy": policy, "clock_delay": "1.2 s", "cap_delay": "3.2 s"},
        "records.worker_interval": "500 ms",
    }
    api.run(ROOT / "scenarios/quickstart.yaml", out=out, set=given)
    return pq.read_table(out / "events.parquet").to_pylist(), pq.read_table(out / "workers.parquet").to_pylist()


@pytest.mark.parametrize(
    ("policy", "kind", "key", "column", "delay_s"),
    [("uniform_cap", "set_cap", "cap_w", "cap_w", 3.2), ("ladder", "set_clock", "clock", "clock_frac", 1.2)],
)
def test_acts_after_its_own_delay(tmp_path: Path, policy: str, kind: str, key: str, column: str, delay_s: float) -> None:
    events, workers = _run(tmp_path / "run", policy)
    first = next(event for event in events if event["kind"] == kind)
    full = max(row[column] for row in workers)
    low = json.loads(first["detail"])[key]
    assert low < full
    acts_s = first["time_s"] + delay_s
    highest = {
        time_s: max(row[column] for row in workers if row["time_s"] == time_s) for time_s in {r["time_s"] for r in workers}
    }
    assert all(value == full for time_s, value in highest.items() if time_s < acts_s)
    # an instance takes it up at the end of the step under way
    assert highest[max(highest)] < full
    assert min(time_s for time_s, value in highest.items() if value < full) <= acts_s + 1.0
