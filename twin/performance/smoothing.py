"""Power smoothing as GPUs expose it: a floor while they work, and limits on how fast their power rises and falls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin.errors import SimulationError

Floats = NDArray[np.float64]

#: A GPU that draws this much more than idle, relatively, is at work.
_AT_WORK = 1.0 + 1e-9


class PowerSmoothing:
    """What GPUs draw when their power is smoothed, arrays of shape (gpus,); an entry may stand for several that do alike.

    A GPU at work draws at least `floor_w`; one that has been idle for `hysteresis_s` is let go, down to what it needs. Its power
    falls no faster than `ramp_down_w_per_s`; what it draws beyond its need is burnt without any work. Upwards, work has to
    wait: its power must not rise faster than `ramp_up_w_per_s`, which `limit_w` turns into a cap. What work draws nonetheless
    (at its lowest clock a GPU can be above the cap) is drawn. A GPU without power (a need of 0 W) draws none, and is not smoothed
    as it goes off.

    `drawn_w` is what they draw now; it is what the first step needs until that is over.
    """

    def __init__(
        self, floor_w: Floats, idle_w: Floats, ramp_up_w_per_s: float, ramp_down_w_per_s: float, hysteresis_s: float = 0.0
    ):
        if not (ramp_up_w_per_s > 0 and ramp_down_w_per_s > 0 and hysteresis_s >= 0):
            raise SimulationError("power smoothing needs ramps above 0 W/s and a hysteresis of at least 0 s")
        self._floor_w, self._at_work_w = floor_w, idle_w * _AT_WORK
        self._up, self._down, self._hysteresis_s = ramp_up_w_per_s, ramp_down_w_per_s, hysteresis_s
        self.drawn_w: Floats | None = None
        self._idle_s = np.full(len(idle_w), np.inf)

    def advance(self, duration_s: float, need_w: Floats) -> Floats:
        """Mean W drawn over a step in which the work needs a constant `need_w`, at least that: exact for needs that are constant
        between steps.

        A need above what is drawn was held back by the ramp, then constant, such that its mean is `need_w`.
        """
        begin_w = need_w if self.drawn_w is None else self.drawn_w
        at_work = need_w > self._at_work_w
        held_s = np.where(at_work, duration_s, np.clip(self._hysteresis_s - self._idle_s, 0.0, duration_s))
        between_w, held_j = self._ramp(begin_w, np.maximum(need_w, self._floor_w), held_s)
        end_w, freed_j = self._ramp(between_w, need_w, duration_s - held_s)
        mean_w = (held_j + freed_j) / duration_s
        risen_w = self._up * duration_s
        late_w = need_w - begin_w
        level_w = begin_w + risen_w - np.sqrt(np.maximum(risen_w * (risen_w - 2.0 * late_w), 0.0))
        level_w = np.where(late_w > 0.5 * risen_w, np.maximum(begin_w + risen_w, need_w), level_w)
        rising = (late_w > 0.0) & (need_w > mean_w)
        off = need_w <= 0.0
        self.drawn_w = np.where(off, 0.0, np.where(rising, level_w, end_w))
        self._idle_s = np.where(off, np.inf, np.where(at_work, 0.0, self._idle_s + duration_s))
        drawn_w: Floats = np.where(off, 0.0, np.maximum(mean_w, need_w))
        return drawn_w

    def limit_w(self, duration_s: float) -> Floats:
        """The highest mean W over the next step that a rise at the allowed rate gives; asked for after the first step."""
        assert self.drawn_w is not None
        return self.drawn_w + 0.5 * self._up * duration_s

    def _ramp(self, begin_w: Floats, target_w: Floats, duration_s: Floats) -> tuple[Floats, Floats]:
        """Where power ends that moves from `begin_w` towards `target_w`, and its energy meanwhile."""
        end_w = np.clip(target_w, begin_w - self._down * duration_s, begin_w + self._up * duration_s)
        moved_w = end_w - begin_w
        moving_s = np.where(moved_w > 0.0, moved_w / self._up, -moved_w / self._down)
        return end_w, end_w * duration_s - 0.5 * moved_w * moving_s
