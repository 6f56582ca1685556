"""Which configurations a study tries, and what it refuses with which reason."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ROOT

from twin.catalog import load_catalog
from twin.errors import InputError
from twin.pareto.configuration import Configuration, System, spoken, systems
from twin.pareto.space import Space, space_of
from twin.schema import load_scenario
from twin.schema.serving import Parallelism, PromptWait, Speculation

R1 = ROOT / "scenarios" / "pareto_r1.yaml"
ALL: dict[str, Any] = {
    "pareto.parallelism": [],
    "pareto.speculation": [],
    "pareto.prompt_wait": [],
    "pareto.splits": ["aggregated"],
}


def studied(name: str, changes: dict[str, Any] | None = None) -> tuple[System, Space]:
    scenario = load_scenario(R1, changes).scenario
    system = next(system for system in systems(scenario) if system.name == name)
    return system, space_of(system, load_catalog())


def layouts(space: Space) -> set[str]:
    return {spoken(configuration.layout) for configuration in space.configurations}


def test_labels_and_gpus_by_hand() -> None:
    both = Configuration(
        "1P2D",
        Parallelism(dp=8, ep=8),
        Parallelism(tp=4),
        Speculation(draft_tokens=2, acceptance=0.5),
        PromptWait(steps=9, tokens=7),
    )
    assert both.label == "1P2D TP4 > DP8 EP8 draft2 wait9/7"
    assert (both.counts, both.prefill_gpus, both.gpus) == ((1, 2), 4, 20)
    alone = Configuration("aggregated", Parallelism(tp=1))
    assert alone.label == "aggregated TP1"
    assert (alone.counts, alone.prefill_gpus, alone.gpus) == ((0, 1), 0, 1)


def test_all_layouts_begin_with_the_smallest_that_holds_the_model() -> None:
    """R1 in FP8 is 671 GB: sixteen H100 of 80 GB, in two nodes. In FP4 it is 0.38 TB: four B200 of 180 GB."""
    _, h100 = studied("HGX-H100", ALL)
    _, b200 = studied("HGX-B200", ALL)
    assert min(each.gpus for each in h100.configurations) == 16
    assert min(each.gpus for each in b200.configurations) == 4
    assert {"TP16", "DP16 EP16", "TP8 DP4 EP32", "TP8 PP2", "DP32 EP32"} <= layouts(h100)  # over InfiniBand
    assert {"TP4", "DP4 EP4", "TP8", "TP8 DP4 EP32", "DP64 EP64"} <= layouts(b200)
    _, gb200 = studied("GB200-NVL72", ALL)
    assert "TP8 PP2" not in layouts(gb200)  # pipelines are for what no domain holds
    assert "DP64 EP64" in layouts(gb200)


def test_a_dense_model_has_tensor_parallelism_alone() -> None:
    scenario = load_scenario(ROOT / "scenarios" / "quickstart.yaml").scenario
    (system,) = systems(scenario)
    space = space_of(system, load_catalog())
    aggregated = {spoken(each.layout) for each in space.configurations if each.split == "aggregated"}
    assert aggregated == {"TP1", "TP2", "TP4", "TP8", "TP8 PP2", "TP8 PP4"}
    assert {spoken(each.prefill_layout) for each in space.configurations if each.prefill_layout} == {"TP1"}


def test_every_combination_is_tried_or_refused() -> None:
    changes = {
        "pareto.parallelism": [{"tp": 8}, {"dp": 4, "ep": 4}],
        "pareto.splits": ["aggregated", "1P1D", "2P1D"],
        "pareto.speculation": [{"draft_tokens": 1, "acceptance": 0.66}],
        "pareto.prompt_wait": [{"steps": 120, "tokens": 16384}],
    }
    _, space = studied("HGX-B200", changes)
    # aggregated: two layouts, with and without waiting; apart: two splits, two decode layouts behind one of prefill; each twice
    assert len(space.configurations) == 2 * (2 * 2 + 2 * 2)
    assert len({each.label for each in space.configurations}) == len(space.configurations)
    assert {spoken(each.prefill_layout) for each in space.configurations if each.prefill_layout} == {"DP4 EP4"}
    assert space.refused == ()


def test_what_cannot_run_is_refused_with_the_reason() -> None:
    _, space = studied("HGX-H100")
    reasons = dict(space.refused)
    assert "needs" in reasons["TP4"]
    assert "GB of weights" in reasons["TP4"]
    assert reasons["1P4D DP16 EP16 > TP16"] == "80 GPUs are more than the 72 of max_gpus"
    assert "1P2D DP16 EP16 > TP16" not in reasons
    _, fp4 = studied(
        "HGX-H100", {"pareto.systems.HGX-H100.precision.weights": "fp4", "pareto.parallelism": [{"tp": 8}, {"tp": 3}]}
    )
    assert "does not divide" in dict(fp4.refused)["TP3"]


def test_pools_follow_the_scenario_where_the_study_says_nothing() -> None:
    system, _ = studied("GB200-NVL72", {"serving.pools.0.scheduling": "prefill_first", "serving.pools.0.kv_blocks": 9})
    configuration = Configuration(
        "1P2D", Parallelism(dp=8, ep=8), Parallelism(dp=4, ep=4), Speculation(draft_tokens=1, acceptance=1)
    )
    decode, prefill = (system.pool(configuration, role, 512) for role in ("decode", "prefill"))
    assert (decode.max_sequences, decode.max_batched_tokens, decode.instances) == (512, 8 * 8192, 2)
    assert (prefill.max_batched_tokens, prefill.instances, prefill.speculation) == (4 * 8192, 1, None)
    assert decode.scheduling == prefill.scheduling == "prefill_first"
    assert decode.kv_blocks is None  # those of another layout


def test_a_topology_of_two_sites_is_not_one_system() -> None:
    scenario = load_scenario(ROOT / "scenarios" / "quickstart.yaml").scenario
    sites = scenario.topology.sites
    two = scenario.topology.model_copy(update={"sites": (sites[0], sites[0].model_copy(update={"name": "other"}))})
    with pytest.raises(InputError, match=r"has 2 sites.*pareto\.systems"):
        systems(scenario.model_copy(update={"topology": two}))
