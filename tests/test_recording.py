"""Tables keep their word on units, nulls and bytes; a run directory is whole or not there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError, SimulationError
from twin.recording import TABLES, Column, RunDirectory, is_run_directory
from twin.recording import writer as writer_module
from twin.recording.writer import TableWriter

CONTRACT = {
    "requests": "request_id session_id parent_id depth site tier arrival_s admitted_s first_token_s finish_s input_tokens "
    "cached_tokens output_tokens prefill_worker decode_worker outcome ttft_s tpot_s e2e_s energy_j",
    "sessions": "session_id site tier start_s finish_s calls sub_agents tool_s tokens outcome",
    "power": "time_s site utility_w it_w cooling_w conversion_loss_w battery_w generator_w limit_w target_w battery_soc_frac",
    "thermal": "time_s site loop supply_c return_c flow_kg_per_s heat_w gpu_max_c throttled_frac",
    "events": "time_s site kind subject detail",
}
SMALL = (
    Column("time_s", "float64", "s", "when"),
    Column("site", "category", "", "where"),
    Column("count", "int64", "", "how many", True),
    Column("level_w", "float64", "W", "how much", True),
    Column("note", "string", "", "what"),
)


def write(path: Path, rows: list[tuple[Any, ...]], columns: tuple[Column, ...] = SMALL) -> Path:
    writer = TableWriter(path, columns)
    for row in rows:
        writer.append(row)
    writer.close()
    return path


@pytest.mark.parametrize("table", CONTRACT)
def test_tables_have_the_columns_others_read(table: str) -> None:
    assert set(CONTRACT[table].split()) <= {column.name for column in TABLES[table]}


@pytest.mark.parametrize("table", TABLES)
def test_every_field_says_its_unit_and_meaning(table: str, tmp_path: Path) -> None:
    schema = pq.read_schema(write(tmp_path / f"{table}.parquet", [], TABLES[table]))
    suffix_units = {"_s": b"s", "_w": b"W", "_j": b"J", "_c": b"C", "_frac": b""}
    for field in schema:
        assert field.metadata[b"description"], field.name
        unit = field.metadata[b"unit"]
        suffix = next((s for s in suffix_units if field.name.endswith(s) and not field.name.endswith("_per_s")), None)
        if suffix is not None:
            assert unit == suffix_units[suffix], field.name


def test_rows_come_back_as_they_went_in_over_several_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "GROUP_ROWS", 3)
    rows = [(float(i), f"site-{i % 4}", None if i % 2 else i, None if i % 3 else i * 0.1, f"n{i}") for i in range(10)]
    path = write(tmp_path / "t.parquet", rows)
    assert pq.ParquetFile(path).num_row_groups == 4
    assert [tuple(row.values()) for row in pq.read_table(path).to_pylist()] == rows


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=5),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=5),
        ),
        max_size=20,
    )
)
def test_any_rows_come_back_and_give_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    first, second = write(folder / "a.parquet", rows), write(folder / "b.parquet", rows)
    assert first.read_bytes() == second.read_bytes()
    assert [tuple(row.values()) for row in pq.read_table(first).to_pylist()] == rows


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((math.nan, "a", 1, 1.0, ""), "t table, row 1: time_s is nan"),
        ((0.0, "a", 1, math.inf, ""), "t table, row 1: level_w is inf"),
        ((0.0, None, 1, 1.0, ""), "t table, row 1: site is null"),
        ((None, "a", 1, 1.0, ""), "t table, row 1: time_s is null"),
        ((0.0, "a", 1, 1.0), "t table, row 1: 4 values for 5 columns"),
        ((0.0, 7, 1, 1.0, ""), "site: 7 is not a name"),
        ((0.0, "a", "x", 1.0, ""), "count: "),
        ((0.0, "a", 2**63, 1.0, ""), "count: "),
    ],
)
def test_a_row_that_does_not_fit_is_an_error_with_its_place(tmp_path: Path, row: tuple[Any, ...], said: str) -> None:
    with pytest.raises(SimulationError, match=said.replace("(", r"\(")):
        write(tmp_path / "t.parquet", [(0.0, "a", 1, 1.0, ""), row])


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "t.parquet", SMALL)
    writer.append((0.0, "a", 1, 1.0, ""))
    assert len(writer) == 1
    writer.close()
    writer.close()
    writer.append((1.0, "a", 1, 1.0, ""))
    with pytest.raises(SimulationError, match="after the table was closed"):
        writer._write_group()


def test_a_run_directory_appears_when_whole(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "run"
    with RunDirectory.create(final) as run:
        run.writer("events").append((0.0, "main", "start", "run", ""))
        run.write_json("summary.json", {"seed": 1})
        run.write_json("manifest.json", {"status": "done"})
        assert not final.exists()
        assert run.commit() == final
    assert is_run_directory(final)
    assert [p.name for p in final.parent.iterdir()] == ["run"]
    assert {p.stem for p in final.glob("*.parquet")} == set(TABLES)
    assert json.loads((final / "summary.json").read_text()) == {"seed": 1}
    assert pq.read_table(final / "events.parquet").num_rows == 1


def failing_run(final: Path) -> None:
    with RunDirectory.create(final) as run:
        run.writer("events").append((0.0, "main", "start", "run", ""))
        raise ZeroDivisionError


def test_a_new_run_replaces_an_earlier_one_and_a_failed_one_leaves_it(tmp_path: Path) -> None:
    final = tmp_path / "run"
    for seed in (1, 2):
        with RunDirectory.create(final) as run:
            run.write_json("manifest.json", {"seed": seed})
            run.commit()
    with pytest.raises(ZeroDivisionError):
        failing_run(final)
    assert json.loads((final / "manifest.json").read_text()) == {"seed": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_what_is_no_run_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "only_copy.txt").write_text("precious")
    with pytest.raises(InputError, match="not a run directory"):
        RunDirectory.create(tmp_path / "thesis")
    with pytest.raises(InputError, match="not a run directory"):
        RunDirectory.create(tmp_path / "thesis" / "only_copy.txt")
    assert (tmp_path / "thesis" / "only_copy.txt").read_text() == "precious"


def test_an_unwritable_place_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the output directory"):
        RunDirectory.create(tmp_path / "file" / "run")


def test_a_run_without_manifest_is_not_put_in_place(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="not whole"), RunDirectory.create(tmp_path / "run") as run:
        run.commit()
    assert list(tmp_path.iterdir()) == []


def test_nan_is_no_json(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run") as run, pytest.raises(SimulationError, match=r"summary.json"):
        run.write_json("summary.json", {"pue": math.nan})


def run_on_a_full_disk(final: Path) -> None:
    with RunDirectory.create(final) as run:
        (run.path / "events.parquet").symlink_to("/dev/full")
        run.writer("events").append((0.0, "main", "start", "run", ""))
        run.write_json("manifest.json", {})
        run.commit()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to stand for a full disk")
def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="No space left"):
        run_on_a_full_disk(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
