"""A job list: jobs in a file of their own, YAML with `jobs:` at the top or CSV with a job a line.

The header of a CSV names keys of a job as a scenario writes them, nested ones with dots (`step.time`, `gpus.min`); an empty field
is a key left out. Every field keeps its place, so that what is wrong with a job is told at its line and column.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

from twin.errors import Problem, did_you_mean
from twin.schema.base import Model
from twin.schema.jobs import Checkpoint, CountRange, TokenJob, TrainingJob, TrainingStep
from twin.schema.serving import Parallelism
from twin.schema.source import Node, Place, resolved

_NESTED: dict[str, type[Model]] = {
    "gpus": CountRange,
    "instances": CountRange,
    "step": TrainingStep,
    "checkpoint": Checkpoint,
    "parallelism": Parallelism,
}
#: Keys that may also be written as one value.
_PLAIN_TOO = ("gpus", "instances")


def columns() -> tuple[str, ...]:
    """Every column that a job list in CSV may have."""
    names = dict.fromkeys(name for model in (TrainingJob, TokenJob) for name in model.model_fields)
    nested = [f"{name}.{key}" for name, model in _NESTED.items() for key in model.model_fields]
    return (*(name for name in names if name not in _NESTED or name in _PLAIN_TOO), *nested)


def is_csv(file: str) -> bool:
    """Whether a job list is written as CSV."""
    return file.lower().endswith(".csv")


def parse_csv(text: str, file: str, problems: list[Problem]) -> Node:
    """The jobs of a CSV as a list of mappings; what is wrong with its form is added to `problems`."""
    rows = csv.reader(text.splitlines())
    header = [name.strip() for name in next(rows, [])]
    if not header:
        problems.append(Problem(file, 1, 1, "", "the file is empty"))
    known = columns()
    for place, name in zip(_places(header, file, 1), header, strict=True):
        if name not in known:
            problems.append(place.problem(name, f"unknown column{did_you_mean(name, known)}"))
        elif header.count(name) > 1 and place.column != _column(header, header.index(name)):
            problems.append(place.problem(name, "the column stands here again"))
    jobs = []
    for row in rows:
        line = rows.line_num
        if not any(field.strip() for field in row):
            continue
        if len(row) != len(header):
            problems.append(Problem(file, line, 1, "", f"has {len(row)} fields, the header has {len(header)}"))
            continue
        entries: dict[str, Node] = {}
        for name, field, place in zip(header, row, _places(row, file, line), strict=True):
            if name in known and field.strip():
                _put(entries, name.split("."), Node(_value(name, field.strip(), place), place))
        jobs.append(Node(entries, Place(file, line, 1)))
    return Node(jobs, Place(file))


def read_csv(file: str, problems: list[Problem]) -> tuple[Node | None, str]:
    """The jobs of a CSV file and the SHA-256 of its bytes; where it cannot be read, that is added to `problems`."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        problems.append(Problem(file, 1, 1, "", f"cannot be read: {error.strerror or error}"))
        return None, ""
    digest = hashlib.sha256(content).hexdigest()
    try:
        return parse_csv(content.decode("utf-8-sig"), file, problems), digest
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(Problem(file, 1, 1, "", f"is not a CSV file in UTF-8: {error}"))
        return None, digest


def _value(name: str, field: str, place: Place) -> object:
    """What a field says; several rack groups are parted by blanks."""
    if name == "racks":
        return [Node(group, place) for group in field.split()]
    return field if name in ("name", "site", "kind") else resolved(field)


def _put(entries: dict[str, Node], path: list[str], node: Node) -> None:
    head, *rest = path
    if not rest:
        entries[head] = node
        return
    inner = entries.get(head)
    if inner is None or not isinstance(inner.value, dict):
        inner = entries[head] = Node({}, node.place)
    _put(inner.value, rest, node)


def _places(row: list[str], file: str, line: int) -> Iterator[Place]:
    for index in range(len(row)):
        yield Place(file, line, _column(row, index))


def _column(row: list[str], index: int) -> int:
    return 1 + sum(len(text) + 1 for text in row[:index])
