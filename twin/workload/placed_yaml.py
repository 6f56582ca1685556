"""A YAML file of figures, with the place of everything in it and a list of what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml

from twin.errors import InputError, Problem, did_you_mean
from twin.workload.trace_rows import shown

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: A fit is some 10 kB; what is far larger is something else.
_MOST_BYTES = 1_000_000
_MOST_DEPTH, _MOST_NODES = 8, 100_000
_SCALARS = yaml.constructor.SafeConstructor()

#: Keys and places in lists, from the top down.
Keys = tuple[str | int, ...]


class PlacedYaml:
    """The data of a file and checks on its keys: each adds what is wrong to `problems`, with file, line and column.

    Raises InputError at once for a file that cannot be read as a mapping; `finish` raises the rest.
    """

    def __init__(self, path: Path):
        self._file = str(path)
        self.problems: list[Problem] = []
        self._marks: dict[Keys, yaml.Mark] = {}
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                self._fail(None, f"is larger than {_MOST_BYTES // 1_000_000} MB: this is no fit of ours")
            text = content.decode("utf-8-sig")
            node = yaml.compose(text, Loader=_LOADER)
        except OSError as error:
            self._fail(None, f"cannot be read: {error.strerror or error}")
        except UnicodeDecodeError as error:
            self._fail(None, f"is not a text file in UTF-8: {error.reason}")
        except yaml.YAMLError as error:
            self._fail(getattr(error, "problem_mark", None), f"broken YAML: {getattr(error, 'problem', None) or 'unreadable'}")
        if not isinstance(node, yaml.MappingNode):
            self._fail(None, "is no mapping of keys to values: `twin trace fit` writes one")
        self.data: dict[str, Any] = self._value(node, ())

    def finish(self) -> None:
        """Raise InputError if anything was wrong."""
        if self.problems:
            raise InputError(sorted(self.problems, key=lambda each: (each.line, each.column)))

    def at(self, path: Keys) -> Any:
        """The value at `path`, None where there is none."""
        value: Any = self.data
        for step in path:
            if isinstance(value, list) and isinstance(step, int):
                value = value[step] if step < len(value) else None
            else:
                value = value.get(step) if isinstance(value, dict) else None
        return value

    def problem(self, path: Keys, message: str, name: str = "", known: Iterable[str] = ()) -> None:
        """Note what is wrong at `path`, or at the nearest key above it; `name` may have been meant for one of `known`."""
        near = path
        while near not in self._marks and near:
            near = near[:-1]
        mark = self._marks[near]
        told = message + (did_you_mean(name, known) if name else "")
        self.problems.append(Problem(self._file, mark.line + 1, mark.column + 1, ".".join(map(str, path)), told))

    def mapping(self, path: Keys) -> bool:
        """Whether a mapping stands at `path`."""
        if isinstance(self.at(path), dict):
            return True
        self.problem(path, "must be a mapping of keys to values")
        return False

    def keys(self, path: Keys, known: Sequence[str]) -> bool:
        """Whether the mapping at `path` has all the keys `known`; those unknown are problems as well."""
        if not self.mapping(path):
            return False
        found = self.at(path)
        for key in found:
            if key not in known:
                self.problem((*path, key), "unknown key", key, known)
        absent = [key for key in known if key not in found]
        for key in absent:
            self.problem((*path, key), "is missing")
        return not absent

    def number(self, path: Keys, least: float, most: float) -> None:
        """A finite number from `least` to `most` must stand at `path`."""
        self._number(path, self.at(path), least, most)

    def whole(self, path: Keys, least: int, most: int) -> None:
        """A whole number from `least` to `most` must stand at `path`."""
        value = self.at(path)
        if type(value) is not int:
            self.problem(path, f"must be a whole number, not {shown(value)}")
        else:
            self._number(path, value, least, most)

    def numbers(self, path: Keys, least: float, most: float) -> list[float] | None:
        """The list of finite numbers from `least` to `most` at `path`; None where it is not."""
        values = self.at(path)
        if not isinstance(values, list):
            self.problem(path, f"must be a list of numbers, not {shown(values)}")
            return None
        good = [self._number((*path, i), value, least, most) for i, value in enumerate(values)]
        return values if all(good) else None

    def increasing(self, path: Keys) -> list[int] | None:
        """The list of whole numbers at `path`, each above the one before; None where it is not."""
        values = self.at(path)
        if not isinstance(values, list) or any(type(each) is not int for each in values):
            self.problem(path, f"must be a list of whole numbers, not {shown(values)}")
            return None
        if any(b <= a for a, b in pairwise(values)):
            self.problem(path, "must increase")
            return None
        return values

    def _number(self, path: Keys, value: object, least: float, most: float) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problem(path, f"must be a number, not {shown(value)}")
        elif not math.isfinite(value):
            self.problem(path, f"must be finite, not {value}")
        elif not least <= value <= most:
            self.problem(path, f"must be from {least:,g} to {most:,g}, not {value:,g}")
        else:
            return True
        return False

    def _value(self, node: yaml.Node, path: Keys) -> Any:
        self._marks.setdefault(path, node.start_mark)
        # Aliases may stand for far more than the file's size.
        if len(path) > _MOST_DEPTH or len(self._marks) > _MOST_NODES:
            self._fail(node.start_mark, "holds more than a fit")
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, child in node.value:
                key = str(key_node.value)
                if key in found:
                    self._fail(key_node.start_mark, f"the key {key!r} stands here twice")
                self._marks[(*path, key)] = key_node.start_mark
                found[key] = self._value(child, (*path, key))
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*path, i)) for i, child in enumerate(node.value)]
        try:
            return _SCALARS.construct_object(node)
        except (ValueError, yaml.YAMLError):
            self._fail(node.start_mark, f"{shown(node.value)} cannot be read")

    def _fail(self, mark: Any, message: str) -> NoReturn:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise InputError([*self.problems, Problem(self._file, line, column, "", message)])
