"""The slow, obvious memory of contexts: every held prefix a tuple of tokens. What `twin.serving.prefix_tree` must agree with."""

from __future__ import annotations

#: A token is the key of its segment and its number in it; two contexts share what their token strings share.
Tokens = tuple[tuple[int, int], ...]


def tokens_of(path: tuple[tuple[int, int], ...]) -> Tokens:
    return tuple((key, number) for key, length in path for number in range(length))


def path_of(content: Tokens) -> tuple[tuple[int, int], ...]:
    starts = [at for at, (_, number) in enumerate(content) if number == 0]
    ends = [*starts[1:], len(content)]
    return tuple((content[start][0], end - start) for start, end in zip(starts, ends, strict=True)) if content else ()


def segment_of(prefix: Tokens) -> Tokens:
    """What names the segment that the prefix ends in: everything up to the segment's first token."""
    return prefix[: len(prefix) - prefix[-1][1]]


class ReferenceMemory:
    """The end of each use of a content marks every segment of it with the time."""

    def __init__(self, block_tokens: int):
        self.block_tokens = block_tokens
        self.held: dict[Tokens, None] = {}
        self.pins: list[Tokens] = []
        self.used: dict[Tokens, int] = {}
        self.time = 0

    def match(self, content: Tokens) -> int:
        return sum(content[: n + 1] in self.held for n in range(len(content)))

    def use(self, content: Tokens) -> None:
        self.time += 1
        for n in range(len(content)):
            self.used[segment_of(content[: n + 1])] = self.time

    def pin(self, content: Tokens) -> Tokens:
        found = content[: self.match(content)]
        self.pins.append(found)
        return found

    def grow(self, pinned: Tokens, content: Tokens) -> int:
        self.pins.remove(pinned)
        self.pins.append(content)
        new = len(content) - self.match(content)
        for n in range(len(content)):
            self.held[content[: n + 1]] = None
        return new

    def unpin(self, pinned: Tokens) -> None:
        self.pins.remove(pinned)
        self.use(pinned)

    def release(self, content: Tokens) -> int:
        held = content[: self.match(content)]
        gone = 0
        while held and held not in self.pinned() and not any(len(p) > len(held) and p[: len(held)] == held for p in self.held):
            del self.held[held]
            held = held[:-1]
            gone += 1
        return gone

    def pinned(self) -> set[Tokens]:
        return {content[: n + 1] for content in self.pins for n in range(len(content))}

    def pinned_tokens(self) -> int:
        return len(self.pinned())

    def segments(self) -> list[Tokens]:
        return list(dict.fromkeys(segment_of(prefix) for prefix in self.held))

    def shrink_to(self, tokens: int) -> list[Tokens]:
        """The prefixes that went, in order, one a token."""
        gone = []
        pinned = self.pinned()
        while len(self.held) > tokens:
            segments = self.segments()
            idle = [s for s in segments if s not in pinned]  # whose first token nobody uses
            parents = {segment_of(s[:-1]) for s in idle if len(s) > 1}
            ends = {s: max((prefix for prefix in self.held if segment_of(prefix) == s), key=len) for s in segments}
            free = [s for s in segments if s not in parents and ends[s] not in pinned]
            if not free:
                break
            victim = min(free, key=lambda segment: (self.used[segment], -len(segment)))
            held = sorted((prefix for prefix in self.held if segment_of(prefix) == victim), key=len)
            while held and held[-1] not in pinned and (len(self.held) > tokens or len(held) % self.block_tokens):
                gone.append(held.pop())
                del self.held[gone[-1]]
        return gone
