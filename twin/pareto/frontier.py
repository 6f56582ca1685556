"""The points that no other point beats in both of two figures."""

from __future__ import annotations

from collections.abc import Sequence


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (x, y) that no other has at least as much of both and more of one, by rising x.

    Of points that are alike the first counts. O(n log n): from the largest x down, a point stays if its y is a new record.
    """
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1], index))
    kept: list[int] = []
    best = float("-inf")
    for index in order:
        if points[index][1] > best:
            best = points[index][1]
            kept.append(index)
    return kept[::-1]


def best_at(points: Sequence[tuple[float, float]], least_x: float) -> float | None:
    """The most y among points with at least `least_x`; None where no point has that much."""
    return max((y for x, y in points if x >= least_x), default=None)
