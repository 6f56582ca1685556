"""A worker process: tasks come in on stdin, outcomes go out on stdout, both pickled, one after the other."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
import traceback
from types import FrameType

from twin.errors import TwinError
from twin.sweeps.task import Outcome, Task

BUG, STOPPED = 70, 143


def serve() -> None:
    """Perform tasks until stdin ends or SIGTERM comes; the run in hand is then given up and leaves nothing behind."""
    signal.signal(signal.SIGTERM, _stop)
    # Whatever a run or a plug-in prints must not come between the outcomes.
    outcomes = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        outcome = perform(task)
        try:
            pickle.dump(outcome, outcomes)
            outcomes.flush()
        except BrokenPipeError:
            # Nobody is waiting any more; the run stands in its directory all the same.
            os._exit(0)


def perform(task: Task) -> Outcome:
    """Run one scenario. Every error becomes an outcome: other runs go on."""
    from twin.engine import run_scenario

    began = time.perf_counter()
    try:
        done = run_scenario(task.loaded, task.out)
    except TwinError as error:
        return Outcome(error.exit_code, None, (), str(error), time.perf_counter() - began)
    except Exception:
        return Outcome(BUG, None, (), f"a bug in twin:\n{traceback.format_exc()}", time.perf_counter() - began)
    return Outcome(1 if done.broken_limits else 0, done.summary, done.broken_limits, None, time.perf_counter() - began)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(STOPPED)
