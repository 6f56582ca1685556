"""A part of the catalogue: named values, each with unit, source and status.

The dimension of a value follows from the suffix of its key (`tdp_w` is a power, `nic_bytes_per_s` a bandwidth), so a file
that gives "1979 TB/s" for a `_flops` key is refused when it is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from twin.errors import InputError, UnknownValueError, did_you_mean
from twin.units import SI_UNIT, UNITS, UnitError, parse_quantity

#: where a value comes from: a vendor's document, a measurement, an announcement of something not yet sold, or our own guess.
STATUSES = ("datasheet", "measured", "projected", "assumed")

#: what stands in a file for a value that nobody has published.
UNKNOWN = "?"

#: suffix of a key -> dimension of its value; the longest suffix that fits counts.
SUFFIX_DIMENSIONS = {
    "_bytes_per_s": "bandwidth",
    "_flops": "flops",
    "_bytes": "bytes",
    "_k_per_w": "thermal_resistance",
    "_w_per_k": "conductance",
    "_j_per_k": "heat_capacity",
    "_kg_per_s": "mass_flow",
    "_w_per_s": "ramp",
    "_per_s": "rate",
    "_hz": "frequency",
    "_kg": "mass",
    "_frac": "fraction",
    "_w": "power",
    "_j": "energy",
    "_s": "time",
    "_c": "temperature",
    "_k": "temperature_difference",
}
_BY_LENGTH = sorted(SUFFIX_DIMENSIONS, key=len, reverse=True)
_QUANTITY = re.compile(r"^\s*[+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*(\D\S*)\s*$")
_OWNER = {unit: dimension for dimension, table in UNITS.items() for unit in table}

Scalar = float | str | bool
Known = Scalar | tuple[float, ...] | tuple[str, ...]


class CatalogError(InputError):
    """A catalogue file is wrong: a value without source, a status that is none, a unit of another dimension."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value: a number in SI, a tuple of numbers (a curve), a text, a tuple of texts or a flag.

    `value` is None where nobody has published one. `unit` is the SI unit, empty for counts, ratios, texts and flags.
    """

    value: Known | None
    unit: str
    source: str
    status: str
    note: str = ""


def dimension_of(key: str) -> str | None:
    """The dimension that the suffix of `key` names, or None for a plain count, text or flag."""
    return next((SUFFIX_DIMENSIONS[suffix] for suffix in _BY_LENGTH if ("_" + key).endswith(suffix)), None)


def parse_value(key: str, entry: object) -> Value:
    """The entry `{value, source, status, note?}` that a file has under `key`, as a Value. Raises CatalogError."""
    if not isinstance(entry, dict):
        raise CatalogError(f"expected {{value, source, status}}, not {entry!r}")
    extra = set(entry) - {"value", "source", "status", "note"}
    if extra:
        raise CatalogError(f"unknown field {sorted(extra)[0]!r}")
    source, status = entry.get("source"), entry.get("status")
    if not isinstance(source, str) or not source.strip():
        raise CatalogError("the source is missing")
    if status not in STATUSES:
        raise CatalogError(f"status {status!r} is none of {', '.join(STATUSES)}")
    if "value" not in entry:
        raise CatalogError("the value is missing; write '?' where nobody has published one")
    value, unit = parse_raw(key, entry["value"])
    return Value(value, unit, source, status, str(entry.get("note", "")))


def parse_raw(key: str, raw: object) -> tuple[Known | None, str]:
    """What a file writes as the value of `key`, and its SI unit; None for an unpublished one. Raises CatalogError."""
    try:
        return _parse(key, raw)
    except UnitError as error:
        raise CatalogError(str(error)) from None


def _parse(key: str, raw: object) -> tuple[Known | None, str]:
    dimension = dimension_of(key)
    if raw == UNKNOWN:
        return None, SI_UNIT[dimension] if dimension else ""
    if isinstance(raw, list | tuple):
        return _parse_list(key, list(raw))
    if isinstance(raw, bool):
        return raw, ""
    if dimension is None and isinstance(raw, str):
        match = _QUANTITY.match(raw)
        dimension = _OWNER.get(match[1]) if match else None
        if dimension is None:
            return raw, ""
    if dimension is None:
        if not isinstance(raw, int | float):
            raise UnitError(f"expected a number, a text, true, false or a list, not {raw!r}")
        return _finite(float(raw), raw), ""
    return _finite(parse_quantity(raw, dimension), raw), SI_UNIT[dimension]


def _parse_list(key: str, raw: list[object]) -> tuple[Known, str]:
    parsed = [_parse(key, item) for item in raw]
    values = [value for value, _ in parsed]
    numbers = tuple(value for value in values if isinstance(value, float))
    texts = tuple(value for value in values if isinstance(value, str))
    if not raw or len(raw) not in (len(numbers), len(texts)):
        raise UnitError("a list must hold numbers alone, or texts alone")
    return (numbers, parsed[0][1]) if numbers else (texts, "")


def _finite(number: float, raw: object) -> float:
    if not math.isfinite(number):
        raise UnitError(f"{raw!r} is not a finite number")
    return number


class Part:
    """A thing of the catalogue, read-only: `part.number("tdp_w")`, `part.text("generation")`, `part.has("fp4_flops")`."""

    __slots__ = ("description", "kind", "name", "values")

    def __init__(self, kind: str, name: str, description: str, values: Mapping[str, Value]):
        self.kind = kind
        self.name = name
        self.description = description
        self.values: Mapping[str, Value] = MappingProxyType(dict(values))

    def __repr__(self) -> str:
        return f"Part({self.kind} {self.name})"

    def has(self, key: str) -> bool:
        """Whether a known value stands under `key`."""
        value = self.values.get(key)
        return value is not None and value.value is not None

    def number(self, key: str) -> float:
        """The value in SI. Raises UnknownValueError if nobody has published it, CatalogError if it is no number."""
        value = self._known(key)
        if isinstance(value, bool) or not isinstance(value, float):
            raise CatalogError(f"{self.kind} {self.name}: {key} is {value!r}, not a number")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        """A curve: the values of a list, in SI."""
        value = self._known(key)
        numbers = tuple(each for each in value if isinstance(each, float)) if isinstance(value, tuple) else ()
        if not numbers:
            raise CatalogError(f"{self.kind} {self.name}: {key} is {value!r}, not a list of numbers")
        return numbers

    def text(self, key: str) -> str:
        """The value as a text (a name of another part, a generation)."""
        value = self._known(key)
        if not isinstance(value, str):
            raise CatalogError(f"{self.kind} {self.name}: {key} is {value!r}, not a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, such as number formats."""
        value = self._known(key)
        texts = tuple(each for each in value if isinstance(each, str)) if isinstance(value, tuple) else ()
        if not texts:
            raise CatalogError(f"{self.kind} {self.name}: {key} is {value!r}, not a list of texts")
        return texts

    def flag(self, key: str) -> bool:
        """The value as true or false."""
        value = self._known(key)
        if not isinstance(value, bool):
            raise CatalogError(f"{self.kind} {self.name}: {key} is {value!r}, not true or false")
        return value

    def _known(self, key: str) -> Known:
        value = self.values.get(key)
        if value is None or value.value is None:
            asked = f"{self.kind} {self.name} has no published {key!r}"
            if value is None:
                raise UnknownValueError(f"{asked}{did_you_mean(key, self.values)}; see `twin catalog {self.kind}`")
            where = f"{value.source}{': ' + value.note if value.note else ''}"
            raise UnknownValueError(f"{asked} ({where}); put one with its source into the catalogue to go on")
        return value.value
