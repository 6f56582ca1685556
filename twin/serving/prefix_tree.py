"""Which KV tokens of which contexts one memory tier holds: a tree of shared prefixes, least recently used tails go first.

Contexts share a prefix as far as the keys of their segments agree from the front, and inside the last one that agrees the
shorter length. A child hangs where its parent's segment ends in its own path, so a node may have children at several places:

    ((1, 1000), (2, 5000))              node 2 at 1000 of node 1, 6000 tokens
    ((1, 1000), (2, 700), (3, 300))     node 3 at 700 of node 2: 300 tokens more, 1700 shared

A request costs work by the segments of its path and none by their tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace

from twin.errors import SimulationError

#: The content of a context from the front: segments of (key, tokens), 1 token or more each. The same key behind other
#: content, or at another place of it, is other content.
ContextPath = tuple[tuple[int, int], ...]

#: What takes the content that is evicted: its path up to where it ended before, and the tokens of that path that stay.
Evicted = Callable[[ContextPath, int], object]

#: Out-of-date entries of the eviction order that are not worth a clean-up.
FEW_ENTRIES = 64


def path_tokens(path: ContextPath) -> int:
    """Tokens of the whole content."""
    return sum(tokens for _, tokens in path)


def first_tokens(path: ContextPath, tokens: int) -> ContextPath:
    """The first `tokens` tokens of a path, or all that it has."""
    kept = []
    for key, length in path:
        if tokens <= 0:
            break
        kept.append((key, min(length, tokens)))
        tokens -= length
    return tuple(kept)


class _Node:
    """The first `tokens` tokens of a segment, `start` tokens of other segments before it.

    `place` is where it hangs: tokens of its parent's segment, and its own key. `uses` counts by length how much of the segment
    its own pins and its children in use need, None where there are none, and `used` is the longest; `idle` counts the other
    children. `last_use` is a serial, `queued` the one of its entry in the eviction order. The root is its own parent and in use
    for ever, which ends every walk upwards.
    """

    __slots__ = ("children", "idle", "last_use", "parent", "place", "queued", "start", "tokens", "used", "uses")

    def __init__(self, parent: _Node | None, place: tuple[int, int], start: int, tokens: int):
        self.parent = parent or self
        self.place = place
        self.start = start
        self.tokens = tokens
        self.children: dict[tuple[int, int], _Node] = {}
        self.uses: dict[int, int] | None = None
        self.used = 0
        self.idle = 0
        self.last_use = 0
        self.queued = -1


class Pin:
    """A context in use: its first `tokens` tokens stay in memory until the pin is released."""

    __slots__ = ("_depth", "_node", "tokens")

    def __init__(self, node: _Node, depth: int, tokens: int):
        self._node: _Node | None = node
        self._depth = depth
        self.tokens = tokens


class PrefixTree:
    """KV tokens of one memory tier by content.

    It has no size of its own: in HBM it lives in what running sequences leave, so its owner calls `shrink_to`. What is pinned
    stays, and so does a node with children that are not; of any other, whole blocks of `block_tokens` tokens are evicted from
    its end, so that a multiple of them or what is pinned remains. What is matched is not rounded.
    """

    __slots__ = (
        "_block_tokens",
        "_nodes",
        "_order",
        "_root",
        "_serial",
        "evicted_tokens",
        "inserted_tokens",
        "pinned_tokens",
        "released_tokens",
        "total_tokens",
        "trimmed_tokens",
    )

    def __init__(self, block_tokens: int = 1):
        self._block_tokens = block_tokens
        self._root = _Node(None, (0, 0), 0, 0)
        self._root.uses = {0: 1}
        self._nodes = 0
        self._serial = 0
        #: A heap of (last use, minus the start, node): of nodes used together, which lie on one path, the deepest goes first.
        #: An entry is out of date where the node was used later or has nothing to give.
        self._order: list[tuple[int, int, _Node]] = []
        self.total_tokens = 0
        #: Tokens of all contexts that are pinned, those that several share once.
        self.pinned_tokens = 0
        #: Tokens since the beginning: taken in, evicted by `shrink_to`, given up by `release` and by `trim`. What was taken in is
        #: held or was given up in one of these ways, unless `clear` forgot it.
        self.inserted_tokens = 0
        self.evicted_tokens = 0
        self.released_tokens = 0
        self.trimmed_tokens = 0

    def __len__(self) -> int:
        """Nodes held."""
        return self._nodes

    def match(self, path: ContextPath) -> int:
        """Tokens of `path` held from the front; does not count as a use."""
        return self._find(path)[2]

    def pin(self, path: ContextPath) -> Pin:
        """Keep what is held of `path` until `unpin`, which counts as its use; holds nothing where nothing matches."""
        node, depth, tokens = self._find(path)
        self._hold(node, tokens - node.start)
        return Pin(node, depth, tokens)

    def grow(self, pin: Pin, path: ContextPath) -> int:
        """Hold the whole of `path`, which begins with what `pin` holds, and pin it; the tokens that were not held before.

        Fewer than the owner computed are new where another request with the same content was first.
        """
        node, depth = pin._node, pin._depth
        if node is None:
            raise SimulationError(f"a released pin of {pin.tokens} tokens can't grow to {path}: pin the path again")
        if depth:
            self._check_own(node, pin, path)
        deepest, offset, new = self._lengthen(node, depth, path)
        held = pin.tokens - node.start
        if deepest is not node or offset != held:
            # The new hold is below or longer, so that the old one's end frees nothing.
            self._hold(deepest, offset)
            self._release(node, held)
            pin._node, pin._depth = deepest, len(path)
            pin.tokens = deepest.start + offset
        return new

    def _lengthen(self, node: _Node, depth: int, path: ContextPath) -> tuple[_Node, int, int]:
        """Add what is missing of `path` behind `node`, which holds its segment `depth`: the node where it ends, its tokens of
        that segment, and the tokens that were added."""
        new = offset = 0
        if depth:
            offset = path[depth - 1][1]
            if node.tokens < offset:
                new = offset - node.tokens
                node.tokens = offset
        deepest = node
        for index in range(depth, len(path)):
            key, length = path[index]
            place = (offset, key)
            child = deepest.children.get(place)
            if child is None:
                if length < 1:
                    raise SimulationError(f"a segment of {length} tokens holds nothing: leave it out of {path}")
                child = deepest.children[place] = _Node(deepest, place, deepest.start + offset, length)
                deepest.idle += 1
                self._nodes += 1
                new += length
            elif child.tokens < length:
                new += length - child.tokens
                child.tokens = length
            deepest, offset = child, length
        self.total_tokens += new
        self.inserted_tokens += new
        return deepest, offset, new

    def unpin(self, pin: Pin) -> None:
        """Release a pin: its content may be evicted from now on, as the most recently used."""
        node = pin._node
        if node is None:
            raise SimulationError(f"a pin of {pin.tokens} tokens was released twice")
        pin._node = None
        self._release(node, pin.tokens - node.start)
        self._use(node)

    def _use(self, node: _Node) -> None:
        """What lies up to a node is the most recently used."""
        self._serial += 1
        while node is not self._root:
            node.last_use = self._serial
            if not node.idle:
                self._offer(node)
            node = node.parent

    def trim(self, pin: Pin) -> None:
        """Forget what the deepest segment of a pin holds past it: content that nobody will ask for, as the context that had it
        went on differently. Nothing happens where others use it or hang there."""
        node = pin._node
        if node is None or node is self._root or node.children or node.uses != {node.used: 1}:
            return
        self.total_tokens -= node.tokens - node.used
        self.trimmed_tokens += node.tokens - node.used
        node.tokens = node.used

    def release(self, path: ContextPath) -> int:
        """Give up what is held of `path`, from its end up to where somebody uses it or other content hangs; the tokens given up.

        Nothing is where the content goes on past `path`: that is another's.
        """
        node, _, tokens = self._find(path)
        length = tokens - node.start
        before = self.total_tokens
        while node is not self._root and node.tokens == length:
            keep = max((offset for offset, _ in node.children), default=0)
            if keep < node.used:
                keep = node.used
            self.total_tokens -= node.tokens - keep
            node.tokens = keep
            if keep:
                break
            parent = node.parent
            del parent.children[node.place]
            parent.idle -= 1
            node.last_use = -1  # what stands of it in the order is out of date
            self._nodes -= 1
            node, length = parent, node.place[0]
            self._offer(node)
        self.released_tokens += before - self.total_tokens
        return before - self.total_tokens

    def oldest_use(self) -> int | None:
        """Serial of the last use of what would be evicted first, as `last_use_serial` counted then; None where nothing can be."""
        order = self._order
        while order and _is_outdated(order[0][0], order[0][2]):
            last_use, _, node = heappop(order)
            if node.queued == last_use:
                node.queued = -1
        return order[0][0] if order else None

    @property
    def last_use_serial(self) -> int:
        """Uses that have ended so far."""
        return self._serial

    def insert(self, path: ContextPath) -> int:
        """Hold `path` as the most recently used content; the tokens that were not held before."""
        node, depth, _ = self._find(path)
        node, _, new = self._lengthen(node, depth, path)
        self._use(node)
        return new

    def shrink_to(self, tokens: int, evicted: Evicted | None = None) -> None:
        """Evict tails, least recently used first, until at most `tokens` are held or the rest is pinned.

        Where a tail spans nodes that hold nothing beside it, `evicted` gets it in one call, so that a long path costs its
        length once.
        """
        order = self._order
        path: ContextPath = ()
        stays = 0
        gone = self._root
        while self.total_tokens > tokens and order:
            last_use, _, node = order[0]
            if _is_outdated(last_use, node):
                heappop(order)
                if node.queued == last_use:
                    node.queued = -1
                continue
            if evicted is not None and (gone.parent is not node or gone.place[0] != node.tokens):
                if path:
                    evicted(path, stays)
                path = _path_to(node)
            keep = max(0, node.tokens - (self.total_tokens - tokens))
            keep = max(node.used, keep - keep % self._block_tokens)
            self.total_tokens -= node.tokens - keep
            self.evicted_tokens += node.tokens - keep
            stays = node.start + keep
            if keep:
                node.tokens = keep
                gone = self._root
            else:
                self._remove(node)
                gone = node
        if path and evicted is not None:
            evicted(path, stays)

    def clear(self) -> None:
        """Forget everything, as memory that loses power does; what is pinned must be released first."""
        if self.pinned_tokens:
            raise SimulationError(f"{self.pinned_tokens} tokens are pinned: release the pins before clearing the memory")
        self._root.children.clear()
        self._root.idle = 0
        self._order.clear()
        self._nodes = 0
        self.total_tokens = 0

    # --- walks along a path ------------------------------------------------------------------------------------------

    def _find(self, path: ContextPath) -> tuple[_Node, int, int]:
        """The deepest node that holds some of `path`, its depth (segments), and the tokens held from the front."""
        node = self._root
        depth = tokens = offset = 0
        for key, length in path:
            child = node.children.get((offset, key))
            if child is None:
                break
            node = child
            depth += 1
            if child.tokens < length:
                return node, depth, tokens + child.tokens
            tokens += length
            offset = length
        return node, depth, tokens

    def _check_own(self, node: _Node, pin: Pin, path: ContextPath) -> None:
        """The last segment that `pin` holds must be in `path`; those before it are the caller's word."""
        depth = pin._depth
        own = depth <= len(path) and node.place == (path[depth - 2][1] if depth > 1 else 0, path[depth - 1][0])
        if not own or pin.tokens - node.start > path[depth - 1][1]:
            raise SimulationError(
                f"a pin can't grow to other content: it holds {pin.tokens} tokens, the last {pin.tokens - node.start} of them "
                f"in segment {depth} with key {node.place[1]} at {node.place[0]} of the one before, and was given {path}"
            )

    def _hold(self, node: _Node, length: int) -> None:
        """Use the first `length` tokens of a node's segment, and of those above it as far as the place of the one below."""
        while True:
            uses = node.uses
            if uses is None:
                node.uses = {length: 1}
            else:
                uses[length] = uses.get(length, 0) + 1
            if length > node.used:
                self.pinned_tokens += length - node.used
                node.used = length
            if not node.idle and node.tokens > length:
                self._offer(node)  # what it holds past its use can go, once its last idle child is no longer idle
            if uses is not None:
                return
            length = node.place[0]
            node = node.parent
            node.idle -= 1

    def _release(self, node: _Node, length: int) -> None:
        while True:
            uses = node.uses
            if uses is None:
                raise SimulationError(f"{length} tokens of segment {node.place} were released that nobody held")
            if uses[length] > 1:
                uses[length] -= 1
                return
            del uses[length]
            if uses:
                if length == node.used:
                    node.used = max(uses)
                    self.pinned_tokens -= length - node.used
                return
            self.pinned_tokens -= node.used
            node.used = 0
            node.uses = None
            length = node.place[0]
            node = node.parent
            node.idle += 1

    # --- eviction ----------------------------------------------------------------------------------------------------

    def _offer(self, node: _Node) -> None:
        """Put a node that has something to give in the order."""
        if not node.idle and node.tokens > node.used and node.queued != node.last_use:
            node.queued = node.last_use
            heappush(self._order, (node.last_use, -node.start, node))
            if len(self._order) > 2 * self._nodes + FEW_ENTRIES:
                self._forget_outdated()

    def _remove(self, node: _Node) -> None:
        """Take out the node that is first in the order; its parent may follow it there."""
        parent = node.parent
        del parent.children[node.place]
        parent.idle -= 1
        self._nodes -= 1
        if parent.idle or parent.tokens <= parent.used or parent.queued == parent.last_use:
            heappop(self._order)
        else:
            parent.queued = parent.last_use
            heapreplace(self._order, (parent.last_use, -parent.start, parent))

    def _forget_outdated(self) -> None:
        entries = self._order[:]
        self._order.clear()
        for entry in entries:
            last_use, _, node = entry
            if not _is_outdated(last_use, node):
                self._order.append(entry)
            elif node.queued == last_use:
                node.queued = -1
        heapify(self._order)


def _is_outdated(last_use: int, node: _Node) -> bool:
    return last_use != node.last_use or node.idle > 0 or node.tokens <= node.used


def _path_to(node: _Node) -> ContextPath:
    segments = []
    length = node.tokens
    while node.parent is not node:
        offset, key = node.place
        segments.append((key, length))
        node, length = node.parent, offset
    return tuple(reversed(segments))
