"""YAML with its places kept: every value knows the file, line and column at which its key stands.

Files are read under YAML 1.2's rules for plain words, because people write quantities in them: only `true` and `false` are
booleans (`on`, `off`, `yes`, `no` stay text), `1e3` is a number, `1:30` and dates stay text. The text is turned into nodes from
parser events, so that nesting and the expansion of aliases are bounded before anything is built.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from twin.errors import Problem

MAX_BYTES = 8_000_000
MAX_NODES = 200_000
MAX_DEPTH = 64

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C reader is ten times as fast, but not in every wheel
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_PREFIXED = re.compile(r"0(x[0-9a-fA-F]+|o[0-7]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; line and column count from 1. A file in angle brackets (`<--set>`) is no file."""

    file: str
    line: int = 1
    column: int = 1

    @property
    def folder(self) -> Path:
        """Folder that a relative path written here starts from."""
        return Path() if self.file.startswith("<") else Path(self.file).parent

    def problem(self, path: str, message: str) -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, self.column, path, message)


@dataclass(frozen=True, slots=True)
class Node:
    """A value with the place of its key, or of itself in a list. `value` is a scalar, a dict of nodes or a list of nodes."""

    value: Any
    place: Place


def plain(node: Node) -> Any:
    """The node's value without places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def from_plain(value: object, place: Place) -> Node:
    """Plain data as nodes that all stand at `place`; keys become text, tuples become lists."""
    if isinstance(value, Mapping):
        return Node({str(key): from_plain(child, place) for key, child in value.items()}, place)
    if isinstance(value, list | tuple):
        return Node([from_plain(child, place) for child in value], place)
    unpack = getattr(value, "item", None)  # a number of numpy's, as sweeps pass them
    return Node(unpack() if callable(unpack) else value, place)


def places(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Place]]:
    """(path, place) of the node and everything below it."""
    yield path, node.place
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from places(child, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from places(child, (*path, index))


def read_file(file: str, problems: list[Problem]) -> tuple[Node | None, str]:
    """The file's top-level mapping and the SHA-256 of its bytes; what is wrong is added to `problems`, the node then None."""
    start = Place(file)
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.append(start.problem("", "no such file"))
        return None, ""
    except IsADirectoryError:
        problems.append(start.problem("", "is a folder, not a file"))
        return None, ""
    except (OSError, ValueError) as error:
        problems.append(start.problem("", f"cannot be read: {getattr(error, 'strerror', None) or error}"))
        return None, ""
    if len(content) > MAX_BYTES:
        problems.append(start.problem("", f"is larger than {MAX_BYTES // 1_000_000} MB; this is no file of ours"))
        return None, ""
    digest = hashlib.sha256(content).hexdigest()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _line_column(content[: error.start].decode("utf-8-sig"))
        problems.append(Problem(file, line, column, "", f"is not UTF-8 text (byte 0x{content[error.start]:02x})"))
        return None, digest
    node = parse_text(text, file, problems)
    if node is not None and not isinstance(node.value, dict):
        empty = node.value is None
        message = "the file is empty" if empty else f"expected keys and values at the top, found {_spoken(node.value)}"
        problems.append(node.place.problem("", message))
        return None, digest
    return node, digest


def parse_text(text: str, file: str, problems: list[Problem]) -> Node | None:
    """One YAML document as nodes, or None when it is broken; what is wrong is added to `problems`."""
    strange = _UNPRINTABLE.search(text)
    if strange:
        line, column = _line_column(text[: strange.start()])
        message = f"the character U+{ord(strange[0]):04X} may not stand in a text file"
        problems.append(Problem(file, line, column, "", message))
        return None
    builder = _Builder(file, problems)
    before = len(problems)
    try:
        node = builder.document(yaml.parse(text, Loader=_LOADER))
    except _BrokenError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.append(Problem(file, line, column, "", _yaml_message(error, text, line, column)))
        return None
    return node if len(problems) == before else None


def resolved(text: str) -> bool | int | float | str | None:
    """What a plain word means: nothing, true or false, a number, or else a text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text)
    if _PREFIXED.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text)
    special = _NOT_FINITE.match(text)
    if special:
        return float("nan" if special[3] else f"{special[1]}inf")
    return text


def _is_too_large(text: str) -> bool:
    """Whether a plain word is a whole number beyond 64 bits."""
    whole = _INT.match(text) or _PREFIXED.match(text)
    return bool(whole) and (len(text) > 24 or abs(int(text, 10 if _INT.match(text) else 0)) >= 2**64)


def to_yaml(data: object) -> str:
    """Plain data as YAML that `parse_text` reads back to the same: texts that look like another value are quoted."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """PyYAML quotes what YAML 1.1 would misread; this quotes what we would, too."""

    def ignore_aliases(self, data: object) -> bool:
        """Writes what is shared out again, since people read it."""
        return True

    def write_text(self, text: str) -> yaml.ScalarNode:
        """A text, in quotes where a plain word would mean something else."""
        style = None if isinstance(resolved(text), str) else "'"
        return self.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _Dumper.write_text)


def _line_column(before: str) -> tuple[int, int]:
    lines = before.split("\n")
    return len(lines), len(lines[-1]) + 1


def _yaml_message(error: yaml.MarkedYAMLError, text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    if "\t" in here[: max(column, len(here) - len(here.lstrip()))]:
        return "a tab cannot indent YAML; use spaces"
    message = (error.problem or error.context or "broken YAML").strip()
    return f"broken YAML: {message}"


def _spoken(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return f"the text {value!r}" if isinstance(value, str) else repr(value)


def _levels(node: Node) -> int:
    children = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    return 1 + max((_levels(child) for child in children), default=0)


class _BrokenError(Exception):
    """The document cannot be read on; the reason is among the problems."""


class _Builder:
    """Nodes from parser events."""

    def __init__(self, file: str, problems: list[Problem]):
        self._file = file
        self._problems = problems
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}  # node, values in it, levels in it
        self._count = 0

    def document(self, events: Iterator[yaml.Event]) -> Node:
        """The only document of the stream; an empty stream is a node of None."""
        node = Node(None, Place(self._file))
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(self._place(event), "a second document begins here; a file holds one")
            elif isinstance(event, yaml.NodeEvent):
                node = self._node(event, events, self._place(event), 1)
        return node

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], place: Place, depth: int) -> Node:
        self._grow(1, place)
        if depth > MAX_DEPTH:
            self._stop(place, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place, depth)
        anchor = getattr(event, "anchor", None)
        before = self._count - 1
        if anchor:
            self._anchors[anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            self._check_tag(event, "map", place)
            node = Node(self._mapping(events, depth), place)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, "seq", place)
            node = Node(self._sequence(events, depth), place)
        else:
            node = Node(self._scalar(event, place), place)
        if anchor:
            self._anchors[anchor] = (node, self._count - before, _levels(node))
        return node

    def _alias(self, event: yaml.AliasEvent, place: Place, depth: int) -> Node:
        anchor = str(event.anchor)
        if anchor not in self._anchors:
            self._stop(place, f"no anchor &{anchor} stands before this alias")
        target = self._anchors[anchor]
        if target is None:
            self._stop(place, f"the alias *{anchor} contains itself")
        node, values, levels = target
        self._grow(values, place)
        if depth + levels > MAX_DEPTH:
            self._stop(place, f"is nested deeper than {MAX_DEPTH} levels")
        return Node(node.value, place)

    def _mapping(self, events: Iterator[yaml.Event], depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            place = self._place(event)
            if not isinstance(event, yaml.ScalarEvent):
                self._stop(place, "a key must be a plain word")
            key = str(event.value)
            value = self._node(next(events), events, place, depth + 1)
            if key == "<<":
                self._problems.append(place.problem("", "merge keys (<<) are not read; use `extends:` or write it out"))
            elif key in entries:
                first = entries[key].place.line
                self._problems.append(place.problem("", f"the key {key!r} stands here again; it was given on line {first}"))
            else:
                entries[key] = value
        return entries

    def _sequence(self, events: Iterator[yaml.Event], depth: int) -> list[Node]:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, self._place(event), depth + 1))
        return items

    def _scalar(self, event: Any, place: Place) -> bool | int | float | str | None:
        text = str(event.value)
        strange = _UNPRINTABLE.search(text)  # written as an escape in quotes
        if strange:
            self._problems.append(place.problem("", f"the character U+{ord(strange[0]):04X} may not stand in a value"))
        if event.tag is None and event.implicit[0]:
            if _is_too_large(text):
                self._problems.append(place.problem("", f"the number {text[:24]} is too large"))
                return text
            return resolved(text)
        tag = (event.tag or "").removeprefix(_TAG)
        if tag in ("", "!", "str"):
            return text
        value = text if _is_too_large(text) else resolved(text)
        if tag == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        expected = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(tag)
        if expected is None or type(value) is not expected:
            self._problems.append(place.problem("", f"the tag {event.tag!r} is not read here"))
        return value

    def _check_tag(self, event: Any, kind: str, place: Place) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            self._problems.append(place.problem("", f"the tag {event.tag!r} is not read here"))

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _grow(self, nodes: int, place: Place) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            self._stop(place, f"the file holds more than {MAX_NODES} values, its aliases expanded")

    def _stop(self, place: Place, message: str) -> NoReturn:
        self._problems.append(place.problem("", message))
        raise _BrokenError
