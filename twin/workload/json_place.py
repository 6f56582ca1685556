"""Where in a JSON text a key or an item stands; for messages about what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence

_DECODER = json.JSONDecoder()


def offset_of(text: str, path: Sequence[str | int], start: int = 0) -> int:
    """Offset of the key (or list item) at `path` of the JSON value that begins in `text` at `start`; where it is missing, of the
    deepest one above it that is there. The text must be sound JSON."""
    at = found = _solid(text, start)
    for step in path:
        inside = _item(text, at, step) if isinstance(step, int) else _key(text, at, step)
        if inside is None:
            return found
        found, at = inside
    return found


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Both from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def steps(name: str) -> list[str | int]:
    """The path of a dotted name: "calls.3.after" is ["calls", 3, "after"]."""
    return [int(step) if step.isdecimal() else step for step in name.split(".")]


def _key(text: str, at: int, key: str) -> tuple[int, int] | None:
    """(offset of the key, offset of its value) in the object at `at`."""
    if text[at : at + 1] != "{":
        return None
    place = _solid(text, at + 1)
    while text[place] != "}":
        name, end = _DECODER.raw_decode(text, place)
        value = _solid(text, _solid(text, end) + 1)  # behind the colon
        if name == key:
            return place, value
        _, end = _DECODER.raw_decode(text, value)
        place = _behind_comma(text, end)
    return None


def _item(text: str, at: int, index: int) -> tuple[int, int] | None:
    if text[at : at + 1] != "[":
        return None
    place = _solid(text, at + 1)
    while text[place] != "]":
        if not index:
            return place, place
        index -= 1
        _, end = _DECODER.raw_decode(text, place)
        place = _behind_comma(text, end)
    return None


def _behind_comma(text: str, at: int) -> int:
    at = _solid(text, at)
    return _solid(text, at + 1) if text[at] == "," else at


def _solid(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
