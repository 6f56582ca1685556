"""Where engine instances stand: which GPUs of which racks, never across a scale-up domain unless they fill whole ones."""

from __future__ import annotations

from dataclasses import dataclass

from twin.catalog import Catalog
from twin.errors import InputError
from twin.schema.scenario import Pool
from twin.schema.topology import Site


@dataclass(frozen=True, slots=True)
class Place:
    """GPUs of one real instance: the scale-up domain and node it begins on, and (rack index of the site, GPUs) pairs."""

    domain: int
    node: int
    racks: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class _Domain:
    number: int
    rack: int
    gpus: int
    first_gpu: int
    used: int = 0


def place(site: Site, pools: list[Pool], catalog: Catalog) -> dict[str, list[Place]]:
    """Places of every real instance, by pool. Raises InputError where the GPUs of a rack group do not suffice.

    Large instances first, each on the domain of its group with most GPUs free, so that roles mix within racks as operators
    mix them; the first of equals.
    """
    domains: dict[str, list[_Domain]] = {}
    gpus_per_node: dict[str, int] = {}
    rack_index = first_gpu = number = node_base = 0
    node_of_gpu: dict[str, tuple[int, int]] = {}
    for group in site.racks:
        part = catalog.part("rack", group.rack)
        gpus, size = int(part.number("gpus")), int(part.number("scale_up_domain_gpus"))
        gpus_per_node[group.name] = gpus // int(part.number("nodes"))
        node_of_gpu[group.name] = (first_gpu, node_base)
        domains[group.name] = []
        for _ in range(group.count):
            for _ in range(gpus // size):
                domains[group.name].append(_Domain(number, rack_index, size, first_gpu))
                number += 1
                first_gpu += size
            rack_index += 1
            node_base += int(part.number("nodes"))
    places: dict[str, list[Place]] = {pool.name: [] for pool in pools}
    for pool in sorted(pools, key=lambda p: -p.parallelism.gpus):
        base_gpu, base_node = node_of_gpu[pool.racks]
        for _ in range(pool.instances):
            taken = _take(domains[pool.racks], pool)
            first = taken[0][0]
            node = base_node + (first.first_gpu + first.used - taken[0][1] - base_gpu) // gpus_per_node[pool.racks]
            on_racks: dict[int, int] = {}
            for domain, gpus in taken:
                on_racks[domain.rack] = on_racks.get(domain.rack, 0) + gpus
            places[pool.name].append(Place(first.number, node, tuple(on_racks.items())))
    return places


def _take(domains: list[_Domain], pool: Pool) -> list[tuple[_Domain, int]]:
    need = pool.parallelism.gpus
    if need <= domains[0].gpus:
        best = max(domains, key=lambda d: (d.gpus - d.used, -d.number))
        chosen = [(best, need)] if best.gpus - best.used >= need else []
    else:
        free = [d for d in domains if not d.used]
        whole = -(-need // domains[0].gpus)
        chosen = [(d, d.gpus) for d in free[:whole]] if len(free) >= whole and need == whole * domains[0].gpus else []
    if not chosen:
        raise InputError(f"pool {pool.name}: no room left in rack group {pool.racks} for instances of {need} GPUs each")
    for domain, gpus in chosen:
        domain.used += gpus
    return chosen
