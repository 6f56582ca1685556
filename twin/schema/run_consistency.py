"""What must fit the length of a run and what comes of it: records, arrivals, the trace, bounds on the summary.

Works on a valid model; every check yields all that it finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from twin.errors import InputError, did_you_mean
from twin.schema.admission import Limits
from twin.schema.fields import Path as KeyPath
from twin.schema.messages import Finding
from twin.schema.scenario import Scenario
from twin.schema.workload import AgentWorkload, ClosedLoopArrivals, ProfileArrivals, ServeGenWorkload, TraceWorkload

#: Most rows of a table of time series: a year of minutes for each of twenty sites.
MOST_ROWS = 10_000_000
#: Top-level keys of summary.json that hold figures.
FIGURES = (
    *("requests", "service", "tasks", "cache", "energy", "hardware", "curtailment", "economics", "invariants"),
    *("seed", "horizon_s"),
)


def run_consistency(scenario: Scenario) -> Iterator[Finding]:
    """All that does not fit the run."""
    yield from _records(scenario)
    yield from _profile(scenario)
    yield from _closed_loop(scenario)
    yield from _admission(scenario)
    yield from _trace(scenario)
    yield from _faults(scenario)
    yield from _limits(scenario)


def _records(scenario: Scenario) -> Iterator[Finding]:
    sites = scenario.topology.sites
    # each loop has a row at each step, and so have the circuits of warm and of chilled water and the hall's air
    loops = sum(len(site.cooling.loops) + 3 for site in sites)
    instances = sum(pool.instances for pool in scenario.serving.pools) // scenario.represent
    for key, table, each in (("interval", "thermal", loops), ("worker_interval", "workers", instances)):
        step = getattr(scenario.records, key)
        rows = scenario.horizon / step * each
        if step > scenario.horizon:
            yield ("records", key), f"a step of {step:g} s is longer than the run of {scenario.horizon:g} s"
        elif rows > MOST_ROWS:
            yield (
                ("records", key),
                f"a step of {step:g} s gives {rows:,.0f} rows of {table}.parquet, more than {MOST_ROWS:,}: "
                f"it must be at least {scenario.horizon * each / MOST_ROWS:.3g} s",
            )


def _profile(scenario: Scenario) -> Iterator[Finding]:
    arrivals = scenario.workload.arrivals
    if isinstance(arrivals, ProfileArrivals) and arrivals.profile[-1].time < scenario.horizon:
        end = arrivals.profile[-1].time
        yield ("workload", "arrivals", "profile"), f"ends at {end:g} s, before the run's {scenario.horizon:g} s"


def _closed_loop(scenario: Scenario) -> Iterator[Finding]:
    work = scenario.workload
    if not isinstance(work.arrivals, ClosedLoopArrivals):
        return
    if work.arrivals.concurrency < scenario.represent:
        path = ("workload", "arrivals", "concurrency")
        yield path, f"{work.arrivals.concurrency} sessions cannot stand for groups of `represent: {scenario.represent}`"
    if isinstance(work, AgentWorkload) and work.warm_start:
        yield ("workload", "warm_start"), "must be false in a closed loop, in which every session begins in the run"


def _admission(scenario: Scenario) -> Iterator[Finding]:
    """Limits that a thinned or a closed run cannot keep, and a fair queue with nobody to be fair to."""
    work, admission = scenario.workload, scenario.serving.admission
    path = ("serving", "admission")
    if scenario.serving.queue.order == "fair" and not work.tenants and not isinstance(work, TraceWorkload | ServeGenWorkload):
        yield ("serving", "queue"), "is fair between tenants, and the workload has none: give `workload.tenants`"
    if isinstance(work.arrivals, ClosedLoopArrivals) and (admission.limits_load or admission.context == "refuse"):
        yield path, "a closed loop refuses nobody for its load or length: each session refused would let the next one in at once"
    limits: list[tuple[KeyPath, Limits]] = [
        ((*path, kind, name), each) for kind in ("tiers", "tenants") for name, each in getattr(admission, kind).items()
    ]
    if admission.each_tenant is not None:
        limits.append(((*path, "each_tenant"), admission.each_tenant))
    for where, each in limits:
        if each.in_flight is not None and each.in_flight < scenario.represent:
            yield (*where, "in_flight"), f"{each.in_flight} calls cannot stand for groups of `represent: {scenario.represent}`"


def _trace(scenario: Scenario) -> Iterator[Finding]:
    """A trace of no known format, and one that does not say when its sessions began, where nothing else does."""
    work = scenario.workload
    if not isinstance(work, TraceWorkload):
        return
    from twin.workload.formats import read_trace, recognise  # loads numpy, which a scenario without a trace does not wait for

    try:
        chosen = recognise(Path(work.trace)).name if work.format == "auto" else work.format
    except InputError as error:
        yield ("workload", "trace"), "; ".join(problem.message for problem in error.problems)
        return
    if work.arrivals is not None:
        return
    try:
        first = next(read_trace(Path(work.trace), chosen))
    except (InputError, StopIteration):
        return  # bad rows are listed in full, with their places in the trace, when it is read for the run
    if math.isnan(first.arrival_s):
        yield (
            ("workload", "arrivals"),
            f"is missing, and {work.trace} (format {chosen}) does not record when its sessions began",
        )


def _faults(scenario: Scenario) -> Iterator[Finding]:
    """Faults that never happen, and faults of instances that stand for several."""
    faults = scenario.faults
    if scenario.represent > 1 and faults.any:
        yield ("represent",), f"must be 1 where something fails, not {scenario.represent}: an instance fails by itself"
    for f, fault in enumerate(faults.scheduled):
        if fault.start >= scenario.horizon:
            said = f"fails at {fault.start:g} s, after the run of {scenario.horizon:g} s: it never happens"
            yield ("faults", "scheduled", f, "start"), said


def _limits(scenario: Scenario) -> Iterator[Finding]:
    events = len(scenario.grid.events)
    figures = (*FIGURES, *(("jobs",) if scenario.jobs else ()), *(("faults", "availability") if scenario.faults.any else ()))
    for i, limit in enumerate(scenario.limits):
        head, *rest = limit.value.split(".")
        path = ("limits", i, "value")
        if head not in figures:
            yield path, f"the summary has no {head!r}{did_you_mean(head, figures)}"
        elif head == "curtailment":
            if not rest or not rest[0].isdecimal():
                yield path, "write the number of the event behind `curtailment`, such as curtailment.0.overshoot_w_max"
            elif int(rest[0][:9]) >= events:
                counted = f"{events} grid event{'' if events == 1 else 's'}"
                yield path, f"the scenario has {counted}, and the first is 0: there is no event {rest[0]}"
