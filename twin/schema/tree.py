"""A scenario or topology file with everything it draws in: `extends:` merged, the topology, catalogue and job files put in
place, paths made absolute.

Merging an extending file into its base: mappings merge key by key; lists whose items all have a `name` merge item by item (new
names go to the end); everything else, other lists included, is replaced, and `key:` with nothing behind it takes a value away. A
mapping that changes its kind (`workload.kind`, `arrivals.process`) replaces the base's as a whole, for the keys of one kind
mean nothing to another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from twin.errors import Problem, did_you_mean
from twin.schema.fields import dotted
from twin.schema.job_list import is_csv, read_csv
from twin.schema.source import Node, Place, from_plain, read_file

#: mappings that are one of several kinds, and the key that tells which.
_KIND_KEYS = {"workload": "kind", "arrivals": "process"}


class TreeReader:
    """Reads files into one tree of nodes; `problems` and `sources` (file -> SHA-256) grow as it reads."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.sources: dict[str, str] = {}

    def read(self, source: str | os.PathLike[str] | Mapping[str, object]) -> Node | None:
        """The whole tree of a file, or of plain data given in its place; None where it cannot be read."""
        if isinstance(source, Mapping):
            return self._complete(from_plain(source, Place("<scenario>")), ())
        return self._read(os.fspath(source), ())

    def put_files_in_place(self, tree: Node) -> Node:
        """Each `topology: FILE`, `catalog: [FILE]` and `jobs: FILE` replaced by the files' contents. What cannot be read stays as
        it was."""
        return self._put_in_place(tree, ())

    def _put_in_place(self, tree: Node, stack: tuple[str, ...]) -> Node:
        return self._put_jobs_in_place(self._put_catalog_in_place(self._put_topologies_in_place(tree, stack), stack), stack)

    def _read(self, file: str, stack: tuple[str, ...]) -> Node | None:
        node, digest = read_file(file, self.problems)
        if digest:
            self.sources[file] = digest
        return None if node is None else self._complete(node, (*stack, os.path.realpath(file)))

    def _complete(self, node: Node, stack: tuple[str, ...]) -> Node | None:
        """`node` merged into what it extends, files put in place. `stack` holds the files being read, outermost first."""
        if "extends" in node.value:
            own = Node({key: child for key, child in node.value.items() if key != "extends"}, node.place)
            base = self._referred(node.value["extends"], "extends", stack)
            if base is None:
                return None
            node = merge(base, own)
        return self._put_in_place(node, stack)

    def _put_topologies_in_place(self, tree: Node, stack: tuple[str, ...]) -> Node:
        for owner in topology_owners(tree):
            path = (*owner, "topology")
            topology = node_at(tree, path)
            assert topology is not None
            tree = with_value(tree, path, self._in_place(topology, dotted(path), stack))
        return tree

    def _put_catalog_in_place(self, tree: Node, stack: tuple[str, ...]) -> Node:
        files = tree.value.get("catalog")
        if files is None or not isinstance(files.value, list):
            return tree
        items = [self._in_place(item, f"catalog.{index}", stack) for index, item in enumerate(files.value)]
        return with_value(tree, ("catalog",), Node(items, files.place))

    def _put_jobs_in_place(self, tree: Node, stack: tuple[str, ...]) -> Node:
        """A job list in place of its path: the list itself of a CSV, what stands under `jobs` of a YAML file."""
        named = tree.value.get("jobs")
        if named is None or not isinstance(named.value, str):
            return tree
        if is_csv(named.value):
            file = self._path_of(named, "jobs", stack)
            if file is None:
                return tree
            jobs, digest = read_csv(file, self.problems)
            if digest:
                self.sources[file] = digest
        else:
            content = self._referred(named, "jobs", stack)
            jobs = None if content is None else content.value.get("jobs")
            for key, child in (content.value if content is not None else {}).items():
                if key != "jobs":
                    self.problems.append(child.place.problem(key, f"unknown key{did_you_mean(key, ['jobs'])}"))
            if content is not None and jobs is None:
                self.problems.append(content.place.problem("jobs", "is missing"))
        return tree if jobs is None else with_value(tree, ("jobs",), jobs)

    def _in_place(self, node: Node, key: str, stack: tuple[str, ...]) -> Node:
        """The content of the file that `node` names, or `node` merged into what it extends; itself where that cannot be read."""
        content = None
        if isinstance(node.value, str):
            content = self._referred(node, key, stack)
        elif isinstance(node.value, dict) and "extends" in node.value:
            content = self._complete(node, stack)
        return node if content is None else Node(content.value, node.place)

    def _referred(self, node: Node, key: str, stack: tuple[str, ...]) -> Node | None:
        """The tree of the file that `node` names, read relative to the file in which it stands."""
        file = self._path_of(node, key, stack)
        return None if file is None else self._read(file, stack)

    def _path_of(self, node: Node, key: str, stack: tuple[str, ...]) -> str | None:
        """The file that `node` names; None where there is none, which has been said."""
        if not isinstance(node.value, str) or not node.value or "\0" in node.value:
            self.problems.append(node.place.problem(key, "expected the path of a file"))
            return None
        file = os.path.normpath(node.place.folder / os.path.expanduser(node.value))
        if os.path.realpath(file) in stack:
            self.problems.append(node.place.problem(key, f"{node.value} leads back to this file"))
            return None
        if not os.path.exists(file):
            self.problems.append(node.place.problem(key, f"no such file: {file}{_yaml_beside(file)}"))
            return None
        return file


def _yaml_beside(file: str) -> str:
    folder = Path(file).parent
    names = [path.name for path in sorted(folder.glob("*.yaml"))] if folder.is_dir() else []
    return did_you_mean(Path(file).name, names)


def merge(base: Node, over: Node, key: str = "") -> Node:
    """`over` laid on `base`; every value keeps the place of the file it came from."""
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        if _changes_kind(base.value, over.value, key):
            return over
        merged = dict(base.value)
        for name, child in over.value.items():
            merged[name] = merge(merged[name], child, name) if name in merged else child
        return Node(merged, over.place)
    if isinstance(base.value, list) and isinstance(over.value, list):
        names, own_names = _names(base.value), _names(over.value)
        if names is not None and own_names is not None:
            return Node(_merged_items(base.value, names, over.value, own_names), over.place)
    return over


def _changes_kind(base: dict[str, Node], over: dict[str, Node], key: str) -> bool:
    tell = _KIND_KEYS.get(key)
    return tell is not None and tell in base and tell in over and base[tell].value != over[tell].value


def _names(items: list[Node]) -> list[str] | None:
    """Names of the items, or None unless all have one and no two are alike."""
    names = [item.value["name"].value for item in items if isinstance(item.value, dict) and "name" in item.value]
    usable = len(names) == len(items) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return names if usable else None


def _merged_items(base: list[Node], names: list[str], over: list[Node], own_names: list[str]) -> list[Node]:
    items = list(base)
    for name, item in zip(own_names, over, strict=True):
        if name in names:
            index = names.index(name)
            items[index] = merge(items[index], item)
        else:
            items.append(item)
    return items


def topology_owners(tree: Node) -> list[tuple[str | int, ...]]:
    """Paths of the mappings in the tree that have a `topology`: the scenario itself, and systems of its `pareto` study."""
    systems = node_at(tree, ("pareto", "systems"))
    count = len(systems.value) if systems is not None and isinstance(systems.value, list) else 0
    paths: list[tuple[str | int, ...]] = [(), *(("pareto", "systems", index) for index in range(count))]
    nodes = [(path, node_at(tree, path)) for path in paths]
    return [path for path, node in nodes if node is not None and isinstance(node.value, dict) and "topology" in node.value]


def with_absolute_paths(tree: Node) -> Node:
    """The tree with the data files that it names (trace, clients, fit, weather) as absolute paths, each from its own file."""
    for key in ("trace", "clients", "fit"):
        tree = _replace(tree, ("workload", key))
    for prefix in (*((*owner, "topology", "sites") for owner in topology_owners(tree)), ("sites",)):
        sites = node_at(tree, prefix)
        if sites is not None and isinstance(sites.value, list):
            for index in range(len(sites.value)):
                tree = _replace(tree, (*prefix, index, "climate", "weather"))
    return tree


def node_at(node: Node, path: tuple[str | int, ...]) -> Node | None:
    """The node at `path`, None where there is none."""
    for step in path:
        if isinstance(step, int) and isinstance(node.value, list) and step < len(node.value):
            node = node.value[step]
        elif isinstance(node.value, dict) and step in node.value:
            node = node.value[str(step)]
        else:
            return None
    return node


def _replace(tree: Node, path: tuple[str | int, ...]) -> Node:
    node = node_at(tree, path)
    if node is None or not isinstance(node.value, str) or not node.value:
        return tree
    absolute = os.path.abspath(node.place.folder / os.path.expanduser(node.value))
    return with_value(tree, path, Node(absolute, node.place))


def with_value(tree: Node, path: tuple[str | int, ...], node: Node) -> Node:
    """The tree with `node` at `path`; mappings missing on the way are made, at the place of `node`."""
    if not path:
        return node
    step, rest = path[0], path[1:]
    if isinstance(tree.value, list):
        items = list(tree.value)
        items[int(step)] = with_value(items[int(step)], rest, node)
        return Node(items, tree.place)
    entries = dict(tree.value) if isinstance(tree.value, dict) else {}
    entries[str(step)] = with_value(entries.get(str(step), Node({}, node.place)), rest, node)
    return Node(entries, tree.place)
