"""What the contexts of a session's calls have in common, as paths of segments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from twin.serving import ContextPath, first_tokens
from twin.workload import HASH_BLOCK_TOKENS, Call, Session

#: Agents of a session, and versions of an agent's context, that keys tell apart.
_AGENTS = 1 << 16
_VERSIONS = 1 << 16
#: Kinds of keys: an agent's own content, a hashed block of a trace, a system prompt that sessions share.
_OWN, _HASH, _SYSTEM, _KINDS = 0, 1, 2, 4
#: Shared prefixes are given in whole blocks of this many tokens; what falls short by less is the same content.
_BLOCK_TOKENS = 64
_NONE: dict[int, int] = {}


class Content(NamedTuple):
    """A call's context: its path, how many tokens of it may have been computed before, and whether it forks from what its agent
    had (`twin.serving.Request`)."""

    path: ContextPath
    shared_tokens: int
    forks: bool


class SessionPaths:
    """Paths of the calls of one session, in the order in which each agent makes them.

    A sub-agent whose first call shares a prefix has it from the agent that spawned it, as that was when the spawning call
    (the first that it waits for) ended; from there on its context is its own.
    """

    __slots__ = ("_inputs", "_paths", "_session", "_spawned", "_spawners", "_versions", "spawners")

    def __init__(self, session: Session):
        self._session = session
        self._paths: dict[int, ContextPath] = {}
        self._inputs: dict[int, int] = {}
        self._versions: dict[int, int] = {}
        #: Calls, by position, whose context other agents begin with.
        self.spawners = _spawners(session) if len(session.calls) > 1 else ()
        # Two calls of an agent may look alike, so they are told apart by identity.
        self._spawners = {id(session.calls[index]): index for index in self.spawners} if self.spawners else _NONE
        self._spawned: dict[int, ContextPath] = {}

    def warm(self) -> ContextPath:
        """The context of the main agent that caches hold as the session enters."""
        tokens = self._session.warm_tokens
        return self._remember(0, self._first(0, self._session.calls[0], tokens), tokens)

    def of(self, call: Call, comes_again: bool) -> Content:
        """The context of the next call of its agent; without a path where nothing is shared with anyone."""
        if call.hash_ids:
            return Content(self._hashed(call), call.input_tokens, False)
        index = self._spawners.get(id(call))
        if index is None:
            return self._content(call, comes_again)
        content = self._content(call, True)
        key, tokens = content.path[-1]
        self._spawned[index] = (*content.path[:-1], (key, tokens + call.output_tokens))
        return content

    def _content(self, call: Call, comes_again: bool) -> Content:
        agent = call.agent
        system = self._system_tokens(call)
        before = self._paths.get(agent)
        if before is None:
            spawned = self._spawned.get(call.after[0]) if call.after and call.shared_prefix_tokens else None
            if spawned is not None:
                return self._spawn(agent, call, spawned)
            if not (comes_again or system):
                return Content((), 0, False)
            path = self._remember(agent, self._first(agent, call, call.input_tokens), call.input_tokens)
            return Content(path, system, False)
        shared = max(call.shared_prefix_tokens, system)
        kept = sum(tokens for _, tokens in before[:-1])
        forks = shared + _BLOCK_TOKENS < self._inputs[agent] or call.input_tokens <= kept
        if forks:
            path = first_tokens(before, min(shared, call.input_tokens - 1))
            self._versions[agent] = version = self._versions.get(agent, 0) + 1
            path = (*path, (self._key(agent, version), call.input_tokens - sum(tokens for _, tokens in path)))
        else:
            path = (*before[:-1], (before[-1][0], call.input_tokens - kept))
        self._remember(agent, path, call.input_tokens)
        return Content(path, shared, forks)

    def _hashed(self, call: Call) -> ContextPath:
        """Whole blocks, and what is left of the input: a part of the last one, or tokens without a hash, which nobody shares."""
        hashes, tokens = call.hash_ids or (), call.block_tokens
        if tokens is None:
            *whole, last = hashes
            key, path = last * _KINDS + _HASH, [(each * _KINDS + _HASH, HASH_BLOCK_TOKENS) for each in whole]
            return (*path, (key, call.input_tokens - HASH_BLOCK_TOKENS * len(path)))
        path = [(each * _KINDS + _HASH, length) for each, length in zip(hashes, tokens, strict=True)]
        rest = call.input_tokens - sum(tokens)
        if rest:
            self._versions[call.agent] = version = self._versions.get(call.agent, 0) + 1
            path.append((self._key(call.agent, version), rest))
        return tuple(path)

    def _spawn(self, agent: int, call: Call, spawned: ContextPath) -> Content:
        """The first context of an agent that begins with another's."""
        begun = first_tokens(spawned, min(call.shared_prefix_tokens, call.input_tokens - 1))
        shared = sum(tokens for _, tokens in begun)
        path = (*begun, (self._key(agent, 0), call.input_tokens - shared))
        return Content(self._remember(agent, path, call.input_tokens), shared, False)

    def held(self) -> Iterator[ContextPath]:
        """Of each agent's last context, what is its own."""
        for agent, path in self._paths.items():
            yield own_segments(path, agent)

    def _first(self, agent: int, call: Call, tokens: int) -> ContextPath:
        own = self._key(agent, 0)
        system = self._system_tokens(call)
        if not system or system >= tokens:
            return ((own, tokens),)
        prompt = self._session.system_prompt
        assert prompt is not None
        return ((prompt * _KINDS + _SYSTEM, system), (own, tokens - system))

    def _system_tokens(self, call: Call) -> int:
        return 0 if self._session.system_prompt is None else min(call.system_tokens, call.input_tokens - 1)

    def _key(self, agent: int, version: int) -> int:
        return ((self._session.session_id * _AGENTS + agent) * _VERSIONS + version) * _KINDS + _OWN

    def _remember(self, agent: int, path: ContextPath, tokens: int) -> ContextPath:
        self._paths[agent] = path
        self._inputs[agent] = tokens
        return path


def _spawners(session: Session) -> tuple[int, ...]:
    """Positions of the calls after which an agent begins with a part of their context."""
    calls = session.calls
    seen: set[int] = set()
    found: dict[int, None] = {}
    for call in calls:
        if call.agent not in seen:
            seen.add(call.agent)
            if call.after and call.shared_prefix_tokens and not call.hash_ids and not calls[call.after[0]].hash_ids:
                found[call.after[0]] = None
    return tuple(found)


def own_segments(path: ContextPath, agent: int) -> ContextPath:
    """The segments of `path` that this agent of its session has made itself."""
    return tuple(each for each in path if each[0] % _KINDS == _OWN and each[0] // _KINDS // _VERSIONS % _AGENTS == agent)


def own_keys(path: ContextPath) -> list[int]:
    """Keys of the segments that one session alone has."""
    return [key for key, _ in path if key % _KINDS == _OWN]
