"""One lumped thermal mass whose cooling is a piecewise straight line of its temperature: exact steps of any length.

C dT/dt = heat - q(T). A controlled loop rejects nothing below its supply setpoint, what holds the setpoint as long as it can,
and beyond that what its heat exchanger and chiller are able to. On each straight piece T relaxes exponentially to that piece's
equilibrium; since T moves one way for constant heat, each piece is crossed at most once and the time of crossing has a closed
form. Nothing is discretised, so a step of a day is as exact as a step of a millisecond and no step is unstable.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Piece(NamedTuple):
    """q(T) = intercept_w + slope_w_per_k T up to `upper_c`."""

    upper_c: float
    slope_w_per_k: float
    intercept_w: float


def rejection(
    conductance_w_per_k: float, effectiveness_frac: float, setpoint_c: float, sink_c: float, boost_w: float
) -> tuple[Piece, ...]:
    """Heat rejected by a loop whose return is at T: max(0, min(G (T - setpoint), e G max(0, T - sink) + boost)).

    G is the loop's flow times specific heat, e the effectiveness of its heat exchanger against `sink_c` (C_min is this loop's
    side), boost the most that a chiller in series can add. The exchanger is bypassed while the sink is the warmer side.
    """
    held = conductance_w_per_k * setpoint_c
    strained = effectiveness_frac * conductance_w_per_k
    strained_intercept = boost_w - strained * sink_c
    closed = Piece(setpoint_c, 0.0, 0.0)
    full_boost_c = setpoint_c + boost_w / conductance_w_per_k
    if full_boost_c <= sink_c:
        return (
            closed,
            Piece(full_boost_c, conductance_w_per_k, -held),
            Piece(sink_c, 0.0, boost_w),
            Piece(math.inf, strained, strained_intercept),
        )
    limit_c = (setpoint_c - effectiveness_frac * sink_c + boost_w / conductance_w_per_k) / (1 - effectiveness_frac)
    return closed, Piece(limit_c, conductance_w_per_k, -held), Piece(math.inf, strained, strained_intercept)


def rejected_w(temperature_c: float, pieces: tuple[Piece, ...]) -> float:
    """q(T)."""
    for upper_c, slope, intercept in pieces:
        if temperature_c <= upper_c:
            return intercept + slope * temperature_c
    raise AssertionError("the last piece has no upper end")


def relax(
    temperature_c: float, duration_s: float, heat_w: float, heat_capacity_j_per_k: float, pieces: tuple[Piece, ...]
) -> float:
    """The temperature after `duration_s` of constant heat."""
    left_s = duration_s
    index = 0
    while temperature_c > pieces[index].upper_c:
        index += 1
    net_w = heat_w - pieces[index].intercept_w - pieces[index].slope_w_per_k * temperature_c
    step = 1 if net_w > 0 else -1
    if step == 1 and temperature_c == pieces[index].upper_c:
        index += 1
    while net_w:
        upper_c, slope, intercept = pieces[index]
        bound_c = upper_c if step == 1 else (pieces[index - 1].upper_c if index else -math.inf)
        if slope:
            rest_c = (heat_w - intercept) / slope
            reached_c = rest_c + (temperature_c - rest_c) * math.exp(-slope * left_s / heat_capacity_j_per_k)
        else:
            rest_c = math.nan
            reached_c = temperature_c + (heat_w - intercept) * left_s / heat_capacity_j_per_k
        if (bound_c - reached_c) * step >= 0:
            return reached_c
        if slope:
            left_s -= math.log((temperature_c - rest_c) / (bound_c - rest_c)) * heat_capacity_j_per_k / slope
        else:
            left_s -= (bound_c - temperature_c) * heat_capacity_j_per_k / (heat_w - intercept)
        if left_s <= 0:  # by rounding: the crossing is the end
            return bound_c
        temperature_c = bound_c
        index += step
    return temperature_c
