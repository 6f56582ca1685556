"""Counterflow heat exchangers: what one passes on at given flows, and the cold flow that a given heat needs.

With UA the conductance of the wall and H, W the capacity rates (flow x specific heat) of its hot and cold side, the temperature
differences at its ends are d_hot = d_cold exp(a), a = UA / H - UA / W, and the hot side's fall over d_cold is the `ratio`
g = UA / H x (exp(a) - 1) / a. That is the effectiveness-NTU relation of counterflow, with g / (1 + g) for the effectiveness on
the hot side (Incropera et al., Fundamentals of Heat and Mass Transfer, chapter 11). Both ends stay above zero for any flows, so
no temperatures cross. UA is taken as constant over flow.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: exp(-27) is 2e-12: an exchanger beyond it brings its hot side to the cold one's entry, to rounding.
_SHIFT_MAX = 27.0
# a by ln((exp(a) - 1) / a), which has no closed inverse; spacing proportional to 1 + |a| keeps a within 1e-5 of its value.
_SHIFT = np.sinh(np.linspace(-math.asinh(1e5), math.asinh(_SHIFT_MAX), 4001))
_LOG_GROWTH = np.log(np.expm1(_SHIFT) / _SHIFT)


def wall_w_per_k(heat_w: float, hot_end_k: float, cold_end_k: float) -> float:
    """UA that passes `heat_w` at these differences of its two ends, both above zero: heat over their logarithmic mean."""
    if math.isclose(hot_end_k, cold_end_k, rel_tol=1e-9):
        return heat_w / hot_end_k
    return heat_w * math.log(hot_end_k / cold_end_k) / (hot_end_k - cold_end_k)


def ratio(transfer_units: Floats, wall_over_cold: Floats) -> Floats:
    """g from UA over the hot side's capacity rate and UA over the cold side's."""
    a = np.minimum(transfer_units - wall_over_cold, _SHIFT_MAX)
    a[a == 0] = 1e-300  # balanced flows: (exp(a) - 1) / a is 1
    return transfer_units * np.expm1(a) / a


def shift(growth: Floats) -> Floats:
    """a from (exp(a) - 1) / a = g / (UA / H), within 1e-5: with UA / W = UA / H - a the inverse of `ratio`.

    That is not above zero where no cold flow suffices.
    """
    return np.interp(np.log(growth), _LOG_GROWTH, _SHIFT)
