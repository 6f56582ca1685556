"""A streaming Parquet writer: rows go in as tuples or in blocks of arrays, row groups go out, memory stays flat, bytes repeat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twin.errors import SimulationError
from twin.recording.tables import Column

#: Rows of a row group. Large enough that encoding is cheap per row, small enough that a buffer is a few megabytes.
GROUP_ROWS = 8192

_ARROW: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "int16": pa.int16(),
    "float64": pa.float64(),
    "string": pa.string(),
    "category": pa.dictionary(pa.int32(), pa.string()),
    "bool": pa.bool_(),
    "int64_list": pa.list_(pa.int64()),
}


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of `columns`; each field carries the metadata `unit` (empty where there is none) and `description`."""
    return pa.schema(
        pa.field(c.name, _ARROW[c.type], nullable=c.nullable, metadata={"unit": c.unit, "description": c.description})
        for c in columns
    )


class Coded(NamedTuple):
    """A column of names in a block: row i holds `names[codes[i]]`."""

    codes: np.ndarray
    names: tuple[str, ...]


class TableWriter:
    """Writes one table as its rows come. The same rows give the same bytes.

    `append` takes a tuple in the order of `columns`; `append_block` takes an array for each of them, for tables with many rows at
    a time. A table is written one way or the other. Null in a column that is not nullable, a number that is not finite, a
    value of another type and a row of another length raise SimulationError that names table, column and row; so does a disk
    that is full. Errors show when a row group is written, at the latest in `close`.
    """

    def __init__(self, path: Path, columns: Sequence[Column]):
        self.path = path
        self._columns = tuple(columns)
        self._schema = arrow_schema(columns)
        self._codes: list[dict[str | None, int | None]] = [{None: None} for _ in columns]
        self._rows: list[tuple[Any, ...]] = []
        self._blocks: list[Sequence[np.ndarray | Coded]] = []
        self._block_rows = 0
        self._written = 0
        try:
            self._file: pq.ParquetWriter | None = pq.ParquetWriter(
                path,
                self._schema,
                compression="zstd",
                compression_level=1,
                # Dictionary pages pay for names only; on times and energies they cost more than all the rest.
                use_dictionary=[c.name for c in columns if c.type == "category"],
                write_statistics=True,
            )
        except OSError as error:
            raise SimulationError(f"cannot write {path}: {error}") from error

    def __len__(self) -> int:
        """Rows appended so far."""
        return self._written + len(self._rows) + self._block_rows

    def append(self, row: tuple[Any, ...]) -> None:
        """Add one row, in the order of the columns."""
        rows = self._rows
        rows.append(row)
        if len(rows) == GROUP_ROWS:
            self._write_group()

    def append_block(self, block: Sequence[np.ndarray | Coded]) -> None:
        """Add rows column-wise: an array (rows,) for each column in their order, `Coded` for names, NaN for null.

        Arrays are kept until they are written.
        """
        self._blocks.append(block)
        self._block_rows += len(block[0] if isinstance(block[0], np.ndarray) else block[0].codes)
        if self._block_rows >= GROUP_ROWS:
            self._write_blocks()

    def close(self) -> None:
        """Write what is buffered and finish the file. A second call does nothing."""
        if self._file is None:
            return
        try:
            if self._rows:
                self._write_group()
            if self._blocks:
                self._write_blocks()
        finally:
            self._finish()

    def discard(self) -> None:
        """Let go of the file without writing what is buffered; for a run that is given up."""
        self._rows.clear()
        self._blocks.clear()
        if self._file is not None:
            self._finish()

    def _finish(self) -> None:
        file, self._file = self._file, None
        assert file is not None
        try:
            file.close()
        except OSError as error:
            file.is_open = False  # else it tries again when it is collected, and complains on stderr
            raise SimulationError(f"cannot write {self.path}: {error}") from error

    def _write_group(self) -> None:
        if self._file is None:
            raise SimulationError(f"{self.path}: a row was written after the table was closed")
        if self._blocks:
            raise SimulationError(f"{self.path}: rows and blocks in one table")
        rows, self._rows = self._rows, []
        width = len(self._columns)
        if set(map(len, rows)) != {width}:
            ragged = next(i for i, row in enumerate(rows) if len(row) != width)
            raise SimulationError(f"{self._place(ragged)}: {len(rows[ragged])} values for {width} columns")
        self._write([self._array(i, values) for i, values in enumerate(zip(*rows, strict=True))])

    def _write_blocks(self) -> None:
        if self._file is None or self._rows:
            raise SimulationError(f"{self.path}: a block was written after the table was closed, or beside rows")
        blocks, self._blocks, self._block_rows = self._blocks, [], 0
        width = len(self._columns)
        if wrong := [block for block in blocks if len(block) != width]:
            raise SimulationError(f"{self._place(0)}: a block of {len(wrong[0])} columns for {width}")
        arrays = [self._joined(i, parts) for i, parts in enumerate(zip(*blocks, strict=True))]
        if len({len(array) for array in arrays}) != 1:
            raise SimulationError(f"{self._place(0)}: the columns of a block differ in length")
        self._write(arrays)

    def _write(self, arrays: list[pa.Array]) -> None:
        assert self._file is not None
        try:
            self._file.write_batch(pa.record_batch(arrays, schema=self._schema), row_group_size=len(arrays[0]))
        except OSError as error:
            raise SimulationError(f"cannot write {self.path}: {error}") from error
        self._written += len(arrays[0])

    def _joined(self, index: int, parts: tuple[np.ndarray | Coded, ...]) -> pa.Array:
        """One column of all buffered blocks."""
        column = self._columns[index]
        first = parts[0]
        if isinstance(first, Coded):
            codes, names = _one_coding([part for part in parts if isinstance(part, Coded)])
            array: pa.Array = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))
        else:
            array = pa.array(
                np.concatenate([part for part in parts if isinstance(part, np.ndarray)]),
                _ARROW[column.type],
                from_pandas=column.nullable,
            )
        if array.type != _ARROW[column.type]:
            raise SimulationError(f"{self._place(0)}: {column.name}: a block of {array.type}, not of {column.type}")
        if column.type == "float64" and (finite := pc.call_function("is_finite", [array])).false_count:
            bad = finite.to_pylist().index(False)
            raise SimulationError(f"{self._place(bad)}: {column.name} is {array[bad].as_py()}")
        return array

    def _array(self, index: int, values: tuple[Any, ...]) -> pa.Array:
        column = self._columns[index]
        try:
            array = self._coded(index, values) if column.type == "category" else pa.array(values, _ARROW[column.type])
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
            raise SimulationError(f"{self._place(0)}: {column.name}: {error}") from error
        if array.null_count and not column.nullable:
            raise SimulationError(f"{self._place(values.index(None))}: {column.name} is null")
        if column.type == "float64" and (finite := pc.call_function("is_finite", [array])).false_count:
            bad = finite.to_pylist().index(False)
            raise SimulationError(f"{self._place(bad)}: {column.name} is {values[bad]}")
        return array

    def _coded(self, index: int, values: tuple[Any, ...]) -> pa.DictionaryArray:
        codes = self._codes[index]
        try:
            indices = [codes[value] for value in values]
        except KeyError:
            for value in values:
                if value not in codes:
                    if not isinstance(value, str):
                        raise TypeError(f"{value!r} is not a name") from None
                    codes[value] = len(codes) - 1
            indices = [codes[value] for value in values]
        names = [name for name in codes if name is not None]
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(names, pa.string()))

    def _place(self, row_in_group: int) -> str:
        return f"{self.path.stem} table, row {self._written + row_in_group}"


def _one_coding(parts: Sequence[Coded]) -> tuple[np.ndarray, list[str]]:
    """Codes of all parts one after another, and the names they stand for: blocks of several sites have names of their own."""
    place: dict[str, int] = {}
    codes_of: dict[int, np.ndarray] = {}  # by identity: a site's blocks share one tuple of names
    for part in parts:
        if id(part.names) not in codes_of:
            codes_of[id(part.names)] = np.array([place.setdefault(name, len(place)) for name in part.names], np.int32)
    return np.concatenate([codes_of[id(part.names)][part.codes] for part in parts]), list(place)
