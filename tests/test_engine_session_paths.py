"""What the contexts of calls have in common, as paths: what must agree agrees, what must differ differs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from twin.engine.session_paths import Content, SessionPaths, own_keys
from twin.serving import ContextPath
from twin.serving.prefix_tree import PrefixTree
from twin.workload import AgentGenerator, Call, Intake, Poisson, Session


def call(tokens: int, shared: int = 0, **more: object) -> Call:
    return Call((), 0.0, tokens, 10, shared, **more)  # type: ignore[arg-type]


def session(number: int = 7, **more: object) -> Session:
    return Session(number, 0.0, "", [], **more)  # type: ignore[arg-type]


def tokens_of(path: ContextPath) -> int:
    return sum(tokens for _, tokens in path)


def common(one: ContextPath, other: ContextPath) -> int:
    """Tokens that a memory which holds `one` finds of `other`."""
    tree = PrefixTree()
    tree.insert(one)
    return tree.match(other)


def test_a_call_that_shares_with_nobody_has_no_path() -> None:
    assert SessionPaths(session()).of(call(1000), comes_again=False) == Content((), 0, False)


def test_a_first_call_begins_a_context() -> None:
    content = SessionPaths(session()).of(call(1000), comes_again=True)
    assert [tokens for _, tokens in content.path] == [1000]
    assert (content.shared_tokens, content.forks) == (0, False)
    assert own_keys(content.path) == [key for key, _ in content.path]


def test_an_append_goes_on_in_the_same_segment() -> None:
    paths = SessionPaths(session())
    first = paths.of(call(1000), comes_again=True)
    second = paths.of(call(1300, 960), comes_again=True)  # 960: the whole blocks of 64 in 1000
    third = paths.of(call(1400, 1280), comes_again=False)
    ((key, _),) = first.path
    assert second == Content(((key, 1300),), 960, False)
    assert third == Content(((key, 1400),), 1280, False)


def test_a_shortfall_of_less_than_a_block_is_an_append_and_of_more_a_fork() -> None:
    for shared, forks in ((960, False), (936, False), (935, True), (0, True)):
        paths = SessionPaths(session())
        paths.of(call(1000), comes_again=True)
        assert paths.of(call(1300, shared), comes_again=True).forks is forks, shared


def test_a_fork_keeps_the_front_and_goes_on_as_other_content() -> None:
    paths = SessionPaths(session())
    first = paths.of(call(5000), comes_again=True)
    compacted = paths.of(call(2000, 640), comes_again=True)
    ((key, _),) = first.path
    assert compacted.path[0] == (key, 640)
    assert compacted.path[1][0] != key
    assert (tokens_of(compacted.path), compacted.shared_tokens, compacted.forks) == (2000, 640, True)
    assert common(first.path, compacted.path) == 640
    # It goes on from there, and the next compaction is content of its own again.
    grown = paths.of(call(2600, 1984), comes_again=True)
    assert (grown.path, grown.forks) == ((compacted.path[0], (compacted.path[1][0], 2600 - 640)), False)
    again = paths.of(call(1500, 640), comes_again=True)
    assert again.path[0] == (key, 640)
    assert again.path[1][0] not in {key, compacted.path[1][0]}
    assert again.forks


def test_a_fork_inside_what_an_earlier_fork_added() -> None:
    paths = SessionPaths(session())
    paths.of(call(5000), comes_again=True)
    compacted = paths.of(call(2000, 640), comes_again=True)
    content = paths.of(call(1900, 1280), comes_again=True)
    assert content.path[:2] == (compacted.path[0], (compacted.path[1][0], 1280 - 640))
    assert tokens_of(content.path) == 1900
    assert common(compacted.path, content.path) == 1280


def test_a_fork_that_shares_nothing_or_all_but_one_token() -> None:
    paths = SessionPaths(session())
    first = paths.of(call(5000), comes_again=True)
    content = paths.of(call(300, 0), comes_again=True)
    assert (len(content.path), tokens_of(content.path)) == (1, 300)
    assert common(first.path, content.path) == 0
    last = paths.of(call(200, 200), comes_again=True)
    assert tokens_of(last.path) == 200
    assert common(content.path, last.path) == 199, "the last token of a prompt is computed anyway"


def test_agents_of_a_session_and_sessions_share_nothing() -> None:
    paths, others = SessionPaths(session(7)), SessionPaths(session(8))
    contents = [paths.of(call(1000, agent=agent), comes_again=True).path for agent in range(3)]
    contents.append(others.of(call(1000), comes_again=True).path)
    assert all(common(one, other) == 0 for one in contents for other in contents if one is not other)
    # Each agent's context goes on by itself.
    again = paths.of(call(1200, 960, agent=1), comes_again=False)
    assert [common(content, again.path) for content in contents] == [0, 1000, 0, 0]


def test_hashed_blocks_are_the_same_whoever_asks() -> None:
    one = SessionPaths(session(1)).of(call(1100, hash_ids=(5, 6, 7)), comes_again=False)
    other = SessionPaths(session(2)).of(call(1300, 512, hash_ids=(5, 6, 8)), comes_again=True)
    assert [tokens for _, tokens in one.path] == [512, 512, 76]
    assert [tokens for _, tokens in other.path] == [512, 512, 276]
    assert common(one.path, other.path) == 1024
    assert (other.shared_tokens, other.forks) == (1300, False), "what agrees is shared, whatever the trace counted"
    assert own_keys(one.path) == []


def test_hashes_and_contexts_of_the_same_number_are_different_content() -> None:
    hashed = SessionPaths(session(0)).of(call(500, hash_ids=(0,)), comes_again=False)
    own = SessionPaths(session(0)).of(call(500), comes_again=True)
    prompt = SessionPaths(session(0, system_prompt=0)).of(call(500, system_tokens=499), comes_again=False)
    keys = [hashed.path[0][0], own.path[0][0], prompt.path[0][0]]
    assert len(set(keys)) == 3


def test_a_system_prompt_is_shared_by_the_sessions_that_have_it() -> None:
    def first(number: int, prompt: int | None, system: int = 600) -> Content:
        return SessionPaths(session(number, system_prompt=prompt)).of(call(1000, system_tokens=system), comes_again=False)

    one, same, other, longer = first(1, 4), first(2, 4), first(3, 5), first(4, 4, 800)
    assert [tokens for _, tokens in one.path] == [600, 400]
    assert (one.shared_tokens, one.forks) == (600, False)
    assert common(one.path, same.path) == 600
    assert common(one.path, other.path) == 0
    assert common(one.path, longer.path) == 600
    assert own_keys(one.path) == [one.path[1][0]], "the system prompt is not its own"
    assert first(5, None).path == (), "a prompt that the session has for itself is no one's"


def test_a_system_prompt_as_long_as_the_input_leaves_its_last_token() -> None:
    content = SessionPaths(session(1, system_prompt=0)).of(call(300, system_tokens=300), comes_again=False)
    assert [tokens for _, tokens in content.path] == [299, 1]


def test_a_compaction_keeps_the_system_prompt() -> None:
    paths = SessionPaths(session(1, system_prompt=0))
    first = paths.of(call(5000, system_tokens=700), comes_again=True)
    # The generator counts 640 in whole blocks; the prompt is 700.
    compacted = paths.of(call(2000, 640, system_tokens=700), comes_again=True)
    assert compacted.path[0] == first.path[0]
    assert compacted.path[0][1] == 700
    assert (compacted.shared_tokens, compacted.forks) == (700, True)
    stranger = SessionPaths(session(2, system_prompt=0)).of(call(900, system_tokens=700), comes_again=True)
    assert common(compacted.path, stranger.path) == 700


def test_a_warm_context_is_what_the_first_call_finds() -> None:
    warm = Session(3, 0.0, "", [call(2000, 1152, system_tokens=300)], warm_tokens=1200, system_prompt=9)
    paths = SessionPaths(warm)
    held = paths.warm()
    assert [tokens for _, tokens in held] == [300, 900]
    content = paths.of(warm.calls[0], comes_again=False)
    assert tokens_of(content.path) == 2000
    assert common(held, content.path) == 1200
    assert (content.shared_tokens, content.forks) == (1152, False)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), prompts=st.sampled_from([None, 1, 3]))
def test_paths_of_generated_sessions_are_as_long_as_inputs_and_share_what_the_calls_say(seed: int, prompts: int | None) -> None:
    """An endless memory finds at least what each call shares with its agent's call before, and never the whole input."""
    intake = Intake(Poisson(1.0), seed, limit=12)
    for made in AgentGenerator(intake, system_prompts=prompts).sessions():
        paths = SessionPaths(made)
        tree = PrefixTree()
        for each in made.calls:
            content = paths.of(each, comes_again=True)
            assert tokens_of(content.path) == each.input_tokens
            assert all(tokens > 0 for _, tokens in content.path)
            assert content.shared_tokens >= each.shared_prefix_tokens
            assert tree.match(content.path) >= min(each.shared_prefix_tokens, each.input_tokens - 1)
            tree.insert(content.path)
