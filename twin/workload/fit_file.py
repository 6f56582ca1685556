"""From a trace to the text of a fit: its figures and where they are from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from twin.workload.call_columns import CallColumns, call_columns
from twin.workload.fit import fit_agents
from twin.workload.formats import recognise, trace_format
from twin.workload.session import Session
from twin.workload.trace_rows import ReadLog


def fit_trace(path: Path, format: str, source: str | None, log: ReadLog) -> tuple[dict[str, Any], CallColumns]:
    """(document of a fit to the trace, the calls it was fitted to). `source`: who recorded it, if that is to be told.

    Raises InputError for a trace that cannot be read.
    """
    chosen = recognise(path) if format == "auto" else trace_format(format)
    hashed = 0

    def counted() -> Iterator[Session]:
        nonlocal hashed
        for session in chosen.read(path, log):
            hashed += any(call.hash_ids for call in session.calls)
            yield session

    calls = call_columns(counted())
    provenance = {"trace": path.name, "sha256": _sha256(path), "format": chosen.name}
    if source is not None:
        provenance["source"] = source
    document = fit_agents(calls, provenance)
    if hashed:
        document["missing"].append("what sessions have in common by their block hashes is left out")
    return document, calls


def fit_text(document: dict[str, Any]) -> str:
    """The text of the file that `twin.workload.agent_figures.read_figures` reads."""
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=128, allow_unicode=True)
    return f"# Written by `twin trace fit`; docs/trace_fit.md says what each figure is.\n{text}"


def _sha256(path: Path) -> str:
    """Of a file its content, of a folder the names and contents of its files."""
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + _sha256(file).encode())
    return digest.hexdigest()
