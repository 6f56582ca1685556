"""Closed-loop arrivals: a number of sessions in flight, and the same times as the benchmark client without a simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twin
from twin.engine.site_builder import worker_spec
from twin.errors import InputError
from twin.schema import load_scenario
from twin.schema.own_parts import catalog_with
from twin.serving import ClosedLoop, Worker

ROOT = Path(__file__).resolve().parents[1]


def scenario(concurrency: int = 12, sessions: int = 100, **changes: Any) -> dict[str, Any]:
    """Llama-3.1-8B on one H100, identical requests."""
    return {
        "name": "closed",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [{"name": "standard"}],
        "workload": {
            "kind": "fixed",
            "input_tokens": 900,
            "output_tokens": 70,
            "arrivals": {"process": "closed_loop", "concurrency": concurrency},
            "tiers": {"standard": 1.0},
            "sessions": sessions,
        },
        "serving": {
            "model": "llama_3_1_8b",
            "precision": {"weights": "fp8", "kv": "fp8"},
            "backend": "vllm",
            "pools": [{"name": "engine", "role": "aggregated", "racks": "racks", "parallelism": {"tp": 1}, "instances": 1}],
        },
        "control": {"policy": "none"},
        "horizon": "5 min",
        **changes,
    }


def test_it_is_the_benchmark_client(tmp_path: Path) -> None:
    made = scenario()
    run = twin.run(made, out=tmp_path / "run")
    frame = run.requests.sort_values("request_id")
    assert (frame.outcome == "completed").all()
    assert len(frame) == 100
    loaded = load_scenario(made).scenario
    site = loaded.topology.sites[0]
    worker = Worker(worker_spec("w", loaded, loaded.serving.pools[0], site, catalog_with(loaded.catalog)))
    client = ClosedLoop([(900, 70)] * 100, 12, front_end_s=worker.spec.cost.front_end_s)
    requests = client.run([worker])
    assert frame.first_token_s.to_numpy() == pytest.approx(np.array([r.first_token_s for r in requests]), abs=1e-6)
    assert frame.finish_s.to_numpy() == pytest.approx(np.array([r.finish_s for r in requests]), abs=1e-6)


def test_as_many_are_in_flight_as_asked_for_until_the_last_has_begun(tmp_path: Path) -> None:
    frame = twin.run(scenario(5, 40), out=tmp_path / "run").requests
    starts, ends = np.sort(frame.arrival_s.to_numpy()), np.sort(frame.finish_s.to_numpy())
    assert (starts[:5] == 0).all()
    assert starts[5:] == pytest.approx(ends[:35])


def test_what_cannot_be_is_refused() -> None:
    agents = {"kind": "agents", "arrivals": {"process": "closed_loop", "concurrency": 3}, "tiers": {"standard": 1.0}}
    with pytest.raises(InputError, match=r"workload\.warm_start: must be false in a closed loop"):
        load_scenario(scenario(workload=agents))
    pools = scenario()["serving"]["pools"]
    serving = scenario()["serving"] | {"pools": [pools[0] | {"instances": 8}]}
    with pytest.raises(InputError, match="3 sessions cannot stand for groups of `represent: 8`"):
        load_scenario(scenario(3, serving=serving, represent=8))


def test_agents_go_on_one_after_the_other(tmp_path: Path) -> None:
    agents = {
        "kind": "agents",
        "arrivals": {"process": "closed_loop", "concurrency": 3},
        "tiers": {"standard": 1.0},
        "warm_start": False,
        "think_time_scale": 0.01,
    }
    serving = scenario()["serving"] | {"kv_cache": {"block_tokens": 64}}
    sessions = twin.run(scenario(workload=agents, serving=serving, horizon="10 min"), out=tmp_path / "run").sessions
    running = [(sessions.start_s <= at) & ((sessions.finish_s > at) | sessions.finish_s.isna()) for at in (60, 200, 500)]
    assert [int(each.sum()) for each in running] == [3, 3, 3]
