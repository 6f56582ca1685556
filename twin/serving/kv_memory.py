"""The KV memory of an instance: what sequences hold, what stays behind for reuse, and what lies in the tiers below."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from twin.serving.kv_tier import KvTier
from twin.serving.prefix_tree import ContextPath, Pin, PrefixTree, first_tokens
from twin.serving.request import Request

#: Share of the memory that admission leaves free for sequences to grow into, as engines do (vLLM's watermark).
_WATERMARK = 100


class CacheCounts(NamedTuple):
    """Tokens of contexts that HBM gave up: `evicted` as others needed the room, `offloaded` and `dropped` as a policy between
    turns had it. `written` came to the tier below, `lost` it had no time for, and `read` went up again."""

    evicted: int = 0
    offloaded: int = 0
    dropped: int = 0
    written: int = 0
    lost: int = 0
    read: int = 0

    def plus(self, other: CacheCounts) -> CacheCounts:
        """Both together."""
        return CacheCounts(*(one + more for one, more in zip(self, other, strict=True)))


class KvMemory:
    """Room for `capacity_tokens` tokens of context.

    A context with a path is found again by others: its prompt lies in a tree of shared prefixes, pinned while a sequence uses
    it and kept until the room is needed afterwards. Everything else that a sequence holds is its own (`own_tokens`). Reuse is by
    whole blocks of `block_tokens`. With speculation the sum grows by its mean gain, so it is no whole number then.
    """

    __slots__ = (
        "_ages",
        "_tree",
        "_watermark_tokens",
        "block_tokens",
        "capacity_tokens",
        "dropped_tokens",
        "lower",
        "offloaded_tokens",
        "own_tokens",
        "promised_tokens",
    )

    def __init__(self, capacity_tokens: int, block_tokens: int = 1, lower: KvTier | None = None):
        self.capacity_tokens = capacity_tokens
        self.block_tokens = block_tokens
        self.lower = lower
        self._watermark_tokens = capacity_tokens // _WATERMARK
        self._tree = PrefixTree(block_tokens)
        self.own_tokens: float = 0
        #: What the sequences admitted will hold at their ends, beside shared prefixes.
        self.promised_tokens = 0
        self.offloaded_tokens = 0
        self.dropped_tokens = 0
        #: Uses that had ended when, as far back as anything held was used.
        self._ages: deque[tuple[int, float]] = deque()

    @property
    def pinned_tokens(self) -> float:
        """Tokens in use."""
        return self.own_tokens + self._tree.pinned_tokens

    @property
    def kept_tokens(self) -> int:
        """Tokens that nobody uses, kept for reuse."""
        return self._tree.total_tokens - self._tree.pinned_tokens

    @property
    def evicted_tokens(self) -> int:
        """Tokens given up since the beginning."""
        return self._tree.evicted_tokens

    @property
    def longest_tokens(self) -> int:
        """The longest context that is admitted."""
        return self.capacity_tokens - self._watermark_tokens

    @property
    def room_tokens(self) -> float:
        """What sequences can still grow by: everything that nobody uses gives way to them."""
        return self.capacity_tokens - self.own_tokens - self._tree.pinned_tokens

    def match(self, request: Request) -> int:
        """Tokens of the request's prompt that need not be computed here, in whole blocks; some may have to be read from below."""
        path = request.path
        if not path:
            return 0
        held = self._tree.match(path)
        tier = self.lower
        while tier is not None:
            held = max(held, tier.match(path))
            tier = tier.below
        return self.usable(request, held)

    def reserve(self, request: Request, context: int, growth: int, promise: int) -> bool:
        """Take room for a context whose KV comes from elsewhere, if there is any; see `admit`."""
        if not self._has_room(context + growth, promise):
            return False
        self._take(request, context, promise)
        return True

    def fits(self, request: Request, context: int, growth: int, promise: int) -> bool:
        """Whether `admit` would."""
        fits, pin = self._pinned(request, context, growth, promise)
        if pin:
            self._tree.unpin(pin)
        return fits

    def admit(self, request: Request, context: int, growth: int, promise: int, now_s: float) -> int | None:
        """Pin what is held of the request's prompt and take room for the rest of `context`: the tokens found in HBM.

        None where there is no room, beside `growth` tokens of the next step and, where the request is promised room for
        `promise` tokens at its end (0: no promise), beside all that was promised before.
        """
        fits, pin = self._pinned(request, context, growth, promise)
        if not fits:
            if pin:
                self._tree.unpin(pin)
            return None
        held = 0
        if pin:
            held = pin.tokens
            request.pin = pin
            if request.forks:
                self._tree.trim(pin)
        self._take(request, context - held, promise and promise - held)
        self.fit(now_s)
        return self.usable(request, held)

    def _pinned(self, request: Request, context: int, growth: int, promise: int) -> tuple[bool, Pin | None]:
        """Whether there is room once what is held of the prompt is pinned, and the pin."""
        path = request.path
        pin = self._tree.pin(path) if path else None
        held = pin.tokens if pin else 0
        return self._has_room(context - held + growth, promise and promise - held), pin

    def _has_room(self, tokens: int, promise: int) -> bool:
        if promise and self.promised_tokens + promise > self.longest_tokens - self._tree.pinned_tokens:
            return False
        return tokens <= self.room_tokens - self._watermark_tokens

    def _take(self, request: Request, tokens: int, promise: int) -> None:
        self.own_tokens += tokens
        request.promised_tokens = promise
        self.promised_tokens += promise

    def read_up(
        self, request: Request, hit: int, computed_s: Callable[[int, int], float], now_s: float
    ) -> tuple[int, int, float]:
        """Bring up what tiers below hold of the request's prompt beyond `hit`, if that is sooner than computing it:
        `computed_s(tokens, prefix)`. Tokens found in all, those of them below the first of these tiers, and when they are there
        (-inf: nothing to wait for)."""
        path = request.path
        tier = self.lower
        done_s = -inf
        deep = 0
        while path and tier is not None:
            found = self.usable(request, tier.match(path))
            if found > hit and tier.read_done_s(found - hit, now_s) - now_s < computed_s(found - hit, hit):
                done_s = max(done_s, tier.read(found - hit, now_s))
                if tier is not self.lower:
                    deep += found - hit
                hit = found
            tier = tier.below
        return hit, deep, done_s

    def share(self, request: Request) -> None:
        """The request's prompt is computed: others may use it from now on. What another computed meanwhile is held once."""
        self._grow(request, request.path)

    def keep(self, request: Request, path: ContextPath) -> None:
        """A sequence ends whose whole context, of `path`, will be asked for again."""
        self._grow(request, path)

    def leave(self, request: Request, context: int) -> None:
        """A sequence of `context` tokens gives its room back; what it shares stays until the room is needed."""
        pin = request.pin
        self.own_tokens -= context
        if pin is not None:
            self.own_tokens += pin.tokens
            self._tree.unpin(pin)
            request.pin = None

    def forgo(self, request: Request) -> None:
        """The request needs no more room than it has: it ends, or its answer is made elsewhere."""
        self.promised_tokens -= request.promised_tokens
        request.promised_tokens = 0

    def warm(self, path: ContextPath) -> None:
        """Hold a context that was made before the run began; what gives way to it was moved down before as well."""
        self._tree.insert(path)
        lower = self.lower
        held_below = None if lower is None else lambda path, _: lower.hold(path)
        self._tree.shrink_to(int(self.capacity_tokens - self.own_tokens), held_below)

    def offload(self, path: ContextPath, now_s: float) -> float:
        """Write what is held of a context that nobody uses to the tier below; when that is done, and `give_up` may follow. inf
        where writing would have to wait too long: it stays."""
        lower = self.lower
        held = self._tree.match(path)
        if lower is None or not held or not lower.takes_writes(now_s):
            return inf
        return lower.write(first_tokens(path, held), now_s)

    def give_up(self, path: ContextPath, *, offloaded: bool) -> None:
        """A context leaves, as far as nobody else uses it: it has been written below, or it is dropped."""
        tokens = self._tree.release(path)
        if offloaded:
            self.offloaded_tokens += tokens
        else:
            self.dropped_tokens += tokens

    def survival_s(self, now_s: float) -> float:
        """How long what nobody uses stays, as far as can be seen: as long as the oldest of it has been there; inf while there is
        room. Known to the times of these questions."""
        ages, tree = self._ages, self._tree
        ages.append((tree.last_use_serial, now_s))
        oldest = tree.oldest_use()
        if oldest is None or tree.total_tokens + self.own_tokens < self.longest_tokens:
            return inf
        while len(ages) > 1 and ages[1][0] <= oldest:
            ages.popleft()
        return now_s - ages[0][1]

    @property
    def counts(self) -> CacheCounts:
        """What became of contexts here, and in the tier below."""
        lower = self.lower
        below = (0, 0, 0) if lower is None else (lower.written_tokens, lower.dropped_tokens, lower.read_tokens)
        return CacheCounts(self.evicted_tokens, self.offloaded_tokens, self.dropped_tokens, *below)

    @property
    def books_balance(self) -> bool:
        """Whether all that was taken in is held or was given up in a way that is counted, within the room that there is."""
        tree = self._tree
        gone = tree.evicted_tokens + tree.released_tokens + tree.trimmed_tokens
        left = tree.released_tokens == self.offloaded_tokens + self.dropped_tokens
        fits = self.own_tokens + tree.total_tokens <= self.capacity_tokens + 1e-6  # mean gains of drafts are sums of fractions
        return left and fits and tree.inserted_tokens == tree.total_tokens + gone

    def settle(self) -> None:
        """Sums of mean gains have drifted: nothing decodes now, so they are whole again."""
        self.own_tokens = round(self.own_tokens)

    def fit(self, now_s: float) -> None:
        """What is kept for reuse gives way to what is in use, down into the tier below."""
        room = self.capacity_tokens - self.own_tokens
        if self._tree.total_tokens > room:
            lower = self.lower
            self._tree.shrink_to(int(room), None if lower is None else lambda path, _: lower.write(path, now_s))

    def usable(self, request: Request, held: int) -> int:
        """Of `held` tokens the whole blocks, as far as the call shares them; the last token of a prompt is computed anyway."""
        usable = min(held, request.shared_prefix_tokens)
        usable -= usable % self.block_tokens
        return max(0, min(usable, request.prompt_tokens - 1))

    def _grow(self, request: Request, path: ContextPath) -> None:
        pin: Pin | None = request.pin
        if pin is not None:
            before = pin.tokens
            self._tree.grow(pin, path)
            self.own_tokens -= pin.tokens - before
