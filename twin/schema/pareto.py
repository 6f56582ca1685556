"""What `twin pareto` tries: the systems it compares, and the configurations of each."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from twin.schema.base import Count, FieldError, Model, Name
from twin.schema.serving import BackendName, Parallelism, Precision, PromptWait, Speculation
from twin.schema.topology import Topology

_SPLIT = re.compile(r"([1-9]\d?)P([1-9]\d?)D")
AGGREGATED = "aggregated"


def _split(text: str) -> str:
    if text != AGGREGATED and not _SPLIT.fullmatch(text):
        raise ValueError(f"{text!r} is neither 'aggregated' nor counts of prefill and decode instances such as '1P2D'")
    return text


Split = Annotated[str, AfterValidator(_split)]


def instances_of(split: str) -> tuple[int, int] | None:
    """Prefill and decode instances of a group: (1, 2) for "1P2D"; None for aggregated instances."""
    counts = _SPLIT.fullmatch(split)
    return None if counts is None else (int(counts[1]), int(counts[2]))


class ParetoSystem(Model):
    """Hardware to compare: one site of one kind of rack, and what the scenario's `serving` does otherwise on it."""

    name: Name
    """Name in tables and in the picture."""
    topology: Topology
    """Its site: a path to a topology file, replaced by its content on loading."""
    precision: Precision | None = None
    """Number formats on it; without them, those of `serving`."""
    backend: BackendName | None = None
    """Serving engine on it; without one, that of `serving`."""


class Pareto(Model):
    """The space of `twin pareto`: every combination of what stands here is tried on every system."""

    systems: tuple[ParetoSystem, ...] = ()
    """Systems to compare; without them, the scenario's own topology."""
    parallelism: tuple[Parallelism, ...] = ()
    """Layouts of aggregated and decode instances; without them, all that suit the model, from the smallest that holds it on."""
    prefill_parallelism: tuple[Parallelism, ...] = ()
    """Layouts of prefill instances; without them, the most data parallelism over as few GPUs as hold the model."""
    splits: tuple[Split, ...] = Field(default=(AGGREGATED, "2P1D", "1P1D", "1P2D", "1P4D"), min_length=1)
    """`aggregated`, or instances of a group that share its work: 1P2D is one for prefill and two for decode."""
    sequences: tuple[Count, ...] = Field(default=tuple(2**n for n in range(13)), min_length=1)
    """Sequences in flight on an aggregated or a decode instance, rising."""
    speculation: tuple[Speculation, ...] = ()
    """Speculative decoding to try beside none."""
    prompt_wait: tuple[PromptWait, ...] = ()
    """Batching of prompts in aggregated instances to try beside none."""
    rank_batched_tokens: Count = 8192
    """New tokens of a step on each attention rank, at most: `max_batched_tokens` of an instance is dp times that."""
    max_gpus: Count | None = None
    """Most GPUs of an instance or a group; without it, those of the system's site."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for low, high in zip(self.sequences, self.sequences[1:], strict=False):
            if high <= low:
                raise FieldError("sequences", f"must rise; {high} follows {low}")
        for field in ("splits", "parallelism", "prefill_parallelism", "speculation", "prompt_wait"):
            items = getattr(self, field)
            if len(set(items)) < len(items):
                raise FieldError(field, "holds an entry twice")
        return self
