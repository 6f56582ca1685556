"""A folder of ServeGen clients, read: when each asks and how much.

Source of the form: alibaba/ServeGen (Xiang et al., NSDI 2026). A client n is `chunk-n-trace.csv`, rows without a header of
window start (s), rate (requests/s), coefficient of variation of the gaps, family of the gaps (Gamma, Weibull) and its parameters
(shape, scale), and `chunk-n-dataset.json`: start (s) of each block of hours -> `input_tokens`, `output_tokens`, each a table
{tokens: probability}, written as a JSON object or as a text that holds one.
"""

from __future__ import annotations

import csv
import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from twin.errors import InputError, Problem
from twin.workload.json_place import line_and_column, offset_of
from twin.workload.trace_rows import MOST, MOST_S, BadRows, FieldError, open_trace, seconds, shown, within

_TRACE = re.compile(r"chunk-(\d+)-trace\.csv")
_PARTS = ("input_tokens", "output_tokens")
#: Family of the gaps -> shapes within which one can be drawn with sense: coefficients of variation from hundredths, or much less,
#: up to 32 of Gamma's and 429 of Weibull's.
_SHAPES = {"Gamma": (1e-3, 1e4), "Weibull": (0.1, 1e4)}
#: The shortest window: those of a day that are much shorter are a mistake of units, and would be passed through without end.
_SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the day with one rate; `family` and `shape` of its gaps mean nothing where the rate is 0."""

    start_s: float
    end_s: float
    rate_per_s: float
    family: str
    shape: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts and the probability of up to each."""

    tokens: tuple[int, ...]
    upto: tuple[float, ...]

    def at(self, uniform: float) -> int:
        """The length of a uniform draw."""
        return self.tokens[min(bisect_right(self.upto, uniform), len(self.tokens) - 1)]


@dataclass(frozen=True, slots=True)
class Client:
    """One who asks. `lengths` are (start of the block, inputs, outputs) in order of time."""

    name: str
    windows: tuple[Window, ...]
    lengths: tuple[tuple[float, Lengths, Lengths], ...]

    def lengths_at(self, time_s: float) -> tuple[Lengths, Lengths]:
        """The distributions of (inputs, outputs) at a time of the day."""
        _, inputs, outputs = self.lengths[max(bisect_right(self.lengths, time_s, key=lambda block: block[0]) - 1, 0)]
        return inputs, outputs


def recognises_folder(folder: Path) -> bool:
    """Whether a folder holds clients."""
    return any(_TRACE.fullmatch(each.name) for each in folder.iterdir())


def read_clients(folder: Path) -> list[Client]:
    """The clients of a folder, by number. Raises InputError with the place of all that is wrong (ten, then their number)."""
    try:
        found = sorted((int(m[1]), each) for each in folder.iterdir() if (m := _TRACE.fullmatch(each.name)))
    except OSError as error:
        raise InputError([Problem(str(folder), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    if not found:
        raise InputError([Problem(str(folder), 1, 1, "", "has no client: files chunk-N-trace.csv and chunk-N-dataset.json")])
    bad = BadRows(folder)
    clients = []
    for number, path in found:
        windows = _windows(path, bad)
        lengths = _lengths(path.with_name(f"chunk-{number}-dataset.json"), windows, bad)
        clients.append(Client(f"client_{number}", tuple(windows), tuple(lengths)))
    bad.file = folder
    bad.finish(len(clients), 1)
    end_s = clients[0].windows[-1].end_s
    for client in clients:
        if client.windows[-1].end_s != end_s:
            said = f"the day of {client.name} ends at {client.windows[-1].end_s:g} s, that of {clients[0].name} at {end_s:g} s"
            raise InputError([Problem(str(folder), 1, 1, "", said)])
    return clients


def _windows(path: Path, bad: BadRows) -> list[Window]:
    bad.file = path
    rows: list[tuple[float, float, str, float]] = []
    names = ("start_s", "rate_per_s", "cv", "family", "p1", "p2")
    with open_trace(path) as file:
        lines = csv.reader(file)
        for fields in lines:
            if not fields:
                continue
            try:
                if len(fields) != len(names):
                    raise FieldError("", f"has {len(fields)} fields, not the 6 of {', '.join(names)}")
                row = _window(fields)
                least_s = rows[-1][0] + _SHORTEST_S if rows else 0.0
                if not rows and row[0]:
                    raise FieldError("start_s", "must be 0 in the first row")
                if row[0] < least_s:
                    raise FieldError("start_s", f"must be at least {least_s:g}: a window lasts {_SHORTEST_S:g} s or more")
                rows.append(row)
            except FieldError as error:
                at = names.index(error.name) if error.name else 0
                bad.add(lines.line_num, 1 + sum(len(text) + 1 for text in fields[:at]), error.name, error.message)
    if len(rows) < 2:
        if not bad:
            bad.add(1, 1, "", "has fewer than two windows: how long one lasts is told by the start of the next")
        return []
    # the last window lasts as long as the one before it
    starts_s = [row[0] for row in rows]
    ends_s = [*starts_s[1:], 2 * starts_s[-1] - starts_s[-2]]
    if not any(row[1] for row in rows):
        bad.add(1, 1, "rate_per_s", "is 0 in every window: the client never asks")
    return [Window(start, end, rate, family, shape) for (start, rate, family, shape), end in zip(rows, ends_s, strict=True)]


def _window(fields: list[str]) -> tuple[float, float, str, float]:
    """(start, rate, family, shape) of a row."""
    start, rate, cv, family, p1, p2 = fields
    start_s = seconds(start, "start_s")
    rate_per_s = _number(rate, "rate_per_s", 0, 1e9)
    if not rate_per_s:
        return start_s, 0.0, "", 0.0
    _number(cv, "cv", 0, 1e6)
    if family not in _SHAPES:
        raise FieldError("family", f"must be Gamma or Weibull where the rate is not 0, not {shown(family)}")
    _number(p2, "p2", 0, MOST_S)
    return start_s, rate_per_s, family, _number(p1, "p1", *_SHAPES[family])


def _number(text: str, name: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise FieldError(name, f"must be a number, not {shown(text)}") from None
    if not least <= value <= most:
        raise FieldError(name, f"must be from {least:g} to {most:g}, not {shown(text)}")
    return value


def _lengths(path: Path, windows: list[Window], bad: BadRows) -> list[tuple[float, Lengths, Lengths]]:
    """The blocks that have lengths; where a block has none, no window with a rate may begin in it."""
    bad.file = path
    with open_trace(path) as file:
        text = file.read()
    try:
        document = json.loads(text)
        if not isinstance(document, dict) or not document:
            raise ValueError("must be a JSON object of blocks of hours")
    except json.JSONDecodeError as error:
        bad.add(error.lineno, error.colno, "", f"is not JSON: {error.msg}")
        return []
    except (ValueError, RecursionError) as error:
        bad.add(1, 1, "", str(error) if "must" in str(error) else "cannot be read as JSON")
        return []

    wrong: set[tuple[str, str | None]] = set()

    def fail(block: str, part: str | None, message: str) -> None:
        wrong.add((block, part))
        place = offset_of(text, [block] if part is None else [block, part])
        name = block.encode(errors="backslashreplace").decode()  # JSON can tell half a character, which nobody can print
        bad.add(*line_and_column(text, place), name if part is None else f"{name}.{part}", message)

    blocks: list[tuple[float, str, list[Lengths | None]]] = []
    for start, parts in document.items():
        try:
            start_s = seconds(start, start)
        except FieldError as error:
            fail(start, None, f"a block is named by its start: {error.message}")
            continue
        if not isinstance(parts, dict):
            fail(start, None, "must be a JSON object")
            continue
        blocks.append((start_s, start, [_table(parts.get(part), start, part, fail) for part in _PARTS]))
    blocks.sort(key=lambda block: block[0])
    if blocks and blocks[0][0] != 0:
        fail(blocks[0][1], None, "the first block must begin at 0")
    for name, part, message in _lacking(blocks, windows):
        if (name, part) not in wrong:
            fail(name, part, message)
    return [(start_s, *tables) for start_s, _, tables in blocks if None not in tables]  # type: ignore[misc]


_Fail = Callable[[str, str | None, str], None]


def _lacking(blocks: list[tuple[float, str, list[Lengths | None]]], windows: list[Window]) -> Iterator[tuple[str, str, str]]:
    """(block, part, what to say) of blocks without lengths in which calls come."""
    ends_s = [*(block[0] for block in blocks[1:]), math.inf]
    for (start_s, name, tables), end_s in zip(blocks, ends_s, strict=True):
        asks = next((w for w in windows if w.rate_per_s and w.start_s < end_s and w.end_s > start_s), None)
        for part, table in zip(_PARTS, tables, strict=True):
            if asks is not None and table is None:
                yield name, part, f"is empty, but {asks.rate_per_s:g} requests/s come in the window from {asks.start_s:g} s"


def _table(value: Any, block: str, part: str, fail: _Fail) -> Lengths | None:
    """The distribution of a part; None where it is empty or wrong."""
    if isinstance(value, str):
        try:
            # keys of such a text are bare numbers, which JSON does not know
            value = json.loads(re.sub(r"([{,]\s*)(\d+)\s*:", r'\1"\2":', value))
        except (ValueError, RecursionError):
            fail(block, part, f"must be a table {{tokens: probability}}, not {shown(value)}")
            return None
    if not isinstance(value, dict):
        fail(block, part, f"must be a table {{tokens: probability}}, not {shown(value)}")
        return None
    if not value:
        return None
    pairs = []
    for tokens, probability in value.items():
        try:
            if not tokens.isdecimal():
                raise FieldError(part, f"{shown(tokens)} is no number of tokens")
            if type(probability) not in (int, float) or not 0 <= probability <= 1:
                raise FieldError(part, f"the probability of {tokens} tokens must be from 0 to 1, not {shown(probability)}")
            pairs.append((within(int(tokens), part, 1, MOST), float(probability)))
        except FieldError as error:
            fail(block, part, error.message)
            return None
    pairs.sort()
    if any(one[0] == other[0] for one, other in pairwise(pairs)):
        fail(block, part, "names a number of tokens twice")
        return None
    total = math.fsum(p for _, p in pairs)
    if abs(total - 1) > 1e-6:
        fail(block, part, f"the probabilities add up to {total:g}, not 1")
        return None
    return Lengths(tuple(t for t, _ in pairs), tuple(accumulate(p / total for _, p in pairs)))
