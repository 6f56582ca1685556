"""Conversion losses of an element of the electrical chain, by its load.

Loss / rating = a + b x + c x^2 with x = output / rating: no-load loss (magnetisation, control, fans), a part proportional to
the current (semiconductor drops) and ohmic loss. It is the usual form for UPS, rectifiers and transformers
(M. Sawyer, "Making large UPS systems more efficient", APC white paper 108; IEC 62040-3 states efficiency at four loads).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from twin.catalog.losses import loss_shares
from twin.errors import InputError, SimulationError


@dataclass(frozen=True, slots=True)
class ElectricalElement:
    """A converter with its rating at the output and its loss as shares of the rating.

    Parallel units that share the load evenly are one element with the sum of their ratings.
    """

    name: str
    rated_w: float
    loss_fixed_frac: float
    loss_linear_frac: float
    loss_quadratic_frac: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rated_w) and self.rated_w > 0):
            raise InputError(f"{self.name}: the rating must be a positive power, not {self.rated_w!r} W")
        for share in (self.loss_fixed_frac, self.loss_linear_frac, self.loss_quadratic_frac):
            if not 0 <= share < 1:
                raise InputError(f"{self.name}: a loss must be a share from 0 to 1 of the rating, not {share!r}")

    @classmethod
    def from_efficiencies(
        cls, name: str, rated_w: float, load_frac: Sequence[float], efficiency_frac: Sequence[float]
    ) -> ElectricalElement:
        """The element that has exactly these efficiencies (output / input) at these three loads.

        Raises InputError for an efficiency outside 0..1 or points that no losses of the form above can have.
        """
        return cls(name, rated_w, *loss_shares(name, load_frac, efficiency_frac))

    def loss_w(self, output_w: float) -> float:
        """Loss at this output. Raises SimulationError above the rating (no extrapolation) or below zero."""
        if not 0 <= output_w <= self.rated_w * (1 + 1e-9):
            raise SimulationError(f"{self.name} carries {output_w:,.0f} W, outside 0 to its rating of {self.rated_w:,.0f} W")
        load = output_w / self.rated_w
        return self.rated_w * (self.loss_fixed_frac + load * (self.loss_linear_frac + load * self.loss_quadratic_frac))

    def output_for_input_w(self, input_w: float) -> float:
        """The output that draws `input_w`: the inverse of output + loss, in closed form; below zero if even no load draws more.

        A negative answer is how much would have to be fed in at the output to bring the input down to `input_w`.
        """
        excess = input_w / self.rated_w - self.loss_fixed_frac
        slope = 1 + self.loss_linear_frac
        if excess <= 0 or self.loss_quadratic_frac == 0:
            return self.rated_w * (excess / slope if excess > 0 else excess)
        # the stable root of c x^2 + (1 + b) x - excess = 0
        return self.rated_w * 2 * excess / (slope + math.sqrt(slope * slope + 4 * self.loss_quadratic_frac * excess))
