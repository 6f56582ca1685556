"""`twin calibrate`: coefficients of the step model from files of measurements."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from twin.calibration import Fitted, calibrate, catalogue_text, with_shipped
from twin.errors import InputError


def calibrate_command(data: Sequence[Path], source: str | None, jobs: int | None, out: Path | None) -> int:
    """Fit and write a catalogue file of backends, on stdout or to `out`; the errors of the fit go to stderr. Returns 0."""
    if out is not None and not out.resolve().parent.is_dir():
        raise InputError(f"{out}: the folder {out.resolve().parent} does not exist")
    if out is not None and out.is_dir():
        raise InputError(f"{out}: is a folder, and a file is to be written")
    groups: list[Fitted] = []
    for path in data:
        found = calibrate(path, source or path.name, jobs, lambda said: print(said, file=sys.stderr))
        for again in {group.key for group in groups} & {group.key for group in found}:
            raise InputError(f"{path}: {' '.join(again)} is in a file before it as well; rows of one group belong in one file")
        groups += found
    text = catalogue_text(with_shipped(groups))
    if out is None:
        print(text, end="")
    else:
        # Whole or not at all: a catalogue cut short would load.
        part = out.with_name(out.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    for group in groups:
        on = group.range
        print(
            f"{' '.join(group.key)}: {on.points:,} points, median error {on.tpot_median_ape:.1%} in time per token, "
            f"{on.ttft_median_ape:.1%} in time to first token",
            file=sys.stderr,
        )
    return 0
