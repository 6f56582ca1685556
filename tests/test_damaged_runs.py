"""Run directories that somebody has damaged or another version made: refused in words, never with a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_run import write_small_run

from twin.analysis import open_run
from twin.analysis.columns import TableColumns
from twin.cli.main import main
from twin.errors import InputError


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_small_run(tmp_path / "run")
    return tmp_path / "run"


def without(path: Path, column: str) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([column]), path)


@pytest.mark.parametrize(("table", "column"), [("requests", "tier"), ("power", "utility_w"), ("events", "kind")])
def test_a_missing_column_is_named(run_dir: Path, table: str, column: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_dir / f"{table}.parquet"
    without(path, column)
    assert main(["report", str(run_dir)]) == 2
    assert capsys.readouterr().err == f"{path}: column '{column}' is missing\n"
    with pytest.raises(InputError, match=f"column '{column}' is missing"):
        getattr(open_run(run_dir), table)


def test_a_column_of_another_kind_is_named(run_dir: Path) -> None:
    path = run_dir / "power.parquet"
    table = pq.read_table(path)
    texts = pa.array(["x"] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index("it_w"), "it_w", texts), path)
    with pytest.raises(InputError, match="'it_w' holds string, not numbers"):
        TableColumns(run_dir, "power").numbers("it_w")


def test_a_table_cut_short_is_refused(run_dir: Path) -> None:
    path = run_dir / "requests.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cannot read .*requests\.parquet"):
        _ = open_run(run_dir).requests
    # pages gone, the footer whole: it opens, and fails where it is read
    path.write_bytes(content[:4] + bytes(len(content) // 3) + content[4 + len(content) // 3 :])
    with pytest.raises(InputError, match=r"cannot read .*requests\.parquet"):
        _ = [TableColumns(run_dir, "requests").numbers(name) for name in ("request_id", "arrival_s", "energy_j")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": None}, "has no schema_version"),
        ({"schema_version": 99}, "has schema_version 99, not 1"),
        ({"service": None}, "service is missing"),
        ({"service": {}}, "service.tiers is missing"),
        ({"horizon_s": "1 h"}, "horizon_s is missing or not what it must be"),
        ({"energy": []}, "energy is missing"),
    ],
)
@pytest.mark.parametrize("command", ["summary", "report"])
def test_a_summary_that_is_not_whole_is_refused(
    command: str, change: dict[str, Any], said: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run_dir / "summary.json"
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    assert main([command, str(run_dir)]) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(InputError):
        open_run(run_dir)


def test_the_plots_offered_are_plots(run_dir: Path) -> None:
    offered = {name for name in dir(open_run(run_dir).plot) if not name.startswith("_")}
    assert offered == {
        *("power", "clocks", "tokens", "latency", "temperature", "pue", "light", "actions"),
        *("tasks", "sessions", "sandboxes", "jobs", "attainment", "revenue"),
        *("energy", "racks", "elements"),
    }
