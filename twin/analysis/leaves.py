"""A summary as flat leaves: "service.tiers.chat.ttft_s.p99" -> value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Leaf = float | int | str | bool | None


def leaves(content: Any, path: str = "") -> dict[str, Leaf]:
    """Every leaf of nested mappings and lists by its dotted path; list items go by their `name` where they have one (and
    where it is theirs alone), else by their number. Raises TypeError for a value that JSON does not know."""
    if isinstance(content, Mapping):
        children = {str(key): value for key, value in content.items()}
    elif isinstance(content, Sequence) and not isinstance(content, str):
        names = [item.get("name") if isinstance(item, Mapping) else None for item in content]
        children = {
            name if isinstance(name, str) and names.count(name) == 1 else str(i): item
            for i, (name, item) in enumerate(zip(names, content, strict=True))
        }
    elif content is None or isinstance(content, bool | int | float | str):
        return {path: content}
    else:
        raise TypeError(f"{path}: {type(content).__name__} is no JSON value")
    flat: dict[str, Leaf] = {}
    for key, value in children.items():
        flat |= leaves(value, f"{path}.{key}" if path else key)
    return flat


def is_number(value: Leaf) -> bool:
    """Whether a leaf is a number, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def relative_change(before: float, after: float) -> float:
    """(after - before) / |before|; infinite away from zero, 0 when nothing changed."""
    if after == before:
        return 0.0
    return (after - before) / abs(before) if before else float("inf") * (1 if after > 0 else -1)
