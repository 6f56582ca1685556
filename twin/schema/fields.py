"""What the models know about a key path: which model stands there, its keys, its default."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twin.schema.quantities import Quantity

Path = tuple[str | int, ...]

#: keys whose value tells which model of a union is meant.
_KIND_KEYS = ("kind", "process")


def dotted(path: Path) -> str:
    """The path as people write it: `serving.pools.0.role`."""
    return ".".join(str(step) for step in path)


def get(data: Any, path: Path) -> Any:
    """The value at `path` in plain data, None where there is none."""
    for step in path:
        if isinstance(data, list):
            if not isinstance(step, int) or not 0 <= step < len(data):
                return None
        elif not isinstance(data, dict) or step not in data:
            return None
        data = data[step]
    return data


def model_at(root: type[BaseModel], path: Path, data: Any) -> type[BaseModel] | None:
    """The model that describes the mapping at `path`; of a union, the one whose kind `data` names."""
    annotation: Any = root
    for step in path:
        chosen = _choose(annotation, data)
        if isinstance(chosen, type) and issubclass(chosen, BaseModel):
            field = chosen.model_fields.get(str(step))
            if field is None:
                return None
            annotation = field.annotation
        elif get_origin(chosen) in (tuple, list):
            annotation = get_args(chosen)[0]
        elif get_origin(chosen) is dict:
            annotation = get_args(chosen)[1]
        else:
            return None
        data = get(data, (step,))
    chosen = _choose(annotation, data)
    return chosen if isinstance(chosen, type) and issubclass(chosen, BaseModel) else None


def default_text(root: type[BaseModel], path: Path, data: Any) -> str:
    """The default at `path`, as a file would say it; `unset` where there is none."""
    model = model_at(root, path[:-1], data) if path else None
    field = model.model_fields.get(str(path[-1])) if model else None
    if field is None or field.is_required():
        return "unset"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None:
        return "unset"
    return str(_serialized(field, default))


def _serialized(field: FieldInfo, value: Any) -> Any:
    if isinstance(value, BaseModel):
        return "defaults"
    quantity = next((meta for meta in field.metadata if isinstance(meta, Quantity)), None)
    return quantity.text(value) if quantity else value


def _choose(annotation: Any, data: Any) -> Any:
    options = list(_options(annotation))
    if len(options) == 1:
        return options[0]
    for option in options:
        for key in _KIND_KEYS:
            field = option.model_fields.get(key) if isinstance(option, type) and issubclass(option, BaseModel) else None
            if field is not None and isinstance(data, dict) and data.get(key) in get_args(field.annotation):
                return option
    return None


def _options(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _options(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    return [] if annotation is type(None) else [annotation]
