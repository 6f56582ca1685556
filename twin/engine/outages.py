"""Hardware under serving fails and is repaired: instances and jobs stop, go on elsewhere, start again, or run slower."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from twin.engine.clock import Clock
from twin.engine.hardware import Hardware, Mask
from twin.engine.records import SiteRecorder
from twin.engine.site_runtime import Live, SiteRuntime
from twin.engine.station import Station
from twin.errors import SimulationError
from twin.facility.component import Component
from twin.performance import StepCost

#: The step cost of an instance of a pool with shares of its scale-up and scale-out links.
CostAt = Callable[[str, float, float], StepCost]


@dataclass(frozen=True, slots=True)
class _Links:
    """Shares of an instance's NVLink and of its NICs that work."""

    scale_up_frac: float = 1.0
    scale_out_frac: float = 1.0


class Outages:
    """The hardware of one site and the instances and jobs on it.

    An instance works with all of its GPUs or not at all. It is down while one of them, the last NVSwitch of its domain or the
    last NIC of one of its trays has failed, or no up-link leads to it; it starts again `restart_s` after the last repair, with
    empty memory. With some NVSwitches or NICs left it goes on slower, from its next step on.
    Callers have stepped the plant to now before a verb.
    """

    def __init__(
        self, clock: Clock, site: SiteRuntime, recorder: SiteRecorder, hardware: Hardware, restart_s: float, cost_at: CostAt
    ):
        self._clock = clock
        self._site = site
        self._recorder = recorder
        self._hardware = hardware
        self._restart_s = restart_s
        self._cost_at = cost_at
        #: Called with each station that goes down; set before the run.
        self.on_down: Callable[[Station], None] | None = None
        self._links: dict[Station, _Links] = {}
        self._restarting: dict[Station, float] = {}
        self._on_rack: dict[int, list[Station]] = {}
        for station in site.stations:
            for rack, _ in station.racks:
                self._on_rack.setdefault(rack, []).append(station)
        #: GPUs of each rack that no instance has and that do not work, and their seconds up to `_spare_s`.
        self._spare_lost = np.zeros(len(site.loads.gpus))
        self._spare_lost_s = np.zeros(len(site.loads.gpus))
        self._spare_s = 0.0
        #: Instances that went down, and that came back.
        self.downs = self.ups = 0

    def components(self) -> tuple[Component, ...]:
        """Everything here that can fail: racks, trays, GPUs by tray, NVSwitches, NICs by tray, leaves and their up-links."""
        return self._hardware.components()

    def fail(self, key: str, units: int = 1) -> None:
        """Units of a component fail now. Raises SimulationError for an unknown key and for more units than there are."""
        self._changed(self._hardware.fail(key, units), key)

    def repair(self, key: str, units: int = 1) -> None:
        """Units of a component are repaired now. Raises SimulationError for an unknown key and for more units than failed."""
        self._changed(self._hardware.repair(key, units), key)

    def racks(self, now_s: float, up: Mask) -> None:
        """Which racks have power and are cool enough, of all the plant's racks, those with GPUs first: shape (racks,)."""
        dark = ~up[: len(self._hardware.racks)]
        if np.array_equal(dark, self._hardware.dark):
            return
        changed = self._hardware.set_dark(dark)
        for rack in changed:
            name = self._hardware.racks[rack].name
            self._recorder.event(now_s, "rack_down" if dark[rack] else "rack_up", name, "")
        self._changed(changed, "rack down")

    def joined(self, station: Station) -> None:
        """A planner has given a station the spec of another: its own links set what it costs."""
        if self._links:
            self._price(station, self._links.get(station, _Links()))

    def spare_lost_gpu_s(self, now_s: float) -> np.ndarray:
        """GPU-seconds by rack for which GPUs that no instance has did not work, up to `now_s`."""
        return self._spare_lost_s + self._spare_lost * (now_s - self._spare_s)

    # --- what follows ------------------------------------------------------------------------------------------------

    def _changed(self, racks: Iterable[int], cause: str) -> None:
        """The hardware of some racks has changed."""
        site, now_s = self._site, self._clock.now_s
        if site.represent > 1:
            raise SimulationError(
                f"site {site.name}: {cause} fails or comes back at {now_s:g} s, and an instance that stands for "
                f"{site.represent} cannot fail in parts: set represent to 1"
            )
        racks = list(racks)
        live = {rack: self._hardware.live(rack) for rack in racks}
        self._set_loads(live, now_s)
        for block in sorted({self._block(rack, tray) for rack in racks for tray in range(self._hardware.racks[rack].trays)}):
            if frac := self._hardware.uplinks_frac(block):
                site.network.set_uplinks(block, frac)
        touched = {station: None for rack in racks for station in self._on_rack.get(rack, ())}
        states = [(station, *self._look_at(station)) for station in touched]
        lost = [station for station, works, _ in states if not works and station.up]
        if lost:
            self._go_down(lost, cause)
        for station, works, links in states:
            if works:
                self._set_links(station, links)
            self._stand_by(station)
            if not works:
                self._restarting.pop(station, None)
            elif not station.up and station not in self._restarting:
                self._restart(station)
        if site.jobs is not None:
            site.jobs.set_live({rack: works.tolist() for rack, works in live.items()})

    def _block(self, rack: int, tray: int) -> int:
        plan = self._hardware.plan
        return plan.block_of(plan.leaf_of(self._hardware.racks[rack].first_node + tray, 0))

    def _look_at(self, station: Station) -> tuple[bool, _Links]:
        """Whether a station's hardware lets it work, and what of its links does."""
        hardware = self._hardware
        works, up_frac, out = True, 1.0, 0.0
        for rack, first, gpus in station.slots:
            works = works and bool(hardware.live(rack)[first : first + gpus].all())
            up_frac = min(up_frac, hardware.scale_up_frac(rack, first, gpus))
            share, reached = hardware.scale_out_frac(rack, first, gpus)
            works = works and reached
            out += share * gpus
        # divided once, so that whole links give 1 to the bit
        return works and up_frac > 0.0, _Links(up_frac, out / station.worker.spec.gpus)

    def _go_down(self, stations: list[Station], cause: str) -> None:
        now_s = self._clock.now_s
        held = {station: len(station.worker.held()) for station in stations}
        before = {station: _broken(station) for station in stations}
        self._site.dispatcher.fail(stations)
        for station in stations:
            self.downs += 1
            output, prompt = (now - then for now, then in zip(_broken(station), before[station], strict=True))
            detail = {"cause": cause, "calls": held[station], "broken_output_tokens": output, "broken_prompt_tokens": prompt}
            self._record(now_s, "instance_down", station, detail)
            if self.on_down is not None:
                self.on_down(station)

    def _restart(self, station: Station) -> None:
        now_s = self._clock.now_s
        up_s = self._restarting[station] = now_s + self._restart_s
        self._record(now_s, "instance_restarting", station, {"restart_s": self._restart_s})
        self._clock.at(up_s, partial(self._come_up, station))

    def _come_up(self, station: Station, event: Any) -> None:
        if self._restarting.get(station) != event.value:
            return  # its hardware has failed again meanwhile
        del self._restarting[station]
        self.ups += 1
        station.come_up(event.value)
        self._record(event.value, "instance_up", station, {"pool": station.pool})
        self._site.dispatcher.rejoin(station)

    def _set_links(self, station: Station, links: _Links) -> None:
        before = self._links.get(station, _Links())
        if links == before:
            return
        self._links[station] = links
        self._site.network.set_ports(station.endpoint, links.scale_up_frac, links.scale_out_frac)
        self._price(station, links)
        kind = "instance_restored" if links == _Links() else "instance_degraded"
        detail = {"scale_up_frac": round(links.scale_up_frac, 6), "scale_out_frac": round(links.scale_out_frac, 6)}
        self._record(self._clock.now_s, kind, station, detail)

    def _price(self, station: Station, links: _Links) -> None:
        """Step at the cost that the links that are left give."""
        spec = station.worker.spec
        cost = self._cost_at(station.pool, links.scale_up_frac, links.scale_out_frac)
        if cost != spec.cost:
            station.worker.reprice(replace(spec, cost=cost), self._clock.now_s)
            station.touched()

    # --- power -------------------------------------------------------------------------------------------------------

    def _stand_by(self, station: Station) -> None:
        """A station that is down draws what its GPUs do that work."""
        if not station.up:
            worker = station.worker
            live = sum(int(self._hardware.live(rack)[first : first + gpus].sum()) for rack, first, gpus in station.slots)
            worker.meter.stand_by(live * worker.spec.power.idle_w, self._clock.now_s)

    def _set_loads(self, live: dict[int, Mask], now_s: float) -> None:
        """Tell the racks' loads which GPUs and trays draw power."""
        site, loads = self._site, self._site.loads
        self._spare_lost_s, self._spare_s = self.spare_lost_gpu_s(now_s), now_s
        now = loads.live or Live.all_of(loads)
        place = {station: column for column, station in enumerate(site.stations)}
        for rack, works in live.items():
            of_instances = 0
            for station in self._on_rack.get(rack, ()):
                mine = sum(int(works[first : first + gpus].sum()) for at, first, gpus in station.slots if at == rack)
                now.gpus_on[rack, place[station]] = mine
                of_instances += mine
            now.gpus[rack] = works.sum()
            now.trays_frac[rack] = self._hardware.trays_frac(rack)
            now.up[rack] = self._hardware.rack_works(rack)
            spare = loads.gpus[rack] - loads.gpus_on[rack].sum()
            self._spare_lost[rack] = spare - (now.gpus[rack] - of_instances)
        whole = bool((now.gpus == loads.gpus).all() and (now.trays_frac == 1.0).all())
        loads.live = None if whole else now

    def _record(self, now_s: float, kind: str, station: Station, detail: dict[str, Any]) -> None:
        self._recorder.event(now_s, kind, station.worker.name, json.dumps(detail))


def _broken(station: Station) -> tuple[float, float]:
    """Output and prompt tokens of its steps that broke off."""
    meter = station.worker.meter
    return meter.broken_output_tokens, meter.broken_prompt_tokens
