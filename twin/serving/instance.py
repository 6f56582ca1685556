"""The state of an engine instance, and what can be asked of it without changing anything."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from twin.serving.decode_batch import DecodeBatch
from twin.serving.jump import Jump
from twin.serving.kv_memory import CacheCounts, KvMemory
from twin.serving.kv_tier import KvTier
from twin.serving.losses import TimeSplit
from twin.serving.meter import Meter
from twin.serving.phases import PhaseTotals
from twin.serving.prompt_queue import PromptQueue
from twin.serving.request import Request
from twin.serving.stepper import Stepper
from twin.serving.worker_spec import Progress, Role, WorkerSpec

if TYPE_CHECKING:
    from twin.serving.worker import Worker

#: What a router takes for the length of an answer, which it cannot know.
USUAL_ANSWER_TOKENS = 256


class Instance:
    """What an engine instance holds and where it stands; `twin.serving.worker.Worker` moves it on.

    `outbox` collects what its owner must act on, in order of time; `next_change_s` says when something falls due.
    `lower` is the KV tier below its memory, if there is one.
    """

    def __init__(self, spec: WorkerSpec, lower: KvTier | None = None):
        self.spec = spec
        self.name = spec.name
        self.role: Role = spec.role
        self.outbox: list[tuple[str, Request]] = []
        self.next_change_s = inf
        self.memory = KvMemory(spec.kv_capacity_tokens, spec.block_tokens, lower)
        self.batch = DecodeBatch()
        self.queue = PromptQueue(spec, self.batch)
        self.prefilling: deque[Request] = deque()
        self.joining: list[Request] = []
        #: Requests with room granted whose KV has not arrived, and prefilled ones whose KV has not been copied away.
        self.reserved = 0
        self.exported = 0
        self.preemptions = 0
        #: Most sequences decoded together since it was started.
        self.largest_batch = 0
        self.stepper = Stepper(spec)
        self.meter = Meter(spec.gpus * spec.power.idle_w)
        self._measure()
        #: Hears of each jump as it ends, with its final number of steps.
        self.on_jump: Callable[[Worker, Jump], None] | None = None
        self._jump: Jump | None = None
        self._loading: list[tuple[float, int, Request]] = []
        self._left_tokens = 0
        self._batch_version = 0
        self._serial = 0
        self._budget_spent = False
        self._counts_before = CacheCounts()

    def _measure(self) -> None:
        """What follows from the spec: seconds of a prompt token in a full step, tokens of a sequence in a step."""
        cost, most = self.spec.cost, self.spec.max_batched_tokens
        self._token_s = max(cost.token_terms(most)[:2]) / most
        self._drafted = 1 + cost.speculation.draft_tokens
        self.meter.drafted = self._drafted

    def can_hold(self, request: Request) -> bool:
        """Whether the instance's memory can hold the request at its longest; one that can't must be refused, not queued."""
        longest = request.input_tokens + (0 if self.role == "prefill" else request.output_tokens)
        return longest <= self.memory.longest_tokens

    def expected_s(self, request: Request) -> float:
        """About how long the request's prompt takes here, less what is held for it now in HBM and below."""
        hit = self.memory.match(request) if request.path else 0
        return self.prompt_s(request.prompt_tokens - hit, hit)

    def prompt_s(self, tokens: int, prefix: int) -> float:
        """About how long `tokens` of a prompt take here in full steps, `prefix` tokens before them being there."""
        return tokens * (self._token_s + self.spec.cost.prefill_attention_compute_s * (prefix + 0.5 * tokens))

    @property
    def work_s(self) -> float:
        """Load as a router sees it: seconds of prompts still to compute, and of answers of usual length for what is decoded."""
        contexts = self.batch.context_tokens + (self.queue.context_tokens if self.role == "decode" else 0)
        return self.queue.backlog_s + USUAL_ANSWER_TOKENS * self.spec.cost.attention_memory_s * contexts

    def wait_s(self, now_s: float) -> float:
        """About how long one more prompt would wait: what there is to compute, or where room is short, what the next one has
        waited for it already."""
        waiting = self.queue.waiting
        return max(self.queue.backlog_s, now_s - waiting[0].queued_s if waiting else 0.0)

    def progress(self, now_s: float) -> Progress:
        """Totals up to `now_s`, which is not past the next change; within a step they accrue evenly."""
        return self.meter.progress(self._jump, now_s)

    def step_terms(self) -> tuple[float, ...] | None:
        """The step in progress, seconds at clock 1: gemm compute, gemm memory, attention compute, attention memory and overhead,
        which set its time; compute and memory of the mean GPU, which set its energy.

        None while idle. Control estimates from it what another clock would do.
        """
        return None if self._jump is None else self._jump.roofs

    def held(self) -> list[Request]:
        """Every request in its queue and its batch."""
        loading = [request for _, _, request in sorted(self._loading)]
        return [*self.batch, *self.joining, *self.prefilling, *loading, *self.queue.waiting]

    @property
    def is_empty(self) -> bool:
        """Whether it holds no request and no KV that another instance waits for."""
        return not (self.held() or self.reserved or self.exported)

    @property
    def cache_counts(self) -> CacheCounts:
        """What became of contexts here since the beginning, restarts left out."""
        return self._counts_before.plus(self.memory.counts)

    def emitted(self, request: Request, now_s: float) -> int:
        """Tokens that a request in this instance has been sent up to `now_s`."""
        if request not in self.batch:
            return request.generated
        return request.generated + self.batch.gained_by(request, self.batch.step + self._decode_steps_in_jump(now_s))

    def emitted_total(self, now_s: float) -> int:
        """Tokens that all requests have been sent by this instance up to `now_s`; whole steps count."""
        step = self.batch.step + self._decode_steps_in_jump(now_s)
        return self._left_tokens + sum(self.batch.gained_by(request, step) for request in self.batch)

    def _decode_steps_in_jump(self, now_s: float) -> int:
        jump = self._jump
        return jump.boundary_at_or_after(now_s) - 1 if jump and jump.decodes else 0

    def time_split(self, now_s: float) -> TimeSplit:
        """Where the busy time up to `now_s` went."""
        return self.meter.split(self._jump, now_s)

    def phases(self, now_s: float) -> PhaseTotals:
        """Time and energy of its steps up to `now_s`, by phase."""
        return self.meter.phases(self._jump, now_s)

    def spent_j(self, request: Request) -> float:
        """GPU energy that has gone into the request up to the last step boundary booked."""
        running = self.meter.per_sequence_j - request.energy_mark_j if request in self.batch else 0.0
        return request.energy_j + running

    def unattributed_j(self) -> float:
        """Energy of booked steps that neither finished nor running requests are charged with: 0 but for rounding."""
        running_j = sum(self.meter.per_sequence_j - request.energy_mark_j for request in self.batch)
        return self.meter.step_energy_j - self.meter.attributed_j - running_j

    @property
    def _has_place(self) -> bool:
        taken = len(self.batch) + len(self.prefilling) + len(self._loading) + self.reserved + len(self.joining)
        return taken < self.spec.max_sequences

    def _promise(self, request: Request) -> int:
        """Room that a request is promised at its end; 0 where none is reserved for answers."""
        if not self.spec.reserve_answers:
            return 0
        return request.input_tokens + (0 if self.role == "prefill" else request.output_tokens)
