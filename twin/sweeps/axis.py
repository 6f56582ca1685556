"""What is swept: dotted paths, the values of each, and the grid they span."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twin.errors import InputError, Problem
from twin.schema.source import Place, parse_text, plain

#: Where swept values come from.
OVER = Place("<--over>")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Axis:
    """One swept key: the values as given, which are laid on the scenario, and as read, which tables show."""

    path: str
    given: tuple[object, ...]
    values: tuple[object, ...]


def parse_over(arguments: Sequence[str]) -> dict[str, list[object]]:
    """`path=v1,v2,...` arguments as a mapping, in their order. Commas inside brackets and quotes do not part values.

    The values stay text, which the scenario reads as YAML. Raises InputError for an argument without `=`, or a path given twice.
    """
    over: dict[str, list[object]] = {}
    for argument in arguments:
        path, equals, text = argument.partition("=")
        if not equals or not path.strip():
            raise InputError(f"--over {argument}: write path=v1,v2,... such as control.policy=ladder,uniform_cap")
        if path in over:
            raise InputError(f"--over {path}: given twice; put all its values into one")
        over[path] = [*split_values(text)]
    return over


def split_values(text: str) -> list[str]:
    """`text` parted at the commas that stand outside brackets and quotes. Raises InputError for brackets that do not pair."""
    parts: list[str] = []
    depth: list[str] = []
    quote, begin = "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and (not text[begin:at].strip() or depth):
            # A quote opens where a value may begin; inside a word (5'8) it is a letter like any other.
            quote = char
        elif char in _CLOSING:
            depth.append(_CLOSING[char])
        elif char in _CLOSING.values():
            if not depth or depth.pop() != char:
                raise InputError(f"{text!r}: {char!r} closes no bracket")
        elif char == "," and not depth:
            parts.append(text[begin:at].strip())
            begin = at + 1
    if quote or depth:
        raise InputError(f"{text!r}: {quote or depth[-1]!r} is missing")
    return [*parts, text[begin:].strip()]


def axes_of(over: Mapping[str, Iterable[object]], fixed: Mapping[str, object]) -> list[Axis]:
    """The axes of a sweep, checked by themselves. Raises InputError with everything wrong with them: no path or value at all,
    the same value twice, a text that is no YAML, a key that is swept and set."""
    if not over:
        raise InputError("a sweep needs at least one key to vary, such as control.policy=ladder,uniform_cap")
    axes: list[Axis] = []
    problems: list[Problem] = []
    for path, given in over.items():
        if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
            problems.append(_problem(path, f"expected a list of values, not {given!r}"))
            continue
        # numpy's scalars are told by their `item`; what goes into files is plain Python.
        given = tuple(value.item() if hasattr(value, "item") else value for value in given)
        values = [_read(path, value, problems) for value in given]
        if not given or "" in given:
            problems.append(_problem(path, "a value is missing"))
        if path in fixed:
            problems.append(_problem(path, "is swept and set; drop one of them"))
        texts = [value_text(value) for value in values]
        for text in dict.fromkeys(text for text in texts if texts.count(text) > 1):
            problems.append(_problem(path, f"{text} is given twice"))
        axes.append(Axis(path, given, tuple(values)))
    if problems:
        raise InputError(problems)
    return axes


def grid(axes: Sequence[Axis]) -> list[tuple[dict[str, object], dict[str, object]]]:
    """(values as given, values as read) of every point by path: the product of the axes, the last one moving fastest."""
    paths = [axis.path for axis in axes]
    given = itertools.product(*(axis.given for axis in axes))
    values = itertools.product(*(axis.values for axis in axes))
    return [(dict(zip(paths, g, strict=True)), dict(zip(paths, v, strict=True))) for g, v in zip(given, values, strict=True)]


def value_text(value: object) -> str:
    """A swept value for people: texts as they are, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def folder_name(index: int, values: Mapping[str, object]) -> str:
    """`003-rate=2_s,policy=ladder`: the directory of a point, the number first so that a listing keeps the order of the grid."""
    said = ",".join(f"{path.rpartition('.')[2]}={_plain_letters(value_text(value))}" for path, value in values.items())
    return f"{index:03d}-{said[:80].rstrip(',_=.')}"


def _plain_letters(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")


def _read(path: str, value: object, problems: list[Problem]) -> object:
    if not isinstance(value, str):
        return value
    found: list[Problem] = []
    node = parse_text(value, OVER.file, found)
    problems += [_problem(path, f"{value!r}: {item.message}") for item in found]
    return None if node is None else plain(node)


def _problem(path: str, message: str) -> Problem:
    return OVER.problem(path, message)
