"""Our own lossless form in columns: a Parquet file, a row a call, the rows of a session together.

Every column carries field metadata `unit` and `description`, as the tables of a run do. What is said of a session stands in
each of its rows. Columns that are missing say nothing, as a null does; others are passed over. A bad row is told as
FILE:ROW:COLUMN, both from 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from twin.errors import InputError, Problem, did_you_mean
from twin.recording.tables import Column
from twin.recording.writer import arrow_schema
from twin.workload.seen import SeenNames
from twin.workload.session import Call, Session
from twin.workload.session_rows import session_of
from twin.workload.trace_rows import BadRows, FieldError, ReadLog

#: Rows of a row group and of what is read at a time: a few megabytes.
GROUP_ROWS = 8192

_OF_SESSION = (
    Column("session", "int64", "", "number of the session; its rows stand together, in the order of its calls"),
    Column("arrival_s", "float64", "s", "when the session begins, never falling; null where that is not recorded", True),
    Column("tier", "category", "", "service tier; empty where it is left to the scenario"),
    Column("tenant", "category", "", "whose session it is; empty: nobody in particular"),
    Column("deadline_s", "float64", "s", "time from its start within which the whole task is of use; null: no such bound", True),
    Column("warm_tokens", "int64", "token", "context that caches hold when the session enters"),
    Column("system_prompt", "int64", "", "number of the system prompt shared with other sessions; null: its own", True),
)
_OF_CALL = (
    Column("agent", "int64", "", "0 for the main agent, others are sub-agents"),
    Column("depth", "int16", "", "how many agents stand above this one"),
    Column("after", "int64_list", "", "calls of the session (from 0) that must have finished before this one's wait"),
    Column("any_of", "int64_list", "", "calls of which the first few to finish are enough"),
    Column("any_count", "int64", "", "how many of any_of are enough"),
    Column("wait_s", "float64", "s", "a tool's or a person's time after those, before the call"),
    Column("tool", "bool", "", "whether that wait is a tool's"),
    Column("input_tokens", "int64", "token", "prompt tokens"),
    Column("output_tokens", "int64", "token", "tokens generated"),
    Column("shared_prefix_tokens", "int64", "token", "leading prompt tokens that repeat an earlier context"),
    Column("system_tokens", "int64", "token", "leading prompt tokens that are the session's system prompt"),
    Column("hash_ids", "int64_list", "", "hashes of the prompt's blocks, each of everything up to its end; null: none", True),
    Column("block_tokens", "int64_list", "token", "tokens of each of those blocks; null: 512, the last the rest", True),
)
COLUMNS = (*_OF_SESSION, *_OF_CALL)
_NEEDED = ("session", "after", "wait_s", "input_tokens", "output_tokens")
_READABLE = {
    "int64": (pa.types.is_integer, "whole numbers"),
    "int16": (pa.types.is_integer, "whole numbers"),
    "float64": (lambda each: pa.types.is_floating(each) or pa.types.is_integer(each), "numbers"),
    "category": (
        lambda each: (
            pa.types.is_string(each)
            or pa.types.is_large_string(each)
            or (pa.types.is_dictionary(each) and pa.types.is_string(each.value_type))
        ),
        "texts",
    ),
    "bool": (pa.types.is_boolean, "true or false"),
    "int64_list": (
        lambda each: (
            (pa.types.is_list(each) or pa.types.is_large_list(each))
            and (pa.types.is_integer(each.value_type) or pa.types.is_null(each.value_type))
        ),
        "lists of whole numbers",
    ),
}


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """The sessions in the order of the file, which must be that of their arrivals; numbered anew from 0."""
    bad = BadRows(path)
    try:
        with path.open("rb") as file:
            table = pq.ParquetFile(file)
            schema = table.schema_arrow
            places = {name: index + 1 for index, name in enumerate(schema.names)}
            _check_columns(path, schema)
            count = row = 0
            latest_s = 0.0
            seen = SeenNames()
            for name, first_row, rows in _grouped(table, [c.name for c in COLUMNS if c.name in places]):
                row = first_row + len(rows) - 1
                try:
                    if not seen.add(str(name)):
                        raise FieldError("session", f"{name} began earlier: the rows of a session must stand together")
                    session = session_of(_record(rows), count, log)
                    if session.arrival_s < latest_s:
                        raise FieldError("arrival_s", f"{session.arrival_s:g} is earlier than the session before")
                except FieldError as error:
                    _fail(bad, error, first_row, places)
                    continue
                if not math.isnan(session.arrival_s):
                    latest_s = session.arrival_s
                if not bad:
                    log.latest_s = latest_s
                    yield session
                    count += 1
    except OSError as error:
        raise InputError([Problem(str(path), 1, 1, "", f"cannot be read: {error.strerror or error}")]) from None
    except pa.ArrowException as error:
        raise InputError([Problem(str(path), 1, 1, "", f"is not a sound Parquet file: {error}")]) from None
    bad.finish(count, max(row, 1))


def _check_columns(path: Path, schema: pa.Schema) -> None:
    problems = []
    for name in _NEEDED:
        if name not in schema.names:
            problems.append(Problem(str(path), 1, 1, name, f"the column is missing{did_you_mean(name, schema.names)}"))
    for column in COLUMNS:
        if column.name in schema.names:
            readable, told = _READABLE[column.type]
            given = schema.field(column.name).type
            if not (readable(given) or pa.types.is_null(given) or (column.name == "session" and pa.types.is_string(given))):
                place = schema.names.index(column.name) + 1
                problems.append(Problem(str(path), 1, place, column.name, f"must hold {told}, not {given}"))
    if problems:
        raise InputError(problems)


def _grouped(table: pq.ParquetFile, columns: list[str]) -> Iterator[tuple[Any, int, list[dict[str, Any]]]]:
    """(session, number of its first row, its rows without nulls) of the rows that stand together."""
    group: list[dict[str, Any]] = []
    name: Any = None
    first_row = number = 1
    for batch in table.iter_batches(batch_size=GROUP_ROWS, columns=columns):
        values = batch.to_pydict()
        for fields in zip(*(values[column] for column in columns), strict=True):
            row = {column: value for column, value in zip(columns, fields, strict=True) if value is not None}
            if row.get("session") != name or not group:
                if group:
                    yield name, first_row, group
                group, name, first_row = [], row.get("session"), number
            group.append(row)
            number += 1
    if group:
        yield name, first_row, group


def _record(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows of a session as the record that `session_of` takes."""
    first = rows[0]
    if "session" not in first:
        raise FieldError("session", "is null")
    for column in _OF_SESSION:
        name = column.name
        for index, row in enumerate(rows[1:], start=1):
            if row.get(name) != first.get(name):
                raise FieldError(f"calls.{index}.{name}", f"{row.get(name)!r} differs from the session's first row")
    return {"arrival_s": None, **first, "calls": rows}


def _fail(bad: BadRows, error: FieldError, first_row: int, places: dict[str, int]) -> None:
    """A problem of "calls.3.after" is one of the column `after`, three rows below the session's first."""
    head, *rest = error.name.split(".")
    index = int(rest[0]) if head == "calls" and rest else 0
    column = rest[-1] if rest else head
    bad.add(first_row + index, places.get(column, 1), column, error.message)


def write(file: BinaryIO, sessions: Iterable[Session]) -> None:
    """Any sessions, with nothing lost but their numbers."""
    schema = arrow_schema(COLUMNS)
    named = [c.name for c in COLUMNS if c.type == "category"]
    with pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, use_dictionary=named) as out:
        rows: list[tuple[Any, ...]] = []
        for session in sessions:
            rows += _rows(session)
            while len(rows) >= GROUP_ROWS:
                out.write_batch(_batch(rows[:GROUP_ROWS], schema), row_group_size=GROUP_ROWS)
                del rows[:GROUP_ROWS]
        if rows:
            out.write_batch(_batch(rows, schema), row_group_size=GROUP_ROWS)


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch([pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _rows(session: Session) -> list[tuple[Any, ...]]:
    arrival_s = None if math.isnan(session.arrival_s) else session.arrival_s
    whose = (session.tier, session.tenant, session.deadline_s, session.warm_tokens, session.system_prompt)
    return [(session.session_id, arrival_s, *whose, *_of_call(call)) for call in session.calls]


def _of_call(call: Call) -> tuple[Any, ...]:
    return tuple(getattr(call, column.name) for column in _OF_CALL)
