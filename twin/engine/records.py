"""Rows of a site's time series: power and heat as means between record times, workers and fabric more coarsely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twin.engine.rack_shares import Shares
from twin.engine.station import Station
from twin.errors import SimulationError
from twin.fabric import Network
from twin.facility import Chain, PlantStep
from twin.recording import RunDirectory
from twin.recording.writer import Coded
from twin.serving import Progress

NO_SHARES = Shares(*(0.0 for _ in Shares._fields))


@dataclass(slots=True)
class _Sums:
    span_s: float = 0.0
    utility_j: float = 0.0
    it_j: float = 0.0
    cooling_j: float = 0.0
    conversion_loss_j: float = 0.0
    shelf_loss_j: float = 0.0
    battery_j: float = 0.0
    generator_j: float = 0.0
    other_j: float = 0.0
    gpu_j: float = 0.0
    tokens: float = 0.0
    job_j: float = 0.0
    job_gpu_s: float = 0.0
    generators_on: int = 0
    target_w: float | None = None
    shares_j: Shares = NO_SHARES


class SiteRecorder:
    """Writes the rows of one site as the run goes; a plant step that is not at a record time is averaged into the next row."""

    def __init__(self, site: str, output: RunDirectory, contract_w: float):
        self._site = site
        self._power = output.writer("power")
        self._thermal = output.writer("thermal")
        self._workers = output.writer("workers")
        self._fabric = output.writer("fabric")
        self._events = output.writer("events")
        self._elements = output.writer("elements")
        self._contract_w = contract_w
        self._step: PlantStep | None = None
        self._loops: tuple[Coded, Coded] | None = None
        self._sums = _Sums()
        self._last_progress: dict[str, tuple[Progress, int]] = {}
        self._last_fabric: dict[str, tuple[float, int, float]] = {}
        self._last_worker_s = 0.0
        self.shelf_loss_j = 0.0
        self.battery_loss_j = 0.0
        self.gpu_j = 0.0
        self.shares_j = NO_SHARES

    def event(self, time_s: float, kind: str, subject: str, detail: str) -> None:
        """Something happened."""
        self._events.append((time_s, self._site, kind, subject, detail))

    def add(
        self,
        step: PlantStep,
        gpu_w: float,
        tokens: float,
        target_w: float | None,
        jobs: tuple[float, float],
        shares: Shares,
    ) -> None:
        """Take a plant step into the next row; `jobs` are the GPUs that jobs held and the watts these drew, `shares` the watts of
        the IT equipment by where they go."""
        sums = self._sums
        span_s = step.duration_s
        if sums.span_s and (sums.target_w is None) != (target_w is None):
            raise SimulationError(f"site {self._site}: a record at {step.end_s:g} s straddles the start or end of a load target")
        sums.span_s += span_s
        sums.utility_j += step.utility_w * span_s
        sums.it_j += step.it_w * span_s
        sums.cooling_j += step.cooling_w * span_s
        sums.conversion_loss_j += step.conversion_loss_w * span_s
        sums.shelf_loss_j += step.shelf_loss_w * span_s
        sums.battery_j += step.battery_w * span_s
        sums.generator_j += step.generator_w * span_s
        sums.other_j += step.other_w * span_s
        sums.generators_on = max(sums.generators_on, step.generators_on)
        sums.gpu_j += gpu_w * span_s
        sums.tokens += tokens
        sums.job_gpu_s += jobs[0] * span_s
        sums.job_j += jobs[1] * span_s
        sums.shares_j = Shares(*[total + watts * span_s for total, watts in zip(sums.shares_j, shares, strict=True)])
        if target_w is not None:
            sums.target_w = target_w if sums.target_w is None else min(sums.target_w, target_w)
        self.shelf_loss_j += step.shelf_loss_w * span_s
        self.battery_loss_j += step.battery_loss_w * span_s
        self.gpu_j += gpu_w * span_s
        self._step = step

    def write_power(self) -> None:
        """A row of power and one of each loop, over the plant steps since the last."""
        sums, step = self._sums, self._step
        assert step is not None
        s = sums.span_s
        self.shares_j = Shares(*[total + more for total, more in zip(self.shares_j, sums.shares_j, strict=True)])
        self._power.append(
            (
                step.end_s,
                self._site,
                sums.utility_j / s,
                sums.it_j / s,
                sums.cooling_j / s,
                sums.conversion_loss_j / s,
                sums.battery_j / s,
                sums.generator_j / s,
                self._contract_w,
                sums.target_w,
                step.battery_soc_frac,
                sums.other_j / s,
                sums.shelf_loss_j / s,
                sums.gpu_j / s,
                (sums.it_j - sums.gpu_j) / s,
                sums.tokens / s,
                sums.job_j / s,
                sums.job_gpu_s / s,
                step.ups_soc_frac,
                sums.generators_on,
                *[joules / s for joules in sums.shares_j],
            )
        )
        if self._loops is None:
            names = step.cooling_state.cooling.names
            self._loops = (
                Coded(np.zeros(len(names), np.int32), (self._site,)),
                Coded(np.arange(len(names), dtype=np.int32), names),
            )
        site, loops = self._loops
        self._thermal.append_block((np.full(len(loops.codes), step.end_s), site, loops, *step.loop_columns))
        self._sums = _Sums()

    def write_elements(self, time_s: float, chain: Chain) -> None:
        """A row for each element of the electrical chain, over the time since the last such rows."""
        for e in chain.take_means():
            row = (time_s, self._site, e.name, e.kind, e.output_w, e.loss_w, e.loading_frac, e.headroom_w, e.state)
            self._elements.append(row)

    def write_workers(self, time_s: float, stations: list[Station], network: Network) -> None:
        """A row for each instance and kind of link, over the time since the last such rows."""
        span_s = time_s - self._last_worker_s
        self._last_worker_s = time_s
        for station in stations:
            worker = station.worker
            now = station.last
            last, preemptions = self._last_progress.get(worker.name, (Progress(0.0, 0.0, 0.0, 0.0, 0.0), 0))
            self._last_progress[worker.name] = (now, worker.preemptions)
            busy_s = now.busy_s - last.busy_s
            decode_batch = (now.decode_batch_s - last.decode_batch_s) / busy_s if busy_s > 0 else 0.0
            self._workers.append(
                (
                    time_s,
                    self._site,
                    worker.name,
                    station.pool,
                    worker.role,
                    busy_s / span_s,
                    decode_batch,
                    len(worker.batch) + len(worker.prefilling),
                    len(worker.queue.waiting),
                    worker.memory.pinned_tokens / worker.spec.kv_capacity_tokens,
                    worker.stepper.clock,
                    worker.stepper.cap_w,
                    (now.energy_j - last.energy_j) / span_s,
                    (now.output_tokens - last.output_tokens) / span_s,
                    (now.prefill_tokens - last.prefill_tokens) / span_s,
                    worker.preemptions - preemptions,
                )
            )
        for link in network.link_classes:
            size, transfers, busy_s = self._last_fabric.get(link.name, (0.0, 0, 0.0))
            self._last_fabric[link.name] = (link.bytes, link.transfers, link.busy_s)
            moved = link.bytes - size
            self._fabric.append(
                (time_s, self._site, link.name, moved, link.transfers - transfers, (link.busy_s - busy_s) / span_s)
            )
