"""A memory below HBM that keeps KV: host memory of an instance, storage of a site. Content, room, and traffic both ways."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from twin.serving.prefix_tree import ContextPath, PrefixTree, path_tokens

#: Writes wait at most this long for their direction of the link; what would wait longer is dropped, as offloading must not hold
#: up the memory that it frees.
LONGEST_BACKLOG_S = 1.0


@dataclass(frozen=True, slots=True)
class KvTierSpec:
    """Room in tokens of context, tokens a second in each direction, and the time before the first of them."""

    capacity_tokens: int
    tokens_per_s: float
    latency_s: float = 0.0


class KvTier:
    """One tier. What leaves the tier above is written here; what a prompt finds here is read back up.

    Both directions are full duplex and serve one transfer after another. A lower tier holds whole contexts from the front, also
    what the tiers above hold of them: a prefix is found as far as it reaches. Content is found while it is still being
    written, as reads go through the writes' buffers.
    """

    __slots__ = (
        "_block_tokens",
        "_read_free_s",
        "_tree",
        "_write_free_s",
        "below",
        "dropped_tokens",
        "read_tokens",
        "spec",
        "taken_tokens",
        "written_tokens",
    )

    def __init__(self, spec: KvTierSpec, block_tokens: int = 1, below: KvTier | None = None):
        self.spec = spec
        self.below = below
        self._block_tokens = block_tokens
        self._tree = PrefixTree(block_tokens)
        self._read_free_s = -inf
        self._write_free_s = -inf
        #: Tokens of room that preempted sequences take, besides what is kept for reuse.
        self.taken_tokens = 0
        self.read_tokens = 0
        self.written_tokens = 0
        self.dropped_tokens = 0

    def anew(self) -> KvTier:
        """An empty tier of the same kind in the same place."""
        return KvTier(self.spec, self._block_tokens, self.below)

    @property
    def held_tokens(self) -> int:
        """Tokens kept for reuse."""
        return self._tree.total_tokens

    def match(self, path: ContextPath) -> int:
        """Tokens of `path` from the front that this tier holds."""
        return self._tree.match(path)

    def write(self, path: ContextPath, now_s: float) -> float:
        """Keep a context that the tier above gives up; what this tier has no room for goes to the one below.

        When it is written: at once where it was held, inf where it was dropped.
        """
        new = path_tokens(path) - self._tree.match(path)
        done_s = now_s
        if new:
            if not self._send(new, now_s):
                self.dropped_tokens += new
                return inf
            done_s = self._write_free_s
        self._tree.insert(path)
        self._fit(now_s)
        return done_s

    def hold(self, path: ContextPath) -> None:
        """Keep a context that was here before the run began: no transfer of its time."""
        self._tree.insert(path)
        below = self.below
        self._tree.shrink_to(
            self.spec.capacity_tokens - self.taken_tokens, None if below is None else lambda path, _: below.hold(path)
        )

    def takes_writes(self, now_s: float) -> bool:
        """Whether what is written now would not be dropped."""
        return self._write_free_s - now_s <= LONGEST_BACKLOG_S

    def move_s(self, tokens: int) -> float:
        """How long it takes `tokens` to come here and back up, if nothing else is on the way."""
        return self.spec.latency_s + 2 * tokens / self.spec.tokens_per_s

    @property
    def books_balance(self) -> bool:
        """Whether all that was taken in is held or was given up, within the room that there is."""
        tree = self._tree
        gone = tree.evicted_tokens + tree.released_tokens + tree.trimmed_tokens
        held = tree.total_tokens + self.taken_tokens
        return tree.inserted_tokens == tree.total_tokens + gone and held <= self.spec.capacity_tokens

    def read_done_s(self, tokens: int, now_s: float) -> float:
        """When `tokens` asked for now would be up."""
        return max(self._read_free_s, now_s) + self.spec.latency_s + tokens / self.spec.tokens_per_s

    def read(self, tokens: int, now_s: float) -> float:
        """Bring `tokens` up; when they are there."""
        done_s = self.read_done_s(tokens, now_s)
        self._read_free_s = done_s - self.spec.latency_s
        self.read_tokens += tokens
        return done_s

    def take(self, tokens: int, now_s: float) -> bool:
        """Put the KV of a preempted sequence here until `give_back`; False where it does not fit or would be too slow."""
        if self.taken_tokens + tokens > self.spec.capacity_tokens or not self._send(tokens, now_s):
            return False
        self.taken_tokens += tokens
        self._fit(now_s)
        return True

    def give_back(self, tokens: int) -> None:
        """The room of a preempted sequence is free again."""
        self.taken_tokens -= tokens

    def _send(self, tokens: int, now_s: float) -> bool:
        if not self.takes_writes(now_s):
            return False
        self._write_free_s = max(self._write_free_s, now_s) + tokens / self.spec.tokens_per_s
        self.written_tokens += tokens
        return True

    def _fit(self, now_s: float) -> None:
        room = self.spec.capacity_tokens - self.taken_tokens
        if self._tree.total_tokens > room:
            below = self.below
            evicted = None if below is None else lambda path, _: below.write(path, now_s)
            self._tree.shrink_to(room, evicted)
