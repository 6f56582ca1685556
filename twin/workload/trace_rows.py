"""What all trace readers share: places of bad rows, strict numbers, and a log of what a file does not say."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from twin.errors import InputError, Problem, did_you_mean

#: Bad rows listed one by one; the rest are counted.
LISTED = 10
#: The largest count that a field may hold: far above any prompt, far below what tables and their sums can carry.
MOST = 10**9
#: The largest number of an agent in its session: the keys of contexts keep it in 16 bits.
MOST_AGENT = 2**16 - 1
#: The longest time that a field may hold: a hundred years. What is longer is a mistake of units, or no time at all.
MOST_S = 100 * 365.25 * 86_400


@dataclass(slots=True)
class ReadLog:
    """What a reader tells besides the sessions."""

    #: Remark -> number of calls it concerns: where a file is silent and the reader's documented rule spoke instead.
    remarks: Counter[str] = field(default_factory=Counter)
    #: The latest start recorded, on the file's own clock (for agent sessions: since the session began).
    latest_s: float = 0.0
    #: How long the session given last took as recorded, from its beginning to its last answer; None where that is not recorded.
    session_s: float | None = None
    #: Tiers that a session may have, where the asker knows them: any other is a bad row.
    tiers: Collection[str] | None = None

    def known_tier(self, tier: str) -> str:
        """`tier` itself; FieldError where the asker has no such tier."""
        if tier and self.tiers is not None and tier not in self.tiers:
            raise FieldError("tier", f"unknown tier {shown(tier)}{did_you_mean(tier, self.tiers)}")
        return tier


class FieldError(ValueError):
    """A field that is not what it must be."""

    def __init__(self, name: str, message: str):
        super().__init__(message)
        self.name = name
        self.message = message


class BadRows:
    """Collects the problems of a trace: the first ten in full, then their number."""

    def __init__(self, path: Path):
        #: The file that is being read, of a trace of several.
        self.file = path
        self._problems: list[Problem] = []
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self._problems)

    def add(self, line: int, column: int, name: str, message: str) -> None:
        """Note a problem at `line` and `column`, both from 1."""
        if len(self._problems) < LISTED:
            self._problems.append(Problem(str(self.file), line, column, name, message))
        else:
            self._more += 1

    def finish(self, rows: int, line: int) -> None:
        """Raise InputError if there were problems, or no rows at all; `line` is the last one of the file."""
        if not rows and not self._problems:
            self.add(1, 1, "", "the trace is empty")
        if self._more:
            self._problems.append(Problem(str(self.file), line, 1, "", f"and {self._more:,} more problems"))
        if self._problems:
            raise InputError(self._problems)


@contextmanager
def open_trace(path: Path) -> Iterator[TextIO]:
    """The open text file. What keeps it from being read at all is an InputError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except OSError as error:
        raise InputError([Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError as error:
        raise InputError([Problem(str(path), 1, 1, "", f"is not a text file in UTF-8: {error.reason}")]) from None
    except csv.Error as error:
        raise InputError([Problem(str(path), 1, 1, "", f"is not a CSV file: {error}")]) from None


class CsvRows:
    """A CSV file with a header, row by row as strings, with the place of each field."""

    def __init__(self, file: TextIO, bad: BadRows, needed: Sequence[str], optional: Sequence[str] = ()):
        self._reader = csv.reader(file)
        self._bad = bad
        header = next(self._reader, None)
        if header is None:
            bad.finish(0, 1)
        self._header = [name.strip() for name in header or ()]
        missing = [name for name in needed if name not in self._header]
        for name in missing:
            bad.add(1, 1, name, f"the column is missing{did_you_mean(name, self._header)}")
        if missing:
            bad.finish(0, 1)
        self._at = {name: self._header.index(name) for name in (*needed, *optional) if name in self._header}

    @property
    def line(self) -> int:
        """Number of the line read last."""
        return self._reader.line_num

    def has(self, name: str) -> bool:
        """Whether the file has the column."""
        return name in self._at

    def __iter__(self) -> Iterator[list[str]]:
        for row in self._reader:
            if len(row) == len(self._header):
                yield row
            elif row:
                self._bad.add(self.line, 1, "", f"has {len(row)} fields, the header has {len(self._header)}")

    def index(self, name: str) -> int:
        """Position of the column in a row."""
        return self._at[name]

    def fail(self, row: Sequence[str], error: FieldError, line: int | None = None) -> None:
        """Note a bad field of `row` with its place in the line: the one read last, if no other is named."""
        position = self._at.get(error.name, 0)
        self._bad.add(line or self.line, 1 + sum(len(text) + 1 for text in row[:position]), error.name, error.message)


def whole(text: str, name: str, least: int) -> int:
    """`text` as a whole number from `least` to `MOST`; FieldError otherwise."""
    try:
        value = int(text)
    except ValueError:  # no number, or one of thousands of digits
        raise FieldError(name, f"must be a whole number, not {shown(text)}") from None
    return within(value, name, least, MOST)


def within(value: int, name: str, least: int, most: int) -> int:
    """`value` itself; FieldError where it lies outside `least` to `most`."""
    if value < least:
        raise FieldError(name, f"must be at least {least}, not {shown(value)}")
    if value > most:
        raise FieldError(name, f"must be at most {most:,}, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """A wrong value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def seconds(text: str, name: str) -> float:
    """`text` as a finite time of at least 0; FieldError otherwise."""
    try:
        value = float(text)
    except ValueError:
        raise FieldError(name, f"must be a number of seconds, not {shown(text)}") from None
    if not math.isfinite(value):
        raise FieldError(name, f"must be finite, not {shown(text)}")
    return not_absurd(value, name, text)


def not_absurd(value: float, name: str, given: object) -> float:
    """A time from 0 to `MOST_S`; FieldError otherwise, which shows it as `given`."""
    if value < 0:
        raise FieldError(name, f"must be at least 0, not {shown(given)}")
    if value > MOST_S:
        raise FieldError(name, f"must be at most {MOST_S:,.0f} s, a hundred years, not {shown(given)}")
    return value
