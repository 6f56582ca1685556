"""Who is served first and who is let in: from a scenario to the parts that decide it."""

from __future__ import annotations

from math import inf

from twin.catalog import Catalog
from twin.schema.admission import Limits as LimitsGiven
from twin.schema.scenario import Scenario
from twin.serving import Admission, Limits, QueueSpec


def queue_spec(scenario: Scenario) -> QueueSpec:
    """The order of each instance's queue."""
    queue = scenario.serving.queue
    return QueueSpec(
        order=queue.order,
        tiers=queue.tiers or tuple(tier.name for tier in scenario.tiers),
        ageing_s=queue.ageing,
        input_weight=queue.input_weight,
        output_weight=queue.output_weight,
        tenant_weights=tuple((name, tenant.weight) for name, tenant in scenario.workload.tenants.items()),
    )


def admission(scenario: Scenario, catalog: Catalog) -> Admission | None:
    """The limits of the factory, shared by its sites; None without any. One simulated call stands for `represent` real ones, so
    rates, buckets and calls in flight (whole ones) are that many times smaller; a wait is the same."""
    given, represent = scenario.serving.admission, scenario.represent
    if not given.limits_load and given.context == "serve":
        return None
    window = catalog.part("model", scenario.serving.model).number("context_tokens")
    return Admission(
        wait_s=inf if given.wait is None else given.wait,
        tiers={name: _limits(each, represent) for name, each in given.tiers.items()},
        tenants={name: _limits(each, represent) for name, each in given.tenants.items()},
        each_tenant=Limits() if given.each_tenant is None else _limits(given.each_tenant, represent),
        context_tokens=window if given.context == "refuse" else inf,
    )


def _limits(given: LimitsGiven, represent: int) -> Limits:
    rate, burst = given.tokens_per_minute, given.burst
    return Limits(
        wait_s=inf if given.wait is None else given.wait,
        tokens_per_s=inf if rate is None else rate / 60 / represent,
        burst_tokens=inf if rate is None else (rate if burst is None else burst) / represent,
        in_flight=inf if given.in_flight is None else given.in_flight // represent,
    )
