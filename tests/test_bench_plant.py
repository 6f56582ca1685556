"""The plant benchmark runs from a checkout and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "bench" / "plant.py"


def test_prints_one_json_object(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--racks", "10", "--hours", "0.05", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    document = json.loads(done.stdout)
    assert document["racks"] == 10
    assert document["simulated_s_per_wall_s"] > 1000
