"""Quantities as people write them ("120 kW", "30 min", "800 Gb/s") to SI numbers, and back for people to read.

A bare number where a unit is due is an error, as is a unit of another dimension.
"""

from __future__ import annotations

import math
import re

from twin.errors import did_you_mean


class UnitError(ValueError):
    """A text that is no quantity of the dimension asked for."""


_METRIC = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_PER_TIME = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}


def _scaled(unit: str, prefixes: dict[str, float], factor: float = 1.0) -> dict[str, float]:
    return {prefix + unit: scale * factor for prefix, scale in prefixes.items()}


#: dimension -> unit -> factor to SI. Temperature is in degrees Celsius throughout, as plant people use it.
UNITS: dict[str, dict[str, float]] = {
    "power": {**_scaled("W", _METRIC), "mW": 1e-3, "hp": 745.7},
    "energy": {**_scaled("J", _METRIC), **_scaled("Wh", _METRIC, 3600.0)},
    "time": {"us": 1e-6, "ms": 1e-3, "ns": 1e-9, "s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0, "days": 86400.0},
    "bytes": {**_scaled("B", _METRIC), **_scaled("B", _BINARY)},
    "bandwidth": {
        **_scaled("B/s", _METRIC),
        **_scaled("b/s", _METRIC, 1 / 8),
        **_scaled("bps", _METRIC, 1 / 8),
        **_scaled("B/s", _BINARY),
    },
    "flops": {**_scaled("FLOPS", _METRIC), **_scaled("FLOP/s", _METRIC)},
    "rate": {f"/{name}": 1 / seconds for name, seconds in _PER_TIME.items()},
    "ramp": {f"{prefix}W/{name}": scale / seconds for prefix, scale in _METRIC.items() for name, seconds in _PER_TIME.items()},
    "temperature": {"C": 1.0, "°C": 1.0},
    "temperature_difference": {"K": 1.0},
    "mass_flow": {"kg/s": 1.0, "kg/min": 1 / 60, "kg/h": 1 / 3600},
    "mass": {"kg": 1.0, "t": 1000.0, "g": 1e-3},
    "heat_capacity": {"J/K": 1.0, "kJ/K": 1e3, "MJ/K": 1e6},
    "conductance": {"W/K": 1.0, "kW/K": 1e3, "MW/K": 1e6},
    "thermal_resistance": {"K/W": 1.0, "K/kW": 1e-3},
    "frequency": {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "fraction": {"%": 0.01, "percent": 0.01},
    "money_per_energy": {"USD/MWh": 1 / 3.6e9, "USD/kWh": 1 / 3.6e6, "$/MWh": 1 / 3.6e9, "$/kWh": 1 / 3.6e6},
}

#: dimension -> the SI unit shown in tables, schema files and error texts.
SI_UNIT = {
    "power": "W",
    "energy": "J",
    "time": "s",
    "bytes": "B",
    "bandwidth": "B/s",
    "flops": "FLOP/s",
    "rate": "/s",
    "ramp": "W/s",
    "temperature": "C",
    "temperature_difference": "K",
    "mass_flow": "kg/s",
    "mass": "kg",
    "heat_capacity": "J/K",
    "conductance": "W/K",
    "thermal_resistance": "K/W",
    "frequency": "Hz",
    "fraction": "",
    "money_per_energy": "USD/J",
}

#: A number, with commas between thousands only ("1,200 kW", never the decimal comma of "1,5 kW"), and a unit.
_NUMBER = r"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*([^\d\s,].*?)?\s*$")


def parse_quantity(text: object, dimension: str) -> float:
    """`text` ("120 kW") as a number in the dimension's SI unit.

    A fraction may be a bare number ("0.8") or a percentage ("80 %"); everything else needs its unit.
    Raises UnitError for a bare number, an unknown unit, a unit of another dimension, or a number that is not finite.
    """
    units = UNITS[dimension]
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise UnitError(f"expected {_spoken(dimension)} such as {_example(dimension)!r}, not {text!r}")
    if isinstance(text, int | float):
        if dimension == "fraction":
            return _finite(float(text), text)
        raise UnitError(f"the unit is missing: write {text:g} with one, such as {_example(dimension)!r}")
    match = _QUANTITY.match(text)
    if not match:
        raise UnitError(f"{text!r} is not {_spoken(dimension)}; write it such as {_example(dimension)!r}")
    number = _finite(float(match[1].replace("_", "").replace(",", "")), text)
    unit = match[2]
    if unit is None:
        if dimension == "fraction":
            return number
        raise UnitError(f"the unit is missing: write {text} with one, such as {_example(dimension)!r}")
    if dimension == "fraction" and unit in units:
        return number / 100.0  # not times 0.01: 70 % is 0.7 to the last bit
    if unit in units:
        return number * units[unit]
    owner = next((d for d, table in UNITS.items() if unit in table), None)
    if owner is not None:
        raise UnitError(f"{text!r} is {_spoken(owner)}, but {_spoken(dimension)} is due, such as {_example(dimension)!r}")
    raise UnitError(f"unknown unit {unit!r}{did_you_mean(unit, units)}")


def _finite(number: float, text: object) -> float:
    if not math.isfinite(number):
        raise UnitError(f"{text!r} is not a finite number")
    return number


def _spoken(dimension: str) -> str:
    name = dimension.replace("_", " ")
    return name if dimension in ("bytes", "flops") else f"an {name}" if name[0] in "aeiou" else f"a {name}"


_EXAMPLES = {
    "power": "120 kW",
    "energy": "500 kWh",
    "time": "30 min",
    "bytes": "80 GB",
    "bandwidth": "800 Gb/s",
    "flops": "989 TFLOPS",
    "rate": "6 /s",
    "ramp": "50 kW/min",
    "temperature": "25 C",
    "temperature_difference": "10 K",
    "mass_flow": "2 kg/s",
    "mass": "100 kg",
    "heat_capacity": "500 kJ/K",
    "conductance": "40 kW/K",
    "thermal_resistance": "0.02 K/W",
    "frequency": "1.98 GHz",
    "fraction": "80 %",
    "money_per_energy": "60 USD/MWh",
}


def _example(dimension: str) -> str:
    return _EXAMPLES[dimension]


def format_si(value: float, unit: str, digits: int = 4) -> str:
    """`value` with a metric prefix, for people: format_si(918200, "W") == '918.2 kW'."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    for prefix in ("E", "P", "T", "G", "M", "k"):
        if abs(value) >= _METRIC[prefix]:
            return f"{value / _METRIC[prefix]:.{digits}g} {prefix}{unit}"
    return f"{value:.{digits}g} {unit}"


def format_duration(seconds: float) -> str:
    """Seconds as people say them: '1 h 05 min', '12.3 s', '45 ms'."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
