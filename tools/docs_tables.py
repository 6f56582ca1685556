"""Write the tables of docs/*.md that repeat what the code says: columns, events, keys of scenarios and topologies.

    python tools/docs_tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`; tests/test_docs.py holds each against the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twin.catalog import load_catalog
from twin.performance import FitRange
from twin.recording import EVENT_KINDS, TABLES
from twin.schema.quantities import Quantity
from twin.schema.scenario import Scenario
from twin.schema.topology import Topology
from twin.units import UNITS

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def columns() -> str:
    """Every column of every table of a run directory."""
    parts = []
    for name, table in TABLES.items():
        rows = [(f"`{c.name}`", c.unit or "-", c.type, c.description + (" (nullable)" if c.nullable else "")) for c in table]
        parts.append(f"### {name}.parquet\n\n" + _table(("column", "unit", "type", "what it is"), rows))
    return "\n".join(parts)


def events() -> str:
    """The kinds of events.parquet."""
    return _table(
        ("kind", "group", "what happened"), [(f"`{name}`", kind.group, kind.said) for name, kind in EVENT_KINDS.items()]
    )


def units() -> str:
    """What quantities can be written in."""
    rows = [(dimension.replace("_", " "), ", ".join(f"`{unit}`" for unit in known)) for dimension, known in UNITS.items()]
    return _table(("quantity", "units"), rows)


def scenario_keys() -> str:
    """Every key of a scenario, the topology's aside."""
    return _keys(Scenario, leave_out=Topology)


def topology_keys() -> str:
    """Every key of a topology."""
    return _keys(Topology)


def fits() -> str:
    """What the coefficients of each backend, GPU generation and format were fitted on, how well they meet that, and who has
    them for want of his own."""
    catalog = load_catalog()
    rows = []
    for name in catalog.names("backend"):
        backend = catalog.part("backend", name)
        taken: dict[str, list[str]] = {}
        for key in backend.values:
            if key.endswith("_taken_over_from"):
                taken.setdefault(backend.text(key), []).append(_spoken(key.removesuffix("_taken_over_from")))
        for key in backend.values:
            if key.endswith("_gemm_compute_eff"):
                group = key.removesuffix("_gemm_compute_eff")
                fit = FitRange.of(backend, *group.split("_"))
                errors = (f"{fit.tpot_median_ape:.1%}", f"{fit.ttft_median_ape:.1%}")
                others = ", ".join(sorted(taken.get(group, []))) or "-"
                rows.append((name, _spoken(group), ", ".join(fit.models), str(fit.points), *errors, others))
    head = ("backend", "GPUs and weights", "models", "points", "TPOT", "TTFT", "taken over for")
    return _table(head, rows)


def _spoken(group: str) -> str:
    return group.replace("_", " ")


TABLE_MAKERS: dict[str, Callable[[], str]] = {
    "columns": columns,
    "fits": fits,
    "events": events,
    "units": units,
    "scenario_keys": scenario_keys,
    "topology_keys": topology_keys,
}


def rewritten(text: str) -> str:
    """`text` of a page with each of its tables made anew. Raises KeyError for a table that nobody makes."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{TABLE_MAKERS[found[2]]()}\n{found[4]}", text)


def main() -> None:
    """Rewrite all pages in place."""
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")


def _keys(root: type[BaseModel], leave_out: type[BaseModel] | None = None) -> str:
    parts = []
    told: set[type[BaseModel]] = set()
    for path, model in _models(root, "", leave_out):
        if model in told:
            continue
        told.add(model)
        rows = []
        for name, field in model.model_fields.items():
            rows.append((f"`{name}`", _written(field), _default(field), (field.description or "").replace("\n", " ")))
        doc = (model.__doc__ or "").strip().splitlines()[0]
        heading = f"`{path}`: " if path else ""
        parts.append(f"**{heading}{model.__name__}.** {doc}\n\n" + _table(("key", "written as", "default", "what it is"), rows))
    return "\n".join(parts)


def _models(model: type[BaseModel], path: str, leave_out: type[BaseModel] | None) -> Iterator[tuple[str, type[BaseModel]]]:
    """The model and all that its fields hold, each with the path of its key, in the order of the files."""
    yield path, model
    for name, field in model.model_fields.items():
        for inner in _inner(field.annotation):
            if inner is not leave_out:
                many = "[]" if "tuple" in str(field.annotation) else ""
                yield from _models(inner, f"{path}.{name}{many}".lstrip("."), leave_out)


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner(argument)


def _dimension(annotation: Any, metadata: list[Any]) -> str | None:
    for mark in metadata:
        if isinstance(mark, Quantity):
            return mark.dimension
    for argument in get_args(annotation):
        if found := _dimension(argument, list(getattr(argument, "__metadata__", ()))):
            return found
    return None


def _written(field: FieldInfo) -> str:
    dimension = _dimension(field.annotation, field.metadata)
    if dimension is not None:
        return ("mapping to " if "dict" in str(field.annotation) else "") + dimension.replace("_", " ")
    if any(True for _ in _inner(field.annotation)):
        return "see below"
    choices = [argument for argument in get_args(field.annotation) if isinstance(argument, str)]
    if choices:
        return " or ".join(f"`{choice}`" for choice in choices)
    kinds = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text"}
    spoken = [said for kind, said in kinds.items() if kind in str(field.annotation)]
    many = "dict" in str(field.annotation) or "tuple" in str(field.annotation)
    return "mapping" if many and "dict" in str(field.annotation) else (spoken[0] if spoken else "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or isinstance(value, BaseModel) or value in ((), {}, ""):
        return "-"
    mark = next((m for m in field.metadata if isinstance(m, Quantity)), None)
    return f"`{mark.text(value) if mark else str(value).lower() if isinstance(value, bool) else value}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
