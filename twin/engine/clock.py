"""Callbacks at absolute times on a SimPy environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy
from simpy.events import Timeout

Callback = Callable[[Any], None]


class Clock:
    """The one simulated time of a run. Ties go in the order in which they were asked for, which is SimPy's rule."""

    def __init__(self) -> None:
        self.environment = simpy.Environment()

    @property
    def now_s(self) -> float:
        """Seconds since the start of the run."""
        return self.environment.now

    def at(self, time_s: float, callback: Callback) -> None:
        """Call `callback(event)` at `time_s`, or now if that has passed by rounding.

        `event.value` is `time_s` itself: the environment's own time may differ from it in the last bit.
        """
        environment = self.environment
        delay_s = time_s - environment.now
        Timeout(environment, delay_s if delay_s > 0.0 else 0.0, time_s).callbacks.append(callback)

    def run(self, until_s: float) -> None:
        """Play everything that happens before `until_s`."""
        self.environment.run(until=until_s)
