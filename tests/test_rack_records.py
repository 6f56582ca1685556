"""The racks table: blocks of arrays in the writer, means over an interval, and sums that are the power table's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_run import write_tiny

import twin
from twin.errors import SimulationError
from twin.recording import TABLES, Column, TableWriter
from twin.recording.writer import GROUP_ROWS, Coded

COLUMNS = (
    Column("time_s", "float64", "s", ""),
    Column("rack", "category", "", ""),
    Column("die_c", "float64", "C", "", nullable=True),
    Column("up", "bool", "", ""),
)


def block(time_s: float, racks: int) -> tuple[np.ndarray | Coded, ...]:
    die_c = np.linspace(40.0, 60.0, racks)
    die_c[-1] = np.nan
    names = tuple(f"row/{i}" for i in range(racks))
    return np.full(racks, time_s), Coded(np.arange(racks, dtype=np.int32), names), die_c, np.arange(racks) % 2 == 0


def written(path: Path, blocks: list[tuple[np.ndarray | Coded, ...]]) -> Path:
    writer = TableWriter(path, COLUMNS)
    for each in blocks:
        writer.append_block(each)
    writer.close()
    return path


def test_blocks_read_as_rows_do(tmp_path: Path) -> None:
    racks, times = 700, 30
    blocks = written(tmp_path / "blocks.parquet", [block(float(t), racks) for t in range(times)])
    writer = TableWriter(tmp_path / "rows.parquet", COLUMNS)
    for t in range(times):
        _, names, die_c, up = block(float(t), racks)
        assert isinstance(names, Coded)
        for i in range(racks):
            writer.append((float(t), names.names[i], None if np.isnan(die_c[i]) else float(die_c[i]), bool(up[i])))
    writer.close()
    one, other = pq.read_table(blocks), pq.read_table(tmp_path / "rows.parquet")
    assert one.to_pylist() == other.to_pylist()
    assert one.schema.equals(other.schema, check_metadata=True)
    assert pq.ParquetFile(blocks).metadata.num_row_groups <= racks * times // GROUP_ROWS + 1


def test_the_same_blocks_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (written(tmp_path / f"{i}.parquet", [block(1.0, 9000), block(2.0, 9000)]) for i in range(2))
    assert one.read_bytes() == other.read_bytes()


def bad_number(parts: list[np.ndarray | Coded]) -> None:
    parts[0] = np.full(8, np.nan)


def too_short(parts: list[np.ndarray | Coded]) -> None:
    parts[2] = np.zeros(7)


def one_missing(parts: list[np.ndarray | Coded]) -> None:
    parts.pop()


@pytest.mark.parametrize(("spoil", "said"), [(bad_number, "time_s is"), (too_short, "length"), (one_missing, "3 columns for 4")])
def test_a_block_that_is_wrong(tmp_path: Path, spoil: object, said: str) -> None:
    parts = list(block(1.0, 8))
    assert callable(spoil)
    spoil(parts)
    writer = TableWriter(tmp_path / "t.parquet", COLUMNS)
    writer.append_block(parts)
    with pytest.raises(SimulationError, match=said):
        writer.close()


def test_blocks_of_sites_with_names_of_their_own(tmp_path: Path) -> None:
    codes, numbers = np.array([1, 0], np.int32), np.zeros(2)
    sites = [Coded(codes, ("a/0", "a/1")), Coded(codes, ("b/0", "a/0")), Coded(codes, ("a/0", "a/1"))]
    path = written(tmp_path / "t.parquet", [(numbers, names, numbers, np.ones(2, np.bool_)) for names in sites])
    assert pq.read_table(path)["rack"].to_pylist() == ["a/1", "a/0", "a/0", "b/0", "a/1", "a/0"]


def test_rows_and_blocks_do_not_mix(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "t.parquet", COLUMNS)
    writer.append((0.0, "row/0", None, True))
    writer.append_block(block(1.0, 8))
    with pytest.raises(SimulationError, match="blocks"):
        writer.close()


TWO_RACKS = "topology.sites.0.racks.0.count"


def test_racks_sum_to_the_power_table(tmp_path: Path) -> None:
    run = twin.run(
        write_tiny(tmp_path),
        set={TWO_RACKS: 2, "records.rack_interval": "2.5 s", "records.interval": "1 s"},
        out=tmp_path / "run",
    )
    racks, power = run.racks, run.power
    assert list(racks.columns) == [column.name for column in TABLES["racks"]]
    # Steps end at whole seconds: a row ends with the first step at or after 2.5, 5, 7.5 and 10 s.
    assert racks.time_s.unique().tolist() == [3.0, 5.0, 8.0, 10.0]
    assert racks.rack.unique().tolist() == ["racks/0", "racks/1"]
    begin = 0.0
    for end, rows in racks.groupby("time_s"):
        steps = power[(power.time_s > begin) & (power.time_s <= end)]
        for column in ("it_w", "gpu_w"):
            mean = (steps[column] * np.diff(np.concatenate(([begin], steps.time_s)))).sum() / (end - begin)
            assert rows[column].sum() == pytest.approx(mean, rel=1e-12)
        begin = end
    assert racks.up.all()
    hottest = run.thermal.groupby("time_s").gpu_max_c.max()
    assert racks.groupby("time_s").die_c.max().tolist() == pytest.approx(hottest[racks.time_s.unique()].tolist(), abs=1e-12)
