"""Power smoothing: settings that GPUs have for it, and whose GPUs are smoothed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from twin.schema.base import Model, Name
from twin.schema.quantities import NonNegativeTime, Quantity, UnitFraction

PositiveRamp = Annotated[float, Field(gt=0), Quantity("ramp")]


class PowerSmoothing(Model):
    """A floor under the power of GPUs and limits on its rise and fall, of each GPU by itself."""

    floor: UnitFraction
    """Least power of a GPU at work, as a share of its TDP; what work does not need of it is burnt."""
    ramp_up: PositiveRamp
    """Fastest rise of a GPU's power; work is held back by it."""
    ramp_down: PositiveRamp
    """Fastest fall of a GPU's power; what work does not need meanwhile is burnt."""
    hysteresis: NonNegativeTime = 0.0
    """How long a GPU must be idle before the floor is let go."""
    pools: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Pools whose GPUs are smoothed, and `jobs` for those that jobs hold; without it, all."""
