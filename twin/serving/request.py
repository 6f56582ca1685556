"""One call on its way through the engine instances."""

from __future__ import annotations

from typing import Any

from twin.serving.between_turns import AgentTurns
from twin.serving.prefix_tree import ContextPath, Pin


class Request:
    """A call that has been accepted: its sizes, its state in the instance that holds it, and the times it has seen.

    Times are seconds since the start of the run, None until they have happened. `generated` counts the tokens that the
    user has been sent; `context_tokens` the KV tokens that the holding instance has pinned for it; `queued_s` is when it came to
    the queue of that instance. `energy_j` is GPU energy.
    While it decodes, it ends at decode step `end_step` after `steps` steps and gains `gain` tokens a step in the mean, and
    `generated` and `context_tokens` stand as they were when it began.

    `path` is the content of its input, by which others find what they share with it; empty, nothing is shared. Of it,
    `shared_prefix_tokens` may have been computed before; `forks` says that its agent's context went on differently from there
    and the old end will not be asked for. With `keep_cache` the whole context, answer included, will be asked for again. Of
    `cached_tokens` found when it was admitted, `lower_tokens` came from the tiers below HBM, and of those `storage_tokens` from
    below the first. The first `known_tokens` of `path` were asked for before, so that a cache without bounds would have had them;
    `recomputed_tokens` are those that had to be computed all the same, and those that preemption had computed once more, and
    `recompute_frac` is their share of the prompt under way. `turns` is what is known of its agent between calls.
    `failovers` counts how often a failure moved it; `computed_tokens` is how far its first prompt had come when one did.
    """

    __slots__ = (
        "admitted_s",
        "arrival_s",
        "cached_tokens",
        "call_index",
        "computed_tokens",
        "context_tokens",
        "decode_worker",
        "done_tokens",
        "end_step",
        "energy_j",
        "energy_mark_j",
        "expected_s",
        "exported_tokens",
        "failovers",
        "finish_s",
        "first_token_s",
        "forks",
        "gain",
        "generated",
        "input_tokens",
        "keep_cache",
        "known_tokens",
        "kv_elsewhere",
        "lower_tokens",
        "output_tokens",
        "parent_id",
        "path",
        "pin",
        "preemptions",
        "prefill_worker",
        "promised_tokens",
        "queued_s",
        "recompute_frac",
        "recomputed_tokens",
        "request_id",
        "session",
        "shared_prefix_tokens",
        "steps",
        "storage_tokens",
        "swapped_tokens",
        "tenant",
        "tier",
        "todo_tokens",
        "turns",
    )

    def __init__(
        self,
        request_id: int,
        arrival_s: float,
        input_tokens: int,
        output_tokens: int,
        *,
        tier: str = "",
        tenant: str = "",
        shared_prefix_tokens: int = 0,
        path: ContextPath = (),
        forks: bool = False,
        keep_cache: bool = False,
        session: Any = None,
        call_index: int = 0,
        parent_id: int | None = None,
        turns: AgentTurns | None = None,
    ):
        self.request_id = request_id
        self.arrival_s = arrival_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.tier = tier
        self.tenant = tenant
        self.shared_prefix_tokens = shared_prefix_tokens
        self.path = path
        self.forks = forks
        self.keep_cache = keep_cache
        self.session = session
        self.call_index = call_index
        self.parent_id = parent_id
        self.turns = turns
        self.admitted_s: float | None = None
        self.first_token_s: float | None = None
        self.finish_s: float | None = None
        self.prefill_worker: str | None = None
        self.decode_worker: str | None = None
        self.cached_tokens = 0
        self.lower_tokens = 0
        self.storage_tokens = 0
        self.known_tokens = 0
        self.recomputed_tokens = 0
        self.recompute_frac = 0.0
        self.exported_tokens = 0
        self.promised_tokens = 0
        self.swapped_tokens = 0
        self.pin: Pin | None = None
        self.generated = 0
        self.context_tokens = 0
        self.todo_tokens = 0
        self.done_tokens = 0
        self.end_step = -1
        self.steps = 0
        self.gain: float = 1
        self.energy_j = 0.0
        self.energy_mark_j = 0.0
        self.expected_s = 0.0
        self.queued_s = 0.0
        self.preemptions = 0
        self.failovers = 0
        self.computed_tokens = 0
        self.kv_elsewhere = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens whose KV must exist before the next token can be generated: the input and what was generated so far."""
        return self.input_tokens + self.generated

    def lose_kv(self) -> None:
        """The hardware with its KV has failed: what it has been sent stays, its prompt and that are computed again elsewhere."""
        if self.generated:
            self.shared_prefix_tokens = self.input_tokens  # what lies elsewhere of its own prompt will do
        elif self.done_tokens > self.computed_tokens:
            self.computed_tokens = self.done_tokens
        self.pin = None
        self.decode_worker = None
        self.kv_elsewhere = False
        self.context_tokens = self.todo_tokens = self.done_tokens = 0
        self.exported_tokens = self.promised_tokens = self.swapped_tokens = 0
        self.recompute_frac = 0.0

    def whole_path(self) -> ContextPath:
        """Content of its context at the end: the answer continues the last segment; KV of its last token is never made."""
        key, tokens = self.path[-1]
        return (*self.path[:-1], (key, tokens + self.output_tokens - 1))
