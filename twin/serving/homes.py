"""Where prefixes lie: which instance served a context last."""

from __future__ import annotations

from itertools import islice

from twin.serving.prefix_tree import ContextPath
from twin.serving.worker import Worker

#: Segments remembered; beyond it the oldest quarter is forgotten. A trace of hashed blocks never ends.
_MOST = 1 << 20


class Homes:
    """The last instance of each segment of a context, so that a router need not ask them all."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[int, Worker] = {}

    def find(self, path: ContextPath) -> Worker | None:
        """The instance that holds most of `path`, as far as is known: that of its deepest segment that was seen before."""
        by_key = self._by_key
        for key, _ in reversed(path):
            worker = by_key.get(key)
            if worker is not None:
                return worker
        return None

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
        self._by_key = {key: home for key, home in self._by_key.items() if home is not worker}
