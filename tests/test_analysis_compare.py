"""Comparison and regression: what moved, worst first, and what may not."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_run import small_totals, write_small_run

from twin.analysis import JUnitCase, check_baseline, compare_summaries, comparison_table, write_junit
from twin.analysis.leaves import leaves, relative_change
from twin.cli.compare import compare_command
from twin.cli.summary import summary_command
from twin.errors import InputError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_small_run(tmp_path_factory.mktemp("compare") / "run")


def test_leaves_go_by_name_where_items_have_one() -> None:
    content = {"a": {"b": 1}, "events": [{"name": "peak", "x": 2.0}, {"name": "dip", "x": None}], "n": [True, "t"]}
    flat = {"a.b": 1, "events.peak.name": "peak", "events.peak.x": 2.0, "events.dip.name": "dip", "events.dip.x": None}
    assert leaves(content) == flat | {"n.0": True, "n.1": "t"}
    assert set(leaves([{"name": "x", "v": 1}, {"name": "x", "v": 2}])) == {"0.name", "0.v", "1.name", "1.v"}
    with pytest.raises(TypeError, match=r"a: set"):
        leaves({"a": {1}})


def test_relative_change() -> None:
    assert relative_change(4.0, 5.0) == 0.25
    assert relative_change(-4.0, -5.0) == -0.25
    assert relative_change(0.0, 0.0) == 0.0
    assert relative_change(0.0, -1.0) == -math.inf


def test_differences_stand_worst_first() -> None:
    a = {"seed": 1, "x": 100.0, "y": 10, "z": 0.0, "gone": 1.0, "same": 5, "flag": True, "name": "a", "nothing": None}
    b = {"seed": 2, "x": 90.0, "y": 15, "z": 1.0, "new": 2.0, "same": 5, "flag": False, "name": "b", "nothing": None}
    differences = compare_summaries(a, b)
    assert list(differences) == ["gone", "new", "z", "y", "x", "same"]
    assert differences["x"] == {"a": 100.0, "b": 90.0, "delta": -10.0, "delta_frac": -0.1}
    assert differences["z"] == {"a": 0.0, "b": 1.0, "delta": 1.0, "delta_frac": None}
    assert differences["gone"] == {"a": 1.0, "b": None, "delta": None, "delta_frac": None}
    table = comparison_table(differences).splitlines()
    assert table[-1] == "5 measures differ, 1 are the same"
    assert [line.split()[0] for line in table[1:-1]] == ["gone", "new", "z", "y", "x"]
    assert "only in a" in table[1]


def test_a_run_is_as_itself(summary: dict[str, Any]) -> None:
    differences = compare_summaries(summary, summary)
    assert differences
    assert all(d["delta"] == 0 and d["delta_frac"] == 0 for d in differences.values())
    assert check_baseline(summary, copy.deepcopy(summary)) == []


def changed(summary: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(summary)
    *parents, last = path.split(".")
    inner: Any = result
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[last] = value
    return result


@pytest.mark.parametrize(
    ("path", "factor", "passes"),
    [
        ("service.output_tokens_per_s", 1 + 0.9e-6, True),
        ("service.output_tokens_per_s", 1 + 1.1e-6, False),
        ("energy.utility_j", 1 - 0.9e-6, True),
        ("energy.utility_j", 1 - 1.1e-6, False),
        ("horizon_s", 1 + 1e-12, False),
        ("economics.revenue_usd", 1.01, False),
    ],
)
def test_tolerances(summary: dict[str, Any], path: str, factor: float, passes: bool) -> None:
    *parents, last = path.split(".")
    value: Any = summary
    for key in (*parents, last):
        value = value[key]
    assert (check_baseline(changed(summary, path, value * factor), summary) == []) is passes


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("requests.completed", 5),
        ("scenario", "other"),
        ("invariants.energy_balanced", False),
        ("hardware.gpus", 9),
        ("curtailment.0.time_to_comply_s", None),
    ],
)
def test_counts_texts_truths_and_nulls_may_not_move(summary: dict[str, Any], path: str, value: Any) -> None:
    assert len(check_baseline(changed(summary, path, value), summary)) == 1


def test_rounding_noise_in_the_balance_is_no_regression(summary: dict[str, Any]) -> None:
    assert check_baseline(changed(summary, "energy.balance_residual_frac", 3e-16), summary) == []
    assert check_baseline(changed(summary, "energy.balance_residual_frac", 1e-6), summary) != []


def test_missing_and_extra_leaves_fail_and_changes_stand_worst_first() -> None:
    baseline = {"service": {"a": 100.0, "b": 100.0, "gone": 1.0}}
    now = {"service": {"a": 101.0, "b": 150.0, "new": 2.0}}
    found = check_baseline(now, baseline)
    assert [(c.kind, c.path) for c in found] == [
        ("missing", "service.gone"),
        ("extra", "service.new"),
        ("changed", "service.b"),
        ("changed", "service.a"),
    ]
    assert [str(c) for c in found] == [
        "service.gone: missing, was 1",
        "service.new: extra, is 2, not in the baseline",
        "service.b: 100 -> 150 (+50 %)",
        "service.a: 100 -> 101 (+1 %)",
    ]


@given(content=st.dictionaries(st.text("abc", min_size=1, max_size=3), json_values, max_size=4))
def test_nothing_differs_from_itself_and_everything_from_nothing(content: dict[str, Any]) -> None:
    assert check_baseline(content, content) == []
    assert len(check_baseline({}, content)) == len(check_baseline(content, {})) == len(leaves(content))


def test_junit(tmp_path: Path) -> None:
    cases = [
        JUnitCase("good", 1.0),
        JUnitCase("moved", 2.5, ("x: 1 -> 2", "y\x00: gone")),
        JUnitCase("broke", 0.5, error="no\nfile"),
    ]
    write_junit(tmp_path / "out.xml", "nightly", cases)
    suite = ET.parse(tmp_path / "out.xml").getroot()[0]
    assert suite.attrib == {"name": "nightly", "tests": "3", "failures": "1", "errors": "1", "time": "4.000"}
    assert [len(case) for case in suite] == [0, 1, 1]
    assert suite[1][0].text == "x: 1 -> 2\ny: gone"
    assert suite[2][0].attrib["message"] == "no"
    with pytest.raises(InputError, match="cannot write"):
        write_junit(tmp_path / "no" / "out.xml", "nightly", cases)


def test_commands_print_data_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = write_small_run(tmp_path / "a")
    write_small_run(tmp_path / "b", small_totals(output_tokens_total=60))
    assert summary_command(tmp_path / "a", as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert summary_command(tmp_path / "a", as_json=False) == 0
    text = capsys.readouterr().out
    assert "by_hand, seed 7" in text
    assert "all 2 hold" in text
    assert compare_command(tmp_path / "a", tmp_path / "b", as_json=True) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["service.output_tokens_per_s"] == {"a": 6.0, "b": 3.0, "delta": -3.0, "delta_frac": -0.5}
    assert out.err == ""
    assert compare_command(tmp_path / "a", tmp_path / "b", as_json=False) == 0
    assert "measures differ" in capsys.readouterr().out
    with pytest.raises(InputError, match="not a run directory"):
        summary_command(tmp_path, as_json=True)


def test_opening_a_summary_loads_no_heavy_library(tmp_path: Path) -> None:
    write_small_run(tmp_path / "run")
    script = (
        "import sys; from twin.cli.summary import summary_command; "
        f"summary_command({str(tmp_path / 'run')!r}, True); "
        "heavy = {'numpy', 'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=Path(__file__).parents[1])
