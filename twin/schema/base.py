"""What all schema models share: no unknown keys, no silent coercion, frozen, a docstring on each field."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from twin.errors import did_you_mean

#: A name that may stand in paths, tables and file names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
Flag = Annotated[bool, Strict()]


class FieldError(ValueError):
    """Raised by a model's own check: what is wrong, and the field to show it at."""

    def __init__(self, field: str, message: str):
        self.field = field
        super().__init__(message)


class Model(BaseModel):
    """Base of every schema model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def catalog_name(kind: str, role: str | None = None, marker: str | None = None) -> Any:
    """The field type for the name of a catalogue part of `kind`; with `marker`, of those that play `role`: that have this value."""

    def known(name: str) -> str:
        spoken, names = role or kind, catalog_names(kind, marker)
        if name not in names:
            elsewhere = f"{name!r} is no {spoken}" if name in catalog_names(kind, None) else f"unknown {spoken} {name!r}"
            raise ValueError(f"{elsewhere}{did_you_mean(name, names)}")
        return name

    return Annotated[str, AfterValidator(known), Field(json_schema_extra={"x-catalog": [kind, marker]})]


def catalog_names(kind: str, marker: str | None) -> tuple[str, ...]:
    """Names of the catalogue's parts of `kind`, with `marker` of those that have this value."""
    from twin.catalog import load_catalog  # read only when a file is checked, not when the models are imported

    catalog = load_catalog()
    names = catalog.names(kind)
    return names if marker is None else tuple(name for name in names if marker in catalog.part(kind, name).values)


def plugin_name(group: str, spoken: str, built_in: tuple[str, ...]) -> Any:
    """The field type for the name of a plug-in: one of ours, or one that an installed package registers under `group`."""

    def known(name: str) -> str:
        if name in built_in:
            return name
        names = {*built_in, *(point.name for point in entry_points(group=group))}
        if name not in names:
            raise ValueError(f"unknown {spoken} {name!r}{did_you_mean(name, names)}")
        return name

    return Annotated[str, AfterValidator(known)]
