"""Pydantic field types for quantities: text with a unit in the file, an SI float in the model."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, Strict, WithJsonSchema

from twin.units import SI_UNIT, UNITS, UnitError, parse_quantity


def quantity_text(value: float, dimension: str) -> str | float:
    """`value` in SI as a file says it, such as "1000000 W"; a fraction stays a number. Reads back to the same float."""
    if dimension == "fraction":
        return value
    unit = SI_UNIT[dimension]
    if unit in UNITS[dimension]:
        return f"{_digits(value)} {unit}"
    unit, factor = next(iter(UNITS[dimension].items()))  # no file says USD/J: its own unit, rounded so that it reads back
    scaled = value / factor
    for candidate in (float(f"{scaled:.15g}"), scaled, math.nextafter(scaled, math.inf), math.nextafter(scaled, -math.inf)):
        if candidate * factor == value:
            return f"{_digits(candidate)} {unit}"
    return f"{_digits(scaled)} {unit}"


def _digits(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _quantity(dimension: str) -> Any:
    def parse(value: object) -> float:
        try:
            return parse_quantity(value, dimension)
        except (UnitError, OverflowError) as error:
            raise ValueError(str(error)) from None

    units = ", ".join(list(UNITS[dimension])[:8])
    schema: dict[str, Any] = {"description": f"A {dimension.replace('_', ' ')} with its unit ({units}, ...)"}
    schema["type"] = ["string", "number"] if dimension == "fraction" else "string"
    written = PlainSerializer(lambda value: quantity_text(value, dimension), when_used="json-unless-none")
    return Annotated[float, BeforeValidator(parse), written, WithJsonSchema(schema)]


Power = _quantity("power")
Energy = _quantity("energy")
Time = _quantity("time")
Rate = _quantity("rate")
Temperature = _quantity("temperature")
TemperatureDifference = _quantity("temperature_difference")
Fraction = _quantity("fraction")
Bandwidth = _quantity("bandwidth")
EnergyPrice = _quantity("money_per_energy")


def _positive(kind: Any) -> Any:
    return Annotated[kind, Field(gt=0)]


PositivePower = _positive(Power)
PositiveEnergy = _positive(Energy)
PositiveTime = _positive(Time)
PositiveRate = _positive(Rate)
PositiveBandwidth = _positive(Bandwidth)
NonNegativePower = Annotated[Power, Field(ge=0)]
NonNegativeTime = Annotated[Time, Field(ge=0)]
UnitFraction = Annotated[Fraction, Field(ge=0, le=1)]
PositiveFraction = Annotated[Fraction, Field(gt=0, le=1)]


#: A plain number; no text, no true or false.
Number = Annotated[float, Strict()]
