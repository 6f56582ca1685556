"""Who is let in: limits of tiers and tenants, checked before a call is accepted.

Limits on load refuse a session's first call alone. A call in the middle of a session passes: what the session has cost so far
would be lost with it. But every call counts: it takes its tokens from its buckets, if need be into debt, and it is in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from twin.serving.request import Request


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tier or a tenant may ask for; infinite where it is not limited.

    `wait_s` bounds the wait to be expected at the instance with the shortest one, `tokens_per_s` and `burst_tokens` are a token
    bucket over input and output tokens, `in_flight` bounds the calls accepted and not finished.
    """

    wait_s: float = inf
    tokens_per_s: float = inf
    burst_tokens: float = inf
    in_flight: float = inf


class TokenBucket:
    """Fills with `tokens_per_s` up to `burst_tokens`, is full at the beginning, and may be drawn below 0."""

    __slots__ = ("_level", "_limits", "_time_s")

    def __init__(self, limits: Limits):
        self._limits = limits
        self._level = limits.burst_tokens
        self._time_s = 0.0

    def level(self, now_s: float) -> float:
        """Tokens in it."""
        limits = self._limits
        self._level = min(limits.burst_tokens, self._level + limits.tokens_per_s * (now_s - self._time_s))
        self._time_s = now_s
        return self._level

    def has(self, tokens: float, now_s: float) -> bool:
        """Whether so many may be taken; of a call larger than the bucket, whether the bucket is full."""
        return self.level(now_s) >= min(tokens, self._limits.burst_tokens)

    def take(self, tokens: float, now_s: float) -> None:
        """Take so many out."""
        self._level = self.level(now_s) - tokens


class _Party:
    """A tier or a tenant: its limits, its bucket and its calls in flight."""

    __slots__ = ("bucket", "in_flight", "limits")

    def __init__(self, limits: Limits):
        self.limits = limits
        self.bucket = TokenBucket(limits) if limits.tokens_per_s < inf else None
        self.in_flight = 0


class Admission:
    """The limits of a whole factory and how far each is used.

    `context_tokens` is the longest call (input and output) that is served. `tenants` holds those with limits of their own; any
    other has `each_tenant`.
    """

    def __init__(
        self,
        *,
        wait_s: float = inf,
        tiers: Mapping[str, Limits],
        tenants: Mapping[str, Limits],
        each_tenant: Limits,
        context_tokens: float = inf,
    ):
        self._wait_s = wait_s
        self._context_tokens = context_tokens
        self._each_tenant = each_tenant
        self._tiers = {name: _Party(limits) for name, limits in tiers.items()}
        self._tenants = {name: _Party(limits) for name, limits in tenants.items()}
        #: Calls accepted and not ended, by site.
        self.in_flight: Counter[str] = Counter()

    def refusal(self, request: Request, first: bool, now_s: float, wait_s: Callable[[], float]) -> str | None:
        """Why the call is not let in (one of `twin.recording.REFUSALS`), None if it is. `first`: it begins its session;
        `wait_s` tells the shortest wait to be expected."""
        tokens = request.input_tokens + request.output_tokens
        if tokens > self._context_tokens:
            return "context"
        if not first:
            return None
        bound_s = self._wait_s
        for kind, party in self._parties(request):
            limits = party.limits
            bound_s = min(bound_s, limits.wait_s)
            if party.in_flight >= limits.in_flight:
                return f"{kind}_in_flight"
            if party.bucket is not None and not party.bucket.has(tokens, now_s):
                return f"{kind}_tokens"
        return "wait" if bound_s < inf and wait_s() > bound_s else None

    def _parties(self, request: Request) -> Iterator[tuple[str, _Party]]:
        tier = self._tiers.get(request.tier)
        if tier is not None:
            yield "tier", tier
        if request.tenant:
            tenant = self._tenants.get(request.tenant)
            if tenant is None:
                tenant = self._tenants[request.tenant] = _Party(self._each_tenant)
            yield "tenant", tenant

    def accepted(self, request: Request, site: str, now_s: float) -> None:
        """The call is let in."""
        self.in_flight[site] += 1
        for _, party in self._parties(request):
            party.in_flight += 1
            if party.bucket is not None:
                party.bucket.take(request.input_tokens + request.output_tokens, now_s)

    def ended(self, request: Request, site: str) -> None:
        """A call that was let in has ended."""
        self.in_flight[site] -= 1
        for _, party in self._parties(request):
            party.in_flight -= 1
