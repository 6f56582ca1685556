"""Catalogue files of one's own: parts beside the shipped ones or in their place, in checks, runs and sweeps."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from schema_scenarios import SCENARIO, TOPOLOGY, spoiled, write
from tiny_run import write_tiny

import twin
from twin.catalog import KIND_FILES, STATUSES, load_catalog
from twin.cli.main import main
from twin.errors import InputError
from twin.performance.shape import ATTENTION_SIZES
from twin.schema import LoadedScenario, OwnParts, catalog_with, load_any, load_scenario
from twin.schema.own_parts import PartValue
from twin.schema.part_needs import NEEDS
from twin.sweeps import run_sweep


def parts_file(kind: str, like: str, name: str = "mine", replaces: bool = False, **changes: object) -> str:
    """A file with one part: the shipped `like`, called `name` and with changes; None takes a key away."""
    file = Path(twin.__file__).parent / "catalog" / "data" / KIND_FILES[kind]
    body = yaml.safe_load(file.read_text())["parts"][like]
    for key, value in changes.items():
        body["values"].pop(key, None)
        if value is not None:
            body["values"][key] = {"value": value, "source": "test", "status": "assumed"}
    return yaml.safe_dump({"kind": kind, "replaces": replaces, "parts": {name: body}})


def refused(*arguments: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_scenario(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def with_parts(folder: Path, *texts: str, scenario: str = SCENARIO, topology: str = TOPOLOGY) -> str:
    """The small scenario with these catalogue files, `own/0.yaml` and so on."""
    (folder / "own").mkdir(exist_ok=True)
    for index, text in enumerate(texts):
        (folder / "own" / f"{index}.yaml").write_text(text)
    named = ", ".join(f"own/{index}.yaml" for index in range(len(texts)))
    return write(folder, f"{scenario}catalog: [{named}]\n", topology)


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    scenario = spoiled(SCENARIO, ("deepseek_r1", "mine"))
    loaded = load_scenario(with_parts(tmp_path, parts_file("model", "deepseek_r1"), scenario=scenario))
    catalog = catalog_with(loaded.scenario.catalog)
    assert catalog.part("model", "mine").number("experts") == 256
    assert "mine" not in load_catalog().names("model")
    assert catalog.names("model") == (*load_catalog().names("model"), "mine")


def test_every_kind_that_a_topology_names(tmp_path: Path) -> None:
    topology = spoiled(
        TOPOLOGY,
        ("gb200_nvl72", "own_rack"),
        ("spectrum4_sn5600", "own_switch"),
        ("pluggable_1600g", "own_optic"),
        ("cdu_1mw", "own_cdu"),
        ("orv3_shelf_33kw", "own_shelf"),
        ("lfp_container", "own_battery"),
    )
    files = [
        parts_file("rack", "gb200_nvl72", "own_rack", gpu="own_gpu", nic="own_nic"),
        parts_file("gpu", "gb200", "own_gpu", tdp_w="1100 W"),
        parts_file("nic", "cx7", "own_nic"),
        parts_file("switch", "spectrum4_sn5600", "own_switch"),
        parts_file("optic", "pluggable_1600g", "own_optic"),
        parts_file("cooling", "cdu_1mw", "own_cdu"),
        parts_file("electrical", "orv3_shelf_33kw", "own_shelf"),
        parts_file("battery", "lfp_container", "own_battery"),
        parts_file("backend", "trtllm", "own_backend"),
    ]
    scenario = spoiled(SCENARIO, ("trtllm", "own_backend"))
    loaded = load_scenario(with_parts(tmp_path, *files, scenario=scenario, topology=topology))
    assert loaded.scenario.topology.sites[0].racks[0].rack == "own_rack"
    # The topology's file has no own parts to itself.
    with pytest.raises(InputError, match="unknown rack 'own_rack'"):
        load_any(tmp_path / "topology.yaml")


def test_a_shipped_part_is_replaced_on_request_only(tmp_path: Path) -> None:
    again = parts_file("gpu", "gb200", "gb200", tdp_w="1000 W")
    assert refused(with_parts(tmp_path, again)) == [
        f"{tmp_path}/own/0.yaml:3:3: parts.gb200: gpu 'gb200' is in the catalogue already; "
        "write `replaces: true` beside `kind:` to replace it"
    ]
    file = with_parts(tmp_path, parts_file("gpu", "gb200", "gb200", replaces=True, tdp_w="1000 W"))
    assert catalog_with(load_scenario(file).scenario.catalog).part("gpu", "gb200").number("tdp_w") == 1000
    assert load_catalog().part("gpu", "gb200").number("tdp_w") == 1200
    (line,) = refused(with_parts(tmp_path, parts_file("gpu", "gb200", "gb20", replaces=True)))
    assert line.endswith("`replaces: true`, but the catalogue has no gpu 'gb20' (did you mean 'gb200'?)")


def test_a_name_is_given_once(tmp_path: Path) -> None:
    (line,) = refused(with_parts(tmp_path, parts_file("gpu", "gb200"), parts_file("gpu", "h100")))
    assert line == f"{tmp_path}/own/1.yaml:3:3: parts.mine: gpu 'mine' stands in catalog.0 already"
    assert load_scenario(with_parts(tmp_path, parts_file("gpu", "gb200"), parts_file("nic", "cx7")))  # of another kind


def test_two_scenarios_see_their_own_parts(tmp_path: Path) -> None:
    """Loading leaves nothing behind: each has its own `mine`, and a third has none."""
    scenario = spoiled(SCENARIO, ("deepseek_r1", "mine"))
    loaded = {}
    for name, rank in (("a", 512), ("b", 256)):
        (tmp_path / name).mkdir()
        loaded[name] = load_scenario(
            with_parts(tmp_path / name, parts_file("model", "deepseek_r1", kv_rank=rank), scenario=scenario)
        )
    for name, rank in (("a", 512), ("b", 256)):
        assert catalog_with(loaded[name].scenario.catalog).part("model", "mine").number("kv_rank") == rank
    assert loaded["a"].digest != loaded["b"].digest
    (line,) = refused(write(tmp_path, scenario))
    assert "serving.model: unknown model 'mine'" in line


class TestContent:
    def test_it_is_among_the_sources_and_decides_the_digest(self, tmp_path: Path) -> None:
        file = with_parts(tmp_path, parts_file("model", "deepseek_r1"))
        first = load_scenario(file)
        own = str(tmp_path / "own" / "0.yaml")
        assert own in first.sources
        assert own in first.files
        (tmp_path / "own" / "0.yaml").write_text(parts_file("model", "deepseek_r1", kv_rank=256))
        changed = load_scenario(file)
        assert changed.sources[own] != first.sources[own]
        assert changed.digest != first.digest
        (tmp_path / "moved").mkdir()
        moved = load_scenario(with_parts(tmp_path / "moved", parts_file("model", "deepseek_r1")))
        assert moved.digest == first.digest

    def test_the_resolved_scenario_loads_again(self, tmp_path: Path) -> None:
        scenario = spoiled(SCENARIO, ("deepseek_r1", "mine"))
        loaded = load_scenario(with_parts(tmp_path, parts_file("model", "deepseek_r1"), scenario=scenario))
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "scenario.resolved.yaml").write_text(loaded.to_yaml())
        again = load_scenario(str(tmp_path / "elsewhere" / "scenario.resolved.yaml"))
        assert again.model == loaded.model
        assert again.digest == loaded.digest
        assert load_scenario(loaded.scenario, {"horizon": "40 min"}).scenario.catalog == loaded.scenario.catalog
        assert load_scenario(loaded.resolved).model == loaded.model
        assert pickle.loads(pickle.dumps(loaded)).digest == loaded.digest

    def test_extends_and_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scenario = spoiled(SCENARIO, ("deepseek_r1", "mine"))
        file = with_parts(tmp_path, parts_file("model", "deepseek_r1"), scenario=scenario)
        (tmp_path / "sub").mkdir()
        child = tmp_path / "sub" / "child.yaml"
        child.write_text("extends: ../scenario.yaml\nname: child\n")
        assert load_scenario(str(child)).scenario.catalog == load_scenario(file).scenario.catalog
        monkeypatch.chdir(tmp_path / "sub")
        Path("other.yaml").write_text(parts_file("model", "deepseek_r1", "other"))
        loaded = load_scenario(str(child), {"catalog": "[other.yaml]", "serving.model": "other"})
        assert list(loaded.scenario.catalog[0].parts) == ["other"]
        loaded = load_scenario(file, {"catalog.0": "other.yaml", "serving.model": "other"})
        assert list(loaded.scenario.catalog[0].parts) == ["other"]
        loaded = load_scenario(file, {"catalog.0.parts.mine.values.kv_rank.value": 256})
        assert catalog_with(loaded.scenario.catalog).part("model", "mine").number("kv_rank") == 256
        Path("longer.yaml").write_text("extends: other.yaml\nparts: {other: {values: {kv_rank: {value: 128}}}}\n")
        loaded = load_scenario(file, {"catalog": "[longer.yaml]", "serving.model": "other"})
        assert catalog_with(loaded.scenario.catalog).part("model", "other").number("kv_rank") == 128


class TestProblems:
    def test_all_of_a_file_at_once_at_their_places(self, tmp_path: Path) -> None:
        wrong = (
            "kind: model\nreplaces: no\nnonsense: 1\nparts:\n  a b:\n    description: x\n    values: {}\n  mine:\n"
            "    description: 3\n    values:\n"
            "      layers: {value: -3, source: s, status: guessed}\n"
            '      kv_head: {value: 8, source: "", status: assumed}\n'
            "      attention: {value: 7, source: s, status: assumed}\n"
            "      params_total: {value: .inf, source: s, status: assumed}\n"
            "      context_tokens: {value: [1, a], source: s, status: assumed}\n"
            "      hidden: 7\n"
            "      vocab: {source: s, status: assumed}\n"
        )
        horizon = spoiled(SCENARIO, ("30 min", "30"))
        expected = [
            "2:1: replaces: expected true or false, not 'no'",
            "3:1: nonsense: unknown key (known: kind, parts, replaces)",
            "5:3: parts.a b: 'a b' is no name",
            "7:5: parts.a b.values: needs at least 1 entry",
            "9:5: parts.mine.description: expected a text, not 3",
            "11:16: parts.mine.values.layers.value: -3 is out of range: it must be above 0",
            "11:38: parts.mine.values.layers.status: 'guessed' is not one of 'datasheet', 'measured', 'projected', 'assumed'",
            "12:7: parts.mine.values.kv_head: no model has such a key (did you mean 'kv_heads'?)",
            "12:27: parts.mine.values.kv_head.source: is empty; say where the value comes from",
            "13:19: parts.mine.values.attention.value: expected a text, not 7",
            "14:22: parts.mine.values.params_total.value: inf is not a finite number",
            "15:24: parts.mine.values.context_tokens.value: a list must hold numbers alone, or texts alone",
            "16:7: parts.mine.values.hidden: expected keys and values with value, source, status, note, not 7",
            "17:7: parts.mine.values.vocab.value: is missing",
        ]
        *lines, last = refused(with_parts(tmp_path, wrong, scenario=horizon))
        assert last.startswith(f"{tmp_path}/scenario.yaml:27:1: horizon: the unit is missing")
        assert len(lines) == len(expected)
        for line, due in zip(lines, expected, strict=True):
            assert line.startswith(f"{tmp_path}/own/0.yaml:{due}")
        with pytest.raises(InputError) as caught:
            load_any(tmp_path / "own" / "0.yaml")
        assert str(caught.value).splitlines() == lines

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("tdp_w", 700, "the unit is missing: write 700 with one, such as '120 kW'"),
            ("tdp_w", "700 GB", "'700 GB' is bytes, but a power is due"),
            ("tdp_w", "0 W", "'0 W' is out of range: it must be above 0"),
            ("tdp_w", "-1 W", "'-1 W' is out of range: it must be above 0"),
            ("power_active_w", "-1 W", "'-1 W' is out of range: it must be at least 0"),
            ("clock_min_frac", "140 %", "'140 %' is out of range: it must be at most 1"),
            ("kv_formats", "bf16", "expected a list of texts, not 'bf16'"),
            ("kv_formats", [1, 2], "expected a list of texts, not [1, 2]"),
            ("generation", {"a": 1}, "expected a number, a text, true, false or a list, not {'a': 1}"),
        ],
    )
    def test_values(self, tmp_path: Path, key: str, value: object, said: str) -> None:
        (line,) = refused(with_parts(tmp_path, parts_file("gpu", "h100", **{key: value})))
        assert f"parts.mine.values.{key}.value: {said}" in line

    def test_a_file_that_cannot_be_read_hides_no_more_than_its_names(self, tmp_path: Path) -> None:
        scenario = spoiled(SCENARIO, ("deepseek_r1", "mine"), ("30 min", "30"))
        file = with_parts(tmp_path, "kind: [1\n", scenario=scenario)
        lines = refused(file)
        assert lines[0].startswith(f"{tmp_path}/own/0.yaml:2:1: broken YAML")
        assert "horizon: the unit is missing" in lines[1]
        assert len(lines) == 2
        assert refused(write(tmp_path), {"catalog": "[none.yaml]"}) == ["<--set>:1:1: catalog.0: no such file: none.yaml"]

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("own.yaml", "catalog: expected a list, not 'own.yaml'"),
            ("3", "catalog: expected a list, not 3"),
            ("[3]", "catalog.0: expected keys and values with kind, replaces, parts, not 3"),
            ("[{}]", "catalog.0.kind: is missing"),
            ("[{kind: gpux, parts: {}}]", "catalog.0.kind: 'gpux' is not one of 'gpu', 'cpu', "),
            ("[{kind: [1], parts: 7}]", "catalog.0.parts: expected keys and values, not 7"),
        ],
    )
    def test_what_is_no_list_of_files(self, tmp_path: Path, value: str, said: str) -> None:
        assert any(line.startswith(f"<--set>:1:1: {said}") for line in refused(write(tmp_path), {"catalog": value}))

    @given(
        st.sampled_from(["kind", "replaces", "parts", "mine", "values", "layers"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["gpu", "model", "?", "7 W", ""]),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "value", "kv_rank"]), inner),
            max_leaves=5,
        ),
    )
    def test_any_content_gives_a_scenario_or_an_input_error(self, key: str, value: object) -> None:
        def put(owner: dict[str, Any]) -> None:
            for each in list(owner):
                if each == key:
                    owner[each] = value
                elif isinstance(owner[each], dict):
                    put(owner[each])

        content = yaml.safe_load(parts_file("model", "deepseek_r1"))
        put(content)
        data = {**yaml.safe_load(SCENARIO), "topology": yaml.safe_load(TOPOLOGY), "catalog": [content]}
        data["serving"]["model"] = "mine"
        with contextlib.suppress(InputError):
            assert load_scenario(data).scenario.serving.model == "mine"


class TestFit:
    """What a part of one's own lacks, or cannot, is told where the scenario names it."""

    def one(self, tmp_path: Path, text: str, *changes: tuple[str, str]) -> str:
        (line,) = refused(with_parts(tmp_path, text, scenario=spoiled(SCENARIO, *changes)))
        return line.removeprefix(f"{tmp_path}/")

    @pytest.mark.parametrize(
        ("like", "gone"),
        [("llama_3_1_8b", ATTENTION_SIZES["gqa"]), ("deepseek_r1", ATTENTION_SIZES["mla"]), ("kimi_k2", ("context_tokens",))],
    )
    def test_a_model_without_kv_facts(self, tmp_path: Path, like: str, gone: tuple[str, ...]) -> None:
        said = self.one(tmp_path, parts_file("model", like, **dict.fromkeys(gone)), ("deepseek_r1", "mine"))
        assert said.startswith("scenario.yaml:12:3: serving.model: model mine has no published ")
        assert all(key in said for key in gone)

    def test_check_answers_with_two(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = parts_file("model", "llama_3_1_8b", kv_heads=None)
        file = with_parts(tmp_path, text, scenario=spoiled(SCENARIO, ("deepseek_r1", "mine")))
        assert main(["check", file]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1
        assert "serving.model: model mine has no published kv_heads" in told.err

    @pytest.mark.parametrize(
        ("like", "changes", "said"),
        [
            ("llama_3_1_8b", {"kv_heads": 7}, "model mine: kv_heads 7 does not divide heads 32"),
            ("llama_3_1_8b", {"windowed_layers": 32, "window_tokens": 4096}, "every layer of mine is windowed"),
            ("llama_3_1_8b", {"kv_heads": "?"}, "model mine has no published kv_heads"),
        ],
    )
    def test_a_model_that_cannot_be(self, tmp_path: Path, like: str, changes: dict[str, object], said: str) -> None:
        line = self.one(tmp_path, parts_file("model", like, **changes), ("deepseek_r1", "mine"))
        assert line.startswith(f"scenario.yaml:12:3: serving.model: {said}")

    def test_a_generation_that_the_backend_was_never_fitted_to(self, tmp_path: Path) -> None:
        line = self.one(tmp_path, parts_file("gpu", "gb200", "gb200", replaces=True, generation="other"))
        assert "serving.backend: backend trtllm has no coefficients for fp4 weights on GPU generation 'other'" in line
        fitted = {f"other_{key}": value for key, value in coefficients("trtllm", "blackwell").items()}
        load_scenario(
            with_parts(
                tmp_path,
                parts_file("gpu", "gb200", "gb200", replaces=True, generation="other"),
                parts_file("backend", "trtllm", "trtllm", replaces=True, **fitted),
            )
        )

    @pytest.mark.parametrize(
        ("precision", "said"),
        [
            (
                "{weights: fp4}",
                "13:3: serving.precision.kv: a100 cannot use a KV cache in fp8, only in bf16 (no FP8 arithmetic or conversion",
            ),
            ("{weights: fp8, kv: fp8}", "13:29: serving.precision.kv: a100 cannot use a KV cache in fp8, only in bf16"),
            ("{weights: bf16, kv: bf16}", None),
            ("{weights: fp8, kv: bf16}", None),  # stored in FP8, computed in BF16
            ("{weights: fp4, kv: bf16}", None),
        ],
    )
    def test_formats_on_ampere(self, tmp_path: Path, precision: str, said: str | None) -> None:
        rack = parts_file("rack", "hgx_h100", "own_a100", gpu="a100")
        scenario = spoiled(
            SCENARIO,
            ("deepseek_r1", "llama_3_1_8b"),
            ("{weights: fp4}", precision),
            ("dp: 8, ep: 8", "tp: 4"),
            ("instances: 18", "instances: 16"),
        )
        topology = spoiled(TOPOLOGY, ("gb200_nvl72", "own_a100"), (", loop: tcs", ""))
        file = with_parts(tmp_path, rack, scenario=scenario, topology=topology)
        if said is None:
            load_scenario(file)
        else:
            (line,) = refused(file)
            assert line.startswith(f"{tmp_path}/scenario.yaml:{said}")

    def test_weights_that_a_gpu_cannot_use(self, tmp_path: Path) -> None:
        gpu = parts_file("gpu", "gb200", "gb200", replaces=True, weight_formats=["bf16", "fp8"])
        assert "13:15: serving.precision.weights: gb200 cannot use weights in fp4, only in bf16, fp8 (test)" in self.one(
            tmp_path, gpu
        )

    def test_gpt_oss_on_hopper_stays(self, tmp_path: Path) -> None:
        """MXFP4 weights are stored so and computed in BF16, as measured systems do."""
        scenario = spoiled(
            SCENARIO, ("deepseek_r1", "gpt_oss_120b"), ("dp: 8, ep: 8", "tp: 4, ep: 4"), ("instances: 18", "instances: 16")
        )
        load_scenario(write(tmp_path, scenario, spoiled(TOPOLOGY, ("gb200_nvl72", "hgx_h100"), (", loop: tcs", ""))))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"gpu": "h10"}, "rack mine has the unknown gpu 'h10' (did you mean 'h100'?)"),
            ({"nic": "cx77"}, "rack mine has the unknown nic 'cx77' (did you mean 'cx7'?)"),
            ({"nodes": 5}, "rack mine: nodes 5 does not divide gpus 72; nodes 5 does not divide nics 72"),
            ({"scale_up_domain_gpus": 7}, "rack mine: scale_up_domain_gpus 7 does not divide gpus 72"),
            ({"gpus": 1.5, "nics": 1e9}, "rack mine: gpus, nics must be whole numbers from 1 to 1,000,000"),
            ({"rated_w": None, "nodes": None}, "rack mine cannot be simulated: nobody has published nodes, rated_w"),
        ],
    )
    def test_racks(self, tmp_path: Path, changes: dict[str, object], said: str) -> None:
        topology = spoiled(TOPOLOGY, ("gb200_nvl72", "mine"))
        (line,) = refused(with_parts(tmp_path, parts_file("rack", "gb200_nvl72", **changes), topology=topology))
        assert line == f"{tmp_path}/topology.yaml:6:23: sites.0.racks.0.rack: {said}"

    @pytest.mark.parametrize(
        ("shipped", "changes", "key", "said"),
        [
            ("air_cooled_chiller", {"part_load": [1.5, -1.0, 0.5]}, "chiller", "part_load falls with the load somewhere"),
            ("air_cooled_chiller", {"part_load": [0.2, 0.3, 0.4]}, "chiller", "three coefficients that add up to 1"),
            ("air_cooled_chiller", {"condenser": "sea"}, "chiller", "its condenser is cooled by air or water, not 'sea'"),
            ("dry_cooler", {"pumps": 2.5}, "dry_cooler", "pumps must be whole numbers up to 1,000,000"),
            ("dry_cooler", {"pumps": 1}, "dry_cooler", "of 1 pumps it needs 2"),
            ("dry_cooler", {"shutoff_head_ratio": 0.9}, "dry_cooler", "a pump's head must fall with its flow"),
        ],
    )
    def test_cooling(self, tmp_path: Path, shipped: str, changes: dict[str, object], key: str, said: str) -> None:
        (line,) = refused(with_parts(tmp_path, parts_file("cooling", shipped, shipped, replaces=True, **changes)))
        assert f": sites.0.cooling.{key}: cooling {shipped}: " in line
        assert said in line

    @pytest.mark.parametrize(
        ("kind", "shipped", "key", "path"),
        [
            ("switch", "spectrum4_sn5600", "hop_latency_s", "sites.0.fabric.switch"),
            ("optic", "pluggable_1600g", "bytes_per_s", "sites.0.fabric.optic"),
            ("cooling", "cdu_1mw", "coolant", "sites.0.cooling.loops.0.cdu"),
            ("cooling", "dry_cooler", "approach_k", "sites.0.cooling.dry_cooler"),
            ("cooling", "air_cooled_chiller", "lift_min_k", "sites.0.cooling.chiller"),
            ("cooling", "air_handler", "range_k", "sites.0.cooling.air_handler"),
            ("cooling", "cold_plate", "still_frac", "sites.0.cooling.cold_plate"),
            ("electrical", "orv3_shelf_33kw", "load_frac", "sites.0.electrical.power_shelf"),
            ("electrical", "ups_double_conversion", "efficiency_frac", "sites.0.electrical.ups"),
            ("electrical", "transformer_mv_lv", "load_frac", "sites.0.electrical.transformer"),
            ("battery", "lfp_container", "charge_efficiency_frac", "sites.0.battery.part"),
            ("gpu", "gb200", "cap_min_w", "sites.0.racks.0.rack"),
            ("nic", "cx7", "bytes_per_s", "sites.0.racks.0.rack"),
        ],
    )
    def test_what_a_part_lacks(self, tmp_path: Path, kind: str, shipped: str, key: str, path: str) -> None:
        (line,) = refused(with_parts(tmp_path, parts_file(kind, shipped, shipped, replaces=True, **{key: None})))
        assert f": {path}: " in line
        assert line.endswith(f"{kind} {shipped} cannot be simulated: nobody has published {key}")


def coefficients(backend: str, generation: str) -> dict[str, float]:
    part, prefix = load_catalog().part("backend", backend), f"{generation}_"
    found = {key.removeprefix(prefix): part.values[key] for key in part.values if key.startswith(prefix)}
    return {key: f"{value.value:g} s" if value.unit == "s" else value.value for key, value in found.items()}  # type: ignore[misc]


def test_a_run_and_a_sweep_with_own_parts(tmp_path: Path) -> None:
    """The own model is the shipped one under another name, so its run is the same to the last digit; processes know it, too."""
    (tmp_path / "models.yaml").write_text(parts_file("model", "llama_3_1_70b"))
    shipped = twin.run(write_tiny(tmp_path, "shipped"), out=tmp_path / "a")
    file = write_tiny(tmp_path, "own", more="catalog: [models.yaml]\n")
    file.write_text(file.read_text().replace("llama_3_1_70b", "mine").replace("name: own", "name: shipped"))
    own = twin.run(file, out=tmp_path / "b")
    # Another name is not among those that the coefficients were fitted on, and the run says so.
    assert "mine is not among the models measured" in own.summary["warnings"][0]
    assert own.summary | {"warnings": None} == shipped.summary | {"warnings": None}
    assert str(tmp_path / "models.yaml") in own.manifest["inputs"]
    again = twin.run(tmp_path / "b" / "scenario.resolved.yaml", out=tmp_path / "c")
    assert again.manifest["digest"] == own.manifest["digest"]
    heavy = "catalog.0.parts.mine.values.dense_ff.value"
    study = run_sweep(str(file), {heavy: [28672, 57344]}, jobs=2, out=tmp_path / "study", set={"horizon": "6 s"})
    tpot = study.frame["tpot_s_p50"]
    assert study.failures == ()
    assert tpot[1] > 1.3 * tpot[0]


def test_loading_takes_one_file_as_another(tmp_path: Path) -> None:
    (tmp_path / "parts.yaml").write_text(parts_file("battery", "lfp_container"))
    loaded = load_any(tmp_path / "parts.yaml")
    assert isinstance(loaded.model, OwnParts)
    assert loaded.resolved["parts"]["mine"]["values"]["charge_efficiency_frac"]["status"]
    assert isinstance(load_any(write(tmp_path)), LoadedScenario)


def test_the_models_say_what_the_catalogue_says() -> None:
    assert get_args(OwnParts.model_fields["kind"].annotation) == tuple(KIND_FILES)
    assert get_args(PartValue.model_fields["status"].annotation) == STATUSES


def test_every_shipped_part_would_pass_as_ones_own(tmp_path: Path) -> None:
    """All rules for own parts hold for the shipped ones, replaced by themselves."""
    for kind, name in KIND_FILES.items():
        content = yaml.safe_load((Path(twin.__file__).parent / "catalog" / "data" / name).read_text())
        (tmp_path / name).write_text(yaml.safe_dump({"kind": kind, "replaces": True, **content}))
        assert load_any(tmp_path / name)


def test_every_need_is_a_key_of_the_catalogue() -> None:
    catalog = load_catalog()
    known = {key for kind in catalog.kinds() for name in catalog.names(kind) for key in catalog.part(kind, name).values}
    assert {key for keys in NEEDS.values() for key in keys} <= known
