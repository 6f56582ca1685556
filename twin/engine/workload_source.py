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
    ServeGenWorkload,
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
    ServeGenSessions,
    Session,
    TraceReplay,
    WarmStart,
    check_trace,
    read_figures,
    with_tenants,
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


def check_workload(scenario: Scenario) -> None:
    """Read all that the sessions come from. Raises InputError with the places of what is wrong, tiers that the scenario does not
    have among it. Costs a pass over the trace, in flat memory."""
    work = scenario.workload
    if isinstance(work, TraceWorkload):
        check_trace(Path(work.trace), work.format, [tier.name for tier in scenario.tiers])
    elif isinstance(work, ServeGenWorkload):
        next(_source_of_clients(scenario, work), None)


def _source_of_clients(scenario: Scenario, work: ServeGenWorkload) -> Iterator[Session]:
    return ServeGenSessions(
        Path(work.clients),
        scenario.seed,
        scenario.horizon,
        work.tiers,
        scale=work.scale,
        start_s=work.start,
        represent=scenario.represent,
        limit=work.sessions,
    ).sessions()


def sessions(scenario: Scenario) -> Iterator[Session]:
    """The sessions of the whole factory, in order of arrival, thinned by `represent`. Raises InputError for a bad trace."""
    tenants = {name: tenant.share for name, tenant in scenario.workload.tenants.items()}
    found = _sessions(scenario)
    return with_tenants(found, tenants, scenario.seed) if tenants else found


def _sessions(scenario: Scenario) -> Iterator[Session]:
    work = scenario.workload
    seed, represent, horizon_s = scenario.seed, scenario.represent, scenario.horizon
    if isinstance(work, ServeGenWorkload):
        return _source_of_clients(scenario, work)
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
    check_workload(scenario)
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
