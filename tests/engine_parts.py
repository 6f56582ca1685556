"""Parts for tests of the engine: an instance whose times are round numbers, a fabric of constant speed, tables kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twin.engine.clock import Clock
from twin.engine.dispatcher import Dispatcher
from twin.engine.station import Station
from twin.fabric.network import Handoff
from twin.performance import GpuPower, StepCost
from twin.recording import TABLES
from twin.serving import Request, Router, Worker, WorkerSpec, least_loaded

IDEAL = StepCost(
    gemm_compute_s_per_token=0.0,
    expert_compute_s_per_token=0.0,
    dense_memory_s=1e-3,
    experts_memory_s=0.0,
    expert_miss=0.0,
    experts_per_token=0,
    network_s=0.0,
    network_s_per_token=0.0,
    step_overhead_s=0.0,
    sequence_overhead_s=0.0,
    prompt_overhead_s=0.0,
    decode_attention_compute_s=0.0,
    prefill_attention_compute_s=0.0,
    attention_memory_s=0.0,
    request_overhead_s=0.0,
)

#: A step is 10 ms for the weights, or 1 ms a token where that is longer: 1000 new prompt tokens take a second.
COST = replace(IDEAL, gemm_compute_s_per_token=1e-3, dense_memory_s=0.010, ideal=IDEAL)
POWER = GpuPower(idle_w=100.0, compute_w=400.0, memory_w=200.0, exponent=3.0, tdp_w=1000.0, clock_min_frac=0.2)


def worker(name: str = "w-0", role: str = "aggregated", **changes: Any) -> Worker:
    """An instance of two GPUs with room for 100,000 KV tokens, 64 sequences and 8,192 tokens a step."""
    spec = WorkerSpec(name, role, COST, POWER, 2, 100_000, 64, 8_192)  # type: ignore[arg-type]
    return Worker(replace(spec, **changes))


def request(number: int, input_tokens: int = 1000, output_tokens: int = 11, **changes: Any) -> Request:
    """By default a second of prompt and ten decode steps of 10 ms."""
    return Request(number, changes.pop("arrival_s", 0.0), input_tokens, output_tokens, **changes)


class Wire:
    """A fabric on which every transfer takes `seconds`."""

    def __init__(self, seconds: float = 0.5):
        self.seconds = seconds
        self.transfers: list[tuple[float, int, int, float]] = []

    def handoff(self, now_s: float, source: int, target: int, size_bytes: float) -> Handoff:
        self.transfers.append((now_s, source, target, size_bytes))
        return Handoff(now_s, now_s + self.seconds)


class Site:
    """A dispatcher over stations on a clock, with what has finished."""

    def __init__(self, *workers: Worker, router: Router = least_loaded, wire: Wire | None = None, kv_bytes: float = 1_000.0):
        self.clock = Clock()
        self.wire = wire or Wire()
        self.door = Dispatcher(self.clock, self.wire, router, kv_bytes)  # type: ignore[arg-type]
        self.finished: list[Request] = []
        self.door.on_finished = self.finished.append
        for place, each in enumerate(workers):
            self.door.add(Station(each, each.spec.role, ((0, each.spec.gpus),), place, self.clock, self.door.take_output))

    def at(self, time_s: float, verb: Callable[..., Any], *arguments: Any) -> None:
        """Call `verb(*arguments)` at `time_s`."""
        self.clock.at(time_s, lambda _: verb(*arguments))

    def run(self, until_s: float = 1e4) -> list[Request]:
        """Play; what has finished by then, in order."""
        self.clock.run(until_s)
        return self.finished


class Table:
    """Rows as mappings, instead of a file."""

    def __init__(self, name: str):
        self._names = [column.name for column in TABLES[name]]
        self.rows: list[dict[str, Any]] = []

    def append(self, row: tuple[Any, ...]) -> None:
        self.rows.append(dict(zip(self._names, row, strict=True)))
