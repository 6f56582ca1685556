"""The frontier of a set of points: by hand, and against comparing each with each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twin.pareto.frontier import best_at, frontier

#: Small whole numbers: many points alike in one figure or in both.
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one != other


def compared_each_with_each(points: list[tuple[float, float]]) -> list[int]:
    unbeaten = [i for i, point in enumerate(points) if not any(beats(other, point) for other in points)]
    first = [i for i in unbeaten if points.index(points[i]) == i]
    return sorted(first, key=lambda i: points[i][0])


def test_by_hand() -> None:
    #         fast end  beaten by 0  middle  alike    throughput  beaten by 2: as fast, fewer tokens
    points = [(100, 5), (90, 5), (50, 20), (50, 20), (10, 40), (50, 10)]
    assert frontier(points) == [4, 2, 0]
    assert frontier([]) == []
    assert frontier([(1, 1)]) == [0]


@given(POINTS)
def test_against_comparing_each_with_each(points: list[tuple[float, float]]) -> None:
    assert frontier(points) == compared_each_with_each(points)


@given(POINTS, st.integers(0, 7))
def test_the_frontier_gives_as_much_as_all_points(points: list[tuple[float, float]], least_x: int) -> None:
    best = [points[i] for i in frontier(points)]
    assert best_at(best, least_x) == best_at(points, least_x)
    assert [y for _, y in best] == sorted((y for _, y in best), reverse=True)


def test_the_most_at_a_speed() -> None:
    points = [(10.0, 40.0), (50.0, 20.0), (100.0, 5.0)]
    assert [best_at(points, x) for x in (0, 10, 11, 60, 101)] == [40.0, 40.0, 20.0, 5.0, None]
