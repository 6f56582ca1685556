"""One run of many: what a worker process is asked, and what it answers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin.errors import TwinError
from twin.processes import Died, call_all
from twin.schema import LoadedScenario

BUG, DIED = 70, 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task. `exit_code` is what `twin run` would have answered: 0, 1 with limits broken, and above that an
    error, told in `error`, with no summary."""

    exit_code: int
    summary: dict[str, Any] | None
    broken_limits: tuple[str, ...]
    error: str | None
    wall_s: float


@dataclass(frozen=True, slots=True)
class Task:
    """A checked scenario and the run directory it goes to."""

    loaded: LoadedScenario
    out: Path

    def __call__(self) -> Outcome:
        """Run it. Every error becomes an outcome: other runs go on."""
        from twin.engine import run_scenario

        began = time.perf_counter()
        try:
            done = run_scenario(self.loaded, self.out)
        except TwinError as error:
            return Outcome(error.exit_code, None, (), str(error), time.perf_counter() - began)
        except Exception:
            return Outcome(BUG, None, (), f"a bug in twin:\n{traceback.format_exc()}", time.perf_counter() - began)
        return Outcome(1 if done.broken_limits else 0, done.summary, done.broken_limits, None, time.perf_counter() - began)


OnOutcome = Callable[[int, Outcome], None]


def perform_all(tasks: Sequence[Task], jobs: int | None = None, on_done: OnOutcome | None = None) -> list[Outcome]:
    """Perform `tasks`, up to `jobs` at once, and return their outcomes in order; `on_done` hears of each as it ends.

    On an interrupt, runs in hand are given up and finished ones stay.
    """

    def outcome(answer: Outcome | Died) -> Outcome:
        return Outcome(DIED, None, (), answer.reason, 0.0) if isinstance(answer, Died) else answer

    def ended(index: int, answer: Outcome | Died) -> None:
        if on_done is not None:
            on_done(index, outcome(answer))

    return [outcome(answer) for answer in call_all(tasks, jobs, ended)]
