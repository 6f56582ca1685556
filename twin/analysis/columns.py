"""Reads the columns of a recorded table one at a time, so that a big table needs no more memory than what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twin.errors import InputError


@dataclass(frozen=True, slots=True)
class Names:
    """A column of names: `labels[codes[i]]` is the name in row i, code -1 is null."""

    codes: np.ndarray
    labels: tuple[str, ...]

    def are(self, *names: str) -> np.ndarray:
        """Boolean mask of the rows that hold one of `names`."""
        return np.isin(self.codes, [code for code, label in enumerate(self.labels) if label in names])


class TableColumns:
    """One Parquet file of a run. Raises InputError if it, or a column asked of it, is not there or cannot be read."""

    def __init__(self, run_dir: Path, table: str):
        self._path = run_dir / f"{table}.parquet"
        try:
            self._file = pq.ParquetFile(self._path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {self._path}: {error}") from error
        self.rows: int = self._file.metadata.num_rows

    def numbers(self, name: str) -> np.ndarray:
        """A column as float64, null as NaN."""
        return self._array(name, np.float64)

    def integers(self, name: str) -> np.ndarray:
        """A column without nulls as int64."""
        return self._array(name, np.int64)

    def names(self, name: str) -> Names:
        """A column of names as codes."""
        column = self._column(name)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        if not len(column):
            return Names(np.zeros(0, np.int32), ())
        merged = column.unify_dictionaries().combine_chunks()
        chunk = merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged
        return Names(chunk.indices.fill_null(-1).to_numpy(), tuple(chunk.dictionary.to_pylist()))

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self._file.schema_arrow.names:
            raise InputError(f"{self._path}: column {name!r} is missing")
        try:
            return self._file.read(columns=[name]).column(0)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"cannot read {self._path}: {error}") from error

    def _array(self, name: str, kind: type[np.float64] | type[np.int64]) -> np.ndarray:
        column = self._column(name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise InputError(f"{self._path}: column {name!r} holds {column.type}, not numbers")
        return column.to_numpy().astype(kind, copy=False)
