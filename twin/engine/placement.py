"""Where engine instances stand: which GPUs of which racks, never across a scale-up domain unless they fill whole ones."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heapreplace

from twin.catalog import Catalog
from twin.errors import InputError
from twin.schema.serving import Pool
from twin.schema.topology import Site
from twin.serving import SpareDomain


@dataclass(frozen=True, slots=True)
class Place:
    """GPUs of one real instance: the scale-up domain and node it begins on, and (rack index of the site, first GPU of it, GPUs)
    by domain."""

    domain: int
    node: int
    slots: tuple[tuple[int, int, int], ...]

    @property
    def racks(self) -> tuple[tuple[int, int], ...]:
        """(Rack index, GPUs)."""
        on_racks: dict[int, int] = {}
        for rack, _, gpus in self.slots:
            on_racks[rack] = on_racks.get(rack, 0) + gpus
        return tuple(on_racks.items())


@dataclass(slots=True)
class _Domain:
    number: int
    rack: int
    group: str
    gpus: int
    first_node: int
    first_gpu: int
    used: int = 0


def place(site: Site, pools: list[Pool], catalog: Catalog) -> dict[str, list[Place]]:
    """Places of every real instance, by pool. Raises InputError where the GPUs of a rack group do not suffice.

    Large instances first, each on the domain of its group with most GPUs free, so that roles mix within racks as operators
    mix them; the first of equals.
    """
    return _filled(site, pools, catalog)[0]


def spare_domains(site: Site, pools: list[Pool], catalog: Catalog) -> list[SpareDomain]:
    """The scale-up domains of the site, in the order of its racks, with the GPUs that `place` leaves in each."""
    domains = _filled(site, pools, catalog)[1]
    return [SpareDomain(d.rack, d.group, d.gpus, d.gpus - d.used, d.first_gpu + d.used) for d in domains]


def _filled(site: Site, pools: list[Pool], catalog: Catalog) -> tuple[dict[str, list[Place]], list[_Domain]]:
    domains: dict[str, list[_Domain]] = {}
    gpus_per_node: dict[int, int] = {}
    rack_index = number = node = 0
    for group in site.racks:
        part = catalog.part("rack", group.rack)
        gpus, size, nodes = (int(part.number(key)) for key in ("gpus", "scale_up_domain_gpus", "nodes"))
        domains[group.name] = []
        for _ in range(group.count):
            for first_gpu in range(0, gpus, size):
                gpus_per_node[number] = gpus // nodes
                at_node = node + first_gpu * nodes // gpus
                domains[group.name].append(_Domain(number, rack_index, group.name, size, at_node, first_gpu))
                number += 1
            rack_index += 1
            node += nodes
    places: dict[str, list[Place]] = {pool.name: [] for pool in pools}
    for pool in sorted(pools, key=lambda p: -p.parallelism.gpus):
        candidates = [domain for name in pool.racks for domain in domains[name]]
        emptiest = [(domain.used - domain.gpus, domain.number, domain) for domain in candidates]
        heapify(emptiest)
        for _ in range(pool.instances):
            taken = _take(candidates, emptiest, pool)
            first, gpus = taken[0]
            at_node = first.first_node + (first.used - gpus) // gpus_per_node[first.number]
            slots = tuple((domain.rack, domain.first_gpu + domain.used - count, count) for domain, count in taken)
            places[pool.name].append(Place(first.number, at_node, slots))
    return places, [domain for of_group in domains.values() for domain in of_group]


def _take(domains: list[_Domain], emptiest: list[tuple[int, int, _Domain]], pool: Pool) -> list[tuple[_Domain, int]]:
    """Room for one more instance. `emptiest` is a heap of the same domains by what is left in them: looking through thousands of
    domains for each of thousands of instances takes minutes."""
    need = pool.parallelism.gpus
    if need <= domains[0].gpus:
        used, number, best = emptiest[0]
        chosen = [(best, need)] if -used >= need else []
        if chosen:
            heapreplace(emptiest, (used + need, number, best))
    else:
        free = [d for d in domains if not d.used]
        whole = -(-need // domains[0].gpus)
        chosen = [(d, d.gpus) for d in free[:whole]] if len(free) >= whole and need == whole * domains[0].gpus else []
    if not chosen:
        raise InputError(f"pool {pool.name}: no room left in {', '.join(pool.racks)} for instances of {need} GPUs each")
    for domain, gpus in chosen:
        domain.used += gpus
    return chosen
