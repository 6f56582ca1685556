"""`twin trace cache`: what caches of different sizes would find of a trace."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.errors import InputError

if TYPE_CHECKING:
    from twin.workload.reuse import ReuseCurve

#: Sizes of the table, as shares of what loses nothing, where none are given.
_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Points of the drawn curve.
_POINTS = 400
#: Blocks of a trace whose hashes stand for runs of any length: as fine as contexts are told apart in agent traces.
_RUN_BLOCK_TOKENS = 64


def trace_cache_command(
    path: Path, fmt: str, sizes: str | None, rate_per_s: float | None, as_json: bool, picture: Path | None
) -> int:
    """Print, and draw to `picture` if asked, the share of the input that caches of `sizes` tokens would find."""
    tokens = None if sizes is None else _sizes(sizes)
    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise InputError(f"{picture}: the name of a picture ends in .svg or .png")
    curve, block_tokens = _curve(path, fmt, rate_per_s)
    table = _table(curve, block_tokens, tokens)
    if picture is not None:
        _draw(curve, block_tokens, path.name, picture)
    if as_json:
        print(json.dumps(table, indent=2))
        return 0
    print(f"{'cache, tokens':>16}  hits")
    for row in table["curve"]:
        print(f"{row['cache_tokens']:>16,}  {row['hit_frac']:.4f}")
    print(f"{'without bounds':>16}  {table['infinite_hit_frac']:.4f}")
    print(
        f"of {table['asked_blocks']:,.0f} blocks of {block_tokens} tokens; {table['different_blocks']:,} different ones are held"
    )
    return 0


def _curve(path: Path, fmt: str, rate_per_s: float | None) -> tuple[ReuseCurve, int]:
    """The trace's contexts through one cache: by the hashes of its blocks where it has them, else by what its sessions share."""
    from twin.engine.session_paths import SessionPaths
    from twin.rng import stream
    from twin.workload import HASH_BLOCK_TOKENS, Poisson, WarmStart, read_trace
    from twin.workload.replay import assign_arrivals
    from twin.workload.reuse import ReuseMeter, blocks_of, in_nominal_order

    sessions = read_trace(path, fmt)
    if rate_per_s is not None:
        sessions = assign_arrivals(sessions, Poisson(rate_per_s).times(stream(1, "workload.arrivals"), 0.0, math.inf))
    meter = ReuseMeter()
    block_tokens = 0
    contexts: dict[int, tuple[SessionPaths, dict[int, int]]] = {}
    for session, call in in_nominal_order(sessions, WarmStart().service_s):
        if session.session_id not in contexts:
            left: dict[int, int] = {}
            for each in session.calls:
                left[each.agent] = left.get(each.agent, 0) + 1
            contexts[session.session_id] = SessionPaths(session), left
        paths, left = contexts[session.session_id]
        left[call.agent] -= 1
        comes_again = left[call.agent] > 0
        if not any(left.values()):
            del contexts[session.session_id]
        content = paths.of(call, comes_again)
        block_tokens = block_tokens or (_RUN_BLOCK_TOKENS if call.block_tokens else HASH_BLOCK_TOKENS)
        if call.hash_ids and not call.block_tokens and block_tokens == HASH_BLOCK_TOKENS:
            meter.add(content.path, len(content.path), len(content.path))  # the last counts as a whole one, as in its source
            continue
        if call.hash_ids:
            blocks = blocks_of(content.path, block_tokens)
            meter.add(blocks, len(blocks), call.input_tokens / block_tokens)
            continue
        kept = list(content.path)
        if comes_again and kept:  # its answer stays too; KV of an answer's last token is never made
            kept[-1] = kept[-1][0], kept[-1][1] + call.output_tokens - 1
        looked_up = min(content.shared_tokens, call.input_tokens - 1) // block_tokens
        meter.add(blocks_of(kept, block_tokens), looked_up, call.input_tokens / block_tokens)
    return meter.curve(), block_tokens or HASH_BLOCK_TOKENS


def _table(curve: ReuseCurve, block_tokens: int, tokens: list[int] | None) -> dict[str, Any]:
    """The keys of `twin trace cache --json`."""
    if tokens is None:
        blocks = sorted({max(1, round(curve.different_blocks * share)) for share in _SHARES})
        tokens = [count * block_tokens for count in blocks]
    return {
        "block_tokens": block_tokens,
        "asked_blocks": curve.asked,
        "different_blocks": curve.different_blocks,
        "infinite_hit_frac": curve.hit_frac(math.inf),
        "curve": [{"cache_tokens": size, "hit_frac": curve.hit_frac(size / block_tokens)} for size in tokens],
    }


def _sizes(text: str) -> list[int]:
    """`100k,5M,2000000` to tokens. Raises InputError for anything else."""
    sizes = []
    for part in text.split(","):
        scale = {"k": 10**3, "M": 10**6, "G": 10**9}.get(part.strip()[-1:], 1)
        digits = part.strip().rstrip("kMG") if scale > 1 else part.strip()
        try:
            tokens = float(digits) * scale
        except ValueError:
            tokens = math.nan
        if not 1 <= tokens <= 1e15:
            raise InputError(f"--sizes {part!r}: write numbers of tokens parted by commas, such as 500k,20M")
        sizes.append(int(tokens))
    return sizes


def _draw(curve: ReuseCurve, block_tokens: int, name: str, picture: Path) -> None:
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, PercentFormatter

    from twin.analysis import style

    blocks = np.unique(np.geomspace(1, max(curve.different_blocks, 2), _POINTS).astype(int))
    with rc_context(style.SETTINGS):
        figure = Figure(figsize=(7.0, 3.6), layout="constrained", facecolor=style.PAPER)
        axes = figure.subplots()
        axes.plot(blocks * block_tokens, [curve.hit_frac(count) for count in blocks], color=style.INK)
        axes.axhline(curve.hit_frac(math.inf), color=style.LIMIT, linewidth=1.0, linestyle=(0, (5, 3)))
        axes.annotate(
            f"without bounds {curve.hit_frac(math.inf):.1%}",
            (block_tokens, curve.hit_frac(math.inf)),
            xytext=(4, -12),
            textcoords="offset points",
            color=style.LIMIT,
        )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("room of the cache (tokens)")
        axes.set_ylabel("input found")
        axes.set_title(name, loc="left")
        try:
            figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)
        except OSError as error:
            raise InputError(f"{picture}: cannot be written: {error.strerror or error}") from None
