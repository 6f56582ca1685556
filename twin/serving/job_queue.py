"""Which jobs get the GPUs that serving leaves, and how many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twin.serving.gpu_floor import GpuFloor
from twin.serving.job import Job


class JobQueue:
    """The jobs of a site, by priority, then arrival, then place in the list.

    A job that waits takes as many GPUs as it may as soon as its least number is free; one that does not fit yet holds nobody
    back. An elastic job looks again at each checkpoint: it gives up what it has above its least for jobs of its own or a higher
    priority that wait and would fit, and takes what else is free. While the queue is held, nobody begins or grows but those that
    `resumed` names.
    """

    def __init__(self, jobs: Sequence[Job], floor: GpuFloor):
        self.floor = floor
        self.jobs = tuple(jobs)
        self.held = False
        self.resumed: set[str] = set()
        self._order = sorted(jobs, key=lambda job: (-job.spec.priority, job.spec.arrival_s))

    def begin(self, now_s: float) -> Iterator[tuple[Job, int]]:
        """The jobs that begin now and their GPUs, which are theirs from then on."""
        for job in self._waiting(now_s):
            spec = job.spec
            gpus = min(spec.max_gpus, self.floor.room(spec))
            if gpus >= spec.min_gpus:
                self.floor.take(spec, gpus)
                self.resumed.discard(spec.name)
                yield job, gpus

    def size(self, job: Job, now_s: float) -> int:
        """How many GPUs a job that holds some should go on with."""
        spec = job.spec
        least, unit = spec.min_gpus, spec.unit_gpus
        if least == spec.max_gpus:
            return job.gpus
        left = self.floor.room(spec, beside=spec.name) - least
        for other in self._waiting(now_s):
            theirs = other.spec
            if theirs.priority >= spec.priority and theirs.min_gpus <= left and not set(theirs.racks).isdisjoint(spec.racks):
                left -= theirs.min_gpus
        size = min(spec.max_gpus, least + left // unit * unit)
        return min(size, job.gpus) if self.held else size

    def _waiting(self, now_s: float) -> Iterator[Job]:
        for job in self._order:
            due = job.status == "waiting" and job.spec.arrival_s <= now_s
            if due and (not self.held or job.spec.name in self.resumed):
                yield job
