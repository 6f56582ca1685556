"""Scenario, topology and catalogue files to checked models: read, merged, overridden, validated, all problems at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from twin.catalog import load_catalog
from twin.errors import InputError, Problem
from twin.schema.base import Model
from twin.schema.consistency import scenario_consistency, topology_consistency
from twin.schema.fields import Path, dotted, get
from twin.schema.messages import Finding, findings
from twin.schema.overrides import apply_overrides
from twin.schema.own_parts import OwnParts, file_findings, names_known
from twin.schema.references import scenario_references, topology_references
from twin.schema.scenario import Scenario
from twin.schema.source import Node, Place, places, plain, to_yaml
from twin.schema.topology import Topology
from twin.schema.tree import TreeReader, node_at, topology_owners, with_absolute_paths, with_value

Source = str | os.PathLike[str] | Mapping[str, Any] | Model
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A checked model with where it came from.

    `resolved` is plain data (JSON-able) with every default written out, quantities with their units, and the topology and
    catalogue files in their places: dumped as YAML it loads again to an equal model. The data files that it names are
    absolute paths, so that it loads from any folder of the same machine. `overrides` is the log, "key: old -> new".
    """

    model: M
    resolved: dict[str, Any]
    overrides: tuple[str, ...]
    files: tuple[str, ...]
    """YAML files read, as they were named."""
    data_files: tuple[str, ...]
    """Trace, fit and weather files named, as absolute paths."""
    _digests: Mapping[str, str]
    _places: Mapping[Path, Place]

    def problems(self, found: Iterable[Finding]) -> list[Problem]:
        """What is found wrong with the main file later than on loading, each at the line and column of its key."""
        return _ordered([self._places[_near(path, self._places)].problem(dotted(path), message) for path, message in found])

    def to_yaml(self) -> str:
        """`resolved` as the text of a YAML file (scenario.resolved.yaml)."""
        return to_yaml(self.resolved)

    @cached_property
    def sources(self) -> dict[str, str]:
        """File -> SHA-256 of its content, for every file that the run depends on. Data files are read when first asked."""
        return {**self._digests, **{file: _sha256(file) for file in self.data_files}}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the resolved content without its seed. Data files count by content, so no folder name is in it."""
        content = {key: value for key, value in self.resolved.items() if key != "seed"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        for file in self.data_files:
            text = text.replace(json.dumps(file), json.dumps(f"sha256:{self.sources[file]}"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class LoadedScenario(Loaded[Scenario]):
    """A checked scenario with where it came from."""

    @property
    def scenario(self) -> Scenario:
        """The model."""
        return self.model


@dataclass(frozen=True)
class LoadedTopology(Loaded[Topology]):
    """A checked topology with where it came from."""

    @property
    def topology(self) -> Topology:
        """The model."""
        return self.model


@dataclass(frozen=True)
class LoadedParts(Loaded[OwnParts]):
    """A checked catalogue file with where it came from."""


@dataclass(frozen=True)
class _Kind(Generic[M]):
    """What a file can hold, and how it is checked."""

    root: type[M]
    references: Callable[[dict[str, Any]], Iterable[Finding]]
    consistency: Callable[[M], Iterable[Finding]]


_SCENARIO = _Kind(Scenario, scenario_references, scenario_consistency)
_TOPOLOGY = _Kind(Topology, topology_references, lambda topology: topology_consistency(topology, load_catalog()))
_PARTS = _Kind(OwnParts, file_findings, lambda parts: ())


def load_scenario(source: Source, overrides: Mapping[str, object] | None = None, seed: int | None = None) -> LoadedScenario:
    """The scenario of a file, of plain data or of a model, with `--set` values and a seed laid on it.

    Raises InputError with every problem found: broken YAML, unknown keys, wrong units, names and files that are not there,
    sizes that do not fit. Relative paths start from the file in which they stand, those in `overrides` from the current folder.
    """
    tree, reader = _tree(source)
    return LoadedScenario(*_load(tree, reader, _SCENARIO, overrides, seed))


def load_topology(source: Source, overrides: Mapping[str, object] | None = None) -> LoadedTopology:
    """The topology of a file, of plain data or of a model. Raises InputError with every problem found."""
    tree, reader = _tree(source)
    return LoadedTopology(*_load(tree, reader, _TOPOLOGY, overrides, None))


def load_any(source: Source, overrides: Mapping[str, object] | None = None) -> LoadedScenario | LoadedTopology | LoadedParts:
    """A scenario, a topology or a catalogue file, told by its keys: `sites` at the top makes a topology, `kind` or `parts` a
    catalogue file. Raises InputError."""
    tree, reader = _tree(source)
    keys = set(tree.value) if tree is not None else set()
    if not {"topology", "serving", "workload"} & keys:
        if "sites" in keys:
            return LoadedTopology(*_load(tree, reader, _TOPOLOGY, overrides, None))
        if {"kind", "parts"} & keys:
            return LoadedParts(*_load(tree, reader, _PARTS, overrides, None))
    return LoadedScenario(*_load(tree, reader, _SCENARIO, overrides, None))


def _tree(source: Source) -> tuple[Node | None, TreeReader]:
    reader = TreeReader()
    return reader.read(source.model_dump(mode="json") if isinstance(source, Model) else source), reader


def _load(
    tree: Node | None, reader: TreeReader, kind: _Kind[M], overrides: Mapping[str, object] | None, seed: int | None
) -> tuple[M, dict[str, Any], tuple[str, ...], tuple[str, ...], tuple[str, ...], dict[str, str], dict[Path, Place]]:
    """The fields of Loaded."""
    problems = reader.problems
    if tree is None:
        raise InputError(problems)
    tree, log = apply_overrides(tree, overrides or {}, kind.root, reader.put_files_in_place, problems)
    if seed is not None:
        tree = with_value(tree, ("seed",), Node(seed, Place("<--seed>")))
    tree = with_absolute_paths(tree)
    data = plain(tree)
    model, found = _validated(kind, data)
    problems += _placed(found, tree)
    problems += _fit_problems(data)
    if model is None or problems:
        raise InputError(_ordered(problems))
    resolved, where = model.model_dump(mode="json"), dict(places(tree))
    return model, resolved, log, tuple(reader.sources), _data_files(data), reader.sources, where


def _validated(kind: _Kind[M], data: dict[str, Any]) -> tuple[M | None, list[Finding]]:
    """The model, or None, and everything wrong with the data. Sizes are checked when all else is well."""
    wrong = list(kind.references(data))
    try:
        model = kind.root.model_validate(data, context={"catalog": names_known(data)})
    except ValidationError as error:
        return None, [*findings(error, kind.root, data), *wrong]
    return model, wrong or list(kind.consistency(model))


def _placed(found: Iterable[Finding], tree: Node) -> list[Problem]:
    """Findings with the place of their key, or of the nearest key above it; in a file that the main one names, with the path
    inside that file."""
    where = dict(places(tree))
    main = where[()].file
    topologies = [(*owner, "topology") for owner in topology_owners(tree)]
    problems = []
    for path, message in found:
        root = _root_of_file(path, topologies)
        if root and _unread(node_at(tree, root)):
            continue
        if path[:1] == ("jobs",) and _unread(node_at(tree, ("jobs",))):
            continue
        place = where[_near(path, where)]
        own = root and place.file not in (main, "<--set>") and where[root].file != place.file
        problems.append(place.problem(dotted(path[len(root) :] if own else path), message))
    return problems


def _near(path: Path, where: Mapping[Path, Place]) -> Path:
    """The key, or the nearest one above it that stands in the file."""
    while path not in where:
        path = path[:-1]
    return path


def _root_of_file(path: Path, topologies: Sequence[Path]) -> Path:
    """The key whose value is the content of another file, if `path` leads there: a `topology`, or an item of `catalog`."""
    for root in topologies:
        if path[: len(root)] == root:
            return root
    return path[:2] if path[:1] == ("catalog",) and len(path) > 1 else ()


def _unread(content: Node | None) -> bool:
    """Whether a file stands there that could not be read, which has been said."""
    value = None if content is None else content.value
    return isinstance(value, str) or (isinstance(value, dict) and "extends" in value)


def _ordered(problems: list[Problem]) -> list[Problem]:
    """By file in the order first met, then by line; the same thing said twice at one place is said once."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(dict.fromkeys(problems), key=lambda item: (files.index(item.file), item.line, item.column))


def _fit_problems(data: dict[str, Any]) -> Iterable[Problem]:
    """What is wrong inside the file of figures that agents are drawn from, at its own lines. One that is not there is said."""
    file = get(data, ("workload", "fit"))
    if get(data, ("workload", "kind")) != "agents" or not isinstance(file, str) or not os.path.isfile(file):
        return ()
    from twin.workload.agent_figures import read_figures  # loads numpy, which a scenario without a fit does not wait for

    try:
        read_figures(FilePath(file))
    except InputError as error:
        return error.problems
    return ()


def _data_files(data: dict[str, Any]) -> tuple[str, ...]:
    paths: list[Path] = [("workload", "trace"), ("workload", "clients"), ("workload", "fit")]
    systems = get(data, ("pareto", "systems"))
    owners: list[Path] = [("pareto", "systems", index) for index in range(len(systems) if isinstance(systems, list) else 0)]
    for prefix in (("topology", "sites"), ("sites",), *((*owner, "topology", "sites") for owner in owners)):
        paths += [(*prefix, index, "climate", "weather") for index in range(len(get(data, prefix) or ()))]
    named = dict.fromkeys(file for path in paths if isinstance(file := get(data, path), str))
    return tuple(each for file in named for each in _files_of(file))


def _files_of(path: str) -> list[str]:
    """A file itself; of a folder, the files in it."""
    if not os.path.isdir(path):
        return [path]
    return sorted(each.path for each in os.scandir(path) if each.is_file())


def _sha256(file: str) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
