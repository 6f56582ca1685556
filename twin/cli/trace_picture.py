"""A trace in a picture: lengths, context growth, sessions in flight, reuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twin.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from twin.workload.info import TraceStudy

#: Calls of a bin that make its quantiles worth drawing.
_FEWEST_CALLS = 20
_ENDINGS = (".png", ".svg", ".pdf")


def draw(study: TraceStudy, name: str, out: Path) -> None:
    """Draw four panels of a trace called `name` to `out`. Raises InputError where it can't be written."""
    if out.suffix not in _ENDINGS:
        raise InputError(f"{out}: the name of a picture ends in {', '.join(_ENDINGS)}")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from twin.analysis import style

    with rc_context(style.SETTINGS):
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        panels = figure.subplots(2, 2)
        for axes in panels.flat:
            axes.set_prop_cycle(color=style.TIERS)
        info = study.info
        counts = f"{info['requests']:,} calls in {info['sessions']:,} sessions"
        figure.suptitle(f"{name} ({info['format']}): {counts}", x=0.01, ha="left")
        _lengths(panels[0, 0], study)
        _growth(panels[0, 1], study)
        _flight(panels[1, 0], study)
        _reuse(panels[1, 1], study)
        try:
            figure.savefig(out, dpi=120, facecolor=style.PAPER, metadata={"Date": None} if out.suffix == ".svg" else None)
        except OSError as error:
            raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None


def _lengths(axes: Axes, study: TraceStudy) -> None:
    for tally, label in ((study.inputs, "input"), (study.outputs, "output")):
        values, shares = tally.shares()
        axes.plot(values, shares, drawstyle="steps-post", label=f"{label}, median {tally.quantile(0.5):,.0f}")
    axes.set_title("Lengths of calls", loc="left")
    axes.set(xscale="log", xlabel="tokens", ylabel="share of calls up to", ylim=(0, 1.02))
    _legend(axes)
    _plain(axes.xaxis)


def _growth(axes: Axes, study: TraceStudy) -> None:
    turns = sorted(turn for turn, tally in study.growth.items() if tally.count >= _FEWEST_CALLS)
    if len(turns) < 2:
        axes.set_title("Context growth", loc="left")
        _say(axes, "too few agents make more than one call")
        return
    at = [turn + 1 for turn in turns]
    low, middle, high = ([study.growth[turn].quantile(share) for turn in turns] for share in (0.1, 0.5, 0.9))
    axes.fill_between(at, low, high, alpha=0.25, linewidth=0, label="p10 to p90")
    axes.plot(at, middle, label="median")
    axes.set_title("Context growth", loc="left")
    axes.set(xscale="log", yscale="log", xlabel="call of an agent", ylabel="input tokens")
    _legend(axes)
    _plain(axes.xaxis)
    _plain(axes.yaxis)


def _flight(axes: Axes, study: TraceStudy) -> None:
    recorded = study.info.get("session_s", {}).get("recorded")
    basis = "as recorded" if recorded else "tools and people alone"
    if study.in_flight is not None:
        ends_s, levels = study.in_flight.series()
        axes.stairs(levels, [0.0, *(each / 3600 for each in ends_s)], fill=True, alpha=0.6)
        axes.set_title(f"Sessions in flight, {basis}", loc="left")
        axes.set(xlabel="hours since the first session", ylabel="sessions")
        axes.set_ylim(bottom=0)
    elif study.arrivals is not None:
        ends_s, levels = study.arrivals.series()
        axes.stairs(levels, [0.0, *(each / 3600 for each in ends_s)], fill=True, alpha=0.6)
        axes.set_title("Arrivals", loc="left")
        axes.set(xlabel="hours since the first call", ylabel="calls in the last minute")
        axes.set_ylim(bottom=0)
    else:
        for name, tally in ({"": study.session_s} | dict(study.waits_s)).items():
            values, shares = tally.shares()
            label = {"": f"session, {basis}", "tool_s": "a tool's wait", "think_s": "a person's wait"}[name]
            axes.plot([max(each, 0.1) / 60 for each in values], shares, drawstyle="steps-post", label=label)
        axes.set_title("Times", loc="left")
        axes.set(xscale="log", xlabel="minutes", ylabel="share up to", ylim=(0, 1.02))
        _legend(axes)
        _plain(axes.xaxis)


def _reuse(axes: Axes, study: TraceStudy) -> None:
    hit = study.info["prefix_hit_frac"]
    if not hit:
        axes.set_title("Prefix found in an infinite cache", loc="left")
        _say(axes, "none: the trace records no common prefix")
        return
    values, shares = study.found.shares()
    axes.plot([each / 1000 for each in values], shares, drawstyle="steps-post")
    axes.axvline(hit, linestyle="--", linewidth=1, color="0.4")
    axes.annotate(f"  {hit:.1%} of all input  ", (hit, 0.5), ha="right" if hit > 0.5 else "left", color="0.3")
    axes.set_title("Prefix found in an infinite cache", loc="left")
    axes.set(
        xlabel="share of a call's input",
        ylabel="share of calls up to",
        xlim=(-0.02, 1.02),
        ylim=(0, 1.02),
    )


def _legend(axes: Axes) -> None:
    """Above the panel, where no curve runs."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=8.5, borderaxespad=0.2)


def _plain(axis: Axis) -> None:
    """Ticks of a logarithmic axis as people say them: 100k."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0,)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color="0.4", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])
