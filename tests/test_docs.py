"""README.md and docs/ held against the code: commands, fragments of scenarios, Python, tables, links."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
import yaml
from tiny_run import write_tiny

import twin
from twin.cli.main import main, pairs, parser
from twin.schema import load_any, load_scenario, load_topology

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "plant").glob("*.md")))
#: The configuration that the pages import.
CONFIG = ROOT / "tests" / "own_model" / "config.json"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    lines = [line for text in blocks(page, "bash") for line in text.splitlines() if line.strip()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def named(page: Path) -> str:
    return page.name


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder that looks like a fresh clone to commands that write beside themselves."""
    for name in ("scenarios", "topologies", "bench", "tests", "tools", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "config.json").symlink_to(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=named)
def test_commands_work(page, workplace, capsys):
    for words in commands(page):
        said = shlex.join(words)
        program, rest = words[0], words[1:]
        if program == "make":
            wanted = [word for word in rest if "=" not in word]
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(wanted) <= set(targets), said
        elif program == ".ci/run":
            assert os.access(ROOT / program, os.X_OK)
        elif program in ("twin", ".venv/bin/twin"):
            check_twin(rest, said)
        elif program == ".venv/bin/python" and rest[:2] == ["-m", "pytest"]:
            assert all(Path(word).exists() for word in rest[2:] if word.endswith(".py")), said
        elif program == ".venv/bin/python":
            subprocess.run([sys.executable, rest[0], "--help"], check=True, capture_output=True)
        else:
            assert program in ("python3.11", "/tmp/lock/bin/python"), f"no test for: {said}"


def check_twin(words: list[str], said: str) -> None:
    """The cheap form of a command: what only reads or makes a file is run, a simulation is checked as far as its start."""
    options = parser().parse_args(words)
    if words[0] == "run" or (words[0] == "faults" and not options.list):
        load_scenario(options.scenario, pairs(options.set), options.seed)
    elif words[0] == "pareto":
        load_scenario(options.scenario, pairs(options.set))
    elif words[0] == "sweep":
        from twin.sweeps import parse_over

        for path, values in parse_over(options.over).items():
            for value in values:
                load_scenario(options.scenario, pairs(options.set) | {path: value})
    elif words[0] in ("validate", "calibrate"):
        assert "measured.csv" in str(options.data), said
    elif words[0] in ("regress", "compare"):
        assert words[0] == "compare" or options.folder.is_dir(), said
    else:
        assert main(words) == 0, said


def test_every_command_is_told_of():
    told = {words[1] for page in PAGES for words in commands(page) if words[0].endswith("twin")}
    studies = {"run", "sweep", "pareto", "faults", "compare", "regress"}
    assert studies | {"check", "new", "validate", "calibrate", "trace", "topology", "model"} <= told


def is_part(text: str) -> bool:
    return {"kind", "parts"} <= set(yaml.safe_load(text))


def write_parts(folder: Path) -> None:
    """The pages' catalogue files and fit: shown ones go by the name in their first line, the model's comes from a config.json."""
    for page in PAGES:
        for text in blocks(page, "yaml"):
            if is_part(text):
                (folder / text.split()[1]).write_text(text)
    (folder / "my_fit.yaml").write_bytes((ROOT / "twin" / "workload" / "data" / "agent_generator.yaml").read_bytes())
    assert main(["model", "import", str(CONFIG), "--name", "deepseek_v2_lite", "--out", str(folder / "my_models.yaml")]) == 0


FRAGMENTS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    if page.name != "plugins.md"
    for number, text in enumerate(blocks(page, "yaml"))
]


@pytest.mark.parametrize("text", FRAGMENTS)
def test_fragments_are_sound(text, tmp_path):
    """Laid on the main job (or its factory), each fragment gives a scenario that passes every check; catalogue files do alone."""
    write_parts(tmp_path)
    (tmp_path / "topologies").symlink_to(ROOT / "topologies")
    file = tmp_path / "fragment.yaml"
    if is_part(text):
        load_any(tmp_path / text.split()[1])
    elif "sites" in yaml.safe_load(text):
        file.write_text(f"extends: {ROOT / 'topologies' / 'factory_1mw.yaml'}\n{text}")
        load_topology(file)
    else:
        file.write_text(f"extends: {ROOT / 'scenarios' / 'curtail_80.yaml'}\n{text}")
        load_scenario(file)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A scenario of ten seconds and a finished run of it."""
    folder = tmp_path_factory.mktemp("docs")
    scenario = write_tiny(folder)
    return SimpleNamespace(scenario=scenario, run=twin.run(scenario, out=folder / "run").path)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "files.md"], ids=named)
def test_python_works(page, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    found = blocks(page, "python")
    assert found
    for code in found:
        code = code.replace('"scenarios/quickstart.yaml"', repr(str(tiny.scenario)))
        exec(compile(code, str(page), "exec"), {"RUN": tiny.run})
    matplotlib.pyplot.close("all")


def test_plugins_work(tiny, tmp_path, monkeypatch):
    """The page's module, installed by the page's entry points, serves and controls a run of the page's trace."""
    page = ROOT / "docs" / "plugins.md"
    (tmp_path / "acme_twin.py").write_text("\n".join(blocks(page, "python")))
    project = tomllib.loads(blocks(page, "toml")[0])["project"]
    info = tmp_path / "acme_twin-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    text = "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups)
    (info / "entry_points.txt").write_text(text)
    (tmp_path / "gateway.acme").write_text("".join(f'{{"acme_at": {0.1 * i:.1f}, "in": 500, "out": 20}}\n' for i in range(60)))
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(f"extends: {tiny.scenario}\n{blocks(page, 'yaml')[0]}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_twin", raising=False)
    run = twin.run(scenario, out=tmp_path / "run")
    assert run.summary["requests"]["total"] == 60
    clocks = run.events[run.events["kind"] == "set_clock"]
    assert clocks["time_s"].tolist() == [4.0, 8.0]  # the event of the scenario
    # Prompts never queue at this load, so the router stays with the first instance; least_loaded would spread them.
    assert set(run.requests["decode_worker"]) == {"chat-0"}
    (tmp_path / "gateway.acme").write_text('{"acme_at": 0, "in": 500, "out": 20}\n{"acme_at": 1, "in": 0, "out": 20}\n')
    with pytest.raises(twin.InputError, match=r"gateway\.acme:2:1: in: must be at least 1"):
        twin.run(scenario, out=tmp_path / "bad")


@pytest.mark.parametrize("page", PAGES[1:], ids=named)
def test_tables_are_current(page):
    tables = runpy.run_path(str(ROOT / "tools" / "docs_tables.py"))
    text = page.read_text(encoding="utf-8")
    assert tables["rewritten"](text) == text, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


def test_the_picture_is_small():
    assert 20_000 < (ROOT / "docs" / "images" / "curtail_80.png").stat().st_size < 400_000


def test_the_tools_answer():
    for tool in sorted((ROOT / "tools").glob("*.py")):
        if "ArgumentParser" in tool.read_text():
            subprocess.run([sys.executable, tool, "--help"], check=True, capture_output=True, cwd=ROOT)


@pytest.mark.slow
def test_the_numbers_of_the_readme_are_those_of_the_run(tmp_path):
    tool = runpy.run_path(str(ROOT / "tools" / "readme.py"))
    scenario = ROOT / "scenarios" / "curtail_80.yaml"
    ladder = twin.run(scenario, out=tmp_path / "ladder")
    cap = twin.run(scenario, set={"control.policy": "uniform_cap"}, out=tmp_path / "cap")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool["with_table"](text, tool["table"](ladder, cap)) == text, "run `make readme`"
