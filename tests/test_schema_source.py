"""YAML with places kept: what plain words mean, where things stand, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError, Problem
from twin.schema import load_any
from twin.schema.source import MAX_NODES, parse_text, places, plain, read_file


def parsed(text: str) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    node = parse_text(text, "f.yaml", problems)
    return (None if node is None else plain(node)), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("1e3", 1000.0),
        ("1.5e-3", 0.0015),
        (".5", 0.5),
        ("10", 10),
        ("-7", -7),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2023-08-17 18:00", "2023-08-17 18:00"),
        ("80 %", "80 %"),
        ("'10'", "10"),
        ('"true"', "true"),
        ("~", None),
        ("null", None),
        ("", None),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        (".inf", float("inf")),
        ("[1, a]", [1, "a"]),
        ('{"a": 1}', {"a": 1}),
    ],
)
def test_plain_words_mean_what_they_look_like(word: str, value: object) -> None:
    result, problems = parsed(f"key: {word}\n")
    assert problems == []
    assert result == {"key": value}
    assert type(result["key"]) is type(value)


def test_every_value_knows_the_place_of_its_key() -> None:
    problems: list[Problem] = []
    node = parse_text("a: 1\nb:\n  - x\n  - {c: ü, d: 2}\n", "f.yaml", problems)
    assert node is not None
    found = {path: (place.line, place.column) for path, place in places(node)}
    assert found == {
        (): (1, 1),
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", 0): (3, 5),
        ("b", 1): (4, 5),
        ("b", 1, "c"): (4, 6),
        ("b", 1, "d"): (4, 12),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ["f.yaml:3:1: the key 'a' stands here again; it was given on line 1"]),
        ("x: {a: 1, a: 2}\ny: {b: 1, b: 2}\n", ["f.yaml:1:11: ", "f.yaml:2:11: "]),
        ("a: 1\n\tb: 2\n", ["f.yaml:2:1: a tab cannot indent YAML; use spaces"]),
        ("a:\n\t- 1\n", ["f.yaml:2:1: a tab cannot indent YAML; use spaces"]),
        ("a: [1, 2\nb: 3\n", ["f.yaml:2:2: broken YAML: did not find expected ',' or ']'"]),
        ("a: 1\n  b: 2\n", ["f.yaml:2:4: broken YAML: mapping values are not allowed in this context"]),
        ("a: 'open\n", ["broken YAML: found unexpected end of stream"]),
        ("a: x\x00y\n", ["f.yaml:1:5: the character U+0000 may not stand in a text file"]),
        ("a: 1\n---\nb: 2\n", ["f.yaml:2:1: a second document begins here; a file holds one"]),
        (
            "a: !!python/object:os.system x\n",
            ["f.yaml:1:1: the tag 'tag:yaml.org,2002:python/object:os.system' is not read here"],
        ),
        ("? [1, 2]\n: 3\n", ["f.yaml:1:3: a key must be a plain word"]),
        ("a: *b\n", ["f.yaml:1:1: no anchor &b stands before this alias"]),
        ("a: &a\n  b: *a\n", ["f.yaml:2:3: the alias *a contains itself"]),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", ["f.yaml:3:3: merge keys (<<) are not read; use `extends:` or write it out"]),
        ('a: "x\\0y"\n', ["f.yaml:1:1: the character U+0000 may not stand in a value"]),
        ("a: 99999999999999999999999\n", ["f.yaml:1:1: the number 99999999999999999999999 is too large"]),
        ("a: " + "[" * 100 + "]" * 100, ["f.yaml:1:67: is nested deeper than 64 levels"]),
    ],
)
def test_what_is_refused_is_refused_with_its_place(text: str, expected: list[str]) -> None:
    result, problems = parsed(text)
    assert result is None
    assert len(problems) == len(expected)
    for problem, part in zip(problems, expected, strict=True):
        assert part in problem


def test_aliases_repeat_a_value_at_their_own_place() -> None:
    problems: list[Problem] = []
    node = parse_text("a: &x {k: 1}\nb: *x\n", "f.yaml", problems)
    assert node is not None
    assert plain(node) == {"a": {"k": 1}, "b": {"k": 1}}
    assert node.value["b"].place.line == 2


def test_an_alias_bomb_is_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    _, problems = parsed("\n".join(lines))
    assert len(problems) == 1
    assert f"more than {MAX_NODES} values" in problems[0]


def test_a_chain_of_aliases_nests_no_deeper_than_allowed() -> None:
    opening, closing = "[" * 20, "]" * 20
    lines = [f"a0: &a0 {opening}{closing}"] + [f"a{n}: &a{n} {opening}*a{n - 1}{closing}" for n in range(1, 50)]
    _, problems = parsed("\n".join(lines))
    assert len(problems) == 1
    assert "nested deeper" in problems[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ":1:1: the file is empty"),
        (b"# a comment\n", ":1:1: the file is empty"),
        (b"- a\n- b\n", ":1:1: expected keys and values at the top, found a list"),
        (b"just words\n", ":1:1: expected keys and values at the top, found the text 'just words'"),
        (b"a: 1\nb: caf\xe9\n", ":2:7: is not UTF-8 text (byte 0xe9)"),
        (b"PAR1\x15\x04\x15\x00", ":1:5: the character U+0015 may not stand in a text file"),
        (b"\xef\xbb\xbf\n", ":1:1: the file is empty"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_any(str(file))
    assert str(caught.value) == f"{file}{expected}"


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for source, expected in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a folder, not a file")):
        with pytest.raises(InputError) as caught:
            load_any(source)
        assert str(caught.value) == f"{source}:1:1: {expected}"
        assert caught.value.exit_code == 2
    with pytest.raises(InputError):
        load_any("nul\0byte.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("name: x\n")
    file.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        load_any(file)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: x\n")
    node, digest = read_file(str(file), [])
    assert node is not None
    assert plain(node) == {"name": "x"}
    assert len(digest) == 64


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_input_error_at_worst(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_any(file)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in caught.value.problems)


@settings(max_examples=300, deadline=None)
@given(st.text("abx:-[]{}&*!|>'\"%@#,?~<\n \t0159.eE+_", max_size=60))
def test_any_text_is_a_value_or_a_problem(text: str) -> None:
    result, problems = parsed(text)
    assert result is None or not problems
