"""How a scenario serves: the model, the engine, its pools of instances, and what lies around them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from twin.schema.admission import Admission, Queue, QueueOrName
from twin.schema.base import CatalogName, Count, FieldError, Model, Name, PluginName
from twin.schema.quantities import (
    FractionBelowOne,
    NonNegativeTime,
    Number,
    PositiveBandwidth,
    PositiveBytes,
    PositiveTime,
    UnitFraction,
)

ModelName = Annotated[str, CatalogName("model")]
BackendName = Annotated[str, CatalogName("backend")]
RouterName = Annotated[str, PluginName("twin.routers", "router", ("least_loaded", "kv_affinity"))]

TurnPolicyName = Annotated[str, PluginName("twin.turn_policies", "policy between turns", ("keep", "drop", "offload", "predict"))]


class Parallelism(Model):
    """How one engine instance spreads over GPUs: attention over tp x dp, experts over ep groups, layers over pp stages."""

    tp: Count = 1
    """Tensor-parallel ranks of the attention (and dense) layers."""
    dp: Count = 1
    """Data-parallel attention ranks; each holds the KV of its own sequences."""
    ep: Count = 1
    """Expert-parallel ranks; must divide tp x dp."""
    pp: Count = 1
    """Pipeline stages, of tp x dp GPUs each."""

    @property
    def gpus(self) -> int:
        """GPUs of one instance."""
        return self.tp * self.dp * self.pp

    @model_validator(mode="after")
    def _ep_divides(self) -> Self:
        stage = self.tp * self.dp
        if stage % self.ep:
            raise FieldError("ep", f"ep {self.ep} does not divide the {stage} GPUs of tp {self.tp} x dp {self.dp}")
        return self


class Speculation(Model):
    """Drafts that a step verifies together: multi-token prediction."""

    draft_tokens: int = Field(ge=1, le=16, strict=True)
    """Drafts of each sequence and step, made by a draft layer such as the model's own for multi-token prediction."""
    acceptance: UnitFraction
    """Chance that a draft is accepted if the one before it was."""


class PromptWait(Model):
    """New prompts are held back while sequences decode, to be taken in together."""

    steps: Count
    """Most decode steps that a prompt waits."""
    tokens: Count | None = None
    """Prompt tokens that end the wait; without it, a prompt for each of several attention ranks does."""


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


RackNames = Annotated[
    tuple[Name, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class Pool(Model):
    """Identical engine instances of one role."""

    name: Name
    """Name in tables."""
    role: Literal["aggregated", "prefill", "decode"]
    """`aggregated` does both phases; `prefill` hands the KV cache to a `decode` pool of the same site."""
    site: Name | None = None
    """Site of the instances; may be left out where there is one site."""
    racks: RackNames
    """Rack group, or list of rack groups of one kind of rack, over which the instances are spread."""
    parallelism: Parallelism
    """GPUs of one instance and how they share the model."""
    instances: Count
    """How many instances in all."""
    max_sequences: Count = 256
    """Sequences that may be decoded at once by one instance."""
    max_batched_tokens: Count = 8192
    """Tokens (decoding sequences + new prompt tokens) of one step: the chunk size of prefill."""
    scheduling: Literal["chunked", "prefill_first"] = "chunked"
    """`chunked` mixes prompt chunks into decode steps; `prefill_first` lets prompts go before decoding."""
    admission: Literal["prompts", "answers"] = "prompts"
    """A request is admitted when its prompt has room (`prompts`; it may be preempted later) or its answer has too (`answers`)."""
    prompt_wait: PromptWait | None = None
    """Prompts are held back to be batched; without it, they join the next step."""
    speculation: Speculation | None = None
    """Speculative decoding."""
    kv_blocks: Count | None = None
    """KV blocks of an instance as its engine reports them; without it, what memory leaves beside weights and activations."""


class Precision(Model):
    """Number formats of what is kept in memory."""

    weights: Literal["bf16", "fp8", "fp4"]
    """Format of the weights and of the matrix products."""
    kv: Literal["bf16", "fp8"] = "fp8"
    """Format of the KV cache."""


class HostCache(Model):
    """Host memory beside the GPUs that keeps KV evicted from HBM."""

    capacity: PositiveBytes
    """Room for each GPU."""
    bandwidth: PositiveBandwidth
    """Rate between host memory and each GPU, in each direction."""


class StorageCache(Model):
    """Storage of a site that keeps KV evicted from host memory, for all its instances."""

    capacity: PositiveBytes
    """Room of a site."""
    bandwidth: PositiveBandwidth
    """Rate of a site's storage, in each direction."""
    latency: NonNegativeTime = 1e-3
    """Time before the first byte."""


class BetweenTurns(Model):
    """What becomes of a context in HBM while its agent waits for its next call."""

    policy: TurnPolicyName = "keep"
    """`keep` it until the room is needed, `drop` it, `offload` it to the tier below, or `predict` by the time it will be away."""
    after: NonNegativeTime | None = None
    """How long it stays before it is dropped or offloaded (default: not at all)."""

    @model_validator(mode="after")
    def _after_what(self) -> Self:
        if self.after is not None and self.policy in ("keep", "predict"):
            raise FieldError("after", f"is for dropping and offloading: {self.policy!r} waits for nothing")
        return self


class KvCache(Model):
    """What becomes of KV that no sequence uses."""

    block_tokens: Count = 16
    """Tokens of a block: prefixes are reused and evicted by whole ones."""
    host: HostCache | None = None
    """Second tier; without it, what HBM has no room for is gone."""
    storage: StorageCache | None = None
    """Third tier, below host memory."""
    between_turns: BetweenTurns = BetweenTurns()
    """A context between two calls of its agent, while a tool runs."""
    while_person_thinks: BetweenTurns | None = None
    """The same while a person thinks; without it, as for tools."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.storage is not None and self.host is None:
            raise FieldError("storage", "lies below host memory: give `host` as well")
        return self

    @model_validator(mode="after")
    def _somewhere_to_offload(self) -> Self:
        for name in ("between_turns", "while_person_thinks"):
            turns: BetweenTurns | None = getattr(self, name)
            if turns is not None and turns.policy == "offload" and self.host is None:
                raise FieldError(name, "offloading needs a tier below HBM: give `kv_cache.host`")
        return self

    @property
    def keeps_all(self) -> bool:
        """Whether contexts are kept between turns whatever they wait for."""
        return self.between_turns.policy == "keep" and (self.while_person_thinks or self.between_turns).policy == "keep"


class Planner(Model):
    """Moves instances between a site's prefill and decode pools as the mix of work changes."""

    step: PositiveTime = 30.0
    """Time between two looks."""
    ratio: Number = Field(default=1.5, gt=1, le=100)
    """How many times busier the other pool must be for an instance to move."""
    patience: Count = 3
    """Looks in a row that must agree."""
    restart: PositiveTime = 60.0
    """From an empty instance to one that serves in its new role: weights read, graphs captured."""


class Serving(Model):
    """The model, the engine and its instances."""

    model: ModelName
    """Model of the catalogue."""
    precision: Precision
    """Number formats."""
    backend: BackendName
    """Serving engine of the catalogue, whose fitted coefficients are used."""
    pools: tuple[Pool, ...] = Field(min_length=1)
    """Pools of instances."""
    router: RouterName = "kv_affinity"
    """Router plug-in: `least_loaded` or `kv_affinity`."""
    kv_reserve: FractionBelowOne = 0.1
    """Share of GPU memory kept free beside weights, activations and KV: driver, graphs, buffers, fragmentation."""
    kv_cache: KvCache = KvCache()
    """Reuse of KV: blocks and tiers."""
    preemption: Literal["recompute", "swap"] = "recompute"
    """What becomes of the KV of a sequence that memory has no room for: computed again, or put into host memory meanwhile."""
    expert_imbalance: Number = Field(default=1.0, ge=0, le=100)
    """How uneven experts are loaded: 1 is tokens falling on experts at random, 0 a perfect balance."""
    restart: PositiveTime = 120.0
    """From the repair of an instance's hardware to the first request it serves: boot, weights read, graphs captured."""
    planner: Planner | None = None
    """Moves instances between prefill and decode; without it, the split stays as given."""
    queue: QueueOrName = Queue()
    """Order in which requests wait for an instance: `fifo`, `priority` or `fair`, or keys and values."""
    admission: Admission = Admission()
    """Limits of tiers and tenants; without it, only what no memory holds is refused."""

    @model_validator(mode="after")
    def _swap_needs_host(self) -> Self:
        if self.preemption == "swap" and self.kv_cache.host is None:
            raise FieldError("preemption", "swap needs a tier to swap to: give `kv_cache.host`")
        return self
