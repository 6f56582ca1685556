"""A model's published configuration (config.json on Hugging Face) as a model of the catalogue.

Keys mean what the configuration classes of the transformers library make of them. Norms, biases, routers, layers that predict
further tokens and the towers of multimodal models are left out, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from twin.catalog import Part, Value
from twin.errors import InputError
from twin.performance.shape import ModelShape

_LEFT_OUT = "without norms, biases, routers and layers that predict further tokens"
_EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
_WINDOWED, _FULL = "sliding_attention", "full_attention"
_MOST, _MOST_LAYERS = 1_000_000_000, 10_000


class ConfigError(InputError):
    """A configuration that cannot be read as a model; a line a problem, each beginning with its key."""


def model_of_config(config: Mapping[str, Any], name: str) -> Part:
    """The model called `name` that the configuration describes. Raises ConfigError with everything that is wrong.

    Sizes carry config.json as their source; the numbers of parameters are added up from them and so `assumed`.
    """
    architecture = _architecture(config)
    reader = _Reader(config, FAMILIES[architecture])
    _read_sizes(reader)
    if reader.problems:
        raise ConfigError("\n".join(reader.problems))
    source = f"config.json of {name} ({architecture})"
    shape = ModelShape.from_part(_part(name, reader, source, 1.0, 1.0))
    return _part(name, reader, source, shape.summed_params, shape.summed_active_params)


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
        raise ConfigError(f"architectures: expected a list of one name, not {named!r}")
    if named[0] not in FAMILIES:
        raise ConfigError(f"architectures: {named[0]!r} cannot be imported, only {', '.join(FAMILIES)}")
    return named[0]


def _part(name: str, reader: _Reader, source: str, params_total: float, params_active: float) -> Part:
    values = {}
    for key, value in reader.found.items():
        if key in reader.defaulted:
            values[key] = Value(value, "", f"default of the configuration class, absent in {source}", "assumed")
        else:
            values[key] = Value(value, "", source, "datasheet", reader.notes.get(key, ""))
    for key, value in (("params_total", params_total), ("params_active", params_active)):
        values[key] = Value(value, "", f"added up from the shape in {source}", "assumed", _LEFT_OUT)
    return Part("model", name, f"{name}, imported from its config.json", values)


class _Reader:
    """Reads keys of a configuration: values by the catalogue's keys into `found`, what is wrong into `problems`."""

    def __init__(self, config: Mapping[str, Any], family: _Family):
        self.family = family
        self.problems: list[str] = []
        self.found: dict[str, float | str | bool] = {}
        self.notes: dict[str, str] = {}
        self.defaulted: set[str] = set()
        self._config, self._prefix = config, ""
        if family.inside:
            inner = config.get(family.inside)
            if not isinstance(inner, dict):
                self.wrong(family.inside, f"expected the configuration of the language model, not {inner!r}")
                inner = {}
            self._config, self._prefix = inner, f"{family.inside}."

    def wrong(self, key: str, message: str) -> None:
        """Note a problem of the key."""
        self.problems.append(f"{self._prefix}{key}: {message}")

    def raw(self, key: str) -> Any:
        """What stands under the key, else the default of the configuration class, else None."""
        return self._config.get(key, self.family.defaults.get(key))

    def count(self, key: str, least: int = 1, absent: int | None = None, most: int = _MOST) -> int | None:
        """The whole number under the key; `absent` where nothing or null stands there. None with a problem noted."""
        value = self.raw(key)
        if value is None and absent is not None:
            return absent
        if value is None:
            self.wrong(key, "is null" if key in self._config else "is missing")
        elif isinstance(value, bool) or not isinstance(value, int):
            self.wrong(key, f"expected a whole number, not {value!r}")
        elif not least <= value <= most:
            self.wrong(key, f"{value} is out of range: it must be from {least} to {most:,}")
        else:
            return value
        return None

    def size(self, own: str, key: str, least: int = 1, absent: int | None = None, most: int = _MOST) -> int | None:
        """As `count`, and into `found` under the catalogue's key `own`."""
        value = self.count(key, least, absent, most)
        if value is not None:
            self.found[own] = float(value)
            if key not in self._config and key in self.family.defaults:
                self.defaulted.add(own)
        return value

    def flag(self, key: str, absent: bool) -> bool:
        """True or false under the key; `absent` where nothing stands there."""
        value = self.raw(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(key, f"expected true or false, not {value!r}")
        return value if isinstance(value, bool) else absent


def _read_sizes(config: _Reader) -> None:
    family = config.family
    context = config.size("context_tokens", "max_position_embeddings")
    layers = config.size("layers", "num_hidden_layers", most=_MOST_LAYERS)
    hidden = config.size("hidden", "hidden_size")
    config.size("vocab", "vocab_size")
    config.found["tied_embeddings"] = config.flag("tie_word_embeddings", family.tied)
    config.found["attention"] = "mla" if family.latent else "gqa"
    heads = config.size("heads", "num_attention_heads")
    if family.latent:
        _read_latent(config)
    elif heads is not None:
        _read_groups(config, heads, hidden)
    if family.dense_layers is None:
        config.size("dense_ff", "intermediate_size")
    else:
        _read_experts(config, family.dense_layers, layers)
    if layers is not None:
        _read_windows(config, layers, context)
    config.size("mtp_layers", "num_nextn_predict_layers", least=0, absent=0)


def _read_groups(config: _Reader, heads: int, hidden: int | None) -> None:
    groups = config.size("kv_heads", "num_key_value_heads", absent=heads)
    if groups is not None and heads % groups:
        config.wrong("num_key_value_heads", f"{groups} does not divide the {heads} attention heads")
    if config.raw("head_dim") is not None:
        config.size("head_dim", "head_dim")
    elif hidden is not None and hidden % heads:
        config.wrong("head_dim", f"is missing, and {heads} heads do not divide the hidden size of {hidden}")
    elif hidden is not None:
        config.found["head_dim"] = float(hidden // heads)
        config.notes["head_dim"] = "hidden size over heads"


def _read_latent(config: _Reader) -> None:
    config.size("kv_rank", "kv_lora_rank")
    config.size("rope_dim", "qk_rope_head_dim")
    config.size("nope_dim", "qk_nope_head_dim")
    config.size("value_dim", "v_head_dim")
    if config.size("query_rank", "q_lora_rank", absent=0) == 0:
        config.notes["query_rank"] = "0: queries are projected straight from the hidden state"


def _read_experts(config: _Reader, rule: DenseLayers, layers: int | None) -> None:
    """Routed and shared experts, and the layers without them."""
    dense = rule(config, layers) if layers is not None else None
    if dense is not None:
        config.found["dense_layers"] = float(dense)
    if dense:
        config.size("dense_ff", "intermediate_size")
    given = [key for key in _EXPERT_KEYS if config.raw(key) is not None] or [config.family.expert_key]
    experts = config.size("experts", given[0])
    for key in given[1:]:
        if config.raw(key) != config.raw(given[0]):
            config.wrong(key, f"{config.raw(key)!r} contradicts {given[0]} {config.raw(given[0])!r}")
    chosen = config.size("experts_per_token", "num_experts_per_tok")
    if experts is not None and chosen is not None and chosen > experts:
        config.wrong("num_experts_per_tok", f"{chosen} are more than the {experts} experts")
    width = config.size("expert_ff", config.family.expert_width)
    shared_width = config.count("shared_expert_intermediate_size", least=0, absent=0)
    if not shared_width:
        config.size("shared_experts", "n_shared_experts", least=0, absent=0)
    elif width is not None and shared_width % width:
        config.wrong("shared_expert_intermediate_size", f"{shared_width} is no whole number of experts of width {width}")
    elif width is not None:
        config.found["shared_experts"] = float(shared_width // width)
        config.notes["shared_experts"] = f"one of width {shared_width}, counted in experts of {width}"


def _read_windows(config: _Reader, layers: int, context: int | None) -> None:
    """How many layers attend to the last tokens alone, and to how many. A window as long as the context is none."""
    types = config.raw("layer_types")
    if types is None:
        windowed = config.family.windows(config, layers)
    elif not isinstance(types, list) or len(types) != layers:
        return config.wrong("layer_types", f"expected a list of {layers} kinds of attention, one a layer")
    else:
        unknown = [kind for kind in dict.fromkeys(map(str, types)) if kind not in (_WINDOWED, _FULL)]
        if unknown:
            return config.wrong("layer_types", f"{', '.join(unknown)} is not modelled, only {_FULL} and {_WINDOWED} are")
        windowed = types.count(_WINDOWED)
    window = config.count("sliding_window") if windowed else None
    if window is not None and (context is None or window < context):
        config.found["windowed_layers"] = float(windowed)
        config.size("window_tokens", "sliding_window")
    return None


# --- which layers have no experts -------------------------------------------------------------------------------------


def _no_dense_layers(config: _Reader, layers: int) -> int | None:
    return 0


def _first_layers_dense(config: _Reader, layers: int) -> int | None:
    """DeepSeek: the first few, and then all that are no multiple of a step."""
    first = config.count("first_k_dense_replace", least=0, absent=0, most=layers)
    step = config.count("moe_layer_freq", absent=1)
    if first is None or step is None:
        return None
    return sum(layer < first or layer % step != 0 for layer in range(layers))


def _sparse_step_dense(config: _Reader, layers: int) -> int | None:
    """Qwen: every so many layers has experts, less some that are named."""
    step = config.count("decoder_sparse_step", absent=1)
    named = config.raw("mlp_only_layers") or []
    if not isinstance(named, list) or not all(isinstance(layer, int) and 0 <= layer < layers for layer in named):
        config.wrong("mlp_only_layers", f"expected a list of layers from 0 to {layers - 1}, not {named!r}")
        return None
    return None if step is None else sum(layer in named or (layer + 1) % step != 0 for layer in range(layers))


# --- which layers are windowed, where `layer_types` does not list them ---------------------------------------------------


def _no_windows(config: _Reader, layers: int) -> int:
    return 0


def _all_windowed(config: _Reader, layers: int) -> int:
    """Mistral, Mixtral: all or, with null, none."""
    return 0 if config.raw("sliding_window") is None else layers


def _all_windowed_if_used(config: _Reader, layers: int) -> int:
    """Qwen3 with experts."""
    return layers if config.flag("use_sliding_window", False) else 0


def _last_windowed_if_used(config: _Reader, layers: int) -> int:
    """Qwen2 and Qwen3: from a layer on."""
    if not config.flag("use_sliding_window", False):
        return 0
    return max(0, layers - (config.count("max_window_layers", least=0) or 0))


def _every_other_of_first_windowed_if_used(config: _Reader, layers: int) -> int:
    """Qwen2 with experts: the first, third and so on, up to a layer."""
    if not config.flag("use_sliding_window", False):
        return 0
    return (min(layers, config.count("max_window_layers", least=0) or 0) + 1) // 2


def _every_other_windowed(config: _Reader, layers: int) -> int:
    """gpt-oss, Gemma 2: the first, third and so on."""
    return (layers + 1) // 2


def _all_but_every_so_many_windowed(config: _Reader, layers: int) -> int:
    """Gemma 3: the last of each pattern sees the whole context."""
    pattern = config.count("sliding_window_pattern")
    return layers - layers // pattern if pattern is not None else 0


DenseLayers = Callable[[_Reader, int], int | None]


@dataclass(frozen=True)
class _Family:
    """How the configuration of an architecture is read; `dense_layers` is None for models without experts.

    `inside` is the key under which the language model's part stands, `defaults` are values of the configuration class that
    published files leave out.
    """

    latent: bool = False
    dense_layers: DenseLayers | None = None
    expert_key: str = "num_experts"
    expert_width: str = "moe_intermediate_size"
    windows: Callable[[_Reader, int], int] = _no_windows
    tied: bool = False
    inside: str = ""
    defaults: Mapping[str, int] = field(default_factory=dict)


_MIXTRAL = _Family(
    dense_layers=_no_dense_layers,
    expert_key="num_local_experts",
    expert_width="intermediate_size",
    windows=_all_windowed,
)
_DEEPSEEK = _Family(latent=True, dense_layers=_first_layers_dense, expert_key="n_routed_experts")
_GEMMA3 = _Family(
    windows=_all_but_every_so_many_windowed,
    tied=True,
    defaults={
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "sliding_window_pattern": 6,
    },
)

#: architecture -> how its configuration is read.
FAMILIES = {
    "LlamaForCausalLM": _Family(),
    "MistralForCausalLM": _Family(windows=_all_windowed, defaults={"sliding_window": 4096}),
    "MixtralForCausalLM": _MIXTRAL,
    "Qwen2ForCausalLM": _Family(windows=_last_windowed_if_used),
    "Qwen2MoeForCausalLM": _Family(dense_layers=_sparse_step_dense, windows=_every_other_of_first_windowed_if_used),
    "Qwen3ForCausalLM": _Family(windows=_last_windowed_if_used),
    "Qwen3MoeForCausalLM": _Family(dense_layers=_sparse_step_dense, windows=_all_windowed_if_used),
    "DeepseekV2ForCausalLM": _DEEPSEEK,
    "DeepseekV3ForCausalLM": _DEEPSEEK,
    "KimiK2ForCausalLM": _DEEPSEEK,
    "GptOssForCausalLM": replace(_MIXTRAL, windows=_every_other_windowed),
    "Gemma2ForCausalLM": _Family(windows=_every_other_windowed, tied=True),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": replace(_GEMMA3, inside="text_config"),
}
