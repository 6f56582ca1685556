"""A configuration played at every number of sequences, from the fewest up: the points of one curve."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from twin.catalog import Catalog
from twin.engine.site_builder import worker_spec
from twin.engine.steady_site import SteadyPower, SteadySite
from twin.errors import InputError, SimulationError
from twin.fabric import Endpoint, Network, network_spec, site_plan
from twin.pareto.configuration import Configuration, System
from twin.pareto.lengths import RequestSizes
from twin.pareto.point import Row, row_of
from twin.pareto.steady_replay import Measured, measure
from twin.performance import FitRange, ModelShape
from twin.schema import catalog_with
from twin.schema.instances import instance_of
from twin.schema.workload import Objectives
from twin.serving import WorkerSpec

#: A curve ends where the next number of sequences gives less than this more tokens: whatever holds it back, they only wait.
_LEAST_GAIN_FRAC = 0.01


@dataclass(frozen=True, slots=True)
class CurveFailed:
    """A curve that a bug ended: the traceback."""

    text: str


@dataclass(frozen=True, slots=True)
class CurveTask:
    """A configuration of a system to be played, in whatever process."""

    system: System
    configuration: Configuration
    sizes: RequestSizes

    def __call__(self) -> list[Row] | CurveFailed:
        """Its rows, one for each number of sequences."""
        try:
            return list(Curve(self.system, self.configuration, self.sizes, catalog_with(self.system.scenario.catalog)).rows())
        except Exception:
            return CurveFailed(traceback.format_exc())


class Curve:
    """Plays a configuration of a system."""

    def __init__(self, system: System, configuration: Configuration, sizes: RequestSizes, catalog: Catalog):
        self._system, self._configuration, self._sizes, self._catalog = system, configuration, sizes, catalog
        scenario = system.scenario
        self._objectives = scenario.tiers[0].objectives
        self._meter = SteadySite(system.site, catalog, scenario.horizon)
        self._transfer_s = _transfer_times(system, configuration, catalog)

    def rows(self) -> Iterator[Row]:
        """A row for each number of sequences; from the first one on that cannot be improved by more, the rest is skipped."""
        stopped: str | None = None
        before = 0.0
        for sequences in self._system.space.sequences:
            row = row_of(self._system.name, self._configuration, sequences)
            if stopped is not None:
                yield row | {"status": "skipped", "reason": stopped}
                continue
            if sequences < self._configuration.layout.dp:
                yield row | {"status": "skipped", "reason": "fewer sequences than attention ranks"}
                continue
            try:
                entry, decoders = self._specs(sequences)
                measured = measure(entry, decoders, self._sizes, row["concurrency"], self._transfer_s)
                power = self._power(measured)
                outside = "; ".join(self._outside(sequences))
            except (InputError, SimulationError) as error:
                yield row | {"status": "refused", "reason": str(error)}
                continue
            row |= self._figures(measured, power) | {"outside": outside}
            missed = list(self._missed(measured, power))
            yield row | {"status": "misses" if missed else "counts", "reason": "; ".join(missed) or None}
            stopped = self._why_stop(measured, before)
            before = measured.output_tokens_per_s

    def _specs(self, sequences: int) -> tuple[list[WorkerSpec], list[WorkerSpec]]:
        """The instances that take prompts, and those behind them. Raises InputError where they cannot run or hold so many."""
        count = self._configuration.counts
        if not count[0]:
            return self._instances("aggregated", count[1], sequences), []
        return self._instances("prefill", count[0], sequences), self._instances("decode", count[1], sequences)

    def _instances(self, role: str, count: int, sequences: int) -> list[WorkerSpec]:
        system = self._system
        pool = system.pool(self._configuration, role, sequences)
        reason = system.unfit(pool, self._catalog)
        if reason is not None:
            raise InputError(reason)
        specs = [worker_spec(f"{role}-{number}", system.scenario, pool, system.site, self._catalog) for number in range(count)]
        room = specs[0].kv_capacity_tokens
        needed = sequences * self._sizes.mean_context_tokens
        if role != "prefill" and needed > room:
            raise InputError(f"KV memory holds {room:,} tokens, {sequences:,} sequences have {needed:,.0f} in the mean")
        return specs

    def _power(self, measured: Measured) -> SteadyPower:
        share = self._configuration.prefill_gpus / self._configuration.gpus
        work = [(1.0 - share, measured.decode_w)]
        if measured.prefill_w is not None:
            work.append((share, measured.prefill_w))
        return self._meter.power(work)

    def _figures(self, measured: Measured, power: SteadyPower) -> Row:
        gpus = self._configuration.gpus
        share = self._configuration.prefill_gpus / gpus
        per_gpu = measured.output_tokens_per_s / gpus
        return {
            "tokens_per_s_per_user": 1.0 / measured.tpot_mean_s,
            "tokens_per_s_per_gpu": per_gpu,
            "tokens_per_s_per_mw": per_gpu / power.utility_w * 1e6,
            "ttft_mean_s": measured.ttft_mean_s,
            "ttft_p99_s": measured.ttft_p99_s,
            "tpot_p99_s": measured.tpot_p99_s,
            "completion_p99_s": measured.completion_p99_s,
            "gpu_w": (1.0 - share) * measured.decode_w + share * (measured.prefill_w or 0.0),
            "meter_w_per_gpu": power.utility_w,
            "pue": power.pue,
            "prefill_busy_frac": measured.busy_frac,
            "mean_batch": measured.mean_batch,
            "preemptions": measured.preemptions,
            **{f"time_{name.removesuffix('_s')}_frac": share for name, share in measured.split._asdict().items()},
        }

    def _missed(self, measured: Measured, power: SteadyPower) -> Iterator[str]:
        yield from missed_objectives(self._objectives, measured)
        if power.clock_limit < 1.0:
            yield f"dies get too hot: they would be held to a clock of {power.clock_limit:.2f}"
        contract_w, site_w = self._system.site.feed.contract, power.utility_w * self._meter.gpus
        if site_w > contract_w:
            yield f"the site would draw {site_w / 1e3:,.1f} kW, its feed's contract is {contract_w / 1e3:,.1f} kW"

    def _why_stop(self, measured: Measured, before: float) -> str | None:
        """What keeps more sequences from being better; None while they may be."""
        allowed_s = self._objectives.tpot
        if allowed_s is not None and measured.tpot_p99_s > allowed_s:
            return "fewer sequences miss the objective for TPOT already"
        if measured.output_tokens_per_s < before * (1.0 + _LEAST_GAIN_FRAC):
            return "the last sequences brought no more tokens already"
        return None

    def _outside(self, sequences: int) -> Iterator[str]:
        """What of the point lies outside the measurements behind its coefficients."""
        system = self._system
        tokens = round(self._sizes.mean_input_tokens + self._sizes.mean_output_tokens)
        for role in ("prefill", "decode") if self._configuration.counts[0] else ("aggregated",):
            pool = system.pool(self._configuration, role, sequences)
            instance = instance_of(system.scenario.serving, pool, system.site, self._catalog)
            fitted: FitRange = instance.fit_range()
            # how many prompts a prefill instance has at once is not a setting but comes of the load
            there = fitted.sequences[0] if role == "prefill" else sequences
            for text in fitted.outside(instance.shape.name, instance.layout.gpus, there, tokens):
                yield f"{role}: {text}" if role == "prefill" else text


def missed_objectives(objectives: Objectives, measured: Measured) -> Iterator[str]:
    """The objectives that fewer than 99 percent of the requests keep."""
    for name, allowed_s, p99_s in (
        ("TTFT", objectives.ttft, measured.ttft_p99_s),
        ("TPOT", objectives.tpot, measured.tpot_p99_s),
        ("completion", objectives.completion, measured.completion_p99_s),
    ):
        if allowed_s is not None and p99_s > allowed_s:
            yield f"{name} p99 of {p99_s:.3g} s is above the objective of {allowed_s:.3g} s"


def _transfer_times(system: System, configuration: Configuration, catalog: Catalog) -> Callable[[int], float]:
    """Seconds in which the KV of so many tokens gets from a prefill to a decode instance over links that are free.

    Over NVLink where the whole group fits into a scale-up domain, else over NICs, from the first node to the one where decode
    begins. Queues on the links are left out: with MLA they carry a few percent of what they could.
    """
    if configuration.prefill_layout is None:
        return lambda tokens: 0.0
    site, rack = system.site, system.rack(catalog)
    shape = ModelShape.from_part(catalog.part("model", system.scenario.serving.model))
    token_bytes = shape.kv_bytes_per_token(system.scenario.serving.precision.kv)
    plan = site_plan(site, catalog)
    together = configuration.gpus <= system.domain_gpus(catalog)
    gpus_per_node = int(rack.number("gpus")) // int(rack.number("nodes"))
    node = min(plan.nodes - 1, configuration.prefill_gpus // gpus_per_node)
    ends = [
        Endpoint("prefill", configuration.prefill_layout.gpus, 0, 0, configuration.prefill_layout.tp),
        Endpoint("decode", configuration.layout.gpus, 0 if together else 1, node, configuration.layout.tp),
    ]
    spec = network_spec(site, catalog.part("gpu", rack.text("gpu")), catalog)

    @cache
    def seconds(tokens: int) -> float:
        return Network(spec, plan, ends).handoff(0.0, 0, 1, tokens * token_bytes).finish_s

    return seconds
