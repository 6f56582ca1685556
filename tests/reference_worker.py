"""The slow, obvious engine instance: one step at a time, every sum taken anew. What `twin.serving.Worker` must agree with."""

from __future__ import annotations

from dataclasses import dataclass, field

from twin.serving import WorkerSpec


@dataclass
class Sequence:
    key: int
    arrival_s: float
    input_tokens: int
    output_tokens: int
    tier: str = ""
    tenant: str = ""
    preempted: bool = False
    generated: int = 0
    kv: float = 0
    todo: int = 0
    first_token_s: float | None = None
    finish_s: float | None = None
    preemptions: int = 0
    energy_j: float = 0.0
    steps: int = 0
    step: int = 0

    def whole(self) -> int:
        """Whole tokens gained since it began to decode."""
        return (self.output_tokens - self.generated) * self.step // self.steps


@dataclass
class ReferenceWorker:
    """Walks steps. `commands` are (time, clock lock or None, cap or None); all arrivals are known beforehand."""

    spec: WorkerSpec
    arrivals: list[Sequence]
    commands: list[tuple[float, float | None, float | None]] = field(default_factory=list)
    energy_j: float = 0.0
    busy_s: float = 0.0
    steps: int = 0
    #: Virtual token counter of each tenant, when each began to wait, and the last one that ceased to.
    counters: dict[str, float] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    last: str | None = None
    comings: int = 0

    def _come(self, waiting: list[Sequence], new: Sequence) -> None:
        """A sequence arrives; a tenant that did not wait is lifted."""
        tenants = {s.tenant for s in waiting if not s.preempted}
        if new.tenant not in tenants:
            floor = min(self.counters[t] for t in tenants) if tenants else self.counters.get(self.last, 0.0)
            self.counters[new.tenant] = max(self.counters.get(new.tenant, 0.0), floor)
            self.comings += 1
            self.since[new.tenant] = self.comings
        waiting.append(new)

    def _lead(self, waiting: list[Sequence]) -> None:
        """Bring the one that is next to the front; preempted ones stand there already."""
        queue = self.spec.queue
        if not waiting or waiting[0].preempted or queue.order == "fifo":
            return
        if queue.order == "priority":
            best = min(waiting, key=lambda s: (s.arrival_s + queue.ageing_s * queue.tiers.index(s.tier), s.arrival_s, s.key))
        else:
            tenant = min((s.tenant for s in waiting), key=lambda t: (self.counters[t], self.since[t]))
            best = next(s for s in waiting if s.tenant == tenant)
        waiting.remove(best)
        waiting.insert(0, best)

    def _serve(self, sequence: Sequence, weighted_tokens: float) -> None:
        weight = dict(self.spec.queue.tenant_weights).get(sequence.tenant, 1.0)
        self.counters[sequence.tenant] = self.counters.get(sequence.tenant, 0.0) + weighted_tokens / weight

    def run(self) -> None:
        spec = self.spec
        todo = sorted(self.arrivals, key=lambda s: (s.arrival_s, s.key))
        commands = sorted(self.commands, key=lambda c: c[0])
        waiting: list[Sequence] = []
        prefilling: list[Sequence] = []
        running: list[Sequence] = []
        lock, cap, clock = 1.0, spec.power.tdp_w, 1.0
        settled: object = None
        membership = 0
        waited_from: int | None = None
        decode_steps = 0
        now = 0.0
        while todo or waiting or prefilling or running:
            if not (waiting or prefilling or running) and todo[0].arrival_s > now:
                upcoming = todo[0].arrival_s
                self.energy_j += spec.gpus * spec.power.idle_w * (upcoming - now)
                now = upcoming
            while commands and commands[0][0] <= now:
                _, new_lock, new_cap = commands.pop(0)
                lock = new_lock if new_lock is not None else lock
                cap = min(new_cap, spec.power.tdp_w) if new_cap is not None else cap
                settled = None
            while todo and todo[0].arrival_s <= now:
                self._come(waiting, todo.pop(0))
            pinned = sum(s.kv for s in running) + sum(s.kv for s in prefilling)
            drafted = 1 + spec.cost.speculation.draft_tokens
            while running and pinned + len(running) * drafted > spec.kv_capacity_tokens + 1e-6:
                victim = running.pop()
                pinned -= victim.kv
                victim.kv = 0
                victim.generated += victim.whole()
                victim.preemptions += 1
                victim.preempted = True
                waiting.insert(0, victim)
                membership += 1
            pieces: list[tuple[Sequence, int]] = []
            budget = spec.max_batched_tokens - (0 if spec.prefill_first else len(running) * drafted)
            share = max(1, budget // spec.cost.dp)
            hold = False
            self._lead(waiting)
            fits = waiting and len(running) + len(prefilling) < spec.max_sequences
            fits = fits and (
                pinned + waiting[0].input_tokens + waiting[0].generated + len(running) * drafted
                <= spec.kv_capacity_tokens - spec.kv_capacity_tokens // 100
            )
            if running and waiting and (fits or waited_from is not None) and not prefilling and spec.prompt_wait_steps:
                waited_from = decode_steps if waited_from is None else waited_from
                enough = spec.cost.dp > 1 and len(waiting) >= spec.cost.dp
                asked = sum(s.input_tokens + s.generated for s in waiting)
                if spec.prompt_wait_tokens:
                    enough = spec.prompt_wait_tokens <= asked
                hold = decode_steps - waited_from < spec.prompt_wait_steps and not enough
            if not hold and (waiting or prefilling):
                waited_from = None
            for index in range(0 if hold else 10**9):
                if budget <= 0:
                    break
                if index == len(prefilling):
                    if not waiting:
                        break
                    self._lead(waiting)
                    head = waiting[0]
                    prompt = head.input_tokens + head.generated
                    if len(running) + len(prefilling) >= spec.max_sequences:
                        break
                    if pinned + prompt + len(running) * drafted > spec.kv_capacity_tokens - spec.kv_capacity_tokens // 100:
                        break
                    waiting.pop(0)
                    if not head.preempted:
                        self._serve(head, spec.queue.input_weight * prompt)
                        if all(s.tenant != head.tenant or s.preempted for s in waiting):
                            self.last = head.tenant
                    head.preempted = False
                    head.kv = prompt
                    head.todo = prompt
                    pinned += prompt
                    prefilling.append(head)
                take = min(budget, share, prefilling[index].todo)
                pieces.append((prefilling[index], take))
                budget -= take
            decoding = [] if (pieces and spec.prefill_first) else list(running)
            assert pieces or decoding, "the reference is stuck"
            tokens = len(decoding) * drafted + sum(n for _, n in pieces)
            gemm_c, gemm_m, network = spec.cost.token_terms(tokens)
            draft = spec.cost.draft_s(len(decoding))
            overhead = network + spec.cost.host_s(len(decoding), bool(pieces)) + draft
            context = sum(s.kv for s in decoding)
            pairs = sum(sum(s.kv - s.todo + i + 1 for i in range(n)) for s, n in pieces)
            read = context + sum(s.kv - s.todo for s, _ in pieces)
            att_c = spec.cost.decode_attention_compute_s * context * drafted + spec.cost.prefill_attention_compute_s * pairs
            att_m = spec.cost.attention_memory_s * read
            busy_c, busy_m = gemm_c + att_c, gemm_m + att_m + draft
            if spec.cost.dp > 1 and pieces:
                # Ranks wait for the longest prompt piece: everything of it counts once for each rank.
                own = [(sum(s.kv - s.todo + i + 1 for i in range(n)), n, s.kv - s.todo) for s, n in pieces]
                worst = max(own, key=lambda o: o[0])
                gemm_c += spec.cost.rank_gemm_compute_s_per_token * max(
                    0, spec.cost.dp * max(o[1] for o in own) - sum(o[1] for o in own)
                )
                att_c += spec.cost.prefill_attention_compute_s * max(0, spec.cost.dp * worst[0] - pairs)
                att_m += spec.cost.attention_memory_s * max(0, spec.cost.dp * worst[2] - sum(o[2] for o in own))
            if 0 < len(decoding) < spec.cost.pp:
                # Each sequence is in one part of the pipe, so stages stand still and attention is that of fewer GPUs.
                idle = spec.cost.pp / len(decoding) - 1
                att_c += idle * spec.cost.decode_attention_compute_s * context * drafted
                att_m += idle * spec.cost.attention_memory_s * context
            batch = (membership, pieces[0][0].key if pieces else -1, len(pieces), tokens)
            power = spec.power

            def mean_power_w(f: float) -> float:
                step = max(gemm_c / f, gemm_m) + max(att_c / f, att_m) + overhead
                return power.step_energy_j(step, busy_c, busy_m, f) / step

            if settled != batch:
                settled = batch
                clock = lock
                if mean_power_w(clock) > cap:
                    low, high = power.clock_min_frac, clock
                    if mean_power_w(low) > cap:
                        high = low
                    for _ in range(40):
                        middle = (low + high) / 2
                        low, high = (middle, high) if mean_power_w(middle) <= cap else (low, middle)
                    clock = low
            step_s = max(gemm_c / clock, gemm_m) + max(att_c / clock, att_m) + overhead
            energy = spec.gpus * mean_power_w(clock) * step_s
            self.energy_j += energy
            self.busy_s += step_s
            self.steps += 1
            now += step_s
            decode_steps += bool(decoding)
            for s in decoding:
                s.kv += (s.output_tokens - s.generated) / s.steps
                s.step += 1
                self._serve(s, spec.queue.output_weight * (s.output_tokens - s.generated) / s.steps)
                s.energy_j += energy / tokens * drafted
                if s.step == s.steps:
                    s.generated = s.output_tokens
                    s.finish_s = now
                    running.remove(s)
                    membership += 1
            for s, n in pieces:
                s.todo -= n
                s.energy_j += energy * n / tokens
                if s.todo == 0:
                    prefilling.remove(s)
                    membership += 1
                    s.generated += 1
                    self._serve(s, spec.queue.output_weight)
                    s.first_token_s = s.first_token_s if s.first_token_s is not None else now
                    if s.generated >= s.output_tokens:
                        s.finish_s = now
                    else:
                        left = s.output_tokens - s.generated
                        s.steps = spec.cost.speculation.steps(left, spec.seed, s.key + s.preemptions)
                        s.step = 0
                        running.append(s)
        self.now_s = now
