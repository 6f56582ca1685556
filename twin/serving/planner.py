"""Decides when an instance moves between the prefill and the decode pool of a site."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from twin.serving.pool_load import DecodeLoad, PrefillLoad

#: Load below which a pool needs no help, whatever the other does: an instance on the move serves nobody.
EASY_LOAD = 0.5


@dataclass(frozen=True, slots=True)
class Split:
    """What a planner sees at a look: both pools without an instance that is between them, and the pool that one is bound for."""

    prefill: PrefillLoad
    decode: DecodeLoad
    bound_for: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One instance of pool `source` is to serve in pool `target`."""

    source: str
    target: str
    reason: str


class SplitPlanner:
    """Moves one instance at a time towards the pool with the greater load (`PrefillLoad.load`, `DecodeLoad.load`).

    Both loads are demand over capacity and count what waits as well as what is served, so they are comparable and exceed 1 as
    soon as a queue builds. A move is asked for when, in `patience` looks in a row,

    - the busier pool has `ratio` times the load of the other, and more than `EASY_LOAD`;
    - the other keeps an instance, and ends with at most 1 / sqrt(`ratio`) of the load that the busier pool had. Demand is taken
      to be shared by the instances: n of them at load x are n - 1 at x n / (n - 1).

    So a move lowers the greater of the two loads by a margin, the way back would raise it by the same, and an instance moves back
    only after the loads have changed by `ratio` against each other: under a steady demand the moves end, and none is taken back.
    While an instance is on its way no other moves; looks count then as if it had arrived, so that a factory whose demand goes on
    shifting need not gather the evidence anew after each move.
    """

    def __init__(self, ratio: float, patience: int):
        self._ratio = ratio
        self._patience = patience
        self._wanted: str | None = None
        self._agreed = 0

    def look(self, seen: Split) -> Move | None:
        """The move to begin now, if any."""
        move = self._better(seen)
        wanted = None if move is None else move.target
        self._agreed = self._agreed + 1 if wanted == self._wanted else 1
        self._wanted = wanted
        if move is None or seen.bound_for is not None or self._agreed < self._patience:
            return None
        self._wanted = None
        return move

    def _better(self, seen: Split) -> Move | None:
        """The move that would help if what is seen lasted."""
        (load, _, busy), (easy_load, easy_count, easy) = sorted(
            (_as_arrived(pool, seen.bound_for) for pool in (seen.decode, seen.prefill)), key=lambda known: known[0], reverse=True
        )
        if easy_count < 2 or load <= EASY_LOAD or load < self._ratio * easy_load:
            return None
        if easy_load * easy_count / (easy_count - 1) * sqrt(self._ratio) > load:
            return None
        return Move(easy.pool, busy.pool, f"load {load:.2f} against {easy_load:.2f}: {busy.said}; {easy.said}")


def _as_arrived(pool: PrefillLoad | DecodeLoad, bound_for: str | None) -> tuple[float, int, PrefillLoad | DecodeLoad]:
    """Load and instances of a pool once the instance that is bound for it is there."""
    count = pool.instances + (pool.pool == bound_for)
    return pool.load * pool.instances / count, count, pool
