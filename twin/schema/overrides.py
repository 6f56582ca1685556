"""`--set path=value`: single values of a scenario or topology replaced, each logged as "key: old -> new".

A path is dotted; an item of a list goes by its index or, where it has one, by its name (`tiers.premium.price.input`). Names may
hold dots themselves: the longest that fits is meant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pydantic import BaseModel

from twin.errors import Problem, did_you_mean
from twin.schema.fields import Path, default_text, dotted
from twin.schema.source import Node, Place, from_plain, parse_text, plain
from twin.schema.tree import with_value

SET = Place("<--set>")


class _NoSuchItemError(Exception):
    """A step of the path that leads nowhere; the text says what is there."""


def apply_overrides(
    tree: Node,
    overrides: Mapping[str, object],
    root: type[BaseModel],
    put_files_in_place: Callable[[Node], Node],
    problems: list[Problem],
) -> tuple[Node, tuple[str, ...]]:
    """The tree with the overrides applied in order, and their log. A text is read as YAML, so "2", "80 %" and "[1, 2]" all work.

    A key that no model knows is set all the same: validation reports it, with its place, like one in a file.
    """
    log = []
    for key, value in overrides.items():
        node = _value_node(key, value, problems)
        if node is None:
            continue
        try:
            path, old = _resolve(tree, key)
        except _NoSuchItemError as error:
            problems.append(SET.problem(key, str(error)))
            continue
        before = _text(plain(old)) if old is not None else default_text(root, path, plain(tree))
        log.append(f"{dotted(path)}: {before} -> {_text(plain(node))}")
        tree = with_value(tree, path, node)
        if path[0] in ("topology", "pareto", "catalog"):
            tree = put_files_in_place(tree)
    return tree, tuple(log)


def _value_node(key: str, value: object, problems: list[Problem]) -> Node | None:
    if not key or any(not step for step in key.split(".")):
        problems.append(SET.problem(key, "is no key path; write it such as grid.events.0.target=70 %"))
        return None
    if not isinstance(value, str):
        return from_plain(value, SET)
    found: list[Problem] = []
    node = parse_text(value, SET.file, found)
    problems.extend(SET.problem(key, f"{value!r}: {item.message}") for item in found)
    return None if node is None else from_plain(plain(node), SET)


def _resolve(tree: Node, key: str) -> tuple[Path, Node | None]:
    """The path that `key` means in the tree, and the node there; None where nothing is set yet."""
    node: Node | None = tree
    steps = key.split(".")
    path: Path = ()
    while steps:
        if node is None or node.value is None:
            path, steps = (*path, *steps), []
            node = None
        elif isinstance(node.value, dict):
            used = next((n for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in node.value), 1)
            name = ".".join(steps[:used])
            path, steps, node = (*path, name), steps[used:], node.value.get(name)
        elif isinstance(node.value, list):
            index, used = _item(node.value, steps, dotted(path))
            path, steps, node = (*path, index), steps[used:], node.value[index]
        else:
            raise _NoSuchItemError(f"{dotted(path)} is {plain(node)!r}, which has no keys")
    return path, node


def _item(items: list[Node], steps: list[str], owner: str) -> tuple[int, int]:
    """Index of the item that the first steps name, and how many steps that took."""
    if steps[0].isdecimal() and len(steps[0]) <= 9:
        if int(steps[0]) < len(items):
            return int(steps[0]), 1
        raise _NoSuchItemError(f"{owner} has {len(items)} item{'s' if len(items) != 1 else ''}; the first is 0")
    named = [item.value.get("name") if isinstance(item.value, dict) else None for item in items]
    names = [name.value if name is not None else None for name in named]
    for used in range(len(steps), 0, -1):
        name = ".".join(steps[:used])
        if name in names:
            return names.index(name), used
    known = [str(name) for name in names if name is not None]
    raise _NoSuchItemError(f"{owner} has no item {steps[0]!r}{did_you_mean(steps[0], known)}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
