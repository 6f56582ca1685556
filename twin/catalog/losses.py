"""Losses of a converter from its efficiencies at three loads: loss / rating = a + b x + c x^2 with x = output / rating."""

from __future__ import annotations

from collections.abc import Sequence

from twin.errors import InputError


def loss_shares(name: str, load_frac: Sequence[float], efficiency_frac: Sequence[float]) -> tuple[float, float, float]:
    """(a, b, c) of the converter that has exactly these efficiencies (output / input) at these three loads.

    Raises InputError for an efficiency outside 0..1 or points that no losses of this form can have.
    """
    if len(load_frac) != 3 or len(efficiency_frac) != 3 or len(set(load_frac)) != 3 or min(load_frac) <= 0:
        raise InputError(f"{name}: efficiency is due at three different loads above zero")
    if not all(0 < efficiency <= 1 for efficiency in efficiency_frac):
        raise InputError(f"{name}: an efficiency is a share above 0 and at most 1, not {list(efficiency_frac)!r}")
    x, y, z = load_frac
    at_x, at_y, at_z = (load * (1 / efficiency - 1) for load, efficiency in zip(load_frac, efficiency_frac, strict=True))
    # Newton's divided differences of the parabola through the three losses
    slope = (at_y - at_x) / (y - x)
    quadratic = ((at_z - at_y) / (z - y) - slope) / (z - x)
    linear = slope - quadratic * (x + y)
    fixed = at_x - linear * x - quadratic * x * x
    if min(fixed, linear, quadratic) < -1e-12:
        raise InputError(
            f"{name}: efficiencies {list(efficiency_frac)!r} at loads {list(load_frac)!r} give a negative loss "
            f"(fixed {fixed:.2e}, linear {linear:.2e}, quadratic {quadratic:.2e} of the rating)"
        )
    return max(0.0, fixed), max(0.0, linear), max(0.0, quadratic)
