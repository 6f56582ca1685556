"""One call on its way through the engine instances."""

from __future__ import annotations

from typing import Any


class Request:
    """A call that has been accepted: its sizes, its state in the instance that holds it, and the times it has seen.

    Times are seconds since the start of the run, None until they have happened. `generated` counts the tokens that the
    user has been sent; `context_tokens` the KV tokens that the holding instance has pinned for it. `energy_j` is GPU energy.
    """

    __slots__ = (
        "admitted_s",
        "arrival_s",
        "cache_key",
        "cached_tokens",
        "call_index",
        "context_tokens",
        "decode_worker",
        "done_tokens",
        "end_step",
        "energy_j",
        "energy_mark_j",
        "expected_s",
        "finish_s",
        "first_token_s",
        "generated",
        "input_tokens",
        "keep_cache",
        "kv_elsewhere",
        "output_tokens",
        "parent_id",
        "preemptions",
        "prefill_worker",
        "request_id",
        "session",
        "shared_prefix_tokens",
        "tier",
        "todo_tokens",
    )

    def __init__(
        self,
        request_id: int,
        arrival_s: float,
        input_tokens: int,
        output_tokens: int,
        *,
        tier: str = "",
        shared_prefix_tokens: int = 0,
        cache_key: int = -1,
        keep_cache: bool = False,
        session: Any = None,
        call_index: int = 0,
        parent_id: int | None = None,
    ):
        self.request_id = request_id
        self.arrival_s = arrival_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.tier = tier
        self.shared_prefix_tokens = shared_prefix_tokens
        self.cache_key = cache_key
        self.keep_cache = keep_cache
        self.session = session
        self.call_index = call_index
        self.parent_id = parent_id
        self.admitted_s: float | None = None
        self.first_token_s: float | None = None
        self.finish_s: float | None = None
        self.prefill_worker: str | None = None
        self.decode_worker: str | None = None
        self.cached_tokens = 0
        self.generated = 0
        self.context_tokens = 0
        self.todo_tokens = 0
        self.done_tokens = 0
        self.end_step = -1
        self.energy_j = 0.0
        self.energy_mark_j = 0.0
        self.expected_s = 0.0
        self.preemptions = 0
        self.kv_elsewhere = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens whose KV must exist before the next token can be generated: the input and what was generated so far."""
        return self.input_tokens + self.generated
