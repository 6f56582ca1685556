"""Published configurations: those of shipped models come back as shipped, others as their classes read them, wrong ones not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.catalog import Part, load_catalog
from twin.cli.main import main
from twin.performance import ModelShape
from twin.performance.config_json import ConfigError, model_of_config
from twin.schema import LoadedParts, load_any

CATALOG = load_catalog()


def sizes(architecture: str, **keys: Any) -> dict[str, Any]:
    return {"architectures": [architecture], **keys}


def llama(layers: int, hidden: int, heads: int, width: int) -> dict[str, Any]:
    return sizes(
        "LlamaForCausalLM",
        hidden_size=hidden,
        intermediate_size=width,
        max_position_embeddings=131_072,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        num_key_value_heads=8,
        tie_word_embeddings=False,
        vocab_size=128_256,
        attention_bias=False,
        rope_scaling={"factor": 8.0, "rope_type": "llama3"},
    )


def deepseek(heads: int, experts: int, dense: int, vocab: int, **more: Any) -> dict[str, Any]:
    return sizes(
        "DeepseekV3ForCausalLM",
        first_k_dense_replace=dense,
        hidden_size=7168,
        intermediate_size=18432,
        kv_lora_rank=512,
        max_position_embeddings=163_840,
        moe_intermediate_size=2048,
        moe_layer_freq=1,
        n_routed_experts=experts,
        n_shared_experts=1,
        num_attention_heads=heads,
        num_experts_per_tok=8,
        num_hidden_layers=61,
        num_key_value_heads=heads,
        q_lora_rank=1536,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        tie_word_embeddings=False,
        v_head_dim=128,
        vocab_size=vocab,
        **more,
    )


QWEN3 = {
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "max_window_layers": 64,
    "num_attention_heads": 64,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151_936,
}
GPT_OSS = sizes(
    "GptOssForCausalLM",
    head_dim=64,
    hidden_size=2880,
    initial_context_length=4096,
    intermediate_size=2880,
    layer_types=["sliding_attention", "full_attention"] * 18,
    max_position_embeddings=131_072,
    num_attention_heads=64,
    num_experts_per_tok=4,
    num_hidden_layers=36,
    num_key_value_heads=8,
    num_local_experts=128,
    sliding_window=128,
    tie_word_embeddings=False,
    vocab_size=201_088,
)
MIXTRAL = sizes(
    "MixtralForCausalLM",
    hidden_size=4096,
    intermediate_size=14336,
    max_position_embeddings=32768,
    num_attention_heads=32,
    num_experts_per_tok=2,
    num_hidden_layers=32,
    num_key_value_heads=8,
    num_local_experts=8,
    sliding_window=None,
    tie_word_embeddings=False,
    vocab_size=32000,
)
#: shipped name -> configuration, published total and how near the shape comes to it.
SHIPPED: dict[str, tuple[dict[str, Any], float, float]] = {
    "llama_3_1_8b": (llama(32, 4096, 32, 14336), 8.03e9, 0.01),
    "llama_3_1_70b": (llama(80, 8192, 64, 28672), 70.6e9, 0.01),
    "llama_3_1_405b": (llama(126, 16384, 128, 53248), 405.9e9, 0.01),
    "qwen3_32b": (
        sizes(
            "Qwen3ForCausalLM", hidden_size=5120, intermediate_size=25600, num_hidden_layers=64, num_key_value_heads=8, **QWEN3
        ),
        32.8e9,
        0.01,
    ),
    "qwen3_235b": (
        sizes(
            "Qwen3MoeForCausalLM",
            decoder_sparse_step=1,
            hidden_size=4096,
            intermediate_size=12288,
            mlp_only_layers=[],
            moe_intermediate_size=1536,
            num_experts=128,
            num_experts_per_tok=8,
            num_hidden_layers=94,
            num_key_value_heads=4,
            **QWEN3,
        ),
        235e9,
        0.01,
    ),
    "deepseek_r1": (deepseek(128, 256, 3, 129_280, num_nextn_predict_layers=1), 671e9, 0.01),
    "deepseek_v3": (deepseek(128, 256, 3, 129_280, num_nextn_predict_layers=1), 671e9, 0.01),
    "kimi_k2": (deepseek(64, 384, 1, 163_840), 1.04e12, 0.015),  # its report rounds 1.026 T up
    "gpt_oss_120b": (GPT_OSS, 117e9, 0.01),
}


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def shape_of(config: dict[str, Any]) -> ModelShape:
    return ModelShape.from_part(model_of_config(config, "mine"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_comes_back_from_its_configuration(name: str) -> None:
    config, total, near = SHIPPED[name]
    imported, shipped = model_of_config(config, name), CATALOG.part("model", name)
    own = {"context_tokens", "params_total", "params_active", "kv_token_bf16_bytes"}  # cards extend contexts and round
    for key, value in shipped.values.items():
        if key not in own:
            assert imported.values[key].value == value.value, key
    more = {key: value.value for key, value in imported.values.items() if key not in shipped.values}
    assert set(more.values()) <= {0.0}, more  # no shared experts, no predicting layers
    assert imported.number("params_total") == pytest.approx(total, rel=near)
    assert imported.number("params_active") == pytest.approx(shipped.number("params_active"), rel=0.025)
    assert imported.values["layers"].status == "datasheet"
    assert imported.values["params_total"].status == "assumed"
    assert "added up from the shape" in imported.values["params_total"].source


def test_mixtral() -> None:
    shape = shape_of(MIXTRAL)
    assert shape.params_total == pytest.approx(46.7e9, rel=0.01)
    assert shape.params_active == pytest.approx(12.9e9, rel=0.015)
    assert (shape.experts, shape.experts_per_token, shape.expert_ff, shape.dense_layers) == (8, 2, 14336, 0)
    assert (shape.head_dim, shape.windowed_layers) == (128, 0)


def test_keys_that_may_be_absent() -> None:
    shape = shape_of(without(SHIPPED["llama_3_1_8b"][0], "num_key_value_heads", "tie_word_embeddings"))
    assert (shape.kv_heads, shape.head_dim, shape.tied_embeddings) == (32, 128, False)


def test_latent_attention_without_a_rank_for_queries() -> None:
    """DeepSeek-V2-Lite: 15.7 G parameters, 2.4 G of them a token."""
    shape = shape_of(json.loads((Path(__file__).parent / "own_model" / "config.json").read_text()))
    assert (shape.query_rank, shape.kv_rank, shape.dense_layers, shape.shared_experts) == (0, 512, 1, 2)
    assert shape.params_total == pytest.approx(15.7e9, rel=0.01)
    assert shape.params_active == pytest.approx(2.4e9, rel=0.025)


MISTRAL = llama(32, 4096, 32, 14336) | {"architectures": ["MistralForCausalLM"], "max_position_embeddings": 32768}
QWEN2 = llama(28, 3584, 28, 18944) | {"architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 4, "max_window_layers": 20}
QWEN2_MOE = QWEN2 | {
    "architectures": ["Qwen2MoeForCausalLM"],
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2560,
    "shared_expert_intermediate_size": 20480,
}
QWEN3_MOE = SHIPPED["qwen3_235b"][0]
GEMMA2 = llama(42, 3584, 16, 14336) | {"architectures": ["Gemma2ForCausalLM"], "head_dim": 256, "sliding_window": 4096}


@pytest.mark.parametrize(
    ("config", "windowed"),
    [
        (MISTRAL | {"sliding_window": None}, (0, 0)),
        (MISTRAL | {"sliding_window": 4096}, (32, 4096)),
        (MISTRAL, (32, 4096)),  # the class's default
        (MISTRAL | {"sliding_window": 32768}, (0, 0)),  # as long as the context
        (QWEN2 | {"use_sliding_window": False, "sliding_window": 4096}, (0, 0)),
        (QWEN2 | {"use_sliding_window": True, "sliding_window": 4096}, (8, 4096)),
        (QWEN2_MOE | {"use_sliding_window": True, "sliding_window": 4096}, (10, 4096)),
        (QWEN3_MOE | {"use_sliding_window": True, "sliding_window": 4096}, (94, 4096)),
        (without(GPT_OSS, "layer_types"), (18, 128)),
        (GPT_OSS | {"layer_types": ["full_attention"] * 36}, (0, 0)),
        (GPT_OSS | {"num_hidden_layers": 3, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]}, (2, 128)),
        (GEMMA2, (21, 4096)),
    ],
)
def test_windows(config: dict[str, Any], windowed: tuple[int, int]) -> None:
    shape = shape_of(config)
    assert (shape.windowed_layers, shape.window_tokens) == windowed


def test_layers_without_experts() -> None:
    assert shape_of(QWEN3_MOE | {"decoder_sparse_step": 2}).dense_layers == 47
    assert shape_of(QWEN3_MOE | {"mlp_only_layers": [0, 1, 93]}).dense_layers == 3
    assert shape_of(QWEN3_MOE | {"mlp_only_layers": [0]}).dense_ff == 12288
    # 61 layers, experts from the third on where the layer is even: layers 4, 6, ... 60
    assert shape_of(deepseek(128, 256, 3, 129_280) | {"moe_layer_freq": 2}).moe_layers == 29


def test_a_wide_shared_expert_counts_as_several() -> None:
    shape = shape_of(QWEN2_MOE)
    assert shape.shared_experts == 8
    assert shape.params_total == pytest.approx(57.4e9, rel=0.01)  # Qwen2-57B-A14B
    assert shape.params_active == pytest.approx(14.2e9, rel=0.05)


def test_gemma_3_and_what_its_published_file_leaves_to_its_class() -> None:
    """Gemma-3-4b: 34 layers, of which every sixth is not windowed; the text tower alone has 3.88 G parameters."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    part = model_of_config(sizes("Gemma3ForConditionalGeneration", text_config=text, vision_config={"hidden_size": 1152}), "mine")
    shape = ModelShape.from_part(part)
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.vocab) == (8, 4, 256, 262_208)
    assert (shape.windowed_layers, shape.window_tokens, shape.tied_embeddings) == (29, 1024, True)
    assert shape.params_total == pytest.approx(3.88e9, rel=0.01)
    assert part.values["vocab"].status == "assumed"
    assert part.values["vocab"].source.startswith("default of the configuration class")
    assert part.values["hidden"].status == "datasheet"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, ["architectures: expected a list of one name, not None"]),
        (sizes("MambaForCausalLM"), ["architectures: 'MambaForCausalLM' cannot be imported, only LlamaForCausalLM, "]),
        (sizes("Qwen3NextForCausalLM"), ["architectures: 'Qwen3NextForCausalLM' cannot be imported"]),
        (
            sizes("LlamaForCausalLM"),
            [
                "max_position_embeddings: is missing",
                "num_hidden_layers: is missing",
                "hidden_size: is missing",
                "vocab_size: is missing",
                "num_attention_heads: is missing",
                "intermediate_size: is missing",
            ],
        ),
        (
            MIXTRAL | {"num_hidden_layers": -32, "vocab_size": "many", "hidden_size": 4096.5, "tie_word_embeddings": 1},
            [
                "num_hidden_layers: -32 is out of range: it must be from 1 to 10,000",
                "hidden_size: expected a whole number, not 4096.5",
                "vocab_size: expected a whole number, not 'many'",
                "tie_word_embeddings: expected true or false, not 1",
            ],
        ),
        (
            without(llama(32, 4096, 30, 14336), "head_dim"),
            [
                "num_key_value_heads: 8 does not divide the 30 attention heads",
                "head_dim: is missing, and 30 heads do not divide the hidden size of 4096",
            ],
        ),
        (
            GPT_OSS | {"layer_types": ["full_attention", "linear_attention", "mamba"] * 12},
            ["layer_types: linear_attention, mamba is not modelled, only full_attention and sliding_attention are"],
        ),
        (GPT_OSS | {"layer_types": ["full_attention"]}, ["layer_types: expected a list of 36 kinds of attention, one a layer"]),
        (GPT_OSS | {"sliding_window": None}, ["sliding_window: is null"]),
        (GPT_OSS | {"num_experts": 64}, ["num_experts: 64 contradicts num_local_experts 128"]),
        (MIXTRAL | {"num_experts_per_tok": 9}, ["num_experts_per_tok: 9 are more than the 8 experts"]),
        (without(MIXTRAL, "num_local_experts"), ["num_local_experts: is missing"]),
        (
            deepseek(128, 256, 62, 129_280) | {"kv_lora_rank": None},
            ["kv_lora_rank: is null", "first_k_dense_replace: 62 is out of range: it must be from 0 to 61"],
        ),
        (
            QWEN2_MOE | {"shared_expert_intermediate_size": 20481, "mlp_only_layers": [28]},
            [
                "mlp_only_layers: expected a list of layers from 0 to 27, not [28]",
                "shared_expert_intermediate_size: 20481 is no whole number of experts of width 2560",
            ],
        ),
        (
            sizes("Gemma3ForConditionalGeneration", hidden_size=2560),
            [
                "text_config: expected the configuration of the language model, not None",
                "text_config.num_hidden_layers: is missing",
                "text_config.hidden_size: is missing",
                "text_config.intermediate_size: is missing",
            ],
        ),
    ],
)
def test_everything_wrong_is_told_at_once(config: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        model_of_config(config, "mine")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(said), lines
    for line, expected in zip(lines, said, strict=True):
        assert line.startswith(expected)


_values = st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats() | st.text(max_size=3) | st.lists(st.integers(0, 9))


@given(st.sampled_from([*(config for config, _, _ in SHIPPED.values()), MIXTRAL, QWEN2_MOE, GEMMA2]), st.data())
def test_any_value_anywhere_gives_a_model_or_an_error(config: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(config)))
    with contextlib.suppress(ConfigError):
        assert isinstance(model_of_config(config | {key: data.draw(_values)}, "mine"), Part)


class TestCommand:
    def test_the_file_that_comes_out_is_a_catalogue_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "My-Model 7B"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(SHIPPED["deepseek_r1"][0]))
        out = tmp_path / "mine.yaml"
        assert main(["model", "import", str(folder / "config.json"), "--out", str(out)]) == 0
        told = capsys.readouterr()
        assert told.out == f"{out}\n"
        assert "catalog: [mine.yaml]" in told.err
        assert main(["check", str(out)]) == 0
        assert "ok (catalogue file, 1 part of kind model)" in capsys.readouterr().out
        loaded = load_any(str(out))
        assert isinstance(loaded, LoadedParts)
        (part,) = loaded.model.catalog_parts()
        assert part.name == "my_model_7b"
        assert part.values == model_of_config(SHIPPED["deepseek_r1"][0], "my_model_7b").values
        assert main(["model", "import", str(folder / "config.json"), "--name", "my_model_7b"]) == 0
        assert capsys.readouterr().out == out.read_text()

    def test_a_name_of_the_catalogue_is_pointed_out(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "llama_3_1_8b.json").write_text(json.dumps(SHIPPED["llama_3_1_8b"][0]))
        assert main(["model", "import", str(tmp_path / "llama_3_1_8b.json"), "--out", str(tmp_path / "o.yaml")]) == 0
        assert "replaces: true" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('{"architectures": [', ":1:20: is not JSON: "),
            ("[1]", ": expected keys and values, not list"),
            ("[" * 100_000, ": is not JSON: "),
            ('{"architectures": ["LlamaForCausalLM"]}', ": num_hidden_layers: is missing\n"),
        ],
    )
    def test_a_bad_file_leaves_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
        config, out = tmp_path / "config.json", tmp_path / "o.yaml"
        config.write_text(text)
        assert main(["model", "import", str(config), "--name", "x", "--out", str(out)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert f"{config}{said}" in told.err
        assert all(line.startswith(str(config)) for line in told.err.splitlines())
        assert not out.exists()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["none.json"], "none.json: cannot be read: No such file or directory"),
            (["good.json", "--name", "a b"], "'a b' is no name for a model"),
            (["good.json", "--out", "there.yaml"], "there.yaml: is there already; nothing was written"),
            (["good.json", "--out", "no/folder.yaml"], "no/folder.yaml: cannot be written: No such file or directory"),
        ],
    )
    def test_wrong_arguments(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("good.json").write_text(json.dumps(MIXTRAL))
        Path("there.yaml").write_text("mine")
        assert main(["model", "import", *arguments]) == 2
        assert said in capsys.readouterr().err
        assert Path("there.yaml").read_text() == "mine"
