"""One run of many: what a worker process is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin.schema import LoadedScenario


@dataclass(frozen=True, slots=True)
class Task:
    """A checked scenario and the run directory it goes to."""

    loaded: LoadedScenario
    out: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task. `exit_code` is what `twin run` would have answered: 0, 1 with limits broken, and above that an
    error, told in `error`, with no summary."""

    exit_code: int
    summary: dict[str, Any] | None
    broken_limits: tuple[str, ...]
    error: str | None
    wall_s: float
