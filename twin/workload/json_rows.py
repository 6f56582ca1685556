"""JSON lines with the place of each problem."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TextIO

from twin.workload.json_place import offset_of, steps
from twin.workload.trace_rows import MOST, BadRows, FieldError, not_absurd, shown, within


class JsonRows:
    """The objects of a JSON-lines file, one a line; blank lines are passed over."""

    def __init__(self, file: TextIO, bad: BadRows):
        self._file = file
        self._bad = bad
        self._text = ""
        self.line = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for text in self._file:
            self.line += 1
            self._text = text
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                self._bad.add(self.line, error.colno, "", f"is not JSON: {error.msg}")
                continue
            except (ValueError, RecursionError):
                self._bad.add(self.line, 1, "", "holds a number of thousands of digits, or is nested too deep to be read")
                continue
            if isinstance(row, dict):
                yield row
            else:
                self._bad.add(self.line, 1, "", "must be a JSON object")

    def fail(self, error: FieldError) -> None:
        """Note a bad value of the row given last, at the place where its key stands."""
        self._bad.add(self.line, offset_of(self._text, steps(error.name)) + 1, error.name, error.message)


def count_of(row: dict[str, Any], key: str, least: int, name: str = "", most: int = MOST) -> int:
    """The whole number from `least` to `most` under `key`; FieldError (under `name`, else the key) otherwise."""
    value = _value(row, key, name)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise FieldError(name or key, f"must be a whole number, not {shown(value)}")
    return within(value, name or key, least, most)


def seconds_of(row: dict[str, Any], key: str, name: str = "") -> float:
    """The time under `key`, from 0 to a hundred years; FieldError otherwise."""
    value = _value(row, key, name)
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise FieldError(name or key, f"must be a finite number of seconds, not {shown(value)}")
    return not_absurd(number, name or key, value)


def text_of(row: dict[str, Any], key: str) -> str:
    """The text under `key`, empty where there is none; FieldError where it is another value, or half a character."""
    value = row.get(key, "")
    if not isinstance(value, str):
        raise FieldError(key, f"must be a text, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can tell a lone surrogate, which no file holds
        raise FieldError(key, f"holds half a character (a lone surrogate): {shown(value)}") from None
    return value


def _value(row: dict[str, Any], key: str, name: str) -> Any:
    if key not in row:
        raise FieldError(name or key, "is missing")
    return row[key]
