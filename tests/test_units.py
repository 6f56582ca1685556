"""Quantities as people write them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.schema.quantities import quantity_text
from twin.units import SI_UNIT, UNITS, UnitError, format_duration, format_si, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("120 kW", "power", 120_000.0),
        ("1.5MW", "power", 1_500_000.0),
        ("-3 kW", "power", -3000.0),
        ("1_000 W", "power", 1000.0),
        ("250 kWh", "energy", 250 * 3.6e6),
        ("30 min", "time", 1800.0),
        ("97 ms", "time", 0.097),
        ("800 Gb/s", "bandwidth", 100e9),
        ("80 GB", "bytes", 80e9),
        ("1 GiB", "bytes", 2.0**30),
        ("6 /s", "rate", 6.0),
        ("90 /min", "rate", 1.5),
        ("60 kW/min", "ramp", 1000.0),
        ("-12.5 C", "temperature", -12.5),
        ("80 %", "fraction", 0.8),
        (0.8, "fraction", 0.8),
        ("0.8", "fraction", 0.8),
        (1, "fraction", 1.0),
        ("36 USD/MWh", "money_per_energy", 1e-8),
        ("1e3 W", "power", 1000.0),
    ],
)
def test_text_becomes_si(text: object, dimension: str, expected: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        (120, "power", "the unit is missing"),
        ("120", "power", "the unit is missing"),
        ("120 kw", "power", "unknown unit 'kw'"),
        ("5 min", "power", "is a time, but a power is due"),
        ("80 %", "power", "is a fraction, but a power is due"),
        (True, "fraction", "expected a fraction"),
        (None, "time", "expected a time"),
        ([1], "time", "expected a time"),
        ("fast", "time", "'fast' is not a time"),
        ("1e999 W", "power", "not a finite number"),
        (math.nan, "fraction", "not a finite number"),
        (math.inf, "fraction", "not a finite number"),
    ],
)
def test_what_is_no_quantity_is_refused(text: object, dimension: str, message: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_quantity(text, dimension)
    assert message in str(caught.value)


@given(st.text(max_size=20), st.sampled_from(sorted(UNITS)))
def test_any_text_is_a_finite_number_or_an_error(text: str, dimension: str) -> None:
    with contextlib.suppress(UnitError):
        assert math.isfinite(parse_quantity(text, dimension))


@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30),
    st.sampled_from([name for name in sorted(UNITS) if name != "money_per_energy"]),
)
def test_written_quantities_read_back_to_the_same_float(value: float, dimension: str) -> None:
    assert parse_quantity(quantity_text(value, dimension), dimension) == value


@given(st.integers(1, 1_000_000))
def test_written_prices_read_back_to_the_same_float(cents: int) -> None:
    price = parse_quantity(f"{cents / 100} USD/MWh", "money_per_energy")
    text = quantity_text(price, "money_per_energy")
    assert parse_quantity(text, "money_per_energy") == price


def test_every_si_unit_that_a_file_may_say_has_factor_one() -> None:
    assert {d: UNITS[d][unit] for d, unit in SI_UNIT.items() if unit in UNITS[d]} == dict.fromkeys(
        (d for d in SI_UNIT if d not in ("fraction", "money_per_energy")), 1.0
    )


def test_numbers_for_people() -> None:
    assert format_si(918_200, "W") == "918.2 kW"
    assert format_si(-2.5e6, "W") == "-2.5 MW"
    assert format_si(0, "J") == "0 J"
    assert format_duration(3900) == "1 h 05 min"
    assert format_duration(90) == "1 min 30 s"
    assert format_duration(0.045) == "45 ms"
