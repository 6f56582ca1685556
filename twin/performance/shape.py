"""The shape of a language model: parameters by kind, KV bytes and attention FLOPs per token, from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from twin.catalog import Part
from twin.errors import UnknownValueError
from twin.performance.layout import ELEMENT_BYTES, Unfit

#: kind of attention -> the sizes that say how much KV cache a token takes, and its projections.
ATTENTION_SIZES = {
    "gqa": ("kv_heads", "head_dim"),
    "mla": ("kv_rank", "rope_dim", "nope_dim", "value_dim", "query_rank"),
}
_EXPERT_SIZES = ("dense_layers", "experts", "experts_per_token", "shared_experts", "expert_ff")
_WINDOW_SIZES = ("windowed_layers", "window_tokens")
#: sizes that may be 0: there is none of it.
_MAY_BE_ZERO = ("dense_layers", "shared_experts", "query_rank", "windowed_layers")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder: dense or mixture of experts, with grouped-query (gqa) or latent (mla) attention.

    Fields follow the published configuration. `experts` is 0 for a dense model. `windowed_layers` of the layers attend to
    the last `window_tokens` alone. `ff_matrices` of a feed-forward block are 3 (gated) or 2 (plain). For gqa the latent sizes
    are 0, for mla `kv_heads` and `head_dim` are; `query_rank` is 0 where queries are projected straight from the hidden state.
    `tied_embeddings`: one matrix is input embedding and head.
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
    ff_matrices: int
    experts: int
    experts_per_token: int
    shared_experts: int
    expert_ff: int
    windowed_layers: int
    window_tokens: int
    tied_embeddings: bool

    @classmethod
    def from_part(cls, part: Part) -> ModelShape:
        """The shape of a catalogue model.

        Raises UnknownValueError that names every size which its attention or experts need and nobody has published, and
        Unfit with everything about the sizes that cannot be.
        """
        attention = part.text("attention")
        if attention not in ATTENTION_SIZES:
            raise Unfit(f"model {part.name}: attention {attention!r} is none of {', '.join(ATTENTION_SIZES)}")
        moe, windowed = part.has("experts"), part.has("windowed_layers")
        due = ["params_total", "params_active", "layers", "hidden", "vocab", "heads", *ATTENTION_SIZES[attention]]
        due += _EXPERT_SIZES if moe else []
        due += _WINDOW_SIZES if windowed else []
        if not moe or (part.has("dense_layers") and part.number("dense_layers") > 0):
            due.append("dense_ff")
        missing = [key for key in due if not part.has(key)]
        if missing:
            moe_said = " with experts" if moe else ""
            raise UnknownValueError(
                f"model {part.name} has no published {', '.join(missing)}, which a model{moe_said} of attention {attention} needs"
            )
        sizes = {key: part.number(key) for key in due}
        wrong = list(_contradictions(sizes))
        if wrong:
            raise Unfit(f"model {part.name}: {'; '.join(wrong)}")

        def count(key: str) -> int:
            return int(sizes.get(key, 0))

        return cls(
            name=part.name,
            params_total=sizes["params_total"],
            params_active=sizes["params_active"],
            layers=count("layers"),
            hidden=count("hidden"),
            vocab=count("vocab"),
            attention=attention,
            heads=count("heads"),
            kv_heads=count("kv_heads"),
            head_dim=count("head_dim"),
            kv_rank=count("kv_rank"),
            rope_dim=count("rope_dim"),
            nope_dim=count("nope_dim"),
            value_dim=count("value_dim"),
            query_rank=count("query_rank"),
            dense_layers=count("dense_layers") if moe else count("layers"),
            dense_ff=count("dense_ff"),
            # Gated blocks are the rule; a plain one is said.
            ff_matrices=int(part.number("ff_matrices")) if part.has("ff_matrices") else 3,
            experts=count("experts"),
            experts_per_token=count("experts_per_token"),
            shared_experts=count("shared_experts"),
            expert_ff=count("expert_ff"),
            windowed_layers=count("windowed_layers"),
            window_tokens=count("window_tokens"),
            tied_embeddings=part.has("tied_embeddings") and part.flag("tied_embeddings"),
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
            queries = self.heads * (self.nope_dim + self.rope_dim)
            query = self.query_rank * (self.hidden + queries) if self.query_rank else self.hidden * queries
            latent = self.hidden * (self.kv_rank + self.rope_dim) + self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
            output = self.heads * self.value_dim * self.hidden
            return float(self.layers * (query + latent + output))
        width = self.heads * self.head_dim
        return float(self.layers * (2 * self.hidden * width + 2 * self.hidden * self.kv_heads * self.head_dim))

    @property
    def repeated_attention_params(self) -> float:
        """Those of `attention_params` that stand whole on every GPU of a rank: mla's projections down to the latents."""
        if self.attention != "mla":
            return 0.0
        return float(self.layers * self.hidden * (self.query_rank + self.kv_rank + self.rope_dim))

    @property
    def dense_ff_params(self) -> float:
        """Parameters of the feed-forward blocks that every token passes: dense layers and shared experts."""
        dense = self.dense_layers * self.ff_matrices * self.hidden * self.dense_ff
        return float(dense + self.moe_layers * self.shared_experts * self.ff_matrices * self.hidden * self.expert_ff)

    @property
    def expert_params(self) -> float:
        """Parameters of one routed expert across all layers that have it."""
        return float(self.moe_layers * self.ff_matrices * self.hidden * self.expert_ff)

    @property
    def vocab_params(self) -> float:
        """Parameters of the output head, which every generated token is multiplied with."""
        return float(self.hidden * self.vocab)

    @property
    def embedding_params(self) -> float:
        """Parameters of the input embedding, looked up and not multiplied; 0 where it is the head's own matrix."""
        return 0.0 if self.tied_embeddings else self.vocab_params

    @property
    def summed_params(self) -> float:
        """What `params_total` is about: all parameters but norms, biases, routers and layers that predict further tokens."""
        routed = self.experts * self.expert_params
        return self.attention_params + self.dense_ff_params + routed + self.vocab_params + self.embedding_params

    @property
    def summed_active_params(self) -> float:
        """What `params_active` is about, as model cards count: of a dense model all, of a mixture of experts what a token is
        multiplied with."""
        if not self.experts:
            return self.summed_params
        return self.attention_params + self.dense_ff_params + self.experts_per_token * self.expert_params + self.vocab_params

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

    def kv_bytes(self, context_tokens: float, kv: str) -> float:
        """Bytes of KV cache of one sequence of `context_tokens`: windowed layers keep min(context, window) of them."""
        kept = self.full_layers * context_tokens + self.windowed_layers * min(context_tokens, self.window_tokens)
        return kept * self.kv_elements_per_layer * ELEMENT_BYTES[kv]

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


def _contradictions(sizes: Mapping[str, float]) -> Iterator[str]:
    """Everything about the sizes of a model that cannot be."""
    for key, size in sizes.items():
        least = 0 if key in _MAY_BE_ZERO else 1
        if size < least or not size.is_integer():
            yield f"{key} must be a whole number of at least {least}, not {size:g}"
    for small, large in (
        ("params_active", "params_total"),
        ("dense_layers", "layers"),
        ("windowed_layers", "layers"),
        ("experts_per_token", "experts"),
    ):
        if small in sizes and sizes[small] > sizes[large]:
            yield f"{small} {sizes[small]:g} is more than {large} {sizes[large]:g}"
    if "kv_heads" in sizes and sizes["kv_heads"] >= 1 and sizes["heads"] % sizes["kv_heads"]:
        yield f"kv_heads {sizes['kv_heads']:g} does not divide heads {sizes['heads']:g}"
