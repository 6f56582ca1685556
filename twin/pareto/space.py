"""Which configurations are tried on a system: those that a scenario names, or all that make sense for the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twin.catalog import Catalog
from twin.pareto.configuration import Configuration, System, spoken
from twin.performance import ModelShape
from twin.schema.pareto import AGGREGATED
from twin.schema.serving import Parallelism

#: Attention over more GPUs than this is done by data parallelism where the model allows it: beyond it, tensor parallelism of
#: attention beside wide expert parallelism only repeats work (latents of MLA) and adds collectives.
_MOST_TP_BESIDE_DP = 8


@dataclass(frozen=True, slots=True)
class Space:
    """Configurations to play, and (label, reason) of what is refused before."""

    configurations: tuple[Configuration, ...]
    refused: tuple[tuple[str, str], ...]


def space_of(system: System, catalog: Catalog) -> Space:
    """Every combination for a system: aggregated layouts with prompts batched or not, splits with each pair of layouts; all of
    them with and without speculation."""
    given = system.space
    shape = ModelShape.from_part(catalog.part("model", system.scenario.serving.model))
    refused: dict[str, str] = {}

    def sound(layouts: Sequence[Parallelism]) -> list[Parallelism]:
        reasons = {layout: system.refusal(layout, catalog) for layout in layouts}
        refused.update((spoken(layout), reason) for layout, reason in reasons.items() if reason is not None)
        return [layout for layout, reason in reasons.items() if reason is None]

    layouts = sound(given.parallelism or _all_layouts(shape, system, catalog))
    splits = [split for split in given.splits if split != AGGREGATED]
    prefill = sound(given.prefill_parallelism) if given.prefill_parallelism else _smallest(layouts)
    found: list[Configuration] = []
    for speculation in (None, *given.speculation):
        if AGGREGATED in given.splits:
            found += (
                Configuration(AGGREGATED, layout, speculation=speculation, prompt_wait=wait)
                for layout in layouts
                for wait in (None, *given.prompt_wait)
            )
        found += (Configuration(split, decode, first, speculation) for split in splits for first in prefill for decode in layouts)
    most = system.max_gpus(catalog)
    for each in found:
        if each.gpus > most:
            refused[each.label] = f"{each.gpus} GPUs are more than the {most} of max_gpus"
    return Space(tuple(each for each in found if each.gpus <= most), tuple(refused.items()))


def _all_layouts(shape: ModelShape, system: System, catalog: Catalog) -> list[Parallelism]:
    """Layouts over 1, 2, 4, ... GPUs, from the smallest number on which one of them fits."""
    domain, most = system.domain_gpus(catalog), system.max_gpus(catalog)
    found: list[Parallelism] = []
    gpus = 1
    while gpus <= most:
        if gpus <= domain or gpus % domain == 0:
            layouts = list(_layouts(shape, gpus, domain))
            if found or any(system.refusal(layout, catalog) is None for layout in layouts):
                found += layouts
        gpus *= 2
    return found


def _layouts(shape: ModelShape, gpus: int, domain: int) -> Iterator[Parallelism]:
    """Tensor parallelism over all; with experts, data-parallel attention over expert parallelism; pipelines of whole domains.

    Heads that do not divide are left out: no other memory or hardware could make them fit.
    """
    if shape.heads % gpus == 0 and (shape.experts or gpus <= domain):
        yield Parallelism(tp=gpus)
    tp = 1
    while shape.experts and tp < gpus and tp <= min(_MOST_TP_BESIDE_DP, domain):
        yield Parallelism(tp=tp, dp=gpus // tp, ep=gpus)
        tp *= 2
    if gpus > domain and shape.heads % domain == 0:
        yield Parallelism(tp=domain, pp=gpus // domain)


def _smallest(layouts: Sequence[Parallelism]) -> list[Parallelism]:
    """The layout with the most data parallelism among those over the fewest GPUs: prefill computes most with few collectives."""
    return sorted(layouts, key=lambda layout: (layout.gpus, -layout.dp))[:1]
