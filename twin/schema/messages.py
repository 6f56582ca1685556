"""Pydantic's errors in words for the people who write the files, each at the key it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from twin.errors import did_you_mean
from twin.schema.base import FieldError
from twin.schema.fields import Path, get, model_at

#: a problem before its place is known: key path and message.
Finding = tuple[Path, str]

_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
}


def findings(error: ValidationError, root: type[BaseModel], data: dict[str, Any]) -> Iterator[Finding]:
    """Each error of the validation of `data` against `root`, in the order of the models' fields."""
    for item in error.errors(include_url=False):
        path = _data_path(item["loc"], data, item["type"])
        context = item.get("ctx", {})
        if isinstance(context.get("error"), FieldError):
            yield (*path, context["error"].field), str(context["error"])
        elif item["type"] == "too_short" and get(data, path):
            continue  # there are entries, but they are wrong; that is said at each
        elif item["type"] in ("union_tag_not_found", "union_tag_invalid"):
            yield (*path, context["discriminator"].strip("'")), _kind_message(item["type"], context)
        else:
            yield path, _message(item, path, root, data)


def _data_path(loc: tuple[str | int, ...], data: Any, kind: str) -> Path:
    """The location without the marks that pydantic adds for unions ("agents") and keys ("[key]")."""
    path: list[str | int] = []
    entered = False
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if entered and isinstance(data, dict) and step in (data.get("kind"), data.get("process")):
            entered = False
            continue  # the mark of a union comes first below its key, and a kind may be called as a key is ("trace")
        if step in data if isinstance(data, dict) else isinstance(data, list) and isinstance(step, int):
            data, entered = get(data, (step,)), True
            path.append(step)
        elif last and kind == "missing":
            path.append(step)
    return tuple(path)


def _message(item: Any, path: Path, root: type[BaseModel], data: dict[str, Any]) -> str:
    kind, context, raw = item["type"], item.get("ctx", {}), get(data, path)
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        model = model_at(root, path[:-1], data)
        return f"unknown key{did_you_mean(str(path[-1]), model.model_fields if model else ())}"
    if kind == "missing":
        return "is missing"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{_show(raw)} is out of range: it must be {words} {context[key]:g}"
    if kind in _EXPECTED:
        hint = f"; write it in quotes: '{raw}'" if kind == "string_type" and isinstance(raw, int | float) else ""
        return f"expected {_EXPECTED[kind]}, not {_show(raw)}{hint}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        model = model_at(root, path, data)
        keys = f" with {', '.join(model.model_fields)}" if model else ""
        return f"expected keys and values{keys}, not {_show(raw)}"
    if kind == "literal_error":
        expected = context["expected"].replace(" or ", ", ")
        return f"{_show(raw)} is not one of {expected}{_near(raw, expected)}"
    if kind in ("string_pattern_mismatch", "string_too_long"):
        name = path[-1] if item["loc"][-1] == "[key]" else raw
        return f"{_show(name)} is no name: letters, digits, '_', '-' and '.', beginning with a letter or digit, 64 at most"
    if kind == "too_short":
        return f"needs at least {context['min_length']} entr{'y' if context['min_length'] == 1 else 'ies'}"
    return f"{_show(raw)}: {item['msg'][:1].lower()}{item['msg'][1:]}"


def _kind_message(kind: str, context: Any) -> str:
    if kind == "union_tag_not_found":
        return "is missing"
    tag, expected = str(context["tag"]), context["expected_tags"]
    return f"{tag!r} is not one of {expected}{_near(tag, expected)}"


def _near(raw: object, expected: str) -> str:
    known = [name.strip(" '") for name in expected.split(",")]
    hint = did_you_mean(str(raw), known)
    return hint if "did you mean" in hint else ""


def _show(raw: object) -> str:
    if raw is None:
        return "nothing"
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, dict):
        return "keys and values"
    if isinstance(raw, list):
        return "a list"
    text = repr(raw)
    return text if len(text) <= 60 else f"{text[:57]}..."
