"""twin report: a finished run's report, one offline HTML file."""

from __future__ import annotations

from pathlib import Path


def report_command(run_dir: str | Path, out: str | Path | None) -> int:
    """Write the report to `out` (default: report.html in the run directory) and print its path. Raises InputError if there is
    no run or the file cannot be written."""
    from twin.analysis import open_run

    print(open_run(run_dir).report(out))
    return 0
