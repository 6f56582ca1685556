"""extends, --set, resolved scenarios and their digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from schema_scenarios import SCENARIO, TOPOLOGY, spoiled, write

from twin.errors import InputError, Problem
from twin.schema import LoadedScenario, LoadedTopology, Scenario, load_any, load_scenario, load_topology
from twin.schema.fields import dotted, get
from twin.schema.source import Place, from_plain, parse_text, plain, to_yaml
from twin.schema.tree import merge

#: A trace of one call.
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,10,20\n"


def refused(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(*args, **kwargs)
    return str(caught.value)


def test_a_scenario_is_loaded_in_si_with_its_topology_in_place(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path))
    scenario = loaded.scenario
    assert scenario.horizon == 1800.0
    assert scenario.topology.sites[0].feed.contract == 300_000.0
    assert scenario.topology.sites[0].battery is not None
    assert scenario.topology.sites[0].battery.capacity == 60 * 3.6e6
    assert scenario.grid.events[0].target.contract_frac == 0.8
    assert scenario.serving.pools[0].parallelism.gpus == 8
    assert scenario.tiers[0].objectives.ttft == 2.0
    assert loaded.overrides == ()
    assert [Path(file).name for file in loaded.files] == ["scenario.yaml", "topology.yaml"]
    assert all(len(digest) == 64 for digest in loaded.sources.values())


def test_the_kind_of_a_file_is_told_by_its_keys(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert isinstance(load_any(file), LoadedScenario)
    assert isinstance(load_any(tmp_path / "topology.yaml"), LoadedTopology)
    assert load_topology(tmp_path / "topology.yaml").topology == load_scenario(file).scenario.topology


def test_plain_data_and_models_load_as_files_do(tmp_path: Path) -> None:
    scenario = load_scenario(write(tmp_path)).scenario
    assert load_scenario(scenario).scenario == scenario
    data = yaml.safe_load(SCENARIO)
    data["topology"] = yaml.safe_load(TOPOLOGY)
    assert load_scenario(data).scenario == scenario
    data["horizon"] = 5
    assert refused(data).startswith("<scenario>:1:1: horizon: the unit is missing")


def test_the_resolved_scenario_loads_again_and_is_the_same(tmp_path: Path) -> None:
    loaded = load_scenario(write(tmp_path, SCENARIO.replace("target: 80 %", "target: 240 kW")))
    again = tmp_path / "run" / "scenario.resolved.yaml"
    again.parent.mkdir()
    again.write_text(loaded.to_yaml())
    reloaded = load_scenario(str(again))
    assert reloaded.model == loaded.model
    assert reloaded.resolved == loaded.resolved
    assert reloaded.digest == loaded.digest
    json.dumps(loaded.resolved, allow_nan=False)
    assert loaded.resolved["horizon"] == "1800 s"
    assert loaded.resolved["grid"]["events"][0]["target"] == "240000 W"
    assert loaded.resolved["topology"]["sites"][0]["feed"]["contract"] == "300000 W"
    assert loaded.resolved["control"]["policy"] == "ladder", "defaults are written out"


class TestExtends:
    def test_mappings_merge_and_named_items_merge_by_name(self, tmp_path: Path) -> None:
        write(tmp_path)
        file = tmp_path / "child.yaml"
        file.write_text(
            "extends: scenario.yaml\nname: child\n"
            "tiers:\n  - name: standard\n    curtailment: defer\n  - name: batch\n"
            "workload: {tiers: {premium: 0.25, standard: 0.5, batch: 0.25}}\n"
            "grid: {events: [{name: backdown, target: 70 %}]}\n"
            "topology: {sites: [{name: main, battery: null}]}\n"
        )
        scenario = load_scenario(str(file)).scenario
        assert scenario.name == "child"
        assert [(tier.name, tier.curtailment) for tier in scenario.tiers] == [
            ("premium", "slow"),
            ("standard", "defer"),
            ("batch", "slow"),
        ]
        assert scenario.tiers[0].objectives.ttft == 2.0
        assert scenario.grid.events[0].target.contract_frac == pytest.approx(0.7)
        assert scenario.grid.events[0].start == 600.0
        assert scenario.topology.sites[0].battery is None
        assert scenario.topology.sites[0].feed.contract == 300_000.0

    def test_another_kind_replaces_the_whole(self, tmp_path: Path) -> None:
        write(tmp_path, SCENARIO.replace("kind: agents", "kind: agents\n  warm_start: false"))
        file = tmp_path / "child.yaml"
        chat = "workload: {kind: chat, arrivals: {process: gamma, rate: 1 /s, burstiness: 2}, tiers: {premium: 1}}"
        file.write_text(f"extends: scenario.yaml\n{chat}\n")
        assert load_scenario(str(file)).scenario.workload.kind == "chat"

    def test_another_topology_replaces_the_whole(self, tmp_path: Path) -> None:
        write(tmp_path)
        (tmp_path / "other.yaml").write_text("extends: topology.yaml\nname: other\nsites: [{name: main, fixed_load: 1 kW}]\n")
        (tmp_path / "child.yaml").write_text("extends: scenario.yaml\ntopology: other.yaml\n")
        topology = load_scenario(str(tmp_path / "child.yaml")).scenario.topology
        assert topology.name == "other"
        assert topology.sites[0].fixed_load == 1000.0

    def test_problems_stand_in_the_file_that_made_them(self, tmp_path: Path) -> None:
        write(tmp_path, spoiled(SCENARIO, ("30 min", "30 kW")))
        folder = tmp_path / "sub"
        folder.mkdir()
        file = folder / "child.yaml"
        file.write_text("extends: ../scenario.yaml\nserving:\n  model: gpt\ntopology:\n  sites: [{name: main, fixed_load: 3}]\n")
        lines = refused(str(file)).splitlines()
        assert lines[0].startswith(f"{file}:3:3: serving.model: unknown model 'gpt'")
        assert lines[1].startswith(f"{file}:5:24: topology.sites.0.fixed_load: the unit is missing")
        assert lines[2].startswith(f"{tmp_path}/scenario.yaml:27:1: horizon: '30 kW' is a power")
        assert len(lines) == 3

    def test_a_circle_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
        (tmp_path / "b.yaml").write_text("name: b\nextends: a.yaml\n")
        assert refused(str(tmp_path / "a.yaml")) == f"{tmp_path}/b.yaml:2:1: extends: a.yaml leads back to this file"
        (tmp_path / "c.yaml").write_text("extends: c.yaml\n")
        assert refused(str(tmp_path / "c.yaml")) == f"{tmp_path}/c.yaml:1:1: extends: c.yaml leads back to this file"
        (tmp_path / "d.yaml").write_text("topology: d.yaml\n")
        assert f"{tmp_path}/d.yaml:1:1: topology: d.yaml leads back to this file" in refused(str(tmp_path / "d.yaml"))

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("extends: nothere.yaml", "extends: no such file: "),
            ("extends: 3", "extends: expected the path of a file"),
            ("extends: [a, b]", "extends: expected the path of a file"),
            ("extends:", "extends: expected the path of a file"),
        ],
    )
    def test_a_base_that_is_not_there(self, tmp_path: Path, line: str, expected: str) -> None:
        file = tmp_path / "a.yaml"
        file.write_text(f"name: a\n{line}\n")
        assert refused(str(file)).startswith(f"{file}:2:1: {expected}")

    def test_the_nearest_file_is_named(self, tmp_path: Path) -> None:
        file = write(tmp_path, spoiled(SCENARIO, ("topology.yaml", "topolgy.yaml")))
        assert refused(file).endswith("(did you mean 'topology.yaml'?)")


class TestOverrides:
    def test_values_are_set_by_name_and_index_and_logged(self, tmp_path: Path) -> None:
        loaded = load_scenario(
            write(tmp_path),
            {
                "tiers.premium.objectives.ttft": "1 s",
                "grid.events.0.target": "70 %",
                "topology.sites.main.feed.contract": "280 kW",
                "control.step": "2 s",
                "control.policy": "uniform_cap",
                "workload.tiers": {"premium": 1.0},
                "serving.pools.workers.instances": 9,
                "topology.sites.0.battery": "null",
                "limits": '[{"value": "energy.pue", "max": 1.3}]',
            },
            seed=7,
        )
        scenario = loaded.scenario
        assert scenario.tiers[0].objectives.ttft == 1.0
        assert scenario.grid.events[0].target.contract_frac == pytest.approx(0.7)
        assert scenario.topology.sites[0].feed.contract == 280_000.0
        assert scenario.control.step == 2.0
        assert scenario.workload.tiers == {"premium": 1.0}
        assert scenario.serving.pools[0].instances == 9
        assert scenario.topology.sites[0].battery is None
        assert scenario.limits[0].max == 1.3
        assert scenario.seed == 7
        assert loaded.overrides == (
            "tiers.0.objectives.ttft: 2 s -> 1 s",
            "grid.events.0.target: 80 % -> 70 %",
            "topology.sites.0.feed.contract: 300 kW -> 280 kW",
            "control.step: 1 s -> 2 s",
            "control.policy: ladder -> uniform_cap",
            'workload.tiers: {"premium": 0.25, "standard": 0.75} -> {"premium": 1.0}',
            "serving.pools.0.instances: 18 -> 9",
            'topology.sites.0.battery: {"part": "lfp_container", "capacity": "60 kWh", "power": "100 kW"} -> null',
            'limits: () -> [{"value": "energy.pue", "max": 1.3}]',
        )

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("grid.nonsense", "1", "<--set>:1:1: grid.nonsense: unknown key (known: energy_price, events)"),
            ("control.polic", "x", "<--set>:1:1: control.polic: unknown key (did you mean 'policy'?)"),
            ("horizn", "1 h", "<--set>:1:1: horizn: unknown key (did you mean 'horizon'?)"),
            ("grit.events.x", "1 h", "<--set>:1:1: grit: unknown key (did you mean 'grid'?)"),
            ("topology.sites.0.fed.contract", "1 MW", "<--set>:1:1: topology.sites.0.fed: unknown key (did you mean 'feed'?)"),
            ("topology.sites.0.feed.contract", "1000", "<--set>:1:1: topology.sites.0.feed.contract: the unit is missing"),
            (
                "tiers.premum.curtailment",
                "slow",
                "<--set>:1:1: tiers.premum.curtailment: tiers has no item 'premum' (did you mean 'premium'?)",
            ),
            ("tiers.2.curtailment", "slow", "<--set>:1:1: tiers.2.curtailment: tiers has 2 items; the first is 0"),
            ("horizon.x", "1", "<--set>:1:1: horizon.x: horizon is '30 min', which has no keys"),
            ("horizon", "[1", "<--set>:1:1: horizon: '[1': broken YAML: "),
            ("horizon", "\ud800", "<--set>:1:1: horizon: '\\ud800': the character U+D800 may not stand"),
            ("", "1", "<--set>:1:1: is no key path"),
            ("a..b", "1", "<--set>:1:1: a..b: is no key path"),
            ("seed", "-1", "<--set>:1:1: seed: -1 is out of range: it must be at least 0"),
            ("topology", "none.yaml", "<--set>:1:1: topology: no such file: none.yaml"),
            ("horizon", None, "<--set>:1:1: horizon: expected a time such as '30 min', not None"),
        ],
    )
    def test_a_wrong_override_is_told_like_a_wrong_line(self, tmp_path: Path, key: str, value: object, expected: str) -> None:
        message = refused(write(tmp_path), {key: value})
        assert message.startswith(expected)
        assert len(message.splitlines()) == 1

    def test_a_wrong_seed_is_told(self, tmp_path: Path) -> None:
        assert refused(write(tmp_path), seed=-1) == "<--seed>:1:1: seed: -1 is out of range: it must be at least 0"

    def test_paths_start_from_the_current_folder_in_set_and_from_the_file_in_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there, here = tmp_path / "there", tmp_path / "here"
        for folder in (there, here):
            folder.mkdir()
            (folder / "trace.csv").write_text(AZURE)
        file = write(there, spoiled(SCENARIO, ("kind: agents", "kind: trace\n  trace: trace.csv")))
        (here / "t.yaml").write_text(TOPOLOGY.replace("name: small", "name: here"))
        monkeypatch.chdir(here)
        assert load_scenario(file).data_files == (str(there / "trace.csv"),)
        loaded = load_scenario(file, {"workload.trace": "trace.csv", "topology": "t.yaml"})
        assert loaded.data_files == (str(here / "trace.csv"),)
        assert loaded.scenario.topology.name == "here"
        assert str(here / "trace.csv") in loaded.sources

    def test_names_may_hold_dots(self, tmp_path: Path) -> None:
        scenario = SCENARIO.replace("standard", "v1.5")
        loaded = load_scenario(write(tmp_path, scenario), {"tiers.v1.5.curtailment": "defer", "workload.tiers.v1.5": 0.75})
        assert loaded.scenario.tiers[1].curtailment == "defer"


class TestDigest:
    def test_it_does_not_depend_on_the_folder_the_layout_or_the_seed(self, tmp_path: Path) -> None:
        text = spoiled(SCENARIO, ("kind: agents", "kind: trace\n  trace: trace.csv"))
        digests = set()
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "trace.csv").write_text(AZURE)
            digests.add(load_scenario(write(tmp_path / name, text)).digest)
        digests.add(load_scenario(str(tmp_path / "a" / "scenario.yaml"), seed=99).digest)
        digests.add(load_scenario(write(tmp_path / "b", text.replace("30 min", "0.5 h") + "# a comment\n")).digest)
        assert len(digests) == 1

    def test_it_changes_with_any_value_and_with_the_content_of_data(self, tmp_path: Path) -> None:
        file = write(tmp_path, spoiled(SCENARIO, ("kind: agents", "kind: trace\n  trace: trace.csv")))
        (tmp_path / "trace.csv").write_text(AZURE)
        first = load_scenario(file).digest
        assert load_scenario(file, {"horizon": "31 min"}).digest != first
        (tmp_path / "trace.csv").write_text(AZURE + "2023-11-16 18:15:48,10,20\n")
        assert load_scenario(file).digest != first


def test_loading_leaves_the_current_folder_and_its_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert load_scenario("scenario.yaml").files == ("scenario.yaml", "topology.yaml")
    assert Path.cwd() == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_moved_project_loads_as_before(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = load_scenario(write(tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert load_scenario(str(tmp_path / "b" / "scenario.yaml")).digest == first.digest


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
    | st.sampled_from(["1e3", "on", "0o7", "", "~", "null", "1:30"])
)
def test_any_text_is_written_so_that_it_reads_back(text: str) -> None:
    problems: list[Problem] = []
    node = parse_text(to_yaml({"key": [text]}), "f", problems)
    assert problems == []
    assert node is not None
    assert plain(node) == {"key": [text]}


def test_a_topology_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    assert refused(write(tmp_path, topology="a: [1\n")).startswith(f"{tmp_path}/topology.yaml:2:1: broken YAML")
    assert refused(write(tmp_path, topology="")) == f"{tmp_path}/topology.yaml:1:1: the file is empty"
    own = spoiled(SCENARIO, ("topology: topology.yaml", "topology: {extends: no.yaml, sites: []}"), ("30 min", "30"))
    lines = refused(write(tmp_path, own)).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{tmp_path}/scenario.yaml:2:12: extends: no such file: {tmp_path}/no.yaml")
    assert refused({"topology": "a\0b"}).startswith("<scenario>:1:1: topology: expected the path of a file")


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    overrides = {"serving.pools.0.instances": np.int64(9), "control.margin": np.float64(0.02)}
    scenario = load_scenario(write(tmp_path), overrides).scenario
    assert (scenario.serving.pools[0].instances, scenario.control.margin) == (9, 0.02)


_names = st.sampled_from(["a", "b", "c", "d"])
_trees = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(_names, _trees), st.dictionaries(_names, _trees))
def test_merging_keeps_what_is_not_mentioned_and_takes_what_is(base: dict[str, Any], over: dict[str, Any]) -> None:
    place = Place("f")
    merged = plain(merge(from_plain(base, place), from_plain(over, place)))
    assert set(merged) == set(base) | set(over)
    for key, value in merged.items():
        if key not in over:
            assert value == base[key]
        elif key not in base or not isinstance(over[key], dict | list):
            assert value == over[key]
    assert plain(merge(from_plain(merged, place), from_plain(over, place))) == merged
    assert plain(merge(from_plain(base, place), from_plain({}, place))) == base


_keys = st.lists(
    st.sampled_from(["tiers", "0", "premium", "workload", "grid", "events", "x", "topology", "sites", "target", "9", "name"]),
    min_size=1,
    max_size=5,
).map(dotted)


@given(_keys, st.text("ab01 %sk:[]{},'", max_size=8))
def test_any_override_gives_a_scenario_or_an_input_error(key: str, value: str) -> None:
    data = {**yaml.safe_load(SCENARIO), "topology": yaml.safe_load(TOPOLOGY)}
    assert outcome(data, {key: value})


def outcome(data: dict[str, Any], overrides: dict[str, object]) -> Scenario | tuple[Problem, ...]:
    """The scenario, or the problems; any other error fails the test."""
    try:
        return load_scenario(data, overrides).scenario
    except InputError as error:
        return error.problems


_SPOTS: list[tuple[str | int, ...]] = [
    ("horizon",),
    ("serving",),
    ("serving", "pools", 0),
    ("tiers", 0),
    ("topology", "sites", 0, "cooling"),
    ("grid", "events", 0, "target"),
    ("workload",),
    ("workload", "arrivals"),
]


@given(st.sampled_from(_SPOTS), _trees)
def test_any_value_anywhere_gives_a_scenario_or_an_input_error(path: tuple[str | int, ...], value: Any) -> None:
    data = {**yaml.safe_load(SCENARIO), "topology": yaml.safe_load(TOPOLOGY)}
    owner = get(data, path[:-1]) if len(path) > 1 else data
    owner[path[-1]] = value
    assert outcome(data, {})
