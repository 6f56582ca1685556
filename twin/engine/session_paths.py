"""What the contexts of a session's calls have in common, as paths of segments."""

from __future__ import annotations

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


class Content(NamedTuple):
    """A call's context: its path, how many tokens of it may have been computed before, and whether it forks from what its agent
    had (`twin.serving.Request`)."""

    path: ContextPath
    shared_tokens: int
    forks: bool


class SessionPaths:
    """Paths of the calls of one session, in the order in which each agent makes them."""

    __slots__ = ("_inputs", "_paths", "_session", "_versions")

    def __init__(self, session: Session):
        self._session = session
        self._paths: dict[int, ContextPath] = {}
        self._inputs: dict[int, int] = {}
        self._versions: dict[int, int] = {}

    def warm(self) -> ContextPath:
        """The context of the main agent that caches hold as the session enters."""
        tokens = self._session.warm_tokens
        return self._remember(0, self._first(0, self._session.calls[0], tokens), tokens)

    def of(self, call: Call, comes_again: bool) -> Content:
        """The context of the next call of its agent; without a path where nothing is shared with anyone."""
        if call.hash_ids:
            return Content(_hashed(call), call.input_tokens, False)
        agent = call.agent
        system = self._system_tokens(call)
        before = self._paths.get(agent)
        if before is None:
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


def own_keys(path: ContextPath) -> list[int]:
    """Keys of the segments that one session alone has."""
    return [key for key, _ in path if key % _KINDS == _OWN]


def _hashed(call: Call) -> ContextPath:
    hashes = call.hash_ids or ()
    whole = [(each * _KINDS + _HASH, HASH_BLOCK_TOKENS) for each in hashes[:-1]]
    return (*whole, (hashes[-1] * _KINDS + _HASH, call.input_tokens - HASH_BLOCK_TOKENS * len(whole)))
