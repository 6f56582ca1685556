"""Recorded agent sessions: prefixes from block hashes, sub-agents as a tree, the figures of the flat table made from them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.engine.session_paths import SessionPaths
from twin.errors import InputError
from twin.serving.prefix_tree import PrefixTree
from twin.workload import Call, ReadLog, Session, check_trace, read_trace, trace_info
from twin.workload.block_runs import BlockRuns
from twin.workload.formats import recognise
from twin.workload.json_place import line_and_column, offset_of


def call(tokens: int, hashes: list[int], t: float = 0.0, **more: Any) -> dict[str, Any]:
    made = {
        "t": t,
        "type": "n",
        "in": tokens,
        "out": 5,
        "hash_ids": hashes,
        "stop": "end_turn",
        "api_time": 1.0,
        "think_time": 0.0,
    }
    return made | more


def document(*requests: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "trace_1", "block_size": 64, "hash_id_scope": "local", "requests": list(requests)} | more


def saved(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_trace(path, "agent_raw")
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def test_a_tree_by_hand(tmp_path: Path) -> None:
    """Two agents that share their own beginning with each other, one below the first, and a main agent that waits for both."""
    below = {"t": 1.0, "type": "subagent", "requests": [call(130, [20, 30])]}
    path = saved(
        tmp_path / "trace_1.json",
        document(
            call(200, [1, 2, 3], stop="tool_use"),
            {"t": 2.0, "type": "subagent", "requests": [call(128, [20, 21]), below]},
            {"t": 3.0, "type": "subagent", "requests": [call(192, [20, 21, 22])]},
            call(260, [1, 2, 3, 4], t=60.0, think_time=50.0),
        ),
    )
    assert recognise(path).name == "agent_raw"
    (session,) = read_trace(path)
    assert [(c.agent, c.depth, c.after, c.shared_prefix_tokens, c.tool) for c in session.calls] == [
        (0, 0, (), 0, False),
        (1, 1, (0,), 0, False),
        (2, 2, (1,), 64, False),
        (3, 1, (0,), 128, False),
        (0, 0, (0, 1, 3), 192, True),
    ]
    assert session.calls[4].wait_s == 49.0, "what is left of the think time when the longer of the two is done"
    # [1 2 3] ends call 0, 20 is where two part, 21 ends call 1; the last block of an input may have no hash
    assert [(c.hash_ids, c.block_tokens) for c in session.calls] == [
        ((3,), (192,)),
        ((20, 21), (64, 64)),
        ((20, 30), (64, 64)),
        ((20, 21, 22), (64, 64, 64)),
        ((3, 4), (192, 64)),
    ]


def test_a_partial_last_block_may_have_a_hash(tmp_path: Path) -> None:
    (session,) = read_trace(saved(tmp_path / "t.json", document(call(100, [1, 2]), call(140, [1, 2], t=2.0))))
    assert [(c.hash_ids, c.block_tokens, c.shared_prefix_tokens) for c in session.calls] == [
        ((2,), (100,), 0),
        ((2,), (128,), 128),
    ]


def test_a_folder_is_read_in_the_order_of_its_numbers_and_shares_no_local_hash(tmp_path: Path) -> None:
    for number in (10, 9):
        saved(tmp_path / f"trace_{number}.json", document(call(64 * number, list(range(number))), id=f"trace_{number}"))
    assert recognise(tmp_path).name == "agent_raw"
    nine, ten = read_trace(tmp_path)
    assert (nine.calls[0].input_tokens, ten.calls[0].input_tokens) == (576, 640)
    assert (nine.calls[0].hash_ids, ten.calls[0].hash_ids) == ((8,), (18,))


def test_hashes_of_global_scope_are_shared_between_files(tmp_path: Path) -> None:
    for number in (1, 2):
        made = document(call(130, [7, 7 + number]), id=f"trace_{number}", hash_id_scope="global")
        saved(tmp_path / f"trace_{number}.json", made)
    assert [(s.calls[0].hash_ids, s.calls[0].block_tokens) for s in read_trace(tmp_path)] == [
        ((7, 8), (64, 64)),
        ((7, 9), (64, 64)),
    ]
    assert trace_info(tmp_path)["prefix_hit_frac"] == 1 / 4


def test_what_the_file_does_not_say_is_counted(tmp_path: Path) -> None:
    silent = call(64, [1], out=0, stop="", think_time=None)
    del silent["api_time"]
    path = saved(tmp_path / "t.json", document(silent, {"t": 1.0, "type": "subagent", "requests": []}))
    log = ReadLog()
    (session,) = read_trace(path, "auto", log)
    assert (session.calls[0].output_tokens, session.sub_agents) == (1, 0)
    assert sorted(log.remarks.values()) == [1, 1, 1]


def test_all_that_is_wrong_is_told_by_its_place(tmp_path: Path) -> None:
    text = """{"id": "t", "block_size": 64, "requests": [
{"t": 0, "in": 128, "out": 5, "hash_ids": [1, 2], "think_time": 0, "api_time": 2, "ttft": 3},
{"t": 0, "in": 128, "out": 5, "hash_ids": [1], "think_time": 0},
{"t": 0, "in": 128, "out": 5, "hash_ids": [2, 1], "think_time": 0},
{"t": 0, "in": 128, "out": 0, "hash_ids": [1, 2], "think_time": 0, "stop": "end_turn"},
{"t": 0, "in": 128, "out": 5, "hash_ids": [1, -2], "think_time": 0},
{"t": 0, "in": 128, "out": 5, "hash_ids": [1, 2], "think_time": -1},
{"t": 1e11, "in": 128, "out": 5, "hash_ids": [1, 2], "think_time": 0},
{"t": 0, "in": 0, "out": 5, "hash_ids": [], "think_time": 0},
{"t": 0, "out": 5, "hash_ids": [], "think_time": 0}, 7,
{"t": 0, "type": "subagent", "requests": [{"t": 0, "in": 64, "out": 5, "hash_ids": [1, 1], "think_time": 0}]},
{"t": 0, "type": "subagent", "requests": 5}
]}"""
    assert problems(saved(tmp_path / "t.json", text)) == [
        "t.json:2:83: requests.0.ttft: 3 s is after the whole answer, at 2 s",
        "t.json:3:31: requests.1.hash_ids: has 1 hashes; 128 tokens are 2 whole blocks of 64",
        "t.json:4:31: requests.2.hash_ids: hash 2 stands behind nothing here and behind hash 1 elsewhere: "
        "a hash stands for its block and everything before it",
        "t.json:5:21: requests.3.out: must be at least 1, not 0",
        "t.json:6:31: requests.4.hash_ids: must be a list of whole numbers of at least 0",
        "t.json:7:51: requests.5.think_time: must be at least 0, not -1",
        "t.json:8:2: requests.6.t: must be at most 3,155,760,000 s, a hundred years, not 100000000000.0",
        "t.json:9:10: requests.7.in: must be at least 1, not 0",
        "t.json:10:1: requests.8.in: is missing",
        "t.json:10:54: requests.9: must be a JSON object",
        "t.json:1:1: and 2 more problems",
    ]


def test_what_is_wrong_with_the_whole(tmp_path: Path) -> None:
    def said(name: str, content: object) -> str:
        (problem,) = problems(saved(tmp_path / name, content))
        return problem

    good = call(64, [1])
    agent = {"t": 0.0, "type": "subagent", "requests": [good]}
    assert said("a.json", "{") == "a.json:1:2: is not JSON: Expecting property name enclosed in double quotes"
    assert said("b.json", "[]") == "b.json:1:1: must be a JSON object"
    assert said("c.json", document()) == "c.json:1:63: requests: must be a list of at least one call"
    assert said("d.json", document(good, block_size=0)) == "d.json:1:19: block_size: must be at least 1, not 0"
    assert "hash_id_scope: must be local or global, not 'here'" in said("e.json", document(good, hash_id_scope="here"))
    assert "requests.0: a sub-agent stands before any call of its parent: nobody" in said("f.json", document(agent, good))
    early = document(call(64, [1], t=9.0), call(128, [1, 2], t=8.0))
    assert "requests.1.t: 8 is before the call before it of agent 0, at 9" in said("g.json", early)


def test_a_session_twice_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        saved(tmp_path / name, document(call(64, [1])))
    with pytest.raises(InputError) as caught:
        check_trace(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'b.json'}:1:2: id: 'trace_1' is a duplicate: a file before has that session"


def test_no_formats_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known format"):
        recognise(tmp_path)
    with pytest.raises(InputError, match="empty"):
        check_trace(tmp_path, "agent_raw")


# --- runs of blocks ------------------------------------------------------------------------------------------------------


@st.composite
def inputs(draw: st.DrawFn) -> list[list[int]]:
    """Hash chains that fork from one another; a hash stands for everything before it."""
    made: list[list[int]] = []
    fresh = 0
    for _ in range(draw(st.integers(1, 8))):
        begin: list[int] = []
        if made and draw(st.booleans()):
            other = draw(st.sampled_from(made))
            begin = other[: draw(st.integers(0, len(other)))]
        more = draw(st.integers(0 if begin else 1, 6))
        made.append([*begin, *range(fresh, fresh + more)])
        fresh += more
    return made


@given(inputs())
def test_runs_agree_as_far_as_blocks_do(made: list[list[int]]) -> None:
    """Of any two inputs, the engine's paths of runs share as many tokens as their blocks do: compared with comparing blocks."""
    runs = BlockRuns(64)
    seen: set[int] = set()
    for hashes in made:
        expected = next((n for n, each in enumerate(hashes) if each not in seen), len(hashes))
        assert runs.add(hashes) == expected
        seen |= set(hashes)
    contents = []
    for number, hashes in enumerate(made):
        names, lengths = runs.of(hashes, 64 * len(hashes) + 10)
        assert sum(lengths) == 64 * len(hashes)

        one = Call((), 0.0, 64 * len(hashes) + 10, 1, hash_ids=names, block_tokens=lengths)
        path = SessionPaths(Session(number, 0.0, "", [one])).of(one, False).path
        assert sum(tokens for _, tokens in path) == one.input_tokens
        contents.append(path)
    for one_hashes, one_path in zip(made, contents, strict=True):
        tree = PrefixTree()
        tree.insert(one_path)
        for other_hashes, other_path in zip(made, contents, strict=True):
            agree = 0
            for a, b in zip(one_hashes, other_hashes, strict=False):
                if a != b:
                    break
                agree += 1
            if other_path is not one_path:
                assert tree.match(other_path) == 64 * agree


# --- places in JSON ------------------------------------------------------------------------------------------------------


def test_offsets_of_keys_and_items() -> None:
    text = '{ "a": [1, {"b" : "}]", "c":2}, []],\n "d": {}}'
    places = [offset_of(text, path) for path in (["a"], ["a", 0], ["a", 1, "c"], ["d"], ["a", 9], ["d", "x"], ["a", 2, 0])]
    assert [text[place:][:4] for place in places] == ['"a":', "1, {", '"c":', '"d":', '"a":', '"d":', "[]],"]
    assert line_and_column(text, places[3]) == (2, 2)


# --- the real ones -------------------------------------------------------------------------------------------------------


def test_the_recorded_files_agree_with_the_flat_table(shared_data: Callable[[str], Path]) -> None:
    """Every call of the five: lengths, found prefix, think time, order; and an infinite cache of the engine finds as much."""
    folder = shared_data("traces/claude_code_agentic/raw")
    flat_path = shared_data("traces/claude_code_agentic/requests_flat.csv")
    names = [path.stem for path in sorted(folder.glob("*.json"))]
    rows = flat_path.read_text().splitlines(keepends=True)
    chosen = [row for row in rows[1:] if row.split(",", 1)[0] in names]
    some = folder.name + "_flat.csv"

    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / some
        path.write_text(rows[0] + "".join(chosen))
        flat = list(read_trace(path))
    raw = list(read_trace(folder))
    assert [len(session.calls) for session in raw] == [3, 6, 3, 5, 152]
    shapes = [
        [
            [(c.after, c.wait_s, c.input_tokens, c.output_tokens, c.shared_prefix_tokens, c.tool, c.agent) for c in session.calls]
            for session in sessions
        ]
        for sessions in (raw, flat)
    ]
    assert shapes[0] == shapes[1]
    for session in raw:
        paths, tree = SessionPaths(session), PrefixTree()
        for each in session.calls:
            content = paths.of(each, True)
            assert tree.match(content.path) == each.shared_prefix_tokens
            tree.insert(content.path)
