"""The sequences that decode together: who ends when, whatever left and came back in between."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from twin.serving import Request
from twin.serving.decode_batch import DecodeBatch


def joined(batch: DecodeBatch, number: int, output_tokens: int, steps: int | None = None) -> Request:
    """A request with its first token out that joins with the rest of its answer ahead."""
    request = Request(number, 0.0, 100, output_tokens)
    request.generated, request.context_tokens = 1, 100
    batch.add(request, output_tokens - 1 if steps is None else steps)
    return request


def test_by_hand() -> None:
    batch = DecodeBatch()
    short, long = joined(batch, 0, 4), joined(batch, 1, 11)
    assert (len(batch), batch.gained, batch.context_tokens, batch.next_end_step) == (2, 2, 200, 3)
    assert batch.advance(3, batch.gained) == [short]
    assert batch.context_tokens == 206
    assert batch.remove(short) == (3, 3)
    assert (short.generated, short.context_tokens) == (4, 103)
    assert (batch.context_tokens, batch.next_end_step) == (103, 10)
    assert batch.gained_by(long, batch.step) == 3
    assert batch.advance(7, batch.gained) == [long]
    batch.remove(long)
    assert (len(batch), batch.context_tokens, batch.gained) == (0, 0, 0)


def test_one_that_left_and_came_back_to_end_at_the_same_step_ends_once() -> None:
    """A preempted sequence whose prompt was computed again while nothing decoded: its old end is its new one."""
    batch = DecodeBatch()
    request = joined(batch, 0, 11)
    batch.advance(4, batch.gained)
    batch.remove(request)
    batch.add(request, request.output_tokens - request.generated)
    assert batch.next_end_step == 10
    assert batch.advance(6, batch.gained) == [request]
    assert batch.remove(request) == (6, 6)


def test_with_drafts_whole_tokens_are_gained_in_fewer_steps() -> None:
    batch = DecodeBatch()
    request = joined(batch, 0, 11, steps=4)  # ten tokens in four steps
    assert batch.gained == 2.5
    assert [batch.gained_by(request, step) for step in range(5)] == [0, 2, 5, 7, 10]
    batch.advance(3, batch.gained)
    assert batch.context_tokens == 107.5
    assert batch.remove(request) == (7, 7.5)
    assert (request.generated, request.context_tokens) == (8, 107)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 30), st.integers(0, 5), st.booleans()), min_size=1, max_size=20),
)
def test_each_sequence_ends_once_when_its_own_count_says_so(script: list[tuple[int, int, bool]]) -> None:
    """Against counting: sequences join, some leave before their end and come back at once or later."""
    batch = DecodeBatch()
    left: dict[Request, int] = {}
    waiting: list[Request] = []
    for number, (tokens, steps, leaves) in enumerate(script):
        request = joined(batch, number, tokens)
        left[request] = tokens - 1
        for _ in range(steps):
            if not left:
                break
            until_end = batch.next_end_step - batch.step
            assert until_end == min(left.values())
            ended = batch.advance(1, batch.gained)
            for each in left:
                left[each] -= 1
            assert len(ended) == len(set(ended))
            assert set(ended) == {each for each, count in left.items() if not count}
            for each in ended:
                batch.remove(each)
                del left[each]
                assert each.generated == each.output_tokens
        if leaves and left:
            newest = batch.newest
            batch.remove(newest)
            del left[newest]
            waiting.append(newest)
        elif waiting:
            back = waiting.pop()
            batch.add(back, back.output_tokens - back.generated)
            left[back] = back.output_tokens - back.generated
        assert len(batch) == len(left)
        assert batch.context_tokens == sum(100 + each.output_tokens - 1 - count for each, count in left.items())
