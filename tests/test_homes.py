"""Which instance served a context last."""

from __future__ import annotations

import pytest
from engine_parts import worker

from twin.serving import Homes
from twin.serving import homes as homes_module

ONE, OTHER = worker("w-0"), worker("w-1")


def test_the_deepest_segment_that_was_seen_before_tells() -> None:
    homes = Homes()
    homes.put(((1, 700), (2, 50)), ONE)
    homes.put(((1, 700), (3, 50)), OTHER)
    assert homes.find(((1, 700), (2, 90)))[0] is ONE
    assert homes.find(((1, 700), (3, 90), (4, 10)))[0] is OTHER
    assert homes.find(((1, 700), (5, 90)))[0] is OTHER, "whoever had the shared front last"
    assert homes.find(((5, 90),))[0] is None
    assert homes.find(())[0] is None


def test_a_segment_that_is_forgotten_leaves_what_comes_before_it() -> None:
    homes = Homes()
    homes.put(((1, 700), (2, 50)), ONE)
    homes.put(((1, 700),), OTHER)
    homes.forget(2)
    homes.forget(2)
    assert homes.find(((1, 700), (2, 50)))[0] is OTHER


def test_the_oldest_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes_module, "_MOST", 3)
    homes = Homes()
    for key in range(5):
        homes.put(((key, 10),), ONE)
    assert [homes.find(((key, 10),))[0] is ONE for key in range(5)] == [False, False, True, True, True]
