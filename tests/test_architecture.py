"""The house rules of docs/architecture.md that import-linter does not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PACKAGE = ROOT / "twin"
SOURCES = sorted(PACKAGE.rglob("*.py"))
#: What takes long to import and is needed by a run alone.
HEAVY = ("numpy", "pandas", "pyarrow", "matplotlib", "networkx", "simpy", "scipy")


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_outgrows_its_noun():
    too_long = {str(path.relative_to(ROOT)): lines(path) for path in SOURCES if lines(path) > 500}
    assert not too_long


@pytest.mark.filterwarnings("default")
def test_long_files_are_pointed_out():
    for path in SOURCES:
        if lines(path) > 400:
            warnings.warn(f"{path.relative_to(ROOT)} has {lines(path)} lines: is it still one noun?", stacklevel=1)


def test_the_engine_alone_names_simpy():
    users = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "simpy" for name in names):
                users.add(path.relative_to(PACKAGE).parts[0])
    assert users == {"engine"}


@pytest.mark.parametrize(
    "statement",
    [
        "import twin; twin.__all__",
        "import twin.cli.main as m; m.parser().format_help()",
        "import twin.cli.main as m; assert m.main(['check', 'scenarios/curtail_80.yaml']) == 0",
        "import twin.catalog as c; c.load_catalog()",
    ],
)
def test_what_must_answer_at_once_imports_nothing_heavy(statement):
    code = f"{statement}; import sys; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_every_key_of_a_file_says_what_it_is():
    # imported first, so that all models are there
    import twin.schema.scenario
    import twin.schema.topology  # noqa: F401
    from twin.schema.base import Model

    silent = [
        f"{model.__name__}.{name}"
        for model in descendants(Model)
        if model.__module__.startswith("twin.")
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert not silent


def descendants(model: type) -> list[type]:
    return [each for child in model.__subclasses__() for each in (child, *descendants(child))]


def test_every_public_module_says_what_it_is():
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if lines(path) and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent
