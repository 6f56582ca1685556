"""Shipped topologies and templates, the editor schemas, and the commands check and new."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from schema_scenarios import SCENARIO, TOPOLOGY, write

from twin.catalog import load_catalog
from twin.cli.check import check_command
from twin.cli.new import new_command, template_names
from twin.errors import InputError
from twin.schema import load_scenario, load_topology
from twin.schema.electrical import elements_of, incomers_of
from twin.schema.json_schema import SCHEMAS, json_schema, write_schemas
from twin.schema.scenario import Scenario
from twin.schema.topology import Topology
from twin.schema.workload import AgentWorkload

ROOT = Path(__file__).resolve().parents[1]
TOPOLOGIES = sorted((ROOT / "topologies").glob("*.yaml"))
FILES = [*TOPOLOGIES, *sorted((ROOT / "twin" / "cli" / "templates").glob("*/*.yaml"))]


@pytest.mark.parametrize("path", TOPOLOGIES, ids=lambda path: path.stem)
def test_every_shipped_topology_is_sound(path: Path) -> None:
    topology = load_topology(path).topology
    assert topology.name == path.stem
    for site in topology.sites:
        rated = sum(group.count * load_catalog().part("rack", group.rack).number("rated_w") for group in site.racks)
        elements = elements_of(site.electrical, site.feed.name)
        incomers = incomers_of(site.electrical, site.feed.name)
        for incomer in incomers:  # each carries the site alone
            first = sum(e.rating * e.count for e in elements if e.fed_from == incomer)
            assert rated < first
        # quickstart is there to be short of power: its contract is what its rack draws in that scenario, not its rating.
        assert path.stem == "quickstart" or rated <= site.feed.contract
        assert site.feed.contract <= first


def test_the_factory_of_the_main_job() -> None:
    site = load_topology(ROOT / "topologies" / "factory_1mw.yaml").topology.sites[0]
    assert sum(group.count for group in site.racks) == 8
    assert site.feed.contract == 1e6
    assert site.battery is not None
    assert (site.battery.capacity, site.battery.power) == (250 * 3.6e6, 400e3)
    assert site.electrical.ups_rating == 1.5e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_files_name_their_schema_and_fit_it(path: Path) -> None:
    head = path.read_text().splitlines()[0]
    kind = "scenario" if path.stem == "scenario" else "topology"
    assert head.startswith("# yaml-language-server: $schema=")
    assert head.endswith(f"schemas/{kind}.schema.json")
    schema = json.loads((ROOT / "docs" / "schemas" / f"{kind}.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_the_committed_schemas_are_current(tmp_path: Path) -> None:
    for written in write_schemas(tmp_path):
        committed = ROOT / "docs" / "schemas" / written.name
        assert written.read_text() == committed.read_text(), "run `twin check --write-schemas docs/schemas`"
    assert sorted(SCHEMAS) == sorted(path.name for path in (ROOT / "docs" / "schemas").iterdir())


def test_the_schema_refuses_what_an_editor_should_underline() -> None:
    schema = json_schema(Scenario)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = yaml.safe_load(SCENARIO)
    assert not list(validator.iter_errors(good))
    assert not list(validator.iter_errors({**good, "topology": yaml.safe_load(TOPOLOGY)}))
    for change in ({"nonsense": 1}, {"horizon": 5}, {"serving": {**good["serving"], "model": 3}}, {"tiers": 3}):
        assert list(validator.iter_errors({**good, **change})), change
    assert list(validator.iter_errors({"name": "x"}))
    partial = {
        "extends": "base.yaml",
        "workload": {"arrivals": {"rate": "3 /s"}},
        "grid": {"events": [{"name": "e", "target": "70 %"}]},
    }
    assert not list(validator.iter_errors(partial))
    assert list(validator.iter_errors({**partial, "horizn": "1 h"}))
    assert not list(jsonschema.Draft202012Validator(json_schema(Topology)).iter_errors(yaml.safe_load(TOPOLOGY)))


def test_every_field_has_a_description() -> None:
    schema = json_schema(Scenario)
    for name, definition in schema["$defs"].items():
        for key, child in definition.get("properties", {}).items():
            assert child.get("description"), f"{name}.{key}"
    assert AgentWorkload.model_fields["warm_start"].description


class TestCheck:
    def test_sound_files_get_a_line_each(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = write(tmp_path)
        assert check_command([file, str(tmp_path / "topology.yaml")]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines() == [
            f"{file}: ok (scenario, 1 site, 2 racks, 144 GPUs)",
            f"{tmp_path}/topology.yaml: ok (topology, 1 site, 2 racks, 144 GPUs)",
        ]
        assert err == ""

    def test_problems_go_to_stderr_and_the_code_is_two(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = write(tmp_path)
        assert check_command([file, str(tmp_path / "none.yaml")], {"grid.nonsense": "1"}) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            "<--set>:1:1: grid.nonsense: unknown key (known: energy_price, events)",
            f"{tmp_path}/none.yaml:1:1: no such file",
        ]

    def test_schemas_are_written_where_asked(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert check_command([], schemas_folder=tmp_path / "new" / "schemas") == 0
        assert sorted(path.name for path in (tmp_path / "new" / "schemas").iterdir()) == sorted(SCHEMAS)
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            check_command([], schemas_folder=tmp_path / "file")

    def test_it_answers_fast_and_loads_nothing_heavy(self, tmp_path: Path) -> None:
        code = (
            "import sys; from twin.cli.check import check_command; code = check_command(sys.argv[1:]); "
            "heavy = {'numpy', 'pandas', 'pyarrow', 'simpy', 'networkx', 'matplotlib', 'rich'}; "
            "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
        )
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, write(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True)
        took_s = time.perf_counter() - begin
        assert done.stdout.splitlines()[-1] == "[]"
        assert took_s < 2.0, "0.25 s on a quiet machine; the contract is 0.6 s"


class TestNew:
    @pytest.mark.parametrize("template", template_names())
    def test_a_template_checks(self, tmp_path: Path, template: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert new_command(tmp_path / "mine", template) == 0
        assert (tmp_path / "mine" / "schemas" / "scenario.schema.json").is_file()
        assert "next: twin run" in capsys.readouterr().err
        assert load_scenario(tmp_path / "mine" / "scenario.yaml").scenario.name == template

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "topology.yaml").write_text("mine")
        with pytest.raises(InputError, match=r"topology\.yaml: is there already; nothing was written"):
            new_command(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["topology.yaml"]
        assert (tmp_path / "topology.yaml").read_text() == "mine"

    def test_an_unknown_template_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"unknown template 'quikstart'.*did you mean 'quickstart'"):
            new_command(tmp_path, "quikstart")

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            new_command(tmp_path / "file" / "sub")
