"""What a cache of any size would find of a trace's contexts: exact hit rates of LRU by stack distance, in one pass.

A block is found only if all before it are. LRU gives up the ends of contexts first: of blocks used together the deepest counts
as used the longest ago. Then what a cache of n blocks holds is the n blocks on top of one stack that every size shares, and a
block is found by every cache that reaches down to where it lies (Mattson et al., IBM Systems Journal 9(2), 1970).

The blocks of a call whose last user was the same lie next to each other in the stack, so that a call costs work by its blocks
once and by its last users, which are few, the logarithm of the number of calls.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.errors import InputError
from twin.workload.session import Call, Session

#: A content from the front: segments of (key, tokens).
Path = Sequence[tuple[int, int]]

#: Root of the tree of blocks.
_ROOT = -1


@dataclass(frozen=True, slots=True)
class ReuseCurve:
    """Blocks found by caches of every size: `found[n]` of `asked` blocks with room for n blocks, n = 0 .. all different ones."""

    asked: float
    found: NDArray[np.int64]

    @property
    def different_blocks(self) -> int:
        """Blocks that a cache needs room for to lose nothing."""
        return len(self.found) - 1

    def hit_frac(self, blocks: float) -> float:
        """Share of the blocks asked for that a cache of `blocks` finds; `math.inf` for one without bounds."""
        held = self.different_blocks if math.isinf(blocks) else min(int(blocks), self.different_blocks)
        return float(self.found[held]) / self.asked if self.asked else 0.0


class ReuseMeter:
    """Takes calls in their order of arrival; memory grows with different blocks and calls."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, Hashable], int] = {}
        self._last_call: list[int] = []
        self._left = _Counts()
        self._ends: Counter[int] = Counter()
        self._asked = 0.0

    def add(self, blocks: Sequence[Hashable], looked_up: int, asked: float) -> None:
        """A call whose context has `blocks`, of which the first `looked_up` are its input and the rest what it leaves behind it.
        `asked` is the length of its input in blocks, a part of one included."""
        self._asked += asked
        ids, last_call, left = self._ids, self._last_call, self._left
        number = len(left)
        node = _ROOT
        start = 0
        user = -1
        for place, name in enumerate(blocks):
            node = ids.setdefault((node, name), len(last_call))
            before = -1
            if node == len(last_call):
                last_call.append(number)
            else:
                before, last_call[node] = last_call[node], number
            if before != user:
                self._take(user, start, place, looked_up)
                start, user = place, before
        self._take(user, start, len(blocks), looked_up)
        left.append(len(blocks))

    def _take(self, user: int, start: int, end: int, looked_up: int) -> None:
        """Places `start` to `end` of a context were last used by call `user`: where they lay in the stack, before they go up.

        Above them lay what later calls used, of which this context's places before `start` were a part.
        """
        if user < 0 or end == start:
            return
        above = start + self._left.after(user)
        found = min(end, looked_up) - start
        if found > 0:
            # One block at each of the depths above + 1 .. above + found: kept as where such runs begin and end.
            self._ends[above + 1] += 1
            self._ends[above + found + 1] -= 1
        self._left.add(user, start - end)

    def curve(self) -> ReuseCurve:
        """What caches of every size would have found so far."""
        steps = np.zeros(len(self._last_call) + 2, np.int64)
        for depth, change in self._ends.items():
            steps[depth] += change
        return ReuseCurve(self._asked, np.cumsum(np.cumsum(steps))[:-1])


class _Counts:
    """Numbers of which any one can change and any tail be summed, in logarithmic time: a Fenwick tree that grows."""

    def __init__(self) -> None:
        self._sums: list[int] = [0]
        self._total = 0

    def __len__(self) -> int:
        return len(self._sums) - 1

    def append(self, value: int) -> None:
        sums = self._sums
        place = len(sums)
        total, below = value, place - 1
        while below > place - (place & -place):
            total += sums[below]
            below -= below & -below
        sums.append(total)
        self._total += value

    def add(self, index: int, change: int) -> None:
        sums = self._sums
        place, size = index + 1, len(sums)
        while place < size:
            sums[place] += change
            place += place & -place
        self._total += change

    def after(self, index: int) -> int:
        """Sum of all numbers behind `index`."""
        total, place = self._total, index + 1
        while place:
            total -= self._sums[place]
            place -= place & -place
        return total


def blocks_of(path: Path, block_tokens: int) -> list[Hashable]:
    """Names of the whole blocks of a content: equal where the blocks and all before them are equal. A part of one at the end is
    left out, as caches keep whole ones."""
    names: list[Hashable] = []
    pieces: list[tuple[int, int]] = []
    free = block_tokens
    for key, tokens in path:
        if free < block_tokens:
            piece = min(tokens, free)
            pieces.append((key, piece))
            tokens, free = tokens - piece, free - piece
            if free:
                continue
            names.append(tuple(pieces))
            pieces, free = [], block_tokens
        whole = tokens // block_tokens
        names += [key] * whole
        rest = tokens - whole * block_tokens
        if rest:
            pieces, free = [(key, rest)], block_tokens - rest
    return names


def in_nominal_order(sessions: Iterable[Session], service_s: float) -> Iterator[tuple[Session, Call]]:
    """The calls of all sessions in the order in which they would begin if each were served in `service_s`.

    Raises InputError for a session without an arrival.
    """
    waiting: list[tuple[float, int, int]] = []
    open_: dict[int, _Open] = {}
    for session in sessions:
        if math.isnan(session.arrival_s):
            raise InputError(f"session {session.session_id} has no arrival time: give a rate at which sessions arrive")
        yield from _begun(waiting, open_, session.arrival_s, service_s)
        entered = open_[session.session_id] = _Open(session)
        for index, call in enumerate(session.calls):
            if not call.after and not call.any_of:
                heapq.heappush(waiting, (session.arrival_s + call.wait_s, session.session_id, index))
        entered.left = len(session.calls)
    yield from _begun(waiting, open_, math.inf, service_s)


class _Open:
    """A session whose calls have not all begun: when each ends, and which others wait for it."""

    def __init__(self, session: Session):
        self.session = session
        self.left = 0
        self.end_s: dict[int, float] = {}
        self.begun: set[int] = set()
        self.children: dict[int, list[int]] = {}
        for index, call in enumerate(session.calls):
            for before in (*call.after, *call.any_of):
                self.children.setdefault(before, []).append(index)

    def start_s(self, index: int) -> float | None:
        """When a call begins, as far as those it waits for have."""
        call, ends = self.session.calls[index], self.end_s
        if any(before not in ends for before in call.after):
            return None
        firsts = sorted(ends[before] for before in call.any_of if before in ends)[: call.any_count]
        if len(firsts) < call.any_count:
            return None
        return max([*(ends[before] for before in call.after), *firsts]) + call.wait_s


def _begun(
    waiting: list[tuple[float, int, int]], open_: dict[int, _Open], until_s: float, service_s: float
) -> Iterator[tuple[Session, Call]]:
    while waiting and waiting[0][0] <= until_s:
        at_s, session_id, index = heapq.heappop(waiting)
        entered = open_.get(session_id)
        if entered is None or index in entered.begun:  # a first-k join waits here once for each of its calls that ended
            continue
        entered.begun.add(index)
        yield entered.session, entered.session.calls[index]
        entered.end_s[index] = at_s + service_s
        for child in entered.children.get(index, ()):
            start_s = entered.start_s(child)
            if start_s is not None and child not in entered.begun:
                heapq.heappush(waiting, (start_s, session_id, child))
        entered.left -= 1
        if not entered.left:
            del open_[session_id]
