"""`twin validate`: how well the model predicts a file of measurements."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from twin.calibration import Validation, metrics_text, validate

#: Groups that are told to people; `--json` has all.
_GROUPS_SHOWN = 12


def validate_command(data: Path, jobs: int | None, as_json: bool) -> int:
    """Predict each row and print the errors; 0."""
    shown = sys.stderr.isatty()

    def on_rows(done: int, total: int) -> None:
        if shown:
            print(f"\r{done:,} of {total:,} rows", end="" if done < total else "\n", file=sys.stderr, flush=True)

    found = validate(data, jobs, on_rows)
    print(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) if as_json else _said(found))
    return 0


def _said(found: Validation) -> str:
    lines = [f"{found.kind}: {len(found.predictions):,} of {found.rows:,} rows predicted, {len(found.refused):,} refused", ""]
    lines += metrics_text("all", len(found.predictions), found.metrics())
    if found.group_by:
        finest = found.groups_by(found.group_by[-1])
        lines += ["", f"by {', '.join(found.group_by[-1])}"]
        for group in finest[:_GROUPS_SHOWN]:
            lines += metrics_text(" ".join(group["by"].values()), group["rows"], group["metrics"])
        if len(finest) > _GROUPS_SHOWN:
            lines.append(f"and {len(finest) - _GROUPS_SHOWN} smaller groups: --json has them")
    if found.refused:
        lines += ["", "refused"]
        # Reasons often differ in their numbers alone; the first of each kind is told.
        kinds = Counter(refusal.kind for refusal in found.refused)
        first = {refusal.kind: refusal.why for refusal in reversed(found.refused)}
        lines += [f"{count:6,}  {first[kind]}" for kind, count in kinds.most_common()]
    return "\n".join(lines)
