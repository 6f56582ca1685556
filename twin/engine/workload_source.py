"""The workload section of a scenario to a source of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from twin.schema.scenario import Scenario
from twin.schema.workload import (
    AgentWorkload,
    Arrivals,
    ChatWorkload,
    ClosedLoopArrivals,
    GammaArrivals,
    PoissonArrivals,
    ReasoningWorkload,
    TraceWorkload,
)
from twin.workload import (
    AgentGenerator,
    AtOnce,
    ChatGenerator,
    FixedGenerator,
    Gamma,
    Intake,
    Poisson,
    Profile,
    ReasoningGenerator,
    Session,
    TraceReplay,
    WarmStart,
    check_trace,
    read_figures,
)
from twin.workload import Arrivals as ArrivalProcess


def arrival_process(arrivals: Arrivals) -> ArrivalProcess:
    """The arrival process that a scenario describes."""
    if isinstance(arrivals, PoissonArrivals):
        return Poisson(arrivals.rate)
    if isinstance(arrivals, GammaArrivals):
        return Gamma(arrivals.rate, arrivals.burstiness)
    if isinstance(arrivals, ClosedLoopArrivals):
        return AtOnce()
    return Profile(tuple((point.time, point.rate) for point in arrivals.profile))


def sessions(scenario: Scenario) -> Iterator[Session]:
    """The sessions of the whole factory, in order of arrival, thinned by `represent`. Raises InputError for a bad trace."""
    work = scenario.workload
    seed, represent, horizon_s = scenario.seed, scenario.represent, scenario.horizon
    if not isinstance(work, TraceWorkload):
        intake = Intake(arrival_process(work.arrivals), seed, horizon_s, work.tiers, represent, work.sessions)
        if isinstance(work, AgentWorkload):
            warm = WarmStart() if work.warm_start else None
            return AgentGenerator(
                intake,
                warm_start=warm,
                think_time_scale=work.think_time_scale,
                system_prompts=work.system_prompts,
                join_first=work.join_first,
                figures=None if work.fit is None else read_figures(Path(work.fit)),
            ).sessions()
        system = work.system_prompt_tokens
        if isinstance(work, ChatWorkload):
            return ChatGenerator(intake, system_prompt_tokens=system).sessions()
        if isinstance(work, ReasoningWorkload):
            return ReasoningGenerator(intake, system_prompt_tokens=system).sessions()
        lengths = {"input_tokens": work.input_tokens, "output_tokens": work.output_tokens}
        return FixedGenerator(intake, **lengths, system_prompt_tokens=system).sessions()
    check_trace(Path(work.trace), work.format)
    return TraceReplay(
        Path(work.trace),
        seed,
        work.format,
        arrivals=None if work.arrivals is None else arrival_process(work.arrivals),
        horizon_s=horizon_s,
        tiers=work.tiers,
        speedup=work.speedup,
        start_s=work.start,
        represent=represent,
        limit=work.sessions,
        think_time_scale=work.think_time_scale,
    ).sessions()
