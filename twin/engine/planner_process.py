"""Shows a site's planner how loaded prefill and decode are, and carries its moves out: drain, restart, rejoin."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

from twin.engine.clock import Clock
from twin.engine.records import SiteRecorder
from twin.engine.site_runtime import PoolRuntime, SiteRuntime
from twin.engine.station import Station
from twin.schema.serving import Planner
from twin.serving import Move, Split, SplitPlanner, Worker, decode_load, prefill_load


class PlannerProcess:
    """The planner of one site, with one instance on its way at a time.

    The instance with the fewest requests gets no more of them, and those that only wait there go to others. Once it is empty, its
    prompts' KV fetched too, it is down for the time that a restart takes, and then it serves in the other pool as the instances
    there do: with their limits, their clock lock and their cap. It counts for its old pool until then, and keeps its name.
    `moves` counts those that are complete.
    """

    def __init__(self, clock: Clock, site: SiteRuntime, recorder: SiteRecorder, planner: Planner, tpot_s: float | None):
        self._clock = clock
        self._site = site
        self._recorder = recorder
        self._settings = planner
        self._tpot_s = tpot_s
        self._planner = SplitPlanner(planner.ratio, planner.patience)
        by_role = {pool.stations[0].worker.role: pool for pool in site.pools}
        self._prefill, self._decode = by_role["prefill"], by_role["decode"]
        self._pools = {pool.name: pool for pool in (self._prefill, self._decode)}
        self._on_the_way: Station | None = None
        self._target = self._prefill
        self._busy_s: dict[Worker, float] = {}
        self._looks = 0
        self._moves_begun = 0
        self.moves = 0

    def begin(self) -> None:
        """Ask for the next look; the first at the start of the run."""
        self._looks += 1
        self._clock.at(self._looks * self._settings.step, self._look)

    def _look(self, event: Any) -> None:
        now_s: float = event.value
        if self._serving(self._prefill) and self._serving(self._decode):
            move = self._planner.look(self._seen(now_s))
            if move is not None:
                self._start(move, now_s)
        self.begin()

    def call_off(self, station: Station) -> None:
        """An instance is down: if it is the one on its way, it stays in its pool."""
        if station is self._on_the_way:
            self._on_the_way = None
            self._moves_begun += 1
            self._record(self._clock.now_s, "planner_called_off", station, {"pool": station.pool})

    def _seen(self, now_s: float) -> Split:
        """Both pools as they are now, without an instance that is on its way."""
        # An instance that is down has no share in either load.
        before, self._busy_s = self._busy_s, {s.worker: s.worker.progress(now_s).busy_s for s in self._site.stations}
        reading = self._serving(self._prefill)
        busy_s = sum(self._busy_s[worker] - before.get(worker, 0.0) for worker in reading)
        return Split(
            prefill_load(self._prefill.name, reading, busy_s, self._settings.step),
            decode_load(self._decode.name, self._serving(self._decode), self._tpot_s),
            None if self._on_the_way is None else self._target.name,
        )

    def _serving(self, pool: PoolRuntime) -> list[Worker]:
        return [station.worker for station in pool.stations if station.up and station is not self._on_the_way]

    def _start(self, move: Move, now_s: float) -> None:
        """Take the instance that is soonest empty, as far as can be known, out of service."""
        up = [station for station in self._pools[move.source].stations if station.up]
        station = min(up, key=lambda s: len(s.worker.held()) + s.worker.exported)
        self._on_the_way = station
        self._moves_begun += 1
        self._record(now_s, "planner_drain", station, {"from": move.source, "to": move.target, "reason": move.reason})
        self._target = self._pools[move.target]
        self._site.dispatcher.withdraw(station, self._restart)

    def _restart(self, station: Station) -> None:
        now_s = self._clock.now_s
        self._record(now_s, "planner_restart", station, {"restart_s": self._settings.restart})
        self._clock.at(now_s + self._settings.restart, partial(self._join, self._moves_begun))

    def _join(self, move: int, event: Any) -> None:
        if move != self._moves_begun:
            return  # called off
        now_s: float = event.value
        station, target = self._on_the_way, self._target
        assert station is not None
        peer, worker = target.stations[0], station.worker
        tier, power = peer.worker.memory.lower, peer.worker.stepper
        self._pools[station.pool].hand_over(station, target, self._site.represent, now_s)
        worker.become(replace(peer.worker.spec, name=worker.name), None if tier is None else tier.anew(), now_s)
        worker.set_power(now_s, clock_lock=power.clock_lock, cap_w=power.cap_w)
        self._site.network.lay_out_as(station.endpoint, peer.endpoint)
        self._site.outages.joined(station)
        self._site.dispatcher.rejoin(station)
        self._on_the_way = None
        self.moves += 1
        pools = {pool.name: len(pool.stations) * self._site.represent for pool in self._pools.values()}
        self._record(now_s, "planner_join", station, {"pool": target.name, "instances": pools})

    def _record(self, now_s: float, kind: str, station: Station, detail: dict[str, Any]) -> None:
        self._recorder.event(now_s, kind, station.worker.name, json.dumps(detail))
