"""Calls side by side in processes of this machine.

Each worker is a fresh interpreter that is told everything over a pipe, and nothing else is shared: results do not depend on how
many there are, a script without `if __name__ == "__main__":` and a notebook work alike, and a process that dies takes down its
own call alone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twin.errors import InputError

#: How long a worker may take to give up its call and clean up behind it.
_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Died:
    """The answer of a call whose process ended before it did."""

    reason: str


#: A picklable call, and who hears of its answer (with the call's index) as it ends.
Call = Callable[[], Any]
OnDone = Callable[[int, Any], None]


def processes(jobs: int | None) -> int:
    """How many calls go side by side: `jobs`, or one for each core that this process may use. Raises InputError below 1."""
    if jobs is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs < 1:
        raise InputError(f"{jobs} jobs: at least 1 is needed")
    return jobs


def call_all(calls: Sequence[Call], jobs: int | None = None, on_done: OnDone | None = None) -> list[Any]:
    """Make `calls`, up to `jobs` at once, and return their answers in the order of the calls: what each returned, or Died.

    A call must not raise. `on_done` hears of each as it ends, with its index. On an interrupt, calls in hand are given up.
    """
    waiting = deque(enumerate(calls))
    answers: dict[int, Any] = {}
    workers: list[_Worker] = []
    try:
        with selectors.DefaultSelector() as selector:
            for _ in range(min(processes(jobs), len(calls))):
                workers.append(_Worker(selector))
                workers[-1].take(*waiting.popleft())
            while len(answers) < len(calls):
                for key, _ in selector.select():
                    worker: _Worker = key.data
                    index, answer = worker.answer()
                    answers[index] = answer
                    if on_done is not None:
                        on_done(index, answer)
                    if waiting:
                        worker.take(*waiting.popleft())
    finally:
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.wait()
    return [answers[index] for index in range(len(calls))]


class _Worker:
    """One worker process, and its replacement should it die."""

    def __init__(self, selector: selectors.BaseSelector):
        self._selector = selector
        self._index: int | None = None
        self._start()

    def take(self, index: int, call: Call) -> None:
        """Begin a call."""
        if self._process.poll() is not None:
            self._start()
        self._index = index
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; `answer` tells how
            pickle.dump(call, self._process.stdin)
            self._process.stdin.flush()

    def answer(self) -> tuple[int, Any]:
        """The index and answer of the call in hand, which has ended."""
        assert self._index is not None
        assert self._process.stdout is not None
        index, self._index = self._index, None
        try:
            return index, pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            self._selector.unregister(self._process.stdout)
            return index, Died(f"its process {self._end()}")

    def dismiss(self) -> None:
        """Let it end; a call in hand is given up."""
        if self._index is not None:
            self._process.terminate()
        self._close()

    def wait(self) -> None:
        """Until it has ended, by force if need be."""
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        # The same import path as ours, wherever twin and its plug-ins came from.
        code = f"import sys; sys.path[:] = {sys.path!r}; from twin.processes.worker import serve; serve()"
        # A process group of its own: an interrupt from the terminal reaches us alone, and we stop the workers in order.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ, self)

    def _end(self) -> str:
        self._close()
        code = self._process.wait()
        if code >= 0:
            return f"ended by itself with exit code {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
