"""Quantile tables: a distribution as a few fitted knots, drawn by normal scores so that draws of one session can go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import yaml

from twin.errors import SimulationError

#: Scores of the smallest and the largest knot: draws never leave what was observed.
_EDGE = 3.7

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class QuantileTable:
    """A distribution given by its quantiles.

    Between knots, asinh(value) is linear in the normal score: logarithmic in the tails (so that long tails are neither cut
    off nor stretched), linear around zero, defined for negative values. A score beyond the last knot gives that knot.
    """

    def __init__(self, probabilities: Sequence[float], values: Sequence[float]):
        if len(probabilities) != len(values) or len(values) < 2:
            raise SimulationError(f"a quantile table needs as many values as probabilities, not {len(values)}")
        if any(b <= a for a, b in pairwise(probabilities)):
            raise SimulationError("the probabilities of a quantile table must increase")
        if any(b < a for a, b in pairwise(values)):
            raise SimulationError("the values of a quantile table must not decrease")
        normal = NormalDist()
        scores = [-_EDGE if p <= 0 else _EDGE if p >= 1 else normal.inv_cdf(p) for p in probabilities]
        self._scores = np.array(scores)
        self._values = np.arcsinh(np.array(values, dtype=float))

    def at(self, scores: Floats | float) -> Floats:
        """The values at standard normal `scores` (any shape): a standard normal draw gives a draw of the table."""
        return np.sinh(np.interp(scores, self._scores, self._values))

    def seconds(self, scores: Floats | float) -> Floats:
        """As `at`, rounded to milliseconds: the last bits of sinh differ between processors, the draws of a seed must not."""
        return np.round(self.at(scores), 3)

    def whole(self, scores: Floats | float, least: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """As `at`, rounded to whole numbers of at least `least` (token and turn counts)."""
        return np.maximum(np.rint(self.at(scores)), least).astype(np.int64)


@lru_cache(maxsize=4)
def fitted(name: str) -> Mapping[str, Any]:
    """The figures of `data/<name>.yaml`, its lists under `tables` turned into `QuantileTable`s of the common `probabilities`."""
    path = Path(__file__).parent / "data" / f"{name}.yaml"
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    probabilities = document["probabilities"]
    tables = {key: QuantileTable(probabilities, values) for key, values in document["tables"].items()}
    return {**document, "tables": tables}
