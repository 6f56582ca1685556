"""The GPUs that serving leaves on the racks of a site, and which job holds which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from twin.errors import SimulationError
from twin.serving.job_spec import JobSpec


@dataclass(frozen=True, slots=True)
class SpareDomain:
    """A scale-up domain of `size` GPUs of which the last `gpus`, from GPU `first_gpu` of its rack on, are no instance's, in rack
    number `rack` of group `group`."""

    rack: int
    group: str
    size: int
    gpus: int
    first_gpu: int = 0


class GpuFloor:
    """First fit in the order of the racks. A unit of a job (an instance, or a GPU of a training job) lies inside one scale-up
    domain, or fills whole ones."""

    def __init__(self, domains: Iterable[SpareDomain]):
        self._domains = tuple(domains)
        self._free = [domain.gpus for domain in self._domains]
        self._held: dict[str, list[tuple[int, int]]] = {}
        #: By domain and GPU: whose it is, and whether it works.
        self._owners: list[list[str | None]] = [[None] * domain.gpus for domain in self._domains]
        self._live = [[True] * domain.gpus for domain in self._domains]

    @property
    def spare(self) -> int:
        """GPUs that no instance has, held by jobs or not."""
        return sum(domain.gpus for domain in self._domains)

    def room(self, spec: JobSpec, beside: str | None = None) -> int:
        """Most GPUs that a job could take now, in its units; with what job `beside` holds counted as free."""
        free = list(self._free)
        for domain, gpus in self._held.get(beside or "", ()):
            free[domain] += gpus
        return sum(gpus for _, gpus in self._offers(spec, free))

    def take(self, spec: JobSpec, gpus: int) -> None:
        """Give a job `gpus` GPUs. Raises SimulationError where there is no room for them."""
        taken: list[tuple[int, int]] = []
        left = gpus
        for domain, offer in self._offers(spec, self._free):
            if not left:
                break
            taken.append((domain, min(left, offer)))
            left -= taken[-1][1]
        if left or spec.name in self._held:
            raise SimulationError(f"job {spec.name} cannot have {gpus} GPUs: {left} of them are not there")
        for domain, count in taken:
            self._free[domain] -= count
            owners = self._owners[domain]
            places = (place for place, live in enumerate(self._live[domain]) if live and owners[place] is None)
            for place in list(islice(places, count)):
                owners[place] = spec.name
        self._held[spec.name] = taken

    def give_back(self, name: str) -> None:
        """A job gives back what it holds."""
        for domain, _ in self._held.pop(name):
            owners, live = self._owners[domain], self._live[domain]
            for place, owner in enumerate(owners):
                if owner == name:
                    owners[place] = None
                    self._free[domain] += live[place]

    def set_live(self, rack: int, live: Sequence[bool]) -> list[str]:
        """Which GPUs of a rack work from now on; the jobs that hold some that do not, and must give back what they hold."""
        hit: dict[str, None] = {}
        for number, domain in enumerate(self._domains):
            if domain.rack != rack:
                continue
            before, owners = self._live[number], self._owners[number]
            now = list(live[domain.first_gpu : domain.first_gpu + domain.gpus])
            for place, owner in enumerate(owners):
                if owner is None:
                    self._free[number] += now[place] - before[place]
                elif not now[place]:
                    hit[owner] = None
            self._live[number] = now
        return list(hit)

    def racks(self, name: str) -> list[tuple[int, int]]:
        """(rack, GPUs) that a job holds; empty for one that holds none."""
        found: dict[int, int] = {}
        for domain, count in self._held.get(name, ()):
            rack = self._domains[domain].rack
            found[rack] = found.get(rack, 0) + count
        return list(found.items())

    def _offers(self, spec: JobSpec, free: list[int]) -> Iterator[tuple[int, int]]:
        """(domain, GPUs) that may be taken, in order."""
        unit = spec.unit_gpus
        usable = [i for i, domain in enumerate(self._domains) if domain.group in spec.racks]
        if usable and unit > self._domains[usable[0]].size:
            size = self._domains[usable[0]].size
            whole = [i for i in usable if free[i] == size]
            per_unit = unit // size
            yield from ((i, size) for i in whole[: len(whole) // per_unit * per_unit])
            return
        yield from ((i, free[i] // unit * unit) for i in usable if free[i] >= unit)
