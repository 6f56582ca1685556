"""Scenarios in which hardware fails at given times: the engine as it is, with a small process beside it that calls the verbs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tiny_run import ROOT

import twin
from twin.analysis import RunTotals
from twin.engine.books import SiteRun
from twin.engine.simulation import Simulation
from twin.recording import RunDirectory


class Act(NamedTuple):
    """`verb` ("fail" or "repair") `units` of `key` at `time_s`; "dark" and "live" are the power of rack `units`."""

    time_s: float
    verb: str
    key: str = ""
    units: int = 1


class Played(NamedTuple):
    """What a run came to."""

    totals: RunTotals
    site: SiteRun
    requests: pd.DataFrame
    events: pd.DataFrame
    power: pd.DataFrame
    workers: pd.DataFrame
    jobs: pd.DataFrame | None


def act(site: SiteRun, one: Act, _: Any) -> None:
    """What a fault process does: step the plant to now, then call the verb."""
    outages = site.runtime.outages
    site.plant.step(one.time_s)
    if one.verb in ("dark", "live"):
        plant = site.runtime.plant
        units = {part.key: part.units for part in plant.components()}
        group = next(key for key in units if key.startswith("psu/")).split("/")[1]
        key = f"psu/{group}/{one.units}"
        (plant.fail if one.verb == "dark" else plant.repair)(key, units[key])
        site.plant.watch_racks(one.time_s)
    else:
        getattr(outages, one.verb)(one.key, one.units)


def play(scenario: dict[str, Any], acts: Sequence[Act] = ()) -> Played:
    """Run `scenario` with faults at its first site. The run checks its own books and ends with an error where they are wrong."""
    with tempfile.TemporaryDirectory() as folder, RunDirectory.create(Path(folder) / "run") as output:
        simulation = Simulation(twin.load(scenario), output)
        site = simulation._sites[0]
        for one in acts:
            # Asked for anew at that time, so that the plant's own step there has been made.
            simulation._clock.at(one.time_s, lambda _, one=one: simulation._clock.at(one.time_s, partial(act, site, one)))
        totals = simulation.run()
        output.close_tables()
        tables = {path.stem: pd.read_parquet(path) for path in output.path.glob("*.parquet")}
    return Played(totals, site, *(tables[name] for name in ("requests", "events", "power", "workers")), tables.get("jobs"))


def scenario(**parts: Any) -> dict[str, Any]:
    """Eight instances of four H100, two on each of four trays: five that read and three that write."""
    pool = {"racks": "racks", "parallelism": {"tp": 4}, "max_sequences": 32}
    base: dict[str, Any] = {
        "name": "failing",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [{"name": "all"}],
        "workload": {
            "kind": "fixed",
            "arrivals": {"process": "poisson", "rate": "8 /s"},
            "tiers": {"all": 1.0},
            "sessions": 200,
            "input_tokens": 2_000,
            "output_tokens": 200,
        },
        "serving": {
            "model": "llama_3_1_70b",
            "precision": {"weights": "fp8", "kv": "fp8"},
            "backend": "vllm",
            "restart": "5 s",
            "pools": [
                {"name": "read", "role": "prefill", "instances": 5, **pool},
                {"name": "write", "role": "decode", "instances": 3, **pool},
            ],
        },
        "control": {"policy": "none"},
        "horizon": "120 s",
        "seed": 1,
    }
    return {**base, **parts}
