"""An engine instance with in-flight batching, exact to the step and without an event per token.

Between two changes of its batch the instance jumps (`twin.serving.jump`). Everything that happens to it from outside
(a request arrives, a clock or cap changes) takes effect at the next step boundary, as in a real engine loop.
The step-by-step reference in the tests gives the same timestamps to 1e-9 s.
"""

from __future__ import annotations

from collections.abc import Set
from heapq import heappop, heappush
from math import inf

from twin.errors import SimulationError
from twin.serving.instance import Instance
from twin.serving.jump import Jump
from twin.serving.kv_memory import KvMemory
from twin.serving.kv_tier import KvTier
from twin.serving.prompt_queue import PromptQueue
from twin.serving.request import Request
from twin.serving.worker_spec import WorkerSpec

#: What an instance reports to its owner: a prompt is done and its KV waits to be fetched, room is granted, all tokens are out.
PREFILLED, RESERVED, FINISHED = "prefilled", "reserved", "finished"


class Worker(Instance):
    """An engine instance. Knows no clock: `advance(to_s)` plays what falls due, `next_change_s` says when that is."""

    # --- verbs -------------------------------------------------------------------------------------------------------

    def submit(self, request: Request, now_s: float) -> None:
        """Queue a prompt. With `kv_elsewhere` set, the prompt's KV is on another instance and only room for it is asked:
        RESERVED in the outbox grants it, and `join` follows when the transfer is done."""
        if not request.kv_elsewhere:
            request.expected_s = self.expected_s(request)
        queue = self.queue
        request.queued_s = now_s
        queue.put(request)
        # No step of full chunks takes anyone in; but tenants that begin to wait are ranked at the next boundary.
        matters = request.kv_elsewhere or queue.fair is not None or not (self._jump and self._jump.full_chunks)
        if (matters and queue.may_be_next(request)) or queue.ends_wait:
            self._interrupt(now_s)

    def join(self, request: Request, now_s: float) -> None:
        """The KV of a reserved request has arrived: it decodes from the next step boundary on."""
        self.reserved -= 1
        self.joining.append(request)
        self._interrupt(now_s)

    def release(self, request: Request, now_s: float) -> None:
        """The KV of a prefilled request has been copied away: its room becomes evictable cache."""
        self.exported -= 1
        self.memory.leave(request, request.exported_tokens)
        if self.queue.waiting:
            self._interrupt(now_s)

    def cancel(self, request: Request, now_s: float) -> None:
        """The KV of a reserved request will not come: its room is free again."""
        self.reserved -= 1
        self.queue.arrived(request)
        request.pin = None  # of the instance that had it
        self.memory.forgo(request)
        self.memory.leave(request, request.context_tokens)
        self._interrupt(now_s)

    def drop(self, gone: Set[Request], now_s: float) -> None:
        """Requests whose KV is elsewhere, which wait here for room, have lost it."""
        self.queue.drop(gone)
        self._interrupt(now_s)

    def take_back(self) -> list[Request]:
        """Give up the requests that hold nothing here: prompts not begun, and prompts from elsewhere that wait for room."""
        return self.queue.take_back(more=bool(self.prefilling or self._loading))

    def set_power(
        self, now_s: float, *, clock_lock: float | None = None, cap_w: float | None = None, thermal_limit: float | None = None
    ) -> None:
        """Change the clock lock (relative), the cap per GPU (W) or the die's limit (relative) from the next boundary on."""
        self.stepper.set_power(clock_lock, cap_w, thermal_limit)
        if self._jump is not None:
            self._interrupt(now_s)

    def advance(self, to_s: float) -> None:
        """Play every step boundary up to and including `to_s`."""
        while self.next_change_s <= to_s:
            self._boundary(self.next_change_s)

    def become(self, spec: WorkerSpec, lower: KvTier | None, now_s: float) -> None:
        """Serve another way from now on, with `lower` below its memory, as an engine started anew does on the same GPUs: what was
        kept for reuse is gone. Raises SimulationError while requests are here."""
        if not self.is_empty or spec.gpus != self.spec.gpus:
            raise SimulationError(f"{self.name} can't be restarted at {now_s:g} s: it must be empty, and stay on its GPUs")
        self.spec, self.role = spec, spec.role
        self.largest_batch = 0
        self._empty(lower)
        self.stepper = self.stepper.of(spec)
        self._measure()

    def fail(self, now_s: float) -> list[Request]:
        """Lose everything at once: the requests that it held, with the tokens that whole steps have made. What is due by now must
        have been played. The step under way breaks off: its energy is shared as that of any step, and nothing comes of it.

        All of them have lost their KV but those that waited here for room, whose KV is elsewhere. KV that others wait to fetch
        and room that was promised are gone too. It stays idle and empty until it gets work again.
        """
        jump = self._jump
        if jump is None:
            self.meter.book_idle(now_s)
            self.meter.idle_since_s = now_s
        else:
            self._break_off(jump, now_s)
        lost = self.held()
        waiting = {request for request in self.queue.waiting if request.kv_elsewhere and not request.swapped_tokens}
        for request in list(self.batch):
            self._stop_decoding(request)
        for request in self.prefilling:
            if request.recompute_frac:
                self.meter.recomputed_j += request.recompute_frac * (request.energy_j - request.energy_mark_j)
        for request in lost:
            if request not in waiting:
                request.lose_kv()
        self.prefilling.clear()
        self.joining, self._loading = [], []
        self.reserved = self.exported = 0
        self.next_change_s = inf
        lower = self.memory.lower
        self._empty(None if lower is None else lower.anew())
        return lost

    def _break_off(self, jump: Jump, now_s: float) -> None:
        """Book the whole steps of the jump under way, and the part of the one that breaks off."""
        done, split = self.meter.progress(jump, now_s), self.meter.split(jump, now_s)
        steps = jump.boundary_at_or_after(now_s) - 1
        if steps:
            jump.cut(steps)
            self._close(jump, jump.end_s)
        self._jump = None
        share_j = self.meter.break_off(jump, done, split, now_s)
        for request, tokens in jump.pieces:
            request.energy_j += share_j * tokens
            self.meter.attributed_j += share_j * tokens

    def _empty(self, lower: KvTier | None) -> None:
        """An empty queue and memory, with `lower` below."""
        self._counts_before = self.cache_counts
        self.queue = PromptQueue(self.spec, self.batch)
        self.memory = KvMemory(self.spec.kv_capacity_tokens, self.spec.block_tokens, lower)

    def reprice(self, spec: WorkerSpec, now_s: float) -> None:
        """Step at other costs from the next boundary on; nothing else of `spec` has changed."""
        self.spec = spec
        self.stepper = self.stepper.of(spec)
        self._measure()
        if self._jump is not None:
            self._interrupt(now_s)

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
                self.queue.arrived(request)
                self._start_decoding(request)
            self.joining = []
        while self._loading and self._loading[0][0] <= now_s:
            self._loaded(heappop(self._loading)[2])
        if len(self.batch) * self._drafted > self.memory.room_tokens:
            self._preempt(now_s)
        self._open(now_s)

    def _close(self, jump: Jump, now_s: float) -> None:
        """Book the steps of a finished jump and what ended with them."""
        steps = jump.steps
        share_j = self.meter.book(jump, now_s)
        if self.on_jump is not None:
            self.on_jump(self, jump)
        self._jump = None
        if jump.decodes:
            self.memory.own_tokens += jump.gained * steps
            for request in self.batch.advance(steps, jump.gained):
                self._finish(request, now_s)
            self.memory.fit(now_s)
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
        self._left_tokens += 1
        self.meter.output_tokens += 1
        self._batch_version += 1
        if self.queue.fair is not None:
            self.queue.fair.generated(request)
        if request.recompute_frac:
            self.meter.recomputed_j += request.recompute_frac * (request.energy_j - request.energy_mark_j)
            request.recompute_frac = 0.0
        self.queue.computed(request, more=bool(self.prefilling or self.queue.waiting or self._loading))
        if request.path:
            self.memory.share(request)
        if request.first_token_s is None:
            request.first_token_s = now_s
        if request.generated >= request.output_tokens:
            self._end(request, now_s)
        elif self.role == "prefill":
            self.exported += 1
            self.memory.forgo(request)
            request.exported_tokens = request.context_tokens
            self.outbox.append((PREFILLED, request))
        else:
            self._start_decoding(request)

    def _start_decoding(self, request: Request) -> None:
        request.decode_worker = self.name
        left = request.output_tokens - request.generated
        steps = left
        if self._drafted > 1:
            draw = request.request_id + request.preemptions + request.failovers
            steps = self.spec.cost.speculation.steps(left, self.spec.seed, draw)
        request.energy_mark_j = self.meter.per_sequence_j
        self.batch.add(request, steps)
        if self.queue.fair is not None:
            self.queue.fair.started(request)
        self._batch_version += 1

    def _stop_decoding(self, request: Request) -> None:
        """Take a decoding sequence out of the batch with what it has gained so far."""
        gained, mean = self.batch.remove(request)
        if self.queue.fair is not None:
            self.queue.fair.stopped(request)
        if mean != gained:
            self.memory.own_tokens += gained - mean
            self.meter.output_tokens += gained - mean
        self._left_tokens += gained
        self._batch_version += 1
        spent_j = self.meter.per_sequence_j - request.energy_mark_j
        request.energy_j += spent_j
        self.meter.attributed_j += spent_j

    def _finish(self, request: Request, now_s: float) -> None:
        self._stop_decoding(request)
        self._end(request, now_s)

    def _end(self, request: Request, now_s: float) -> None:
        """The request has all its tokens: its KV goes, or stays for reuse where an agent will come again."""
        request.finish_s = now_s
        if request.keep_cache and self.role != "decode":
            self.memory.keep(request, request.whole_path())
        self.memory.forgo(request)
        self.memory.leave(request, request.context_tokens)
        if not self.batch and self._drafted > 1:
            self.memory.settle()
        self.outbox.append((FINISHED, request))

    def _preempt(self, now_s: float) -> None:
        """The next step would not fit: the sequences that joined last give up their KV, to the tier below or to be recomputed."""
        memory, lower = self.memory, self.memory.lower
        while self.batch and len(self.batch) * self._drafted > memory.room_tokens:
            request = self.batch.newest
            self._stop_decoding(request)
            request.preemptions += 1
            self.preemptions += 1
            memory.forgo(request)
            memory.leave(request, request.context_tokens)
            if self.spec.swap and lower is not None and lower.take(request.context_tokens, now_s):
                request.swapped_tokens = request.context_tokens
            else:
                request.kv_elsewhere = False
                request.expected_s = self.prompt_s(request.prompt_tokens, 0)
            self.queue.put_first(request)

    # --- admission ---------------------------------------------------------------------------------------------------

    def _admit(self, request: Request, now_s: float) -> bool:
        """Take room for the request at the head of the queue, reusing what is held of its prompt, if there is room."""
        if not self._has_place:
            return False
        memory, promise = self.memory, self._promise(request)
        growth = len(self.batch) * self._drafted
        if request.swapped_tokens or request.kv_elsewhere:
            # Of a prompt that comes from elsewhere, the KV of the last token is made here, in its first decode step.
            context = request.swapped_tokens or request.prompt_tokens - 1
            if not memory.reserve(request, context, growth, promise):
                return False
            self._take_in(request, context)
            if request.swapped_tokens:
                assert memory.lower is not None
                self._load(request, memory.lower.read(context, now_s))
            else:
                self.reserved += 1  # and counts as waiting until it has arrived
                self.outbox.append((RESERVED, request))
            memory.fit(now_s)
            return True
        context = request.prompt_tokens
        hit = memory.admit(request, context, growth, promise, now_s)
        if hit is None:
            return False
        ready_s = -inf
        found, deep = hit, 0
        if memory.lower is not None and request.path:
            found, deep, ready_s = memory.read_up(request, hit, self.prompt_s, now_s)
        self._take_in(request, context, found)
        if self.role != "decode":
            request.prefill_worker = self.name
        if request.admitted_s is None:
            request.admitted_s = now_s
            request.cached_tokens = found
            request.lower_tokens = found - hit
            request.storage_tokens = deep
            again = memory.usable(request, request.known_tokens) - found if request.path else 0
        else:
            again = (context - 1 if request.generated else request.computed_tokens) - found
        if again > 0:
            request.recomputed_tokens += again
            request.recompute_frac = again / (context - found)
            request.energy_mark_j = request.energy_j
        request.done_tokens = found
        request.todo_tokens = context - found
        if ready_s > now_s:
            self._load(request, ready_s)
        else:
            self.prefilling.append(request)
        return True

    def _take_in(self, request: Request, context: int, found: int = 0) -> None:
        """The head of the queue has its room. What was preempted here has been counted before."""
        self.queue.take()
        request.context_tokens = context
        if self.queue.fair is not None and not request.preemptions:
            self.queue.fair.computed(request, context - found)

    def _load(self, request: Request, ready_s: float) -> None:
        """KV of an admitted request comes up from the tier below until `ready_s`."""
        self._serial += 1
        heappush(self._loading, (ready_s, self._serial, request))

    def _loaded(self, request: Request) -> None:
        if request.swapped_tokens:
            assert self.memory.lower is not None
            self.memory.lower.give_back(request.swapped_tokens)
            request.swapped_tokens = 0
            self._start_decoding(request)
        else:
            self.prefilling.append(request)

    # --- the next batch ----------------------------------------------------------------------------------------------

    def _open(self, now_s: float) -> None:
        """Compose the next step's batch and jump until it changes."""
        spec, batch, queue = self.spec, self.batch, self.queue
        waiting = queue.waiting
        if queue.fair is not None:
            queue.fair.seat()
        while waiting and (waiting[0].kv_elsewhere or waiting[0].swapped_tokens) and self._admit(waiting[0], now_s):
            pass
        decodes = len(batch)
        wait_steps = 0
        pieces: list[tuple[Request, int]] = []
        chunk = steps = 0
        if self.prefilling or queue.prompt_is_next:
            if decodes and spec.prompt_wait_steps and not self.prefilling and (queue.waits or self._fits(waiting[0])):
                wait_steps = queue.wait_steps(batch.step)
            if not wait_steps:
                queue.end_wait()
                budget = spec.max_batched_tokens - (0 if spec.prefill_first else decodes * self._drafted)
                chunk, steps = self._take_prompts(pieces, budget, now_s)
            if pieces and spec.prefill_first:
                decodes = 0
        full_chunks = steps > 0 and self._budget_spent
        if decodes:
            until_end = batch.next_end_step - batch.step
            room = self._steps_in_room(decodes)
            until_change = until_end if until_end < room else room
            if 0 < wait_steps < until_change:
                until_change = wait_steps
            if queue.fair is not None and self._has_place:
                until_change = int(min(until_change, queue.fair.steps_to_change()))
            steps = min(steps or 1, until_change) if pieces else until_change
        elif pieces:
            steps = steps or 1
        else:
            self.next_change_s = self._loading[0][0] if self._loading else inf
            self.meter.idle_since_s = now_s
            return
        if decodes > self.largest_batch:
            self.largest_batch = decodes
        version = (self._batch_version, pieces[0][0].request_id if pieces else -1, len(pieces), decodes * self._drafted + chunk)
        contexts, gained = (batch.context_tokens, batch.gained) if decodes else (0, 0)
        jump = self.stepper.jump(now_s, steps, decodes, gained, contexts, chunk, pieces, version)
        jump.full_chunks = full_chunks
        self._jump = jump
        if self._loading and jump.steps > 1 and self._loading[0][0] < jump.end_s:
            jump.cut(jump.boundary_at_or_after(self._loading[0][0]))
        self.next_change_s = jump.end_s

    def _take_prompts(self, pieces: list[tuple[Request, int]], budget: int, now_s: float) -> tuple[int, int]:
        """Fill `budget` tokens of a step with prompts in the order of the queue, admitting as many as it takes, into `pieces`.

        A prompt lives on one attention rank, so it gets at most its rank's share of the budget. Returns the tokens taken and
        for how many steps the same pieces can be taken again: 0 where they differ or one of them ends with the step.
        """
        queue = self.queue
        share = max(1, budget // self.spec.cost.dp)
        chunk = taken = 0
        steps = inf
        while budget > 0:
            if taken == len(self.prefilling) and not (queue.prompt_is_next and self._admit(queue.waiting[0], now_s)):
                break
            if taken == len(self.prefilling):
                continue  # admitted, and its prefix is on its way up
            request = self.prefilling[taken]
            piece = min(request.todo_tokens, budget, share)
            pieces.append((request, piece))
            steps = min(steps, request.todo_tokens // piece if piece == share else 0)
            chunk += piece
            budget -= piece
            taken += 1
        self._budget_spent = budget <= 0
        # More pieces than attention ranks: which rank is the latest may change from step to step.
        same = steps > 1 and (self.spec.cost.dp == 1 or taken <= self.spec.cost.dp)
        return chunk, int(steps) if same and pieces else 0

    def _steps_in_room(self, decodes: int) -> int:
        """Steps that the memory left suffices for, each sequence with its drafts."""
        room = self.memory.room_tokens
        if self._drafted == 1:
            return int(room) // decodes
        return max(1, int((room - decodes * self._drafted) / self.batch.gained) + 1)

    def _fits(self, request: Request) -> bool:
        growth = len(self.batch) * self._drafted
        return self._has_place and self.memory.fits(request, request.prompt_tokens, growth, self._promise(request))
