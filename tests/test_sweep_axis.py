"""What `--over` says, and the grid it spans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.errors import InputError
from twin.sweeps.axis import axes_of, folder_name, grid, parse_over, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("2 /s, 4 /s", ["2 /s", "4 /s"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ("{tp: 4, dp: 1},{tp: 8, dp: 1}", ["{tp: 4, dp: 1}", "{tp: 8, dp: 1}"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('["x]", 1],2', ['["x]", 1]', "2"]),
        ("5'8,6'", ["5'8", "6'"]),
        ("ladder", ["ladder"]),
    ],
)
def test_commas_inside_brackets_and_quotes_part_nothing(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize("text", ["[1,2", "1,2]", "'a,b", "[1,2}"])
def test_brackets_and_quotes_must_pair(text: str) -> None:
    with pytest.raises(InputError, match=r"missing|closes no bracket"):
        split_values(text)


@given(
    st.lists(
        st.one_of(st.integers(), st.lists(st.integers(), min_size=1), st.sampled_from(["ladder", "80 %", "2 /s"])), min_size=1
    )
)
def test_values_joined_by_commas_part_again(values: list[object]) -> None:
    texts = [str(value) for value in values]
    assert split_values(",".join(texts)) == texts


def test_over_keeps_the_order_and_refuses_what_it_cannot_mean() -> None:
    assert list(parse_over(["b=1,2", "a=3"])) == ["b", "a"]
    for bad in (["nothing"], ["=1,2"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match="--over"):
            parse_over(bad)


def test_values_are_read_as_yaml_and_kept_as_given() -> None:
    (axis,) = axes_of({"a.b": ["2", "80 %", "[1, 2]", "yes please"]}, {})
    assert axis.values == (2, "80 %", [1, 2], "yes please")
    assert axis.given == ("2", "80 %", "[1, 2]", "yes please")


def test_numpy_values_become_plain_numbers() -> None:
    (axis,) = axes_of({"seed": np.arange(1, 3)}, {})
    assert [type(value) for value in axis.given] == [int, int]


def test_every_problem_of_the_axes_is_said_at_once() -> None:
    over = {"a": ["1", "1"], "b": [], "c": "text", "d": ["x"], "e": ["[1"]}
    with pytest.raises(InputError) as caught:
        axes_of(over, {"d": "y"})
    assert [problem.path for problem in caught.value.problems] == ["a", "b", "c", "d", "e"]


def test_the_last_axis_moves_fastest() -> None:
    points = grid(axes_of({"a": ["1", "2"], "b": ["x", "y", "z"]}, {}))
    assert [tuple(values.values()) for _, values in points] == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]


def test_a_folder_name_is_made_of_plain_letters() -> None:
    assert folder_name(3, {"workload.arrivals.rate": "2 /s", "control.policy": "ladder"}) == "003-rate=2_s,policy=ladder"
    assert folder_name(0, {"a": {"tp": 4}}) == "000-a=tp_4"
    assert len(folder_name(0, {"a": "x" * 300})) <= 84
