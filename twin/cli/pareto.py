"""`twin pareto`: the frontiers of systems, with their configurations."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.pareto.study import as_text, run_pareto
from twin.units import format_duration

if TYPE_CHECKING:
    from twin.pareto.study import ParetoStudy

INTERRUPTED = 130
_HEADINGS = (
    *("tok/s/user", "tok/s/GPU", "ktok/s/MW", "W/GPU", "split", "prefill", "parallelism", "GPUs", "sequences", "drafts", "wait"),
    *("TTFT p99 s", "on", ""),
)
#: Columns of text, set to the left.
_TEXT = frozenset({"split", "prefill", "parallelism", "on", ""})


def pareto_command(
    scenario: str, overrides: Mapping[str, object], jobs: int | None, out: Path | None, resume: bool, as_json: bool
) -> int:
    """Play the study and print its frontiers. Returns 0, or 130 when interrupted."""
    began = time.perf_counter()

    def ended(done: int, count: int, system: str, rows: Sequence[Mapping[str, Any]], kept: bool) -> None:
        played = sum(row["tokens_per_s_per_user"] is not None for row in rows)
        how = "kept" if kept else f"{played} points"
        print(f"{done}/{count} {system}, {rows[0]['configuration']}: {how}", file=sys.stderr)

    try:
        study = run_pareto(scenario, jobs, out, overrides, resume, ended)
    except KeyboardInterrupt:
        print("interrupted: finished curves are kept, and the same command with --resume does the rest", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print(as_text({"study": str(study.path), **study.content}))
    else:
        print(study_text(study))
        print(f"study: {study.path}")
    print(f"{len(study.points)} points in {format_duration(time.perf_counter() - began)}", file=sys.stderr)
    return 0


def study_text(study: ParetoStudy) -> str:
    """Each system's frontier, fast end last, and what became of the other points."""
    parts: list[str] = []
    for system in study.content["systems"]:
        rows = [row for row in study.points if row["system"] == system["name"]]
        best = [row for row in rows if row["frontier_per_gpu"] or row["frontier_per_mw"]]
        best.sort(key=lambda row: row["tokens_per_s_per_user"])
        lines = [list(_HEADINGS), *(_line(row) for row in best)]
        parts.append(f"{system['name']}: {system['gpu']}, {system['weights']}, {system['backend']}")
        parts.append(_aligned(lines) if best else "no point counts")
        parts.append(_fates(rows) + "\n")
    parts.append("on: G the frontier per GPU, M per MW at the meter.  *: outside what the coefficients were fitted on")
    return "\n".join(parts)


def _line(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['tokens_per_s_per_user']:.1f}",
        f"{row['tokens_per_s_per_gpu']:,.0f}",
        f"{row['tokens_per_s_per_mw'] / 1e3:,.0f}",
        f"{row['meter_w_per_gpu']:,.0f}",
        row["split"],
        row["prefill_parallelism"] or "-",
        row["parallelism"],
        str(row["gpus"]),
        f"{row['sequences']:,}",
        str(row["draft_tokens"] or "-"),
        _wait(row),
        f"{row['ttft_p99_s']:.2f}",
        ("G" if row["frontier_per_gpu"] else " ") + ("M" if row["frontier_per_mw"] else " "),
        "*" if row["outside"] else "",
    ]


def _wait(row: Mapping[str, Any]) -> str:
    """Batching of prompts: "60", or "120/16384" where so many tokens end it."""
    tokens = row["prompt_wait_tokens"]
    return f"{row['prompt_wait_steps']}/{tokens}" if tokens else str(row["prompt_wait_steps"] or "-")


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = list(zip(_HEADINGS, widths, strict=True))
    return "\n".join(
        "  ".join(
            cell.ljust(w) if heading in _TEXT else cell.rjust(w) for cell, (heading, w) in zip(line, cells, strict=True)
        ).rstrip()
        for line in lines
    )


def _fates(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many points count, and of the others how many for which kind of reason."""
    counts = Counter(row["status"] for row in rows)
    said = {
        "counts": "count",
        "misses": "miss an objective or a limit",
        "refused": "are refused",
        "skipped": "were not worth a try",
    }
    told = ", ".join(f"{counts[status]:,} {words}" for status, words in said.items() if counts[status])
    return f"{len(rows):,} points: {told}"
