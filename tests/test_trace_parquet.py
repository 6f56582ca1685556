"""Our form in columns: lossless, described, streamed by row groups, and bad rows told by their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twin.errors import InputError
from twin.workload import Call, Intake, Poisson, Session, check_trace, read_trace, trace_format
from twin.workload.agent_generator import AgentGenerator
from twin.workload.formats import recognise
from twin.workload.trace_parquet import COLUMNS, GROUP_ROWS

WHOLE = [
    Session(
        0,
        0.5,
        "gold",
        [
            Call((), 0.0, 1000, 100, hash_ids=(4, 5)),
            Call((0,), 0.0, 500, 20, 0, 1, 1),
            Call((0,), 0.0, 500, 20, 0, 2, 1),
            Call((0,), 2.5, 1300, 50, 960, hash_ids=(7, 9), block_tokens=(64, 900), tool=True, any_of=(1, 2), any_count=1),
        ],
        warm_tokens=300,
        system_prompt=2,
        tenant="acme",
        deadline_s=90.0,
    ),
    Session(1, 0.5, "", [Call((), 1.25, 5, 5)]),
]


def saved(path: Path, sessions: list[Session]) -> Path:
    form = trace_format("parquet")
    assert form.write is not None
    with path.open("wb") as file:
        form.write(file, sessions)
    return path


def table(path: Path, **columns: list[Any]) -> Path:
    """A file of single calls with some columns as given, by a hand that is not ours."""
    rows = len(next(iter(columns.values())))
    plain: dict[str, list[Any]] = {"session": list(range(rows)), "after": [[]] * rows, "wait_s": [0.0] * rows}
    plain |= {"input_tokens": [10] * rows, "output_tokens": [5] * rows} | columns
    pq.write_table(pa.table({name: values for name, values in plain.items() if values != ["absent"]}), path)
    return path


def problems(path: Path, tiers: list[str] | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_trace(path, tiers=tiers)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_nothing_is_lost(tmp_path: Path) -> None:
    path = saved(tmp_path / "t.parquet", WHOLE)
    assert recognise(path).name == "parquet"
    assert list(read_trace(path)) == WHOLE
    assert saved(tmp_path / "again", list(read_trace(path))).read_bytes() == path.read_bytes()


def test_nothing_is_lost_in_json_lines_either(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    form = trace_format("sessions")
    assert form.write is not None
    with path.open("w") as file:
        form.write(file, WHOLE)
    assert list(read_trace(path)) == WHOLE


def test_every_column_says_what_it_is(tmp_path: Path) -> None:
    schema = pq.read_schema(saved(tmp_path / "t.parquet", WHOLE))
    assert schema.names == [column.name for column in COLUMNS]
    for field in schema:
        assert set(field.metadata) == {b"unit", b"description"}
        assert field.metadata[b"description"]
    assert schema.field("wait_s").metadata[b"unit"] == b"s"


def test_sessions_across_row_groups(tmp_path: Path) -> None:
    sessions = list(AgentGenerator(Intake(Poisson(0.1), seed=3, tiers={"": 1.0}, limit=400)).sessions())
    path = saved(tmp_path / "t.parquet", sessions)
    groups = pq.ParquetFile(path).metadata
    assert groups.num_row_groups == -(-sum(len(s.calls) for s in sessions) // GROUP_ROWS) > 1
    assert list(read_trace(path)) == sessions


def test_a_few_columns_of_other_types_are_enough(tmp_path: Path) -> None:
    path = table(tmp_path / "t", session=["a", "b"], input_tokens=pa.array([7, 8], pa.int32()), tier=["gold", None], more=[1, 2])
    one, other = read_trace(path)
    assert (one.tier, one.calls, other.tier, other.calls[0].input_tokens) == ("gold", [Call((), 0.0, 7, 5)], "", 8)
    assert one.arrival_s != one.arrival_s, "no arrival is recorded"


def test_bad_rows_are_told_by_their_numbers(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t",
        session=[0, 0, 0, 1, 2, 2, 3, 0, 4, 5, None],
        after=[[], [2], [0], [], [], [], [], [], [], [], []],
        input_tokens=[9, 9, 9, 0, 9, 9, None, 9, 9, 9, 9],
        tenant=["x", "x", "x", "x", "x", "y", "x", "x", "x", "x", "x"],
        arrival_s=[1.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, float("nan"), 4e9, 5.0],
    )
    assert problems(path) == [
        "2:2: after: must be a list of calls before call 1: it waits for call 2, which comes later, in a cycle",
        "4:4: input_tokens: must be at least 1, not 0",
        "6:6: tenant: 'y' differs from the session's first row",
        "7:4: input_tokens: is missing",
        "8:1: session: 0 began earlier: the rows of a session must stand together",
        "9:7: arrival_s: must be a finite number of seconds, not nan",
        "10:7: arrival_s: must be at most 3,155,760,000 s, a hundred years, not 4000000000.0",
        "11:1: session: is null",
    ]


def test_ten_bad_rows_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    listed = problems(table(tmp_path / "t", output_tokens=[0] * 25))
    assert listed[0] == "1:5: output_tokens: must be at least 1, not 0"
    assert (len(listed), listed[-1]) == (11, "25:1: and 15 more problems")


def test_unknown_tiers_are_told_by_their_rows(tmp_path: Path) -> None:
    path = table(tmp_path / "t", tier=["gold", "golf", ""])
    assert problems(path, ["gold"]) == ["2:6: tier: unknown tier 'golf' (did you mean 'gold'?)"]


def test_columns_that_are_missing_or_of_the_wrong_type(tmp_path: Path) -> None:
    path = tmp_path / "t"
    pq.write_table(pa.table({"session": [1], "input_token": [1], "output_tokens": ["many"], "wait_s": [0.0], "after": [0]}), path)
    assert problems(path) == [
        "1:1: input_tokens: the column is missing (did you mean 'input_token'?)",
        "1:5: after: must hold lists of whole numbers, not int64",
        "1:3: output_tokens: must hold whole numbers, not string",
    ]


def test_no_rows_and_no_parquet(tmp_path: Path) -> None:
    assert problems(saved(tmp_path / "t", [])) == ["1:1: the trace is empty"]
    (tmp_path / "broken").write_bytes(b"PAR1 and no more")
    (said,) = problems(tmp_path / "broken")
    assert said.startswith("1:1: is not a sound Parquet file: ")
    path = saved(tmp_path / "cut", WHOLE)
    path.write_bytes(path.read_bytes()[:-20])
    (said,) = problems(path)
    assert said.startswith("1:1: is not a sound Parquet file: ")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        check_trace(tmp_path / "absent", "parquet")


def test_the_page_tells_every_column() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "traces.md").read_text()
    for column in COLUMNS:
        assert f"| `{column.name}` |" in page
        assert f"| {column.unit} | {column.description} |" in page
