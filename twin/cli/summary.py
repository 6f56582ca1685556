"""twin summary: a finished run's key numbers."""

from __future__ import annotations

import sys
from pathlib import Path


def summary_command(run_dir: str | Path, as_json: bool) -> int:
    """Print the run's summary.json as it stands, or its key numbers as text. Raises InputError if there is no run."""
    from twin.analysis import open_run
    from twin.analysis.key_numbers import summary_text

    run = open_run(run_dir)
    summary = run.summary
    if as_json:
        sys.stdout.write((run.path / "summary.json").read_text(encoding="utf-8"))
    else:
        print(summary_text(summary))
    return 0
