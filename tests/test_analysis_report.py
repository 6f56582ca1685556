"""Opening a run, its series, its plots, and the report: offline, small, complete for runs of every shape."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from synthetic_run import read_json, request_row, small_totals, write_busy_run, write_small_run

from twin.analysis import open_run, style
from twin.analysis.report import _LEFT_IN
from twin.analysis.series import RequestSeries, Steps, bin_edges, busiest_unit
from twin.analysis.story import clock, spoken_detail, spoken_kind, story
from twin.cli.report import report_command
from twin.errors import InputError
from twin.recording import RunDirectory
from twin.recording.event_kinds import EVENT_KINDS

mpl.use("Agg")

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Outline(HTMLParser):
    """Checks that tags close as they opened, and keeps text and identifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(path: Path) -> tuple[str, Outline]:
    html = path.read_text(encoding="utf-8")
    parser = Outline()
    parser.feed(html)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    return html, parser


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "busy"
    write_busy_run(path)
    return path


def test_the_report_is_one_small_offline_file_made_quickly(busy: Path) -> None:
    start = time.perf_counter()
    path = open_run(busy).report()
    assert time.perf_counter() - start < 4
    assert path == busy / "report.html"
    assert path.stat().st_size < 2e6
    html, _ = outline(path)
    # The only addresses are the names of XML namespaces.
    assert set(re.findall(r"https?://[^\s\"'<)]+", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in html
    assert "prefers-color-scheme: dark" in html


def test_the_report_tells_the_event_and_shows_every_figure(busy: Path) -> None:
    html, parsed = outline(open_run(busy).report())
    text = " ".join(" ".join(parsed.text).split())
    assert "summer_peak: main asked down to 800 kW" in text
    assert "Nothing was lost" in text
    assert "Once the ramp was over it was never above the target." in text
    for title in (
        "Power of main",
        "GPU clock",
        "Output tokens by tier",
        "Time to first token",
        "Time per output token",
        "PUE of main",
        "output tokens: ",
    ):
        assert title in text
    drawings = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    assert len(drawings) == 12
    for drawing in drawings:
        element = ET.fromstring(drawing)
        assert element.attrib["role"] == "img"
        assert len(element.attrib["aria-label"]) > 40
    assert "sha256:0f" in text
    assert "DejaVu" not in html  # figures take the page's font
    assert html.count("<style") == 1


def test_the_same_run_gives_the_same_report(busy: Path, tmp_path: Path) -> None:
    assert open_run(busy).report(tmp_path / "a.html").read_bytes() == open_run(busy).report(tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    "given_run",
    [
        {"sites": ("east", "west"), "requests": 200, "horizon_s": 600.0},
        {"with_event": False, "requests": 200, "horizon_s": 600.0},
        {"requests": 3, "horizon_s": 60.0},
        {"requests": 0, "horizon_s": 60.0},
    ],
    ids=["two sites", "no event", "few requests", "no request"],
)
def test_runs_of_every_shape_have_a_report_and_plots(tmp_path: Path, given_run: dict[str, Any]) -> None:
    write_busy_run(tmp_path / "run", **given_run)
    run = open_run(tmp_path / "run")
    html, parsed = outline(run.report(tmp_path / "out.html"))
    for site in given_run.get("sites", ("main",)):
        assert f"Power of {site}" in html
    if given_run.get("with_event") is False:
        assert "No event was recorded." in " ".join(parsed.text)
    for draw in (run.plot.power, run.plot.tokens, run.plot.latency, run.plot.temperature, run.plot.pue, run.plot.actions):
        axes = draw()
        assert axes.get_title(loc="left")
        mpl.pyplot.close(axes.figure)


def test_names_are_escaped(tmp_path: Path) -> None:
    write_small_run(tmp_path / "run", small_totals(scenario="<script>alert(1)</script>"))
    html, _ = outline(open_run(tmp_path / "run").report())
    assert "<script" not in html


def test_a_broken_invariant_is_said_aloud(tmp_path: Path) -> None:
    summary = write_small_run(tmp_path / "run", small_totals(requests_arrived=9, invariants={"energy_balanced": False}))
    last = story(summary)[-1]
    assert last.tone == "bad"
    assert last.sentences[1:] == ("1 requests are unaccounted for.", "Broken: nothing lost and energy balanced.")


def test_the_story_of_an_event_by_hand(tmp_path: Path) -> None:
    told = story(write_small_run(tmp_path / "run"))[0]
    assert told.tone == "good"
    assert told.sentences == (
        "From 0:00:20 on, for 20 s, the utility wanted the meter at 800 W.",
        "The site had drawn 1 kW on average over the 20 s before; in the event it drew 815 W, 18.5 % less.",
        "It was there 4 s after the start, within the 4 s given to ramp down, and stayed.",
        "Once the ramp was over it was never above the target.",
        "The tokens delivered within their promises were 21.2 % of what they had been just before "
        "(by tier: chat 91.7 %, batch 0 %).",
        "Requests of chat that met every promise went from 66.7 % to 50 %.",
        "To get there the policy used: hold back a tier (once, first at 0:00:12), set power caps (twice, first at 0:00:21).",
    )


def test_words_for_people() -> None:
    assert clock(3725.4) == "1:02:05"
    assert clock(90061.0) == "day 2, 1:01:01"
    assert spoken_kind("set_cap") == "set power caps"
    assert spoken_kind("link_failure") == "link failure"
    assert spoken_detail('{"cap_w": 900.123456, "pool": "decode"}') == "cap w 900.1, pool decode"
    assert spoken_detail("{not json") == "{not json"
    assert busiest_unit(np.array([1.0, 2500.0]), "W") == (1000.0, "kW")


def test_an_opened_run_hands_out_frames_with_units(busy: Path) -> None:
    run = open_run(str(busy))
    assert run.summary == read_json(busy / "summary.json")
    assert run.manifest["status"] == "done"
    assert len(run.requests) == run.summary["requests"]["total"]
    assert run.power.attrs["units"]["utility_w"] == "W"
    assert run.requests["finish_s"].isna().any()
    assert {len(run.sessions), len(run.workers), len(run.fabric)} == {0}
    assert not run.thermal.empty
    assert not run.events.empty


def test_what_is_no_run_is_said(tmp_path: Path, busy: Path) -> None:
    with pytest.raises(InputError, match="nothing there"):
        open_run(tmp_path / "none")
    with pytest.raises(InputError, match=r"no manifest\.json"):
        open_run(tmp_path)
    with pytest.raises(InputError, match=r"no site 'mian' in this run \(did you mean 'main'\?\)"):
        open_run(busy).plot.power(site="mian")
    with pytest.raises(InputError, match="no latency"):
        open_run(busy).plot.latency(measure="tttft")
    with pytest.raises(InputError, match="cannot write"):
        report_command(busy, tmp_path / "no" / "out.html")


def test_the_report_command_prints_where(busy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_command(busy, tmp_path / "out.html") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.html'}\n"


times = st.floats(0, 100, allow_subnormal=False)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(times, st.floats(0, 30), st.integers(1, 500)), max_size=25), bins=st.integers(1, 40))
def test_tokens_over_time_add_up_to_the_tokens(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, int]], bins: int
) -> None:
    with RunDirectory.create(tmp_path_factory.mktemp("tokens") / "run") as run:
        for i, (first_s, length_s, tokens) in enumerate(rows):
            run.writer("requests").append(request_row(i, "chat", first_s, first_s, first_s + length_s, tokens))
        run.close_tables()
        series = RequestSeries(run.path, 130.0)
        edges = bin_edges(130.0, bins)
        assert series.tokens_per_s("chat", edges) @ np.diff(edges) == pytest.approx(sum(row[2] for row in rows))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0.1, 10), st.floats(-1e6, 1e6, allow_subnormal=False)), min_size=1, max_size=25),
    bins=st.integers(1, 40),
)
def test_binned_means_keep_the_integral_and_stay_inside_the_values(steps: list[tuple[float, float]], bins: int) -> None:
    widths, values = np.array(steps).T
    end_s = np.cumsum(widths)
    binned, edges = Steps(end_s, values), bin_edges(float(end_s[-1]), bins)
    assert binned.mean(edges) @ np.diff(edges) == pytest.approx(float(values @ widths), abs=1e-3)
    slack = 1e-6 * max(1.0, float(np.abs(values).max()))
    assert np.all(binned.mean(edges) <= values.max() + slack)
    assert np.all(binned.mean(edges) >= values.min() - slack)


def test_a_column_that_is_null_leaves_gaps() -> None:
    steps = Steps(np.array([1.0, 2.0, 3.0, 4.0]), np.array([np.nan, np.nan, 5.0, 7.0]))
    edges = np.array([0.0, 2.0, 3.5, 4.0])
    np.testing.assert_allclose(steps.mean(edges), [np.nan, (5 + 3.5) / 1.5, 7.0])
    np.testing.assert_allclose(steps.maximum(edges), [np.nan, 5.0, 7.0])


def test_quantiles_by_hand(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run") as run:
        for i in range(6):
            run.writer("requests").append(request_row(i, "chat", 1.0, 2.0 + i, 9.0, 2))
        run.close_tables()
        series = RequestSeries(run.path, 20.0)
        # TTFT 1..6 s, all first tokens before 10 s; nothing after.
        quantiles = series.quantiles("chat", "ttft_s", bin_edges(20.0, 2), (0.5, 1.0))
    np.testing.assert_allclose(quantiles, [[3.5, np.nan], [6.0, np.nan]])


def test_lanes_have_room_for_what_they_are_called() -> None:
    """The names of all kinds of events fit left of the axes, with the ticks' pad, at the size in which the report draws them."""
    with mpl.rc_context(style.SETTINGS):
        figure = mpl.figure.Figure(figsize=(9.4, 3.0))
        renderer = FigureCanvasAgg(figure).get_renderer()
        for kind, meaning in EVENT_KINDS.items():
            text = figure.text(0, 0, meaning.said, fontsize=mpl.rcParams["ytick.labelsize"])
            assert text.get_window_extent(renderer).width / figure.dpi <= _LEFT_IN["actions"] - 0.1, kind
