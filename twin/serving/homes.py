"""Where prefixes lie: which instance served a context last."""

from __future__ import annotations

from itertools import islice

from twin.serving.prefix_tree import ContextPath
from twin.serving.worker import Worker

#: Segments remembered; beyond it the oldest quarter is forgotten. A trace of hashed blocks never ends.
_MOST = 1 << 20


class Homes:
    """The last instance of each segment of a context, so that a router need not ask them all; None where what it held is gone."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[int, Worker | None] = {}

    def find(self, path: ContextPath) -> tuple[Worker | None, int]:
        """The instance that holds most of `path`, as far as is known: that of its deepest segment that was seen before; and the
        tokens up to the end of that, which some call has asked for before."""
        by_key = self._by_key
        depth = len(path)
        while depth and path[depth - 1][0] not in by_key:
            depth -= 1
        for place in range(depth - 1, -1, -1):
            worker = by_key.get(path[place][0])
            if worker is not None:
                return worker, sum(tokens for _, tokens in path[:depth])
        return None, sum(tokens for _, tokens in path[:depth])

    def put(self, path: ContextPath, worker: Worker) -> None:
        """The content of `path` is with `worker` from now on."""
        by_key = self._by_key
        for key, _ in path:
            by_key[key] = worker
        if len(by_key) > _MOST:
            # many at a time: whoever looks for the oldest steps over all that went since the dict last grew
            for key in list(islice(by_key, len(by_key) - _MOST + _MOST // 4)):
                del by_key[key]

    def forget(self, key: int) -> None:
        """A segment will not be asked for again."""
        self._by_key.pop(key, None)

    def forget_all_of(self, worker: Worker) -> None:
        """What lies with an instance will be gone."""
        self._by_key = {key: None if home is worker else home for key, home in self._by_key.items()}
