"""The shape of a language model: parameters by kind, KV bytes and attention FLOPs per token, from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from twin.catalog import Part
from twin.performance.layout import ELEMENT_BYTES, Unfit


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder: dense or mixture of experts, with grouped-query (gqa) or latent (mla) attention.

    Fields follow the published configuration. `experts` is 0 for a dense model. `windowed_layers` of the layers attend to
    the last `window_tokens` alone. For gqa the latent sizes are 0, for mla `kv_heads` and `head_dim` are.
    """

    name: str
    params_total: float
    params_active: float
    layers: int
    hidden: int
    vocab: int
    attention: str
    heads: int
    kv_heads: int
    head_dim: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int
    dense_layers: int
    dense_ff: int
    experts: int
    experts_per_token: int
    shared_experts: int
    expert_ff: int
    windowed_layers: int
    window_tokens: int

    @classmethod
    def from_part(cls, part: Part) -> ModelShape:
        """The shape of a catalogue model. Raises UnknownValueError for a size that its attention or experts need."""

        def count(key: str, needed: bool = True) -> int:
            return int(part.number(key)) if needed else 0

        attention = part.text("attention")
        if attention not in ("gqa", "mla"):
            raise Unfit(f"model {part.name}: attention {attention!r} is neither gqa nor mla")
        mla = attention == "mla"
        moe = part.has("experts")
        windowed = part.has("windowed_layers")
        layers = count("layers")
        dense_layers = count("dense_layers", moe) if moe else layers
        return cls(
            name=part.name,
            params_total=part.number("params_total"),
            params_active=part.number("params_active"),
            layers=layers,
            hidden=count("hidden"),
            vocab=count("vocab"),
            attention=attention,
            heads=count("heads"),
            kv_heads=count("kv_heads", not mla),
            head_dim=count("head_dim", not mla),
            kv_rank=count("kv_rank", mla),
            rope_dim=count("rope_dim", mla),
            nope_dim=count("nope_dim", mla),
            value_dim=count("value_dim", mla),
            query_rank=count("query_rank", mla),
            dense_layers=dense_layers,
            dense_ff=count("dense_ff", dense_layers > 0),
            experts=count("experts", moe),
            experts_per_token=count("experts_per_token", moe),
            shared_experts=count("shared_experts", moe),
            expert_ff=count("expert_ff", moe),
            windowed_layers=count("windowed_layers", windowed),
            window_tokens=count("window_tokens", windowed),
        )

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers

    @property
    def full_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layers - self.windowed_layers

    @property
    def attention_params(self) -> float:
        """Parameters of all attention projections."""
        if self.attention == "mla":
            query = self.hidden * self.query_rank + self.query_rank * self.heads * (self.nope_dim + self.rope_dim)
            latent = self.hidden * (self.kv_rank + self.rope_dim) + self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
            output = self.heads * self.value_dim * self.hidden
            return float(self.layers * (query + latent + output))
        width = self.heads * self.head_dim
        return float(self.layers * (2 * self.hidden * width + 2 * self.hidden * self.kv_heads * self.head_dim))

    @property
    def dense_ff_params(self) -> float:
        """Parameters of the feed-forward blocks that every token passes: dense layers and shared experts."""
        dense = self.dense_layers * 3 * self.hidden * self.dense_ff
        return float(dense + self.moe_layers * self.shared_experts * 3 * self.hidden * self.expert_ff)

    @property
    def expert_params(self) -> float:
        """Parameters of one routed expert across all layers that have it."""
        return float(self.moe_layers * 3 * self.hidden * self.expert_ff)

    @property
    def vocab_params(self) -> float:
        """Parameters of the output head; the input embedding has as many and is looked up, not multiplied."""
        return float(self.hidden * self.vocab)

    @property
    def summed_params(self) -> float:
        """All parameters added up, a check against `params_total` (head and embedding counted apart)."""
        return self.attention_params + self.dense_ff_params + self.experts * self.expert_params + 2 * self.vocab_params

    @property
    def kv_elements_per_layer(self) -> int:
        """Elements cached per token and layer: the latent and its rotary part (mla), or keys and values (gqa)."""
        return self.kv_rank + self.rope_dim if self.attention == "mla" else 2 * self.kv_heads * self.head_dim

    def kv_bytes_per_token(self, kv: str) -> float:
        """Bytes of KV cache per token over all layers while the context is inside the window of windowed layers."""
        return self.layers * self.kv_elements_per_layer * ELEMENT_BYTES[kv]

    def kv_bytes_per_long_token(self, kv: str) -> float:
        """Bytes a further token adds once windowed layers keep their window alone: what a long context costs."""
        return self.full_layers * self.kv_elements_per_layer * ELEMENT_BYTES[kv]

    @property
    def decode_pair_flops(self) -> float:
        """Attention FLOPs per (query, context token) pair and full layer in decode; mla in absorbed form.

        gqa: 4 heads dim (scores and values). mla: 2 heads ((rank + rope) + rank), on the latent shared by all heads.
        """
        if self.attention == "mla":
            return 2.0 * self.heads * (2 * self.kv_rank + self.rope_dim)
        return 4.0 * self.heads * self.head_dim

    @property
    def prefill_pair_flops(self) -> float:
        """As `decode_pair_flops` in prefill; mla expanded to full heads: 2 heads ((nope + rope) + value)."""
        if self.attention == "mla":
            return 2.0 * self.heads * (self.nope_dim + self.rope_dim + self.value_dim)
        return 4.0 * self.heads * self.head_dim
