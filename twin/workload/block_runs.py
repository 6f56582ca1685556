"""Runs of blocks that are always together: a session's block hashes with everything that tells its inputs apart and no more."""

from __future__ import annotations

from collections.abc import Sequence

from twin.workload.trace_rows import FieldError


class BlockRuns:
    """The hashes of a session's inputs, `block_tokens` tokens each, a hash standing for its block and everything before it.

    `add` every input first; a run ends where one of them ends or where two part, so that inputs have the same runs in common as
    they have blocks. A run is called by its last hash.
    """

    __slots__ = ("_before", "_block_tokens", "_ends", "_next", "largest")

    def __init__(self, block_tokens: int):
        self._block_tokens = block_tokens
        self._before: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._ends: set[int] = set()
        #: The largest hash so far.
        self.largest = -1

    def add(self, hashes: Sequence[int]) -> int:
        """Take up an input; how many of its leading blocks one before it had.

        Raises FieldError where a hash stands behind another than before, or twice.
        """
        before, following = self._before, self._next
        found = 0
        while found < len(hashes) and hashes[found] in before:
            found += 1
        last = -1
        for each in hashes:
            known = before.setdefault(each, last)
            if known != last:
                said = f"hash {each} stands behind {_told(last)} here and behind {_told(known)} elsewhere"
                raise FieldError("hash_ids", f"{said}: a hash stands for its block and everything before it")
            if last >= 0 and following.setdefault(last, each) != each:
                self._ends.add(last)
            last = each
        self._ends.add(last)
        self.largest = max(self.largest, *hashes, -1)
        return found

    def of(self, hashes: Sequence[int], tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The runs of an input that was added, as (what they are called, tokens of each): all of its blocks, the last of which
        has fewer tokens where the input of `tokens` has no more."""
        names, lengths = [], []
        begun = 0
        for index, each in enumerate(hashes, start=1):
            if each in self._ends:
                names.append(each)
                lengths.append(min(index * self._block_tokens, tokens) - begun * self._block_tokens)
                begun = index
        return tuple(names), tuple(lengths)


def _told(hash_id: int) -> str:
    return f"hash {hash_id}" if hash_id >= 0 else "nothing"
