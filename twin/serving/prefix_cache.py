"""Contexts of earlier calls that stay in an instance's KV memory until the room is needed: least recently used goes first."""

from __future__ import annotations


class PrefixCache:
    """Evictable KV tokens by cache key (an agent of a session).

    The cache has no size of its own: it lives in what running sequences leave, so its owner calls `shrink_to`.
    """

    __slots__ = ("_tokens", "evicted_tokens", "total_tokens")

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}
        self.total_tokens = 0
        self.evicted_tokens = 0

    def __len__(self) -> int:
        return len(self._tokens)

    def peek(self, key: int) -> int:
        """Tokens held under `key`, 0 if none; does not count as a use."""
        return self._tokens.get(key, 0)

    def take(self, key: int) -> int:
        """Remove the entry of `key`, whose tokens its owner pins from now on; the tokens it held."""
        tokens = self._tokens.pop(key, 0)
        self.total_tokens -= tokens
        return tokens

    def put(self, key: int, tokens: int) -> None:
        """Keep `tokens` under `key` as the most recently used entry, replacing a shorter one."""
        self.total_tokens += tokens - self._tokens.pop(key, 0)
        self._tokens[key] = tokens

    def shrink_to(self, tokens: int) -> None:
        """Evict entries, least recently used first, until at most `tokens` are held."""
        while self.total_tokens > tokens:
            oldest = next(iter(self._tokens))
            held = self._tokens.pop(oldest)
            self.total_tokens -= held
            self.evicted_tokens += held
