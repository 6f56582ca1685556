"""twin compare: two finished runs side by side."""

from __future__ import annotations

import json
from pathlib import Path


def compare_command(a: str | Path, b: str | Path, as_json: bool) -> int:
    """Print every number that differs between runs `a` and `b`, the largest relative change first. Raises InputError if either
    is no run."""
    from twin.analysis import compare_summaries, comparison_table, open_run

    differences = compare_summaries(open_run(a).summary, open_run(b).summary)
    if as_json:
        print(json.dumps(differences, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(f"a: {a}\nb: {b}\n")
        print(comparison_table(differences))
    return 0
