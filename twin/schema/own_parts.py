"""Catalogue files of one's own: parts that a scenario may name beside the shipped ones, or in their place.

A file is checked twice: its form by the models below, and by `file_findings` what only the shipped catalogue tells, such as
which keys a kind has and which of them are numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator

from twin.catalog import KIND_FILES, Catalog, CatalogError, Part, Value, load_catalog, parse_raw
from twin.catalog.part import Known, dimension_of
from twin.errors import did_you_mean
from twin.schema.base import Flag, Model, Name
from twin.schema.fields import Path
from twin.schema.messages import Finding

#: coefficients of curves, whose sums are checked where they are used.
_ANY_SIGN = frozenset(["part_load"])
#: what else than time may be nothing; every other number is divided by somewhere, or makes no sense at zero.
_MAY_BE_ZERO = frozenset(
    [
        *("coolant_j_per_k", "fan_power_frac", "liquid_heat_frac", "other_busy_w", "other_idle_w", "return_slope"),
        *("power_active_w", "power_compute_w", "power_memory_w", "power_voltage_floor_frac"),
        *("loss_db", "max_w", "power_w", "price_usd", "pump_power_frac", "pump_rated_w", "typical_w", "wetting_frac"),
        *("condenser_power_frac", "convection_frac", "drift_frac", "spare_units"),
        *("dense_layers", "mtp_layers", "query_rank", "shared_experts", "windowed_layers"),
    ]
)

#: What `file_findings` looks at: a number, a text with or without a unit, true, false, or a list of numbers or texts.
RawValue = Annotated[
    Any,
    WithJsonSchema({"type": ["number", "string", "boolean", "array"], "items": {"type": ["number", "string"]}}),
]


class PartValue(Model):
    """One value of a part."""

    value: RawValue
    """With its unit where the key's suffix names one ("700 W" for `tdp_w`), a list for a curve, "?" where nobody published it."""
    source: str
    """Where the value comes from."""
    status: Literal["datasheet", "measured", "projected", "assumed"]
    """A vendor's document, a measurement, an announcement of something not yet sold, or your own guess."""
    note: str = ""
    """What else is to be known about it."""

    @field_validator("source")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("is empty; say where the value comes from")
        return text


class OwnPart(Model):
    """A part of the catalogue."""

    description: str
    """What it is."""
    values: dict[str, PartValue] = Field(min_length=1)
    """The keys that shipped parts of the kind have (`twin catalog KIND`), each with value, source and status."""


class OwnParts(Model):
    """A catalogue file: parts of one kind."""

    kind: Literal[
        "gpu",
        "cpu",
        "rack",
        "switch",
        "nic",
        "optic",
        "model",
        "backend",
        "battery",
        "generator",
        "cooling",
        "electrical",
        "reliability",
        "job_class",
    ]
    """What the parts are (`twin catalog` lists all kinds)."""
    replaces: Flag = False
    """The parts take the place of shipped ones of the same name; without it, names must be new."""
    parts: dict[Name, OwnPart] = Field(min_length=1)
    """Name -> part."""

    def catalog_parts(self) -> Iterator[Part]:
        """The parts as the catalogue has them. Raises CatalogError for a value that `file_findings` would have told of."""
        for name, part in self.parts.items():
            values = {
                key: Value(*parse_raw(key, each.value), each.source, each.status, each.note) for key, each in part.values.items()
            }
            yield Part(self.kind, name, part.description, values)


def catalog_with(files: Iterable[OwnParts]) -> Catalog:
    """The shipped catalogue with the parts of these files."""
    return load_catalog().with_parts(part for file in files for part in file.catalog_parts())


def names_known(data: Mapping[str, Any]) -> Catalog | None:
    """The catalogue whose names hold in plain data that need not be sound; its own parts have keys and no values.

    None where a catalogue file could not be read, so that nobody can tell which names it would have had.
    """
    contents = data.get("catalog", [])
    own = []
    for content in contents if isinstance(contents, list) else [contents]:
        kind, parts = _kind(content), _mapping(content, "parts")
        if kind is None or not parts:
            return None
        for name, part in parts.items():
            own.append(Part(kind, name, "", {key: Value(None, "", "", "") for key in _mapping(part, "values")}))
    return load_catalog().with_parts(own)


def own_parts_findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that is wrong with the catalogue files in a scenario's plain data beside their form."""
    contents = data.get("catalog")
    first: dict[tuple[str, str], int] = {}
    for index, content in enumerate(contents if isinstance(contents, list) else ()):
        yield from file_findings(content, ("catalog", index))
        kind = _kind(content)
        for name in _mapping(content, "parts"):
            before = first.setdefault((kind or "", name), index)
            if before != index and kind is not None:
                yield ("catalog", index, "parts", name), f"{kind} {name!r} stands in catalog.{before} already"


def file_findings(content: object, path: Path = ()) -> Iterator[Finding]:
    """What is wrong with the plain data of one catalogue file at `path` beside its form."""
    kind = _kind(content)
    if kind is None:
        return
    shipped, known = load_catalog().names(kind), _known_values(kind)
    replaces = isinstance(content, dict) and content.get("replaces") is True
    for name, part in _mapping(content, "parts").items():
        at = (*path, "parts", name)
        if replaces:
            if name not in shipped:
                yield at, f"`replaces: true`, but the catalogue has no {kind} {name!r}{did_you_mean(name, shipped)}"
        elif name in shipped:
            yield (
                at,
                f"{kind} {name!r} is in the catalogue already; write `replaces: true` beside `kind:` to replace it",
            )
        for key, entry in _mapping(part, "values").items():
            example = _example(kind, key, known)
            if example is None:
                yield (*at, "values", key), f"no {kind} has such a key{did_you_mean(key, known)}"
            elif isinstance(entry, dict) and "value" in entry:
                yield from _value_findings(key, entry["value"], example, (*at, "values", key, "value"))


def _value_findings(key: str, raw: object, example: Known, path: Path) -> Iterator[Finding]:
    try:
        value, _ = parse_raw(key, raw)
    except CatalogError as error:
        yield path, str(error)
        return
    if value is None:
        return
    if _spoken(value) != _spoken(example):
        yield path, f"expected {_spoken(example)}, not {raw!r}"
        return
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and (wrong := _out_of_range(key, number)):
            yield path, f"{raw!r} is out of range: it must be {wrong}"
            return


def _out_of_range(key: str, number: float) -> str | None:
    """The range of the key's values, if the number is outside."""
    dimension = dimension_of(key)
    if dimension == "temperature" or key in _ANY_SIGN:
        return None
    if dimension == "fraction" and number > 1 and not key.endswith("_capacity_frac"):
        return "at most 1"
    zero = key in _MAY_BE_ZERO or (dimension == "time" and key != "time_constant_s")
    if number < 0 or (number == 0 and not zero):
        return "at least 0" if zero else "above 0"
    return None


def _known_values(kind: str) -> dict[str, Known]:
    """A value of each key that the shipped parts of the kind have; a number where nobody has published one."""
    catalog = load_catalog()
    values = [each for name in catalog.names(kind) for each in catalog.part(kind, name).values.items()]
    known = {key: value.value for key, value in values if value.value is not None}
    return {key: known.get(key, 0.0) for key, _ in values}


def _example(kind: str, key: str, known: Mapping[str, Known]) -> Known | None:
    """A shipped value of the key. A backend's keys begin with a generation of GPUs, which may be new."""
    if key in known or kind != "backend":
        return known.get(key)
    gpus = load_catalog()
    generations = {gpus.part("gpu", name).text("generation") for name in gpus.names("gpu")}
    for each, value in known.items():
        for generation in sorted(generations):
            if each.startswith(f"{generation}_") and key.endswith(each.removeprefix(generation)):
                return value
    return None


def _spoken(value: Known) -> str:
    if isinstance(value, tuple):
        return "a list of numbers" if isinstance(value[0], float) else "a list of texts"
    return "true or false" if isinstance(value, bool) else "a number" if isinstance(value, float) else "a text"


def _kind(content: object) -> str | None:
    """The kind that a catalogue file names, if there is such a kind."""
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) and kind in KIND_FILES else None


def _mapping(owner: object, key: str) -> dict[str, Any]:
    value = owner.get(key) if isinstance(owner, dict) else None
    return value if isinstance(value, dict) else {}
