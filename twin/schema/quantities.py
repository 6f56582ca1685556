"""Pydantic field types for quantities: text with a unit in the file, an SI float in the model, and text again when dumped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

from twin.units import SI_UNIT, UNITS, UnitError, parse_quantity


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a float field as a quantity of a dimension of `twin.units`."""

    dimension: str

    def parse(self, value: object) -> float:
        """What a file says, in SI. Raises ValueError in words for the writer of the file."""
        try:
            return parse_quantity(value, self.dimension)
        except (UnitError, OverflowError) as error:
            raise ValueError(str(error)) from None

    def text(self, value: float) -> str | float:
        """`value` in SI as a file says it, such as "1000000 W"; a fraction stays a number. Reads back to the same float."""
        return quantity_text(value, self.dimension)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The float's own schema behind the parser, and the text in JSON."""
        written = core_schema.plain_serializer_function_ser_schema(self.text, when_used="json-unless-none")
        return core_schema.no_info_before_validator_function(self.parse, handler(source), serialization=written)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """What an editor shows: a text with its unit; of a fraction also a bare number."""
        units = ", ".join(list(UNITS[self.dimension])[:8])
        spoken = self.dimension.replace("_", " ")
        types = ["string", "number"] if self.dimension == "fraction" else "string"
        return {"type": types, "description": f"A {spoken} with its unit ({units}, ...)"}


def share_or_power(value: object, share: str, example: str) -> object:
    """What a file says of a level, "80 %" or "800 kW", as a mapping with `share` or `power_w`, which is left as it is if that is
    what stands there. Raises ValueError in words for the writer of the file, with an `example` of a share."""
    if isinstance(value, dict | BaseModel):
        return value
    try:
        return {share: parse_quantity(value, "fraction")}
    except UnitError as error:
        if isinstance(value, str) and value.rstrip().endswith(("%", "percent")):
            raise ValueError(str(error)) from None
    try:
        return {"power_w": parse_quantity(value, "power")}
    except UnitError as error:
        raise ValueError(f"{error}; or {example}") from None


def quantity_text(value: float, dimension: str) -> str | float:
    """`value` in SI as a file says it; see Quantity.text."""
    if dimension == "fraction":
        return value
    unit = SI_UNIT[dimension]
    if unit in UNITS[dimension]:
        return f"{_digits(value)} {unit}"
    unit, factor = next(iter(UNITS[dimension].items()))  # no file says USD/J: its first unit, rounded so that it reads back
    scaled = value / factor
    for candidate in (float(f"{scaled:.15g}"), scaled, math.nextafter(scaled, math.inf), math.nextafter(scaled, -math.inf)):
        if candidate * factor == value:
            return f"{_digits(candidate)} {unit}"
    return f"{_digits(scaled)} {unit}"


def _digits(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


Power = Annotated[float, Quantity("power")]
Energy = Annotated[float, Quantity("energy")]
Time = Annotated[float, Quantity("time")]
Rate = Annotated[float, Quantity("rate")]
Temperature = Annotated[float, Quantity("temperature")]
Fraction = Annotated[float, Quantity("fraction")]
EnergyPrice = Annotated[float, Quantity("money_per_energy")]

PositivePower = Annotated[float, Field(gt=0), Quantity("power")]
PositiveEnergy = Annotated[float, Field(gt=0), Quantity("energy")]
PositiveTime = Annotated[float, Field(gt=0), Quantity("time")]
PositiveRate = Annotated[float, Field(gt=0), Quantity("rate")]
NonNegativePower = Annotated[float, Field(ge=0), Quantity("power")]
NonNegativeTime = Annotated[float, Field(ge=0), Quantity("time")]
NonNegativeRate = Annotated[float, Field(ge=0), Quantity("rate")]
PositiveBytes = Annotated[float, Field(gt=0), Quantity("bytes")]
PositiveBandwidth = Annotated[float, Field(gt=0), Quantity("bandwidth")]
UnitFraction = Annotated[float, Field(ge=0, le=1), Quantity("fraction")]
FractionBelowOne = Annotated[float, Field(ge=0, lt=1), Quantity("fraction")]
PositiveFraction = Annotated[float, Field(gt=0, le=1), Quantity("fraction")]
#: the range of outdoor air and of coolants that anything here is made for.
OutdoorTemperature = Annotated[float, Field(ge=-60, le=60), Quantity("temperature")]
CoolantTemperature = Annotated[float, Field(ge=5, le=60), Quantity("temperature")]

#: A plain number; no text, no true or false.
Number = Annotated[float, Strict()]
