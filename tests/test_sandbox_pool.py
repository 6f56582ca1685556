"""Sandboxes against hand arithmetic and against the plain recursion of a queue with several servers."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.errors import SimulationError
from twin.serving import Level, SandboxPool, ToolRun


def play(pool: SandboxPool, asked: list[tuple[float, float]], withdrawn: dict[int, float] | None = None) -> list[ToolRun]:
    """Ask at each (time, service time), withdraw runs at the given times, and play to the end; the runs in order of asking."""
    runs = [ToolRun(service_s) for _, service_s in asked]
    verbs = [(at_s, 0, number) for number, (at_s, _) in enumerate(asked)]
    verbs += [(at_s, 1, number) for number, at_s in (withdrawn or {}).items()]
    for at_s, verb, number in sorted(verbs):
        pool.advance(at_s)
        if verb:
            pool.withdraw(runs[number], at_s)
        else:
            pool.ask(runs[number], at_s)
        assert pool.books_balance(at_s)
    while pool.next_change_s < inf:
        pool.advance(pool.next_change_s)
    return runs


def fifo(sandboxes: int, asked: list[tuple[float, float]]) -> list[float]:
    """When each begins: as soon as it has come and one of the sandboxes, which are looked through one by one, is free."""
    free_s = [0.0] * sandboxes
    begun = []
    for at_s, service_s in asked:
        first = min(range(sandboxes), key=free_s.__getitem__)
        begun.append(max(at_s, free_s[first]))
        free_s[first] = begun[-1] + service_s
    return begun


def test_two_sandboxes_and_four_tools_by_hand() -> None:
    pool = SandboxPool(2)
    runs = play(pool, [(0.0, 5.0), (1.0, 1.0), (1.5, 2.0), (1.5, 1.0)])
    # The second ends at 2, the third takes its place until 4, the fourth that one's until 5.
    assert [(run.begun_s, run.ends_s, run.waited_s) for run in runs] == [
        (0.0, 5.0, 0.0),
        (1.0, 2.0, 0.0),
        (2.0, 4.0, 0.5),
        (4.0, 5.0, 2.5),
    ]
    assert [run.number for run in pool.outbox] == [1, 2, 0, 3]
    assert pool.busy.integral(10.0) == 5 + 1 + 2 + 1
    assert pool.waiting.integral(10.0) == 0.5 + 2.5
    assert (pool.busy.most, pool.waiting.most) == (2, 2)


def test_a_run_that_is_withdrawn_leaves_the_queue_and_one_that_runs_goes_on() -> None:
    pool = SandboxPool(1)
    first, second, third = play(pool, [(0.0, 4.0), (1.0, 9.0), (2.0, 1.0)], {0: 3.0, 1: 3.0})
    assert (first.ends_s, second.begun_s, third.begun_s) == (4.0, None, 4.0)
    assert (pool.asked, pool.withdrawn, pool.ended) == (3, 1, 2)
    assert pool.books_balance(20.0)


def test_without_a_number_nobody_waits() -> None:
    runs = play(SandboxPool(inf), [(0.0, 3.0)] * 500)
    assert {run.waited_s for run in runs} == {0.0}


def test_a_tool_that_takes_no_time_passes_through() -> None:
    pool = SandboxPool(1)
    runs = play(pool, [(1.0, 0.0), (1.0, 0.0)])
    assert [run.ends_s for run in runs] == [1.0, 1.0]


def test_absurd_pools_and_runs_are_refused() -> None:
    with pytest.raises(SimulationError, match="at least one sandbox"):
        SandboxPool(0)
    for service_s in (-1.0, inf, float("nan")):
        with pytest.raises(SimulationError, match="cannot run for"):
            ToolRun(service_s)


_TIMES = st.integers(0, 40).map(lambda n: n * 0.25)


@given(sandboxes=st.integers(1, 4), asked=st.lists(st.tuples(_TIMES, _TIMES), max_size=40).map(sorted))
def test_the_pool_is_a_queue_with_several_servers(sandboxes: int, asked: list[tuple[float, float]]) -> None:
    pool = SandboxPool(sandboxes)
    runs = play(pool, asked)
    assert [run.begun_s for run in runs] == fifo(sandboxes, asked)
    assert sorted(run.number for run in pool.outbox) == list(range(len(asked)))
    assert pool.served_s == sum(service_s for _, service_s in asked)
    assert pool.busy.most <= sandboxes


@given(
    sandboxes=st.integers(1, 3),
    asked=st.lists(st.tuples(_TIMES, _TIMES), max_size=30).map(sorted),
    withdrawn=st.dictionaries(st.integers(0, 29), _TIMES, max_size=10),
)
def test_whatever_is_withdrawn_the_others_are_served_as_if_it_had_not_asked(
    sandboxes: int, asked: list[tuple[float, float]], withdrawn: dict[int, float]
) -> None:
    given_up = {number: at_s for number, at_s in withdrawn.items() if number < len(asked) and asked[number][0] < at_s}
    pool = SandboxPool(sandboxes)
    runs = play(pool, asked, given_up)
    served = [number for number, run in enumerate(runs) if run.begun_s is not None]
    assert len(runs) - len(served) == pool.withdrawn
    assert [runs[number].begun_s for number in served] == fifo(sandboxes, [asked[number] for number in served])


@given(changes=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 20)), max_size=20))
def test_a_level_is_the_sum_over_its_steps(changes: list[tuple[int, int]]) -> None:
    level, at_s, counts = Level(), 0.0, []
    for by, wait_s in changes:
        counts += [level.now] * wait_s
        at_s += wait_s
        level.change(by, at_s)
    assert level.integral(at_s + 3) == sum(counts) + 3 * level.now
    assert level.most >= max([*counts, level.now, 0])
