"""`twin check`: scenario, topology and catalogue files looked through without running them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from twin.catalog import Catalog, load_catalog
from twin.control import policy_of
from twin.errors import InputError, Problem
from twin.schema import LoadedParts, LoadedTopology, Topology, catalog_with, load_any
from twin.schema.json_schema import write_schemas
from twin.schema.workload import ServeGenWorkload, TraceWorkload


def check_command(
    files: Sequence[str], overrides: Mapping[str, object] | None = None, schemas_folder: str | Path | None = None
) -> int:
    """Prints a line for each sound file on stdout, every problem of the others on stderr; returns the exit code (0 or 2).

    With `schemas_folder`, the JSON Schema files are written there as well. Raises InputError when the folder cannot be written.
    """
    if not files and schemas_folder is None:
        raise InputError("twin check: name the scenario, topology or catalogue files to check")
    if schemas_folder is not None:
        try:
            for path in write_schemas(schemas_folder):
                print(f"wrote {path}")
        except OSError as error:
            raise InputError(f"{schemas_folder}: cannot be written: {error.strerror}") from None
    code = 0
    for file in files:
        try:
            print(f"{file}: ok ({describe(file, overrides)})")
        except InputError as error:
            print(error, file=sys.stderr)
            code = error.exit_code
    return code


def describe(file: str, overrides: Mapping[str, object] | None = None) -> str:
    """What a sound file holds: "scenario, 1 site, 8 racks, 576 GPUs". Reads a scenario's trace through. Raises InputError."""
    loaded = load_any(file, overrides)
    if isinstance(loaded, LoadedParts):
        return f"catalogue file, {_counted(len(loaded.model.parts), 'part')} of kind {loaded.model.kind}"
    if isinstance(loaded, LoadedTopology):
        return f"topology, {_size(loaded.topology, load_catalog())}"
    try:
        policy_of(loaded.scenario.control)
    except InputError as error:
        raise InputError([Problem(file, 1, 1, "control.settings", str(error))]) from None
    if isinstance(loaded.scenario.workload, TraceWorkload | ServeGenWorkload):
        from twin.engine.workload_source import check_workload  # loads the engine, which other files do not wait for

        check_workload(loaded.scenario)
    if loaded.scenario.faults.any:
        from twin.engine.fault_plan import check_faults

        check_faults(loaded)
    return f"scenario, {_size(loaded.scenario.topology, catalog_with(loaded.scenario.catalog))}"


def _size(topology: Topology, catalog: Catalog) -> str:
    groups = [group for site in topology.sites for group in site.racks]
    racks = sum(group.count for group in groups)
    gpus = sum(group.count * int(catalog.part("rack", group.rack).number("gpus")) for group in groups)
    return ", ".join((_counted(len(topology.sites), "site"), _counted(racks, "rack"), _counted(gpus, "GPU")))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
