"""A CSV file of measurements: rows with their places, and every problem in them at once."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twin.errors import InputError, Problem, did_you_mean


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file: its texts by column, and where it stands."""

    file: str
    line: int
    texts: Mapping[str, str]

    def text(self, column: str) -> str:
        """The text under `column`, empty where there is none."""
        return self.texts.get(column, "").strip()

    def number(self, column: str) -> float | None:
        """The number under `column`, None where nothing stands. The table has checked that it is one."""
        text = self.text(column)
        return float(text) if text else None

    def count(self, column: str) -> int:
        """A count under `column`; nothing and 0 mean one."""
        return max(1, round(self.number(column) or 1))

    def place(self, column: str) -> int:
        """The column of the line, from 1, at which the value of `column` begins (where no value before it is quoted)."""
        place = 1
        for name, text in self.texts.items():
            if name == column:
                break
            place += len(text) + 1
        return place


@dataclass(slots=True)
class Table:
    """The rows of a file and what is wrong with them."""

    file: str
    columns: Sequence[str]
    rows: list[Row]
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, row: Row, column: str, message: str) -> None:
        """Note a problem at a value."""
        self.problems.append(Problem(self.file, row.line, row.place(column), column, message))

    def check(self) -> None:
        """Raises InputError with every problem noted."""
        if self.problems:
            raise InputError(self.problems)

    def need_numbers(self, columns: Sequence[str], *, positive: bool = True, may_lack: bool = False) -> None:
        """Note every value of `columns` that is no finite number, missing, or (where it must be) not above 0."""
        for row in self.rows:
            for column in columns:
                text = row.text(column)
                if not text:
                    if not may_lack:
                        self.wrong(row, column, "is missing")
                    continue
                if not _is_number(text):
                    self.wrong(row, column, f"{text!r} is no number")
                    continue
                value = float(text)
                if not math.isfinite(value):
                    self.wrong(row, column, f"{text!r} is no finite number")
                elif value < 0 or (positive and value == 0):
                    self.wrong(row, column, f"{text} must be {'above' if positive else 'at least'} 0")

    def need_whole(self, columns: Sequence[str]) -> None:
        """Note every value of `columns` that is a number and not a whole one."""
        for row in self.rows:
            for column in columns:
                text = row.text(column)
                if _is_number(text) and not float(text).is_integer():
                    self.wrong(row, column, f"{text} must be a whole number")

    def need_distinct(self, columns: Sequence[str]) -> None:
        """Note every row that repeats an earlier one in all of `columns`."""
        seen: dict[tuple[str, ...], int] = {}
        for row in self.rows:
            key = tuple(row.text(column) for column in columns)
            first = seen.setdefault(key, row.line)
            if first != row.line:
                self.wrong(row, columns[0], f"repeats line {first}")


def _is_number(text: str) -> bool:
    """Whether it is one as other programs write it: Python alone reads 1_000."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def read_table(path: Path) -> Table:
    """The rows of a CSV file with a header, and as problems of the table what is odd about its shape.

    Raises InputError if it cannot be read or has no rows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError([Problem(str(path), 1, 1, "", f"is no CSV file: {error}")]) from None
    if len(lines) < 2:
        raise InputError([Problem(str(path), 1, 1, "", "holds no rows: a header and at least one row are due")])
    header = [name.strip() for name in lines[0]]
    table = Table(str(path), header, [])
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        table.problems.append(Problem(str(path), 1, 1, name, "this column stands twice in the header"))
    for number, values in enumerate(lines[1:], 2):
        if not values:
            continue
        if len(values) != len(header):
            table.problems.append(Problem(str(path), number, 1, "", f"has {len(values)} values, the header {len(header)}"))
            continue
        table.rows.append(Row(str(path), number, dict(zip(header, values, strict=True))))
    return table


def missing_columns(table: Table, needed: Sequence[str]) -> list[Problem]:
    """A problem for each column that a file lacks, with the nearest one that it has."""
    return [
        Problem(table.file, 1, 1, column, f"this column is missing{did_you_mean(column, table.columns)}")
        for column in needed
        if column not in table.columns
    ]
