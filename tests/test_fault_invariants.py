"""Random loads, faults and events, at any time and at each other's: energy and heat balance, nothing is lost."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_invariants import _check_power, _check_requests, check_workers

import twin
from twin.catalog import load_catalog
from twin.engine.fault_plan import components_of
from twin.engine.plant_builder import plant_spec
from twin.facility import BatteryOrder, Plant
from twin.facility.component import Component
from twin.schema import load_scenario, load_topology

ENERGY_FRAC, HEAT_FRAC = 1e-9, 1e-6
HORIZON_S = 20

#: Liquid and air, prefill and decode, a battery, a second rack with nothing to do.
GB200: dict[str, Any] = {
    "topology": {
        "extends": str(ROOT / "topologies" / "gb200_nvl72.yaml"),
        "sites": [
            {
                "name": "gb200-nvl72",
                "feed": {"name": "utility", "contract": "300 kW"},
                "racks": [
                    {"name": "racks", "rack": "gb200_nvl72", "count": 1, "loop": "tcs"},
                    {"name": "spare", "rack": "gb200_nvl72", "count": 1, "loop": "tcs"},
                ],
                "electrical": {"ups_rating": "600 kW", "transformer_rating": "600 kW"},
                "battery": {"part": "lfp_container", "capacity": "20 kWh", "power": "60 kW"},
            }
        ],
    },
    "workload.arrivals.rate": "0.3 /s",
}
#: Air alone, four small instances in a rack.
H100: dict[str, Any] = {"workload.arrivals.rate": "10 /s"}
FACTORIES = {"h100": ("quickstart.yaml", H100), "gb200": ("nightly/agents_r1_gb200.yaml", GB200)}


def _set(factory: str, faults: list[dict[str, Any]], **other: Any) -> tuple[Path, dict[str, Any]]:
    file, settings_ = FACTORIES[factory]
    horizon = {"horizon": f"{HORIZON_S} s", "limits": [], "serving.restart": "3 s", "grid.events": [], "control.policy": "none"}
    return ROOT / "scenarios" / file, {**horizon, **settings_, "faults": {"scheduled": faults}, **other}


@cache
def _components(factory: str) -> tuple[Component, ...]:
    scenario = load_scenario(*_set(factory, [])).scenario
    return components_of(scenario, scenario.topology.sites[0])


def _play(factory: str, faults: list[dict[str, Any]], **other: Any) -> None:
    file, settings_ = _set(factory, faults, **other)
    with tempfile.TemporaryDirectory() as folder:
        run = twin.run(file, set=settings_, out=Path(folder) / "run")
        summary = run.summary
        assert all(summary["invariants"].values())
        assert summary["requests"]["lost"] == 0
        _check_requests(run.requests, run.sessions, summary)
        _check_power(run.power, summary)
        check_workers(run, {"serving": {"pools": [{}]}})
        assert run.summary["energy"]["balance_residual_frac"] <= ENERGY_FRAC
        assert len(run.summary.get("faults", [])) == len(faults)


def _faults(factory: str, drawn: list[tuple[int, int, float, float]]) -> list[dict[str, Any]]:
    """Scheduled faults from (component, units, start, duration), without those for which no units are left."""
    components, faults = _components(factory), []
    taken: dict[str, list[tuple[float, float, int]]] = {}
    for place, units, start_s, lasts_s in sorted(drawn, key=lambda each: each[2]):
        component = components[place % len(components)]
        units = 1 + units % component.units
        begun = taken.setdefault(component.key, [])
        if component.units - sum(count for _, end_s, count in begun if end_s > start_s) < units:
            continue
        begun.append((start_s, start_s + lasts_s, units))
        entry = {"name": f"f{len(faults)}", "component": component.key, "units": units}
        faults.append({**entry, "start": f"{start_s!r} s", "duration": f"{lasts_s!r} s"})
    return faults


#: Times at which something else happens too (records each second, grid events, other faults), and any.
_TIMES = st.one_of(st.integers(1, HORIZON_S - 2).map(float), st.sampled_from([5.0, 7.5, 12.0]), st.floats(0.01, HORIZON_S - 1))
_LASTS = st.one_of(st.integers(1, 12).map(float), st.sampled_from([2.5, 4.5]), st.floats(0.001, 15.0), st.just(1000.0))
_DRAWN = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 20), _TIMES, _LASTS), min_size=1, max_size=7)
_EVENT = st.one_of(
    st.none(),
    st.tuples(_TIMES, st.floats(0.5, 1.0), st.sampled_from(["ladder", "uniform_cap"])),
)


def _check(factory: str, drawn: list[tuple[int, int, float, float]], event: tuple[float, float, str] | None, seed: int) -> None:
    other: dict[str, Any] = {"seed": seed}
    if event is not None:
        start_s, target, policy = event
        grid = {"name": "down", "start": f"{start_s!r} s", "ramp": "2 s", "duration": "8 s", "target": target}
        other |= {"grid.events": [grid], "control.policy": policy}
    _play(factory, _faults(factory, drawn), **other)


@settings(max_examples=3)
@given(_DRAWN, _EVENT, st.integers(1, 1000))
@pytest.mark.parametrize("factory", FACTORIES)
def test_books_balance_whatever_fails(
    factory: str, drawn: list[tuple[int, int, float, float]], event: tuple[float, float, str] | None, seed: int
) -> None:
    _check(factory, drawn, event, seed)


@pytest.mark.slow
@settings(max_examples=60)
@given(_DRAWN, _EVENT, st.integers(1, 1000))
@pytest.mark.parametrize("factory", FACTORIES)
def test_books_balance_whatever_fails_at_length(
    factory: str, drawn: list[tuple[int, int, float, float]], event: tuple[float, float, str] | None, seed: int
) -> None:
    _check(factory, drawn, event, seed)


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_kind_fails_and_is_repaired_once(factory: str) -> None:
    """One of each kind after the other, each at a record time, the next as the last is repaired."""
    firsts = {component.kind: component for component in reversed(_components(factory))}
    assert len(firsts) >= 10
    faults = [
        {"name": kind, "component": component.key, "start": f"{1 + number} s", "duration": "1 s"}
        for number, (kind, component) in enumerate(firsts.items())
    ]
    _play(factory, faults, horizon=f"{len(faults) + 8} s")


# --- the plant alone -----------------------------------------------------------------------------------------------------

_STEP = st.tuples(
    st.one_of(st.sampled_from([1.0, 0.25, 30.0]), st.floats(1e-3, 120.0)),
    st.floats(0.0, 1.0),
    st.floats(-60e3, 60e3),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=3),
)


def _plant(topology: str) -> Plant:
    site = load_topology(ROOT / "topologies" / f"{topology}.yaml").topology.sites[0]
    return Plant(plant_spec(site, load_catalog()))


@settings(max_examples=30)
@given(st.lists(_STEP, min_size=2, max_size=30), st.floats(-5.0, 42.0), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("topology", ["factory_1mw", "factory_1mw_ab", "quickstart"])
def test_the_plant_balances_whatever_fails(
    topology: str, steps: list[tuple[float, float, float, list[tuple[int, int]]]], dry_c: float, seed: int
) -> None:
    """Each step's powers, and the totals of energy and heat; a rack that is not up draws nothing."""
    plant, random = _plant(topology), np.random.default_rng(seed)
    components, failed = plant.components(), dict.fromkeys((each.key for each in plant.components()), 0)
    rated_w = 132e3 if topology.startswith("factory_1mw") else 40e3
    racks, now_s = plant.racks.count, 0.0
    for lasts_s, load, battery_w, verbs in steps:
        for place, units in verbs:
            component = components[place % len(components)]
            change = units % (component.units + 1) - failed[component.key]
            if change:
                (plant.fail if change > 0 else plant.repair)(component.key, abs(change))
                failed[component.key] += change
        now_s += lasts_s
        it_w = np.where(plant.rack_up, load * rated_w * 0.9 * random.random(racks), 0.0)
        order = BatteryOrder.hold() if plant.battery is None else BatteryOrder.power(battery_w)
        step = plant.advance(now_s, it_w, it_w / 100.0, dry_c, dry_c - 5.0, order)
        supplied_w = step.utility_w + step.battery_w + step.generator_w
        used_w = step.it_w + step.cooling_w + step.conversion_loss_w + step.other_w
        assert abs(supplied_w - used_w) <= ENERGY_FRAC * max(used_w, 1.0)
        assert step.utility_w >= 0.0
    assert plant.energy.balance_residual_frac <= ENERGY_FRAC
    assert plant.energy.heat_residual_frac <= HEAT_FRAC
