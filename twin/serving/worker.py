"""An engine instance with in-flight batching, exact to the step and without an event per token.

Between two changes of its batch the instance jumps (`twin.serving.jump`). Everything that happens to it from outside
(a request arrives, a clock or cap changes) takes effect at the next step boundary, as in a real engine loop.
The step-by-step reference in the tests gives the same timestamps to 1e-9 s.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from math import inf

from twin.serving.jump import Jump
from twin.serving.meter import Meter
from twin.serving.prefix_cache import PrefixCache
from twin.serving.request import Request
from twin.serving.stepper import Stepper
from twin.serving.worker_spec import Progress, WorkerSpec

#: What an instance reports to its owner: a prompt is done and its KV waits to be fetched, room is granted, all tokens are out.
PREFILLED, RESERVED, FINISHED = "prefilled", "reserved", "finished"

#: What a router takes for the length of an answer, which it cannot know.
USUAL_ANSWER_TOKENS = 256


class Worker:
    """An engine instance. Knows no clock: `advance(to_s)` plays what falls due, `next_change_s` says when that is.

    `outbox` collects what its owner must act on, in order of time.
    """

    def __init__(self, spec: WorkerSpec):
        self.spec = spec
        self.name = spec.name
        self.outbox: list[tuple[str, Request]] = []
        self.next_change_s = inf
        self.cache = PrefixCache()
        self.waiting: deque[Request] = deque()
        self.prefilling: deque[Request] = deque()
        self.joining: list[Request] = []
        self.running: dict[Request, None] = {}
        self.backlog_s = 0.0
        self.waiting_context_tokens = 0
        self.pinned_tokens = 0
        self.reserved = 0
        self.preemptions = 0
        self.stepper = Stepper(spec)
        self.meter = Meter(spec.gpus * spec.power.idle_w)
        most = spec.max_batched_tokens
        self._token_s = max(spec.cost.token_terms(most)[:2]) / most
        self._watermark_tokens = spec.kv_capacity_tokens // 100
        self._jump: Jump | None = None
        self._ends: list[tuple[int, int, Request]] = []
        self._decode_step = 0
        self._context_sum = 0
        self._batch_version = 0
        self._serial = 0
        self._budget_spent = False
        self._exported: dict[Request, int] = {}

    # --- verbs -------------------------------------------------------------------------------------------------------

    def can_hold(self, request: Request) -> bool:
        """Whether the instance's memory can hold the request at its longest; one that can't must be refused, not queued."""
        longest = request.input_tokens + (0 if self.spec.role == "prefill" else request.output_tokens)
        return longest <= self.spec.kv_capacity_tokens - self._watermark_tokens

    def expected_s(self, request: Request) -> float:
        """About how long the request's prompt takes here, less what the prefix cache holds for it now."""
        hit = 0
        if request.shared_prefix_tokens:
            hit = min(self.cache.peek(request.cache_key), request.shared_prefix_tokens, request.prompt_tokens - 1)
        return self._prefill_s(request.prompt_tokens - hit, hit)

    def _prefill_s(self, tokens: int, prefix: int) -> float:
        return tokens * (self._token_s + self.spec.cost.prefill_attention_compute_s * (prefix + 0.5 * tokens))

    @property
    def work_s(self) -> float:
        """Load as a router sees it: seconds of prompts still to compute, and of answers of usual length for what is decoded."""
        contexts = self._context_sum + (self.waiting_context_tokens if self.spec.role == "decode" else 0)
        return self.backlog_s + USUAL_ANSWER_TOKENS * self.spec.cost.attention_memory_s * contexts

    def submit(self, request: Request, now_s: float) -> None:
        """Queue a prompt. With `kv_elsewhere` set, the prompt's KV is on another instance and only room for it is asked:
        RESERVED in the outbox grants it, and `join` follows when the transfer is done."""
        if not request.kv_elsewhere:
            request.expected_s = self.expected_s(request)
            self.backlog_s += request.expected_s
        self.waiting_context_tokens += request.prompt_tokens
        self.waiting.append(request)
        if len(self.waiting) == 1 and (request.kv_elsewhere or not (self._jump and self._jump.full_chunks)):
            self._interrupt(now_s)

    def join(self, request: Request, now_s: float) -> None:
        """The KV of a reserved request has arrived: it decodes from the next step boundary on."""
        self.reserved -= 1
        self.joining.append(request)
        self._interrupt(now_s)

    def release(self, request: Request, now_s: float) -> None:
        """The KV of a prefilled request has been copied away: its room becomes evictable cache."""
        self._unpin(request, self._exported.pop(request))
        if self.waiting:
            self._interrupt(now_s)

    def warm(self, key: int, tokens: int) -> None:
        """Put a context into the prefix cache that was made before the run began."""
        self.cache.put(key, tokens)
        self.cache.shrink_to(self.spec.kv_capacity_tokens - self.pinned_tokens)

    def set_power(
        self,
        now_s: float,
        *,
        clock_lock: float | None = None,
        cap_w: float | None = None,
        thermal_limit: float | None = None,
    ) -> None:
        """Change the clock lock (relative), the cap per GPU (W) or the die's limit (relative) from the next boundary on."""
        self.stepper.set_power(clock_lock, cap_w, thermal_limit)
        if self._jump is not None:
            self._interrupt(now_s)

    def advance(self, to_s: float) -> None:
        """Play every step boundary up to and including `to_s`."""
        while self.next_change_s <= to_s:
            self._boundary(self.next_change_s)

    def progress(self, now_s: float) -> Progress:
        """Totals up to `now_s`, which is not past the next change; within a step they accrue evenly."""
        return self.meter.progress(self._jump, now_s)

    def step_terms(self) -> tuple[float, ...] | None:
        """The step in progress, seconds at clock 1: gemm compute, gemm memory, attention compute, attention memory and overhead,
        which set its time; compute and memory of the mean GPU, which set its energy.

        None while idle. Control estimates from it what another clock would do.
        """
        jump = self._jump
        if jump is None:
            return None
        _, gemm_memory_s, overhead_s, _ = self.stepper.terms(jump.tokens)
        return (
            jump.gemm_compute_s,
            gemm_memory_s,
            jump.attention_compute_s,
            jump.attention_memory_s,
            overhead_s,
            jump.compute_s,
            jump.memory_s,
        )

    def held(self) -> list[Request]:
        """Every request in its queue and its batch."""
        return [*self.running, *self.joining, *self.prefilling, *self.waiting]

    def emitted(self, request: Request, now_s: float) -> int:
        """Tokens that a request in this instance has been sent up to `now_s`."""
        if request not in self.running:
            return request.generated
        return request.output_tokens - (request.end_step - self._decode_step) + self._decode_steps_in_jump(now_s)

    def emitted_total(self, now_s: float) -> int:
        """Tokens that all requests have been sent by this instance up to `now_s`; whole steps count."""
        in_jump = self._jump.decodes * self._decode_steps_in_jump(now_s) if self._jump else 0
        return self.meter.output_tokens + in_jump

    def _decode_steps_in_jump(self, now_s: float) -> int:
        jump = self._jump
        return jump.boundary_at_or_after(now_s) - 1 if jump and jump.decodes else 0

    def spent_j(self, request: Request) -> float:
        """GPU energy that has gone into the request up to the last step boundary booked."""
        running = self.meter.per_token_j - request.energy_mark_j if request in self.running else 0.0
        return request.energy_j + running

    def unattributed_j(self) -> float:
        """Energy of booked steps that neither finished nor running requests are charged with: 0 but for rounding."""
        running_j = sum(self.meter.per_token_j - request.energy_mark_j for request in self.running)
        return self.meter.step_energy_j - self.meter.attributed_j - running_j

    # --- a step boundary ---------------------------------------------------------------------------------------------

    def _interrupt(self, now_s: float) -> None:
        jump = self._jump
        if jump is None:
            self.next_change_s = min(self.next_change_s, now_s)
        elif jump.steps > 1:
            jump.cut(jump.boundary_at_or_after(now_s))
            self.next_change_s = jump.end_s

    def _boundary(self, now_s: float) -> None:
        if self._jump is not None:
            self._close(self._jump, now_s)
        else:
            self.meter.book_idle(now_s)
        if self.joining:
            for request in self.joining:
                self.waiting_context_tokens -= request.prompt_tokens
                self._start_decoding(request)
            self.joining = []
        if self.running and self.pinned_tokens + len(self.running) > self.spec.kv_capacity_tokens:
            self._preempt()
        self._open(now_s)

    def _close(self, jump: Jump, now_s: float) -> None:
        """Book the steps of a finished jump and what ended with them."""
        steps = jump.steps
        share_j = self.meter.book(jump, now_s)
        self._jump = None
        if jump.decodes:
            grown = jump.decodes * steps
            self._decode_step += steps
            self._context_sum += grown
            self.pinned_tokens += grown
            ends = self._ends
            step = self._decode_step
            while ends and ends[0][0] <= step:
                request = heappop(ends)[2]
                if request.end_step == step and request in self.running:
                    self._finish(request, now_s)
        for request, tokens in jump.pieces:
            done = tokens * steps
            request.done_tokens += done
            request.todo_tokens -= done
            request.energy_j += share_j * tokens
            self.meter.attributed_j += share_j * tokens
            self.meter.prefill_tokens += done
            if request.todo_tokens == 0:
                self.prefilling.remove(request)
                self._prefilled(request, now_s)

    def _prefilled(self, request: Request, now_s: float) -> None:
        request.generated += 1
        self.meter.output_tokens += 1
        self._batch_version += 1
        # Sums of floats drift; an instance without prompts has no backlog.
        self.backlog_s = self.backlog_s - request.expected_s if self.prefilling or self.waiting else 0.0
        if request.first_token_s is None:
            request.first_token_s = now_s
        if request.generated >= request.output_tokens:
            request.finish_s = now_s
            self._unpin(request, request.context_tokens)
            self.outbox.append((FINISHED, request))
        elif self.spec.role == "prefill":
            self._exported[request] = request.context_tokens
            self.outbox.append((PREFILLED, request))
        else:
            self._start_decoding(request)

    def _start_decoding(self, request: Request) -> None:
        request.decode_worker = self.name
        request.end_step = self._decode_step + request.output_tokens - request.generated
        request.energy_mark_j = self.meter.per_token_j
        self.running[request] = None
        self._context_sum += request.context_tokens
        self._serial += 1
        self._batch_version += 1
        heappush(self._ends, (request.end_step, self._serial, request))

    def _stop_decoding(self, request: Request, done_steps: int) -> None:
        """Take a decoding sequence out of the batch; its context grew by a token in each of its `done_steps`."""
        del self.running[request]
        request.context_tokens += done_steps
        self._context_sum -= request.context_tokens
        self._batch_version += 1
        spent_j = self.meter.per_token_j - request.energy_mark_j
        request.energy_j += spent_j
        self.meter.attributed_j += spent_j

    def _finish(self, request: Request, now_s: float) -> None:
        self._stop_decoding(request, request.output_tokens - request.generated)
        request.generated = request.output_tokens
        request.finish_s = now_s
        self._unpin(request, request.context_tokens)
        self.outbox.append((FINISHED, request))

    def _unpin(self, request: Request, tokens: int) -> None:
        """Give a request's KV back; an agent that will come again leaves its context behind as evictable cache."""
        self.pinned_tokens -= tokens
        if request.keep_cache and self.spec.role != "decode":
            self.cache.put(request.cache_key, tokens)
            self.cache.shrink_to(self.spec.kv_capacity_tokens - self.pinned_tokens)

    def _preempt(self) -> None:
        """The next step would not fit: the sequences that joined last give up their KV and are recomputed later."""
        while self.running and self.pinned_tokens + len(self.running) > self.spec.kv_capacity_tokens:
            request = next(reversed(self.running))
            left = request.end_step - self._decode_step
            done = request.output_tokens - request.generated - left
            self._stop_decoding(request, done)
            request.generated += done
            request.end_step = -1
            request.preemptions += 1
            request.kv_elsewhere = False
            self.preemptions += 1
            self.pinned_tokens -= request.context_tokens
            request.expected_s = self._prefill_s(request.prompt_tokens, 0)
            self.backlog_s += request.expected_s
            self.waiting_context_tokens += request.prompt_tokens
            self.waiting.appendleft(request)

    def _admit(self, request: Request, now_s: float) -> bool:
        """Pin the KV of the request at the head of the queue, reusing what the prefix cache holds for it, if there is room."""
        spec = self.spec
        if len(self.running) + len(self.prefilling) + self.reserved + len(self.joining) >= spec.max_sequences:
            return False
        # The KV of the last token of a prompt that comes from elsewhere is made here, in its first decode step.
        context = request.prompt_tokens - request.kv_elsewhere
        if self.pinned_tokens + context + len(self.running) > spec.kv_capacity_tokens - self._watermark_tokens:
            return False
        self.waiting.popleft()
        self.pinned_tokens += context
        request.context_tokens = context
        if request.kv_elsewhere:
            self.reserved += 1  # and counts as waiting until it has arrived
            self.outbox.append((RESERVED, request))
        else:
            self.waiting_context_tokens -= request.prompt_tokens
            hit = 0
            if request.shared_prefix_tokens and request.cache_key >= 0:
                hit = min(self.cache.take(request.cache_key), request.shared_prefix_tokens, context - 1)
            if request.admitted_s is None:
                request.admitted_s = now_s
                request.cached_tokens = hit
                request.prefill_worker = self.name
            request.done_tokens = hit
            request.todo_tokens = context - hit
            self.prefilling.append(request)
        self.cache.shrink_to(spec.kv_capacity_tokens - self.pinned_tokens)
        return True

    def _open(self, now_s: float) -> None:
        """Compose the next step's batch and jump until it changes."""
        spec = self.spec
        decodes = len(self.running)
        while self.waiting and self.waiting[0].kv_elsewhere and self._admit(self.waiting[0], now_s):
            pass
        pieces: list[tuple[Request, int]] = []
        chunk = steps = 0
        if self.prefilling or (self.waiting and not self.waiting[0].kv_elsewhere):
            budget = spec.max_batched_tokens - (0 if spec.prefill_first else decodes)
            chunk, steps = self._take_prompts(pieces, budget, now_s)
            if pieces and spec.prefill_first:
                decodes = 0
        full_chunks = steps > 0 and self._budget_spent
        if decodes:
            until_end = self._next_end_step() - self._decode_step
            room = (spec.kv_capacity_tokens - self.pinned_tokens) // decodes
            until_change = until_end if until_end < room else room
            steps = min(steps or 1, until_change) if pieces else until_change
        elif pieces:
            steps = steps or 1
        else:
            self.next_change_s = inf
            self.meter.idle_since_s = now_s
            return
        batch = (self._batch_version, pieces[0][0].request_id if pieces else -1, len(pieces), decodes + chunk)
        contexts = self._context_sum if decodes else 0
        jump = self.stepper.jump(now_s, steps, decodes, contexts, chunk, pieces, batch)
        jump.full_chunks = full_chunks
        self._jump = jump
        self.next_change_s = jump.end_s

    def _take_prompts(self, pieces: list[tuple[Request, int]], budget: int, now_s: float) -> tuple[int, int]:
        """Fill `budget` tokens of a step with prompts in order of arrival, admitting as many as it takes, into `pieces`.

        A prompt lives on one attention rank, so it gets at most its rank's share of the budget. Returns the tokens taken and
        for how many steps the same pieces can be taken again: 0 where they differ or one of them ends with the step.
        """
        share = max(1, budget // self.spec.cost.dp)
        chunk = taken = 0
        steps = inf
        while budget > 0:
            if taken == len(self.prefilling) and not (
                self.waiting and not self.waiting[0].kv_elsewhere and self._admit(self.waiting[0], now_s)
            ):
                break
            request = self.prefilling[taken]
            piece = min(request.todo_tokens, budget, share)
            pieces.append((request, piece))
            steps = min(steps, request.todo_tokens // piece if piece == share else 0)
            chunk += piece
            budget -= piece
            taken += 1
        self._budget_spent = budget <= 0
        return chunk, int(steps) if steps > 1 and pieces else 0

    def _next_end_step(self) -> int:
        ends = self._ends
        while ends[0][2].end_step != ends[0][0] or ends[0][2] not in self.running:
            heappop(ends)
        return ends[0][0]
