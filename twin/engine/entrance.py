"""How sessions enter the factory: at their own times, or one for each that ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from twin.engine.clock import Clock
from twin.engine.site_runtime import SiteRuntime
from twin.errors import InputError
from twin.rng import stream
from twin.schema.scenario import Scenario
from twin.schema.workload import ClosedLoopArrivals
from twin.workload import Session


class Entrance:
    """Hands sessions to the sites, drawn by their GPUs. In a closed loop a number of sessions begin at once, and each that ends
    lets the next one in, as a benchmark's client does; else a session enters when it arrives."""

    def __init__(self, scenario: Scenario, clock: Clock, sites: Sequence[SiteRuntime], source: Iterator[Session]):
        self._scenario = scenario
        self._clock = clock
        self._runners = [site.runner for site in sites]
        self._source = self._checked(source)
        self._site_draws = stream(scenario.seed, "engine.site_of_session")
        gpus = np.array([sum(pool.real_gpus for pool in site.pools) for site in sites], float)
        self._site_shares = np.cumsum(gpus / gpus.sum())
        arrivals = scenario.workload.arrivals
        self._in_flight = 0
        if isinstance(arrivals, ClosedLoopArrivals):
            self._in_flight = arrivals.concurrency // scenario.represent
            for runner in self._runners:
                runner.on_session_end = self._let_in

    def begin(self) -> None:
        """Ask for the first sessions."""
        if self._in_flight:
            for _ in range(self._in_flight):
                self._enter()
        else:
            self._expect()

    def _checked(self, source: Iterator[Session]) -> Iterator[Session]:
        """The first session now, so that a workload without any is an error before anything runs; then the others."""
        first = next(source, None)
        if first is None:
            raise InputError(
                f"scenario {self._scenario.name}: no session arrives before the horizon of {self._scenario.horizon:g} s"
            )
        return chain([first], source)

    def _expect(self) -> None:
        session = next(self._source, None)
        if session is not None and session.arrival_s < self._scenario.horizon:
            self._runner().expect(session, self._expect)

    def _let_in(self) -> None:
        # Not at once: the session that ends is still being booked.
        self._clock.at(self._clock.now_s, partial(self._enter))

    def _enter(self, _: Any = None) -> None:
        session = next(self._source, None)
        if session is not None:
            session.arrival_s = self._clock.now_s
            self._runner().expect(session, lambda: None)

    def _runner(self) -> Any:
        """That of the site which the next session enters."""
        runners = self._runners
        if len(runners) == 1:
            return runners[0]
        place = int(np.searchsorted(self._site_shares, self._site_draws.random(), side="right"))
        return runners[min(place, len(runners) - 1)]
