"""JSON Schema of scenario, topology and catalogue files, for editors to complete and check them while they are written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from twin.schema.base import Model
from twin.schema.own_parts import OwnParts
from twin.schema.scenario import Scenario
from twin.schema.topology import Topology

#: file name -> the model that it describes.
SCHEMAS: dict[str, type[Model]] = {
    "scenario.schema.json": Scenario,
    "topology.schema.json": Topology,
    "catalog.schema.json": OwnParts,
}

_REF = "#/$defs/"
_PATH = {"type": "string", "description": "Path of a file, relative to this one."}


def json_schema(root: type[Model]) -> dict[str, Any]:
    """The schema of a file that holds `root`.

    A file with `extends:` may leave out anything, so it is held to a second set of definitions ("X.partial") in which nothing is
    required.
    """
    generated = root.model_json_schema()
    definitions: dict[str, Any] = generated.pop("$defs", {})
    definitions[root.__name__] = generated
    for name in ("TargetLevel", "PowerLevel", "Interval"):
        if name in definitions:
            definitions[name] = {"type": ["string", "number"], "description": definitions[name]["description"]}
    if "CountRange" in definitions:
        definitions["CountRange"] = {"anyOf": [{"type": "integer"}, definitions["CountRange"]]}
    for owner in definitions.values():
        if "topology" in owner.get("properties", {}):
            whole = owner["properties"]["topology"]["description"]
            owner["properties"]["topology"] = {"anyOf": [_PATH, {"$ref": f"{_REF}Topology"}], "description": whole}
    if "catalog" in generated["properties"]:
        generated["properties"]["catalog"]["items"] = {"anyOf": [_PATH, {"$ref": f"{_REF}OwnParts"}]}
    if "jobs" in generated["properties"]:
        listed = generated["properties"]["jobs"]
        generated["properties"]["jobs"] = {"anyOf": [_PATH, listed], "description": listed.pop("description")}
    partial = {f"{name}.partial": _partial(definition) for name, definition in definitions.items()}
    for name in {root.__name__, "Topology", "OwnParts"} & set(definitions):
        base = {
            **_PATH,
            "description": "A file that this one is laid upon: what stands here replaces or extends what stands there.",
        }
        definition = partial[f"{name}.partial"]
        definition["properties"] = {"extends": base, **definition["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": root.__name__,
        "description": f"{root.__doc__} Written by `twin check --write-schemas`.",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"{_REF}{root.__name__}.partial"},
        "else": {"$ref": f"{_REF}{root.__name__}"},
        "$defs": dict(sorted({**definitions, **partial}.items())),
    }


def _partial(definition: Any) -> Any:
    """A copy in which no key is required and every reference leads to a partial definition."""
    if isinstance(definition, list):
        return [_partial(item) for item in definition]
    if not isinstance(definition, dict):
        return definition
    changed: dict[str, Any] = {}
    for key, value in definition.items():
        if key == "$ref":
            changed[key] = f"{value}.partial"
        elif key == "oneOf":  # without its kind a mapping may fit several
            changed["anyOf"] = _partial(value)
        elif key == "properties":
            changed[key] = {name: _partial(copy.deepcopy(child)) for name, child in value.items()}
        elif key not in ("required", "discriminator", "minItems", "minProperties"):
            changed[key] = _partial(value)
    return changed


def write_schemas(folder: str | Path) -> list[Path]:
    """Writes the schema files into `folder`, made if need be, and returns their paths."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, root in SCHEMAS.items():
        path = target / name
        path.write_text(json.dumps(json_schema(root), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written
