"""The prefix tree against hand-made contexts and against a memory that spells every token out."""

from __future__ import annotations

import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reference_prefix_tree import ReferenceMemory, Tokens, path_of, tokens_of

from twin.errors import SimulationError
from twin.serving.prefix_tree import FEW_ENTRIES, ContextPath, Pin, PrefixTree

SYSTEM, ALICE, BOB, CAROL = 1, 2, 3, 4


def shrunk(tree: PrefixTree, tokens: int) -> list[tuple[ContextPath, int]]:
    """What is evicted on the way to `tokens`, with what stays of it."""
    victims: list[tuple[ContextPath, int]] = []
    tree.shrink_to(tokens, lambda path, stays: victims.append((path, stays)))
    return victims


# --- what is shared ------------------------------------------------------------------------------------------------------


def test_sessions_share_a_system_prompt() -> None:
    tree = PrefixTree()
    assert tree.insert(((SYSTEM, 1000), (ALICE, 200))) == 1200
    assert tree.match(((SYSTEM, 1000), (BOB, 300))) == 1000
    assert tree.insert(((SYSTEM, 1000), (BOB, 300))) == 300
    assert (tree.total_tokens, len(tree)) == (1500, 3)
    assert tree.match(((SYSTEM, 1000), (ALICE, 500))) == 1200
    assert tree.match(((SYSTEM, 400),)) == 400
    assert tree.match(((BOB, 300),)) == 0
    assert tree.match(()) == 0


def test_the_same_key_behind_other_content_is_other_content() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 10), (ALICE, 5)))
    assert tree.insert(((BOB, 10), (ALICE, 5))) == 15
    assert tree.insert(((ALICE, 5),)) == 5
    assert tree.total_tokens == 35


def test_an_agents_context_grows() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 1000), (ALICE, 200)))
    pin = tree.pin(((SYSTEM, 1000), (ALICE, 700)))
    assert (pin.tokens, tree.pinned_tokens) == (1200, 1200)
    assert tree.grow(pin, ((SYSTEM, 1000), (ALICE, 700))) == 500  # the prompt is computed
    assert (pin.tokens, tree.pinned_tokens) == (1700, 1700)
    assert tree.grow(pin, ((SYSTEM, 1000), (ALICE, 750))) == 50  # the answer is done
    tree.unpin(pin)
    assert (tree.total_tokens, tree.pinned_tokens, len(tree)) == (1750, 0, 2)
    assert tree.insert(((SYSTEM, 1000), (ALICE, 300))) == 0
    assert tree.total_tokens == 1750


def test_a_sub_agent_branches_off_in_the_middle() -> None:
    tree = PrefixTree()
    tree.insert(((ALICE, 5000),))
    assert tree.match(((ALICE, 700), (BOB, 300))) == 700
    assert tree.insert(((ALICE, 700), (BOB, 300))) == 300
    assert tree.insert(((ALICE, 900), (BOB, 300))) == 300  # at another place: other content
    assert (tree.total_tokens, len(tree)) == (5600, 3)
    assert tree.match(((ALICE, 5000),)) == 5000
    assert tree.match(((ALICE, 700), (BOB, 400))) == 1000
    # The rest of the parent's 5000 tokens is not pinned with the branch.
    tree.pin(((ALICE, 700), (BOB, 300)))
    assert tree.pinned_tokens == 1000


def test_a_middle_segment_of_another_length_is_other_content_from_there_on() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 100), (ALICE, 50), (BOB, 20)))
    assert tree.match(((SYSTEM, 100), (ALICE, 40), (BOB, 20))) == 140
    assert tree.match(((SYSTEM, 100), (ALICE, 60), (BOB, 20))) == 150
    assert tree.insert(((SYSTEM, 100), (ALICE, 60), (BOB, 20))) == 10 + 20
    assert tree.match(((SYSTEM, 100), (ALICE, 50), (BOB, 20))) == 170


# --- pins ----------------------------------------------------------------------------------------------------------------


def test_of_two_requests_that_compute_the_same_the_second_frees_its_copy() -> None:
    tree = PrefixTree()
    prompt = ((SYSTEM, 1000), (ALICE, 200))
    first, second = tree.pin(prompt), tree.pin(prompt)
    assert (first.tokens, second.tokens, tree.pinned_tokens) == (0, 0, 0)
    assert tree.grow(first, prompt) == 1200
    assert tree.grow(second, prompt) == 0
    assert tree.grow(second, ((SYSTEM, 1000), (ALICE, 230))) == 30
    assert tree.grow(first, ((SYSTEM, 1000), (ALICE, 250))) == 20
    tree.unpin(second)
    assert (tree.total_tokens, tree.pinned_tokens) == (1250, 1250)
    tree.unpin(first)
    assert tree.pinned_tokens == 0


def test_what_is_pinned_stays() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 1000), (ALICE, 200)))
    tree.insert(((SYSTEM, 1000), (BOB, 300)))
    pin = tree.pin(((SYSTEM, 1000), (ALICE, 100)))
    # Alice's tail is the older of the two.
    assert shrunk(tree, 0) == [(((SYSTEM, 1000), (ALICE, 200)), 1100), (((SYSTEM, 1000), (BOB, 300)), 1000)]
    assert (tree.total_tokens, tree.pinned_tokens) == (1100, 1100)
    tree.unpin(pin)
    tree.shrink_to(0)
    assert (tree.total_tokens, len(tree), tree.evicted_tokens) == (0, 0, 1500)


def test_a_pin_inside_keeps_its_node_when_the_branches_go() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 1000), (ALICE, 200)))
    pin = tree.pin(((SYSTEM, 400), (BOB, 10)))
    assert (pin.tokens, tree.pinned_tokens) == (400, 400)
    tree.shrink_to(1000)
    assert tree.total_tokens == 1000
    assert tree.grow(pin, ((SYSTEM, 400), (BOB, 10))) == 10
    assert tree.pinned_tokens == 410
    assert shrunk(tree, 0) == [(((SYSTEM, 1000),), 400)]
    assert tree.total_tokens == 410
    tree.unpin(pin)
    assert shrunk(tree, 399) == [(((SYSTEM, 400), (BOB, 10)), 399)]


# --- eviction ------------------------------------------------------------------------------------------------------------


def test_least_recently_used_goes_first_and_a_match_is_no_use() -> None:
    tree = PrefixTree()
    for key in (ALICE, BOB, CAROL):
        tree.insert(((key, 100),))
    tree.match(((BOB, 100),))
    tree.insert(((ALICE, 50),))
    assert shrunk(tree, 100) == [(((BOB, 100),), 0), (((CAROL, 100),), 0)]
    assert tree.match(((ALICE, 100),)) == 100
    assert tree.evicted_tokens == 200


def test_the_release_is_the_use_that_counts() -> None:
    tree = PrefixTree()
    pin = tree.pin(((ALICE, 100),))
    tree.grow(pin, ((ALICE, 100),))
    tree.insert(((BOB, 100),))
    tree.unpin(pin)
    assert shrunk(tree, 100) == [(((BOB, 100),), 0)]


def test_a_parent_goes_after_its_last_child_as_recently_used_as_that() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 10), (ALICE, 1)))
    tree.insert(((CAROL, 100),))
    tree.insert(((SYSTEM, 10), (BOB, 2)))
    tree.insert(((ALICE, 1000),))
    assert shrunk(tree, 0) == [
        (((SYSTEM, 10), (ALICE, 1)), 10),
        (((CAROL, 100),), 0),
        (((SYSTEM, 10), (BOB, 2)), 0),  # and the system prompt with it
        (((ALICE, 1000),), 0),
    ]


def test_a_parent_used_itself_after_its_child_outlives_others() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 10), (ALICE, 1)))
    tree.insert(((CAROL, 100),))
    tree.insert(((SYSTEM, 10),))
    assert shrunk(tree, 0) == [(((SYSTEM, 10), (ALICE, 1)), 10), (((CAROL, 100),), 0), (((SYSTEM, 10),), 0)]


def test_only_as_many_blocks_as_needed() -> None:
    tree = PrefixTree(block_tokens=16)
    tree.insert(((SYSTEM, 100), (ALICE, 50)))
    assert tree.match(((SYSTEM, 100), (ALICE, 49))) == 149
    # One token too many: 50 go down to 48, the next whole number of blocks.
    assert shrunk(tree, 149) == [(((SYSTEM, 100), (ALICE, 50)), 148)]
    assert shrunk(tree, 148) == []
    assert shrunk(tree, 147) == [(((SYSTEM, 100), (ALICE, 48)), 132)]
    # All 32 go, then the parent's end: at most 90 may stay, so 5 whole blocks do.
    assert shrunk(tree, 90) == [(((SYSTEM, 100), (ALICE, 32)), 80)]
    assert (tree.total_tokens, len(tree), tree.evicted_tokens) == (80, 1, 70)
    assert tree.insert(((SYSTEM, 100), (ALICE, 50))) == 70


def test_a_long_tail_is_told_once_and_goes_on_below() -> None:
    tree, below = PrefixTree(), PrefixTree()
    first = tuple((hash_id, 512) for hash_id in range(24))
    second = (*first[:10], *((hash_id, 512) for hash_id in range(100, 114)))
    tree.insert(first)
    tree.insert(second)
    moved: list[tuple[int, int]] = []
    tree.shrink_to(0, lambda path, stays: moved.append((below.insert(path), stays)))
    assert moved == [(24 * 512, 10 * 512), (14 * 512, 0)]
    assert below.match(first) == below.match(second) == 24 * 512
    assert shrunk(below, 30 * 512) == [(first, 16 * 512)]


def test_a_parent_with_more_than_the_branch_is_told_on_its_own() -> None:
    tree = PrefixTree()
    tree.insert(((ALICE, 5000),))
    tree.insert(((ALICE, 700), (BOB, 300)))
    assert shrunk(tree, 600) == [(((ALICE, 700), (BOB, 300)), 700), (((ALICE, 5000),), 600)]
    assert tree.match(((ALICE, 700), (BOB, 300))) == 600


def test_uses_without_evictions_take_no_memory() -> None:
    tree = PrefixTree()
    for _ in range(1000):
        tree.insert(((SYSTEM, 10), (ALICE, 10)))
        assert len(tree._order) <= 2 * len(tree) + FEW_ENTRIES
    tree.insert(((SYSTEM, 10), (BOB, 10)))
    assert shrunk(tree, 20) == [(((SYSTEM, 10), (ALICE, 10)), 10)]


def test_clear_forgets_without_evicting() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 10), (ALICE, 10)))
    empty = tree.pin(((BOB, 10),))
    tree.clear()
    assert (tree.total_tokens, len(tree), tree.evicted_tokens, tree.match(((SYSTEM, 10),))) == (0, 0, 0, 0)
    assert tree.grow(empty, ((SYSTEM, 10),)) == 10
    with pytest.raises(SimulationError, match="10 tokens are pinned"):
        tree.clear()


# --- errors of the owner -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        ((SYSTEM, 100), (BOB, 60)),  # another key
        ((SYSTEM, 90), (ALICE, 60)),  # another place
        ((SYSTEM, 100), (ALICE, 40)),  # shorter than what is held
        ((SYSTEM, 150),),
        (),
    ],
)
def test_a_pin_grows_along_its_own_content_only(path: ContextPath) -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 100), (ALICE, 50)))
    pin = tree.pin(((SYSTEM, 100), (ALICE, 50)))
    with pytest.raises(SimulationError, match="other content: it holds 150 tokens, the last 50 of them in segment 2 with key 2"):
        tree.grow(pin, path)


def test_a_released_pin_is_of_no_use() -> None:
    tree = PrefixTree()
    tree.insert(((SYSTEM, 100),))
    pin = tree.pin(((SYSTEM, 100),))
    tree.unpin(pin)
    with pytest.raises(SimulationError, match="a pin of 100 tokens was released twice"):
        tree.unpin(pin)
    with pytest.raises(SimulationError, match="a released pin of 100 tokens can't grow"):
        tree.grow(pin, ((SYSTEM, 200),))


def test_an_empty_segment_is_an_error() -> None:
    with pytest.raises(SimulationError, match="a segment of 0 tokens"):
        PrefixTree().insert(((SYSTEM, 100), (ALICE, 0)))


# --- against the reference -----------------------------------------------------------------------------------------------

paths = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=4).map(tuple)


class AgainstReference(RuleBasedStateMachine):
    """Any order of verbs: the same tokens are found, held, pinned, and evicted in the same order."""

    @initialize(block_tokens=st.sampled_from([1, 2, 3]))
    def begin(self, block_tokens: int) -> None:
        self.tree = PrefixTree(block_tokens)
        self.reference = ReferenceMemory(block_tokens)
        self.pins: list[tuple[Pin, Tokens]] = []
        self.evicted_tokens = self.released_tokens = self.cleared_tokens = 0

    @rule(path=paths)
    def match(self, path: ContextPath) -> None:
        assert self.tree.match(path) == self.reference.match(tokens_of(path))

    @rule(path=paths)
    def pin(self, path: ContextPath) -> None:
        pin, held = self.tree.pin(path), self.reference.pin(tokens_of(path))
        assert pin.tokens == len(held)
        self.pins.append((pin, held))

    @precondition(lambda self: self.pins)
    @rule(which=st.integers(0, 99), more=st.integers(0, 4), tail=paths, segments=st.integers(0, 4))
    def grow(self, which: int, more: int, tail: ContextPath, segments: int) -> None:
        pin, held = self.pins.pop(which % len(self.pins))
        path = path_of(held)
        if path:
            path = (*path[:-1], (path[-1][0], path[-1][1] + more))
        path = (*path, *tail[:segments])
        assert self.tree.grow(pin, path) == self.reference.grow(held, tokens_of(path))
        assert pin.tokens == len(tokens_of(path))
        self.pins.append((pin, tokens_of(path)))

    @precondition(lambda self: self.pins)
    @rule(which=st.integers(0, 99))
    def unpin(self, which: int) -> None:
        pin, held = self.pins.pop(which % len(self.pins))
        self.tree.unpin(pin)
        self.reference.unpin(held)

    @rule(path=paths)
    def insert(self, path: ContextPath) -> None:
        content = tokens_of(path)
        new = self.reference.grow(self.reference.pin(content), content)
        self.reference.unpin(content)
        assert self.tree.insert(path) == new

    @rule(fewer=st.integers(0, 12))
    def shrink(self, fewer: int) -> None:
        self.shrink_to(self.tree.total_tokens - fewer)

    @rule(path=paths)
    def release(self, path: ContextPath) -> None:
        gone = self.reference.release(tokens_of(path))
        assert self.tree.release(path) == gone
        self.released_tokens += gone

    @precondition(lambda self: not any(held for _, held in self.pins))
    @rule()
    def clear(self) -> None:
        self.cleared_tokens += self.tree.total_tokens
        self.tree.clear()
        self.reference.held.clear()

    def shrink_to(self, tokens: int) -> None:
        gone: list[Tokens] = []
        for path, stays in shrunk(self.tree, tokens):
            content = tokens_of(path)
            gone += [content[:end] for end in range(len(content), stays, -1)]
        assert gone == self.reference.shrink_to(tokens)
        self.evicted_tokens += len(gone)

    @invariant()
    def same(self) -> None:
        assert self.tree.total_tokens == len(self.reference.held)
        assert self.tree.pinned_tokens == self.reference.pinned_tokens()
        assert self.tree.evicted_tokens == self.evicted_tokens
        assert self.tree.released_tokens == self.released_tokens
        gone = self.evicted_tokens + self.released_tokens + self.cleared_tokens
        assert self.tree.inserted_tokens == self.tree.total_tokens + gone
        assert len(self.tree) == len(self.reference.segments())
        for prefix in self.reference.held:
            assert self.tree.match(path_of(prefix)) == len(prefix)

    def teardown(self) -> None:
        """With every pin released everything can go."""
        for pin, held in self.pins:
            self.tree.unpin(pin)
            self.reference.unpin(held)
        self.shrink_to(0)
        assert (self.tree.total_tokens, self.tree.pinned_tokens, len(self.tree)) == (0, 0, 0)


TestAgainstReference = AgainstReference.TestCase
TestAgainstReference.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- cost ----------------------------------------------------------------------------------------------------------------


def _day_s(scale: int) -> float:
    """Wall seconds of 400 sessions of 5 calls each, with room for about a quarter of them, segments `scale` times as long."""
    tree = PrefixTree(block_tokens=16)
    began_s = time.perf_counter()
    for call in range(5):
        for session in range(400):
            prompt = ((SYSTEM, 1000 * scale), (10 + session, 300 * (call + 1) * scale))
            answered = (prompt[0], (prompt[1][0], prompt[1][1] + 50 * scale))
            pin = tree.pin(prompt)
            tree.grow(pin, prompt)
            tree.grow(pin, answered)
            tree.unpin(pin)
            tree.shrink_to(100_000 * scale, lambda path, stays: None)
    return time.perf_counter() - began_s


def test_nothing_costs_per_token() -> None:
    ratio = min(_day_s(10) for _ in range(5)) / min(_day_s(1) for _ in range(5))
    assert ratio < 3
