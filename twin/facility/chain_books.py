"""What the elements of an electrical chain delivered and lost, over an interval and since the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ElementMeans:
    """An element over an interval: means in W, loading and headroom of what its live units may carry, its state at the end."""

    name: str
    kind: str
    output_w: float
    loss_w: float
    loading_frac: float
    headroom_w: float
    state: str


@dataclass(frozen=True, slots=True)
class ElementTotals:
    """An element since the start: energy lost, highest loading of a step, trips."""

    name: str
    kind: str
    loss_j: float
    peak_loading_frac: float
    trips: int


class ChainBooks:
    """Sums over the steps of a chain, by element; `few` keeps them as plain floats."""

    def __init__(self, elements: int, few: bool):
        self._few = few
        self._loss_j: Floats = np.zeros(elements)
        self._peak: Any = self._zeros(elements)
        self._sum_output_j: Any = self._zeros(elements)
        self._sum_loss_j: Any = self._zeros(elements)
        self._span_s = 0.0
        self.trips = [0] * elements

    def _zeros(self, elements: int) -> Any:
        return [0.0] * elements if self._few else np.zeros(elements)

    def add(self, duration_s: float, output_w: Any, loss_w: Any, rated_w: Any) -> None:
        """Take a step in which elements with these ratings (1 W where dead) delivered and lost so much."""
        self._span_s += duration_s
        if not self._few:
            self._sum_output_j += output_w * duration_s
            self._sum_loss_j += loss_w * duration_s
            np.maximum(self._peak, output_w / rated_w, out=self._peak)
            return
        peak, sum_output_j, sum_loss_j = self._peak, self._sum_output_j, self._sum_loss_j
        for i, output in enumerate(output_w):
            sum_output_j[i] += output * duration_s
            sum_loss_j[i] += loss_w[i] * duration_s
            loading = output / rated_w[i]
            if loading > peak[i]:
                peak[i] = loading

    def take(self) -> tuple[list[float], list[float]]:
        """Mean output and loss of each element since this was last asked, in W."""
        span_s, elements = self._span_s, len(self.trips)
        if span_s <= 0:
            raise SimulationError("chain: no time has passed since the last means")
        output_j, loss_j = np.array(self._sum_output_j), np.array(self._sum_loss_j)
        self._loss_j = self._loss_j + loss_j
        self._sum_output_j, self._sum_loss_j, self._span_s = self._zeros(elements), self._zeros(elements), 0.0
        return (output_j / span_s).tolist(), (loss_j / span_s).tolist()

    def totals(self, names: list[str], kinds: list[str]) -> tuple[ElementTotals, ...]:
        """Each element since the start."""
        loss_j = (self._loss_j + np.array(self._sum_loss_j)).tolist()
        peaks = [float(peak) for peak in self._peak]
        return tuple(map(ElementTotals, names, kinds, loss_j, peaks, self.trips))
