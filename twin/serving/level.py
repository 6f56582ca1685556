"""A count that goes up and down: its time integral, so that a mean is exact, and the most it has been."""

from __future__ import annotations


class Level:
    """Starts at 0 at time 0. Times are given in order."""

    __slots__ = ("_integral", "_since_s", "most", "now")

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self._since_s = 0.0
        self._integral = 0.0

    def change(self, by: int, at_s: float) -> None:
        """Add `by` from `at_s` on."""
        self._integral += self.now * (at_s - self._since_s)
        self._since_s = at_s
        self.now += by
        if self.now > self.most:
            self.most = self.now

    def integral(self, to_s: float) -> float:
        """Count x seconds from 0 to `to_s`, which is not before the last change."""
        return self._integral + self.now * (to_s - self._since_s)
