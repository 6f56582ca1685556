"""Rows of a site's racks: power as means between record times, temperature and clock as they are then."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twin.errors import SimulationError
from twin.facility import PlantStep
from twin.recording import TableWriter
from twin.recording.writer import Coded

Floats = NDArray[np.float64]


class RackRecorder:
    """Writes a row for each rack every `interval_s`, and one at the horizon, as arrays: there may be thousands at a time.

    `groups` are (name, racks) in the plant's order, those without GPUs last; `with_gpus` racks have some. No step is made for the
    sake of these rows: one ends with the first step at or after its time.
    """

    def __init__(
        self,
        site: str,
        groups: Sequence[tuple[str, int]],
        with_gpus: int,
        table: TableWriter,
        interval_s: float,
        horizon_s: float,
    ):
        names = tuple(f"{name}/{i}" for name, count in groups for i in range(count))
        racks = len(names)
        self._with_gpus = with_gpus
        self._table = table
        self._interval_s = interval_s
        self._horizon_s = horizon_s
        self._site = Coded(np.zeros(racks, np.int32), (site,))
        self._rack = Coded(np.arange(racks, dtype=np.int32), names)
        self._it_j, self._gpu_j = np.zeros(racks), np.zeros(racks)
        self._span_s = 0.0
        self._due_s = interval_s

    def add(self, step: PlantStep, rack_it_w: Floats, rack_gpu_w: Floats, up: NDArray[np.bool_]) -> None:
        """Take a step with the racks' mean powers (racks,) and (racks with GPUs,); `up` (racks,) is what it left running."""
        if len(rack_it_w) != len(self._it_j):
            raise SimulationError(f"{len(self._it_j)} racks are recorded, not {len(rack_it_w)}")
        self._it_j += rack_it_w * step.duration_s
        self._gpu_j[: self._with_gpus] += rack_gpu_w * step.duration_s
        self._span_s += step.duration_s
        if step.end_s >= min(self._due_s, self._horizon_s) - 1e-9:
            self._write(step, up)
            self._due_s = self._interval_s * (math.floor(step.end_s / self._interval_s + 1e-9) + 1)

    def _write(self, step: PlantStep, up: NDArray[np.bool_]) -> None:
        die_c = np.full(len(self._it_j), np.nan)
        die_c[: self._with_gpus] = step.rack_die_c[: self._with_gpus]
        self._table.append_block(
            (
                np.full(len(self._it_j), step.end_s),
                self._site,
                self._rack,
                self._it_j / self._span_s,
                self._gpu_j / self._span_s,
                die_c,
                step.rack_clock_limit,
                up.copy(),
            )
        )
        self._it_j, self._gpu_j = np.zeros_like(self._it_j), np.zeros_like(self._gpu_j)
        self._span_s = 0.0
