"""A worker process: calls come in on stdin, answers go out on stdout, both pickled, one after the other."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from types import FrameType

STOPPED = 143


def serve() -> None:
    """Make calls until stdin ends or SIGTERM comes; the call in hand is then given up, and cleans up behind itself."""
    signal.signal(signal.SIGTERM, _stop)
    # Whatever a call or a plug-in prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        try:
            call = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = call()
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:
            # Nobody is waiting any more; what the call has written stands all the same.
            os._exit(0)


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(STOPPED)
