"""What all schema models share: no unknown keys, no silent coercion, frozen, a docstring on each field."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from twin.catalog import Catalog, load_catalog
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


@dataclass(frozen=True, slots=True)
class CatalogName:
    """Marks a text field as the name of a catalogue part of `kind`; with `marker`, of one that has this value and so `role`."""

    kind: str
    role: str | None = None
    marker: str | None = None

    def names(self, catalog: Catalog) -> tuple[str, ...]:
        """The names that may stand here."""
        names, marker = catalog.names(self.kind), self.marker
        return names if marker is None else tuple(name for name in names if marker in catalog.part(self.kind, name).values)

    def check(self, name: str, info: ValidationInfo) -> str:
        """The name itself. Raises ValueError with the nearest known one.

        The catalogue that holds comes with the validation's context, None if nobody can tell; without a context it is the
        shipped one.
        """
        catalog = (info.context or {}).get("catalog", load_catalog())
        if catalog is None:
            return name
        names, spoken = self.names(catalog), self.role or self.kind
        if name not in names:
            wrong = f"{name!r} is no {spoken}" if name in catalog.names(self.kind) else f"unknown {spoken} {name!r}"
            raise ValueError(wrong + did_you_mean(name, names))
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A text, then the check."""
        return core_schema.with_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The shipped names, for an editor to offer, and any other: it cannot know a scenario's own parts."""
        return {"anyOf": [{"enum": list(self.names(load_catalog()))}, {"type": "string"}]}


@dataclass(frozen=True, slots=True)
class PluginName:
    """Marks a text field as the name of a plug-in: one of ours, or one that an installed package registers under `group`."""

    group: str
    spoken: str
    built_in: tuple[str, ...]

    def check(self, name: str) -> str:
        """The name itself. Raises ValueError with the nearest known one."""
        if name in self.built_in:  # asking the installed packages takes long
            return name
        names = {*self.built_in, *(point.name for point in entry_points(group=self.group))}
        if name not in names:
            raise ValueError(f"unknown {self.spoken} {name!r}{did_you_mean(name, names)}")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A text, then the check."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Any text, ours as examples: an editor cannot know what is installed."""
        return {"type": "string", "examples": list(self.built_in)}
