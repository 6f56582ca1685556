"""Breakers: trip times of the standard's curves, loads that change, cooling down."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.errors import InputError
from twin.facility import Breaker, BreakerSpec


@pytest.mark.parametrize(
    ("curve", "ratio", "trip_s"),
    [
        # the tables that every vendor prints beside the curves, at TMS 1
        ("standard_inverse", 2.0, 10.03),
        ("standard_inverse", 5.0, 4.28),
        ("very_inverse", 2.0, 13.5),
        ("very_inverse", 5.0, 3.375),
        ("extremely_inverse", 2.0, 26.67),
        ("extremely_inverse", 5.0, 3.333),
    ],
)
def test_trip_times(curve: str, ratio: float, trip_s: float) -> None:
    spec = BreakerSpec(100e3, curve)  # type: ignore[arg-type]
    assert spec.trip_s(ratio * 100e3) == pytest.approx(trip_s, abs=5e-3)
    breaker, steps = Breaker(spec), 0
    while not breaker.advance(0.125, ratio * 100e3):
        steps += 1
        assert breaker.next_change_s(ratio * 100e3) == pytest.approx(spec.trip_s(ratio * 100e3) - steps * 0.125)
    assert steps == math.ceil(spec.trip_s(ratio * 100e3) / 0.125 - 1e-9) - 1


def test_at_once_and_never() -> None:
    spec = BreakerSpec(100e3, "very_inverse", 1.0, 8.0)
    assert spec.trip_s(100e3) == math.inf
    assert spec.trip_s(800e3) == 0
    assert Breaker(spec).advance(1e-6, 800e3)
    assert Breaker(spec).next_change_s(50e3) == math.inf


def test_it_cools_down_below_the_pickup() -> None:
    breaker = Breaker(BreakerSpec(100e3, "very_inverse", 0.5))
    assert not breaker.advance(3.0, 200e3)  # of 6.75 s
    assert breaker.filled == pytest.approx(3 / 6.75)
    breaker.advance(2.0, 50e3)  # 0.75 of the disk's full speed back, which takes 0.5 x 21.6 s
    assert breaker.filled == pytest.approx(3 / 6.75 - 2 * 0.75 / 10.8)
    breaker.advance(2.0, 100e3)
    assert breaker.filled == pytest.approx(3 / 6.75 - 2 * 0.75 / 10.8)
    breaker.advance(1e3, 0.0)
    assert breaker.filled == 0


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 7)), min_size=1, max_size=20), st.integers(2, 5))
def test_dividing_a_step_changes_nothing(loads: list[tuple[float, float]], parts: int) -> None:
    whole, divided = (Breaker(BreakerSpec(1.0, "extremely_inverse", 5.0)) for _ in range(2))
    for duration_s, load_w in loads:
        tripped = whole.advance(duration_s, load_w)
        assert max(divided.advance(duration_s / parts, load_w) for _ in range(parts)) == tripped
        assert divided.filled == pytest.approx(whole.filled, abs=1e-9)
        if tripped:
            return


@pytest.mark.parametrize("values", [(0.0,), (1.0, "flat"), (1.0, "very_inverse", 0.0), (1.0, "very_inverse", 1.0, 1.0)])
def test_breakers_that_cannot_be(values: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match="breaker"):
        BreakerSpec(*values)  # type: ignore[arg-type]
