"""The `jobs` of a summary: what came of the work that can wait, and where its GPU-hours went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis.columns import TableColumns
from twin.analysis.totals import SiteGpus

#: Where the GPU-hours of jobs go, as columns of jobs.parquet name it.
SPENT = ("kept", "lost", "open", "saving", "starting")
_OUTCOMES = ("completed", "in_flight", "not_started")
_COUNTS = ("steps_done", "steps_kept", "steps_lost", "steps_open", "checkpoints", "pauses", "tokens")


def jobs(run_dir: Path, sites: Mapping[str, SiteGpus], horizon_s: float) -> dict[str, Any]:
    """All jobs, and under `kinds` those of each kind. Raises InputError if jobs.parquet is missing.

    `goodput_frac` is GPU-hours of steps that are saved over GPU-hours held, `held_frac` GPU-hours held over those that serving
    left; `sites` says how many GPUs there are and how many serve.
    """
    table = TableColumns(run_dir, "jobs")
    kind = table.names("kind")
    left_h = sum(gpus.gpus - gpus.serving for gpus in sites.values()) * horizon_s / 3600.0
    everything = _group(table, np.ones(table.rows, bool))
    return {
        **everything,
        "held_frac": everything["gpu_hours"]["held"] / left_h if left_h else None,
        "tokens_per_s": everything["tokens"] / horizon_s,
        "kinds": {name: _group(table, kind.are(name)) for name in sorted(kind.labels)},
        "sites": {name: {"gpus": gpus.gpus, "serving_gpus": gpus.serving} for name, gpus in sites.items()},
    }


def _group(table: TableColumns, rows: np.ndarray) -> dict[str, Any]:
    outcome, deadline = table.names("outcome"), table.names("deadline")
    hours = {name: math.fsum(table.numbers(f"{name}_gpu_hours")[rows]) for name in SPENT}
    held = math.fsum(table.numbers("gpu_hours")[rows])
    return {
        "total": int(np.count_nonzero(rows)),
        **{name: int(np.count_nonzero(rows & outcome.are(name))) for name in _OUTCOMES},
        "deadlines": {name: int(np.count_nonzero(rows & deadline.are(name))) for name in ("met", "missed", "open")},
        **{name: int(table.integers(name)[rows].sum()) for name in _COUNTS},
        "gpu_hours": {"held": held, **hours},
        "goodput_frac": hours["kept"] / held if held else None,
        "energy_j": math.fsum(table.numbers("energy_j")[rows]),
    }
