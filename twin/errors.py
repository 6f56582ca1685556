"""The error tree: what went wrong, whose business it is, and the exit code a command answers with.

`InputError` carries every `Problem` found in a file, each with its place, so that a user mends all of them at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class TwinError(Exception):
    """Base of every error the product raises on purpose; `exit_code` is what a command returns for it."""

    exit_code = 70


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: where it stands, which key it is about, and what to do.

    `line` and `column` count from 1. `path` is the dotted key path ("serving.pools.0.role"), empty for a whole file.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        return where + (f"{self.path}: " if self.path else "") + self.message


class InputError(TwinError):
    """Bad usage or input: prints every problem, exit 2."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | str):
        if isinstance(problems, str):
            self.problems: tuple[Problem, ...] = ()
            super().__init__(problems)
        else:
            self.problems = tuple(problems)
            super().__init__("\n".join(str(p) for p in self.problems))


class UnknownValueError(TwinError):
    """A catalogue value that nobody has published was asked for."""

    exit_code = 2


class SimulationError(TwinError):
    """The simulation reached a state it must not go on from: exit 3."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the nearest known name, or the known names when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.55)
    if near:
        return f" (did you mean {near[0]!r}?)"
    if names and len(names) <= 12:
        return f" (known: {', '.join(names)})"
    return ""
