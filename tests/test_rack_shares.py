"""What the power of racks goes into: shares by hand, sums for any load, and the catalogue's parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import api
from twin.catalog import load_catalog
from twin.catalog.part import Part
from twin.engine.rack_shares import RackShares, Shares
from twin.engine.site_runtime import RackLoads
from twin.schema.part_needs import rack_faults
from twin.schema.rack_parts import RACK_PARTS, rack_part_faults

ROOT = Path(__file__).resolve().parents[1]
CATALOG = load_catalog()
SPLIT = [name for name in CATALOG.names("rack") if CATALOG.part("rack", name).has("cpu_idle_w") and name != "vera_cpu"]
WITH_GPUS = ("hgx_h100", "hgx_h200", "hgx_b200", "hgx_b300", "gb200_nvl72", "gb300_nvl72", "vr_nvl72")


def _racks(count: int = 2, other_idle_w: float = 2000.0) -> tuple[RackLoads, RackShares]:
    """Racks of 10 GPUs of 100 to 700 W; beside them 2 to 10 kW, of it CPUs 0.5-2, NICs 0.1-0.1, NVSwitches 0.2-1, fans 0.1-2.7
    kW; 400 W of fabric each, a quarter of it optics."""
    each = np.ones(count)
    loads = RackLoads(10 * each, 10 * np.eye(count), 100 * each, 700 * each, other_idle_w * each, 10_000 * each, 400 * each)
    idle_w, busy_w = (np.outer(values, each) for values in ([500.0, 100.0, 200.0, 100.0], [2000.0, 100.0, 1000.0, 2700.0]))
    return loads, RackShares(loads, idle_w, busy_w, 0.25)


def test_shares_by_hand() -> None:
    assert RACK_PARTS == ("cpu", "nic", "nvswitch", "fan")
    loads, shares = _racks(1)
    gpu_w, it_w, _ = loads.power(np.array([400.0]))  # half way from 100 to 700 W: 6 kW beside the GPUs
    found = shares.split(gpu_w, it_w, memory_w=1500.0, smoothing_w=0.0, cpu_racks_w=50.0)
    assert found.gpu_core == pytest.approx(2500.0)
    assert found.cpu == pytest.approx(1250.0)
    assert found.nic == pytest.approx(100.0)
    assert found.nvswitch == pytest.approx(600.0)
    assert found.fan == pytest.approx(2700.0 * (2 / 3) ** 3)  # a third of the flow when idle, two thirds half way
    assert found.optic == pytest.approx(100.0)
    assert found.fabric_switch == pytest.approx(300.0)
    assert found.rest == pytest.approx(6000.0 - 1250.0 - 100.0 - 600.0 - 800.0)
    assert sum(found) == pytest.approx(it_w.sum() + 50.0)


def test_at_both_ends_each_part_draws_what_the_catalogue_says() -> None:
    loads, shares = _racks()
    for per_gpu_w, due in ((100.0, (500.0, 100.0, 200.0, 100.0)), (700.0, (2000.0, 100.0, 1000.0, 2700.0))):
        gpu_w, it_w, _ = loads.power(np.full(2, per_gpu_w))
        found = shares.split(gpu_w, it_w, 0.0, 0.0, 0.0)
        assert (found.cpu, found.nic, found.nvswitch, found.fan) == pytest.approx([2 * watts for watts in due])


def test_a_dark_rack_has_no_shares() -> None:
    loads, shares = _racks()
    gpu_w, it_w, _ = loads.power(np.array([400.0, 400.0]))
    up = np.array([1.0, 0.0])
    lone = shares.split(gpu_w * up, it_w * up, 0.0, 0.0, 0.0)
    both = shares.split(gpu_w, it_w, 0.0, 0.0, 0.0)
    assert lone == pytest.approx([watts / 2 for watts in both])


@settings(max_examples=60, deadline=None)
@given(
    per_gpu_w=st.lists(st.floats(100.0, 700.0), min_size=3, max_size=3),
    up=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3),
    other_idle_w=st.sampled_from([2000.0, 1000.0]),
)
def test_shares_add_up_and_none_is_below_zero(per_gpu_w: list[float], up: list[float], other_idle_w: float) -> None:
    loads, shares = _racks(3, other_idle_w)
    gpu_w, it_w, _ = loads.power(np.array(per_gpu_w))
    gpu_w, it_w = gpu_w * up, it_w * up
    found = shares.split(gpu_w, it_w, 0.3 * float(gpu_w.sum()), 0.1 * float(gpu_w.sum()), 7.0)
    assert sum(found) == pytest.approx(float(it_w.sum()) + 7.0)
    assert min(found) >= -1e-9 * sum(found)


def test_every_shipped_rack_of_gpus_is_split_and_adds_up() -> None:
    assert set(WITH_GPUS) <= set(SPLIT)
    for name in WITH_GPUS:
        rack = CATALOG.part("rack", name)
        assert not list(rack_part_faults(rack))
        for state in ("idle", "busy"):
            rest_w = rack.number(f"other_{state}_w") - sum(
                rack.number(f"{part}_{state}_w") for part in RACK_PARTS if rack.has(f"{part}_{state}_w")
            )
            assert 0.0 < rest_w < 0.6 * rack.number(f"other_{state}_w"), (name, state)


def test_grace_racks_have_the_cpu_power_of_their_cpus() -> None:
    for name in ("gb200_nvl72", "gb300_nvl72"):
        rack = CATALOG.part("rack", name)
        cpu = CATALOG.part("cpu", rack.text("cpu"))
        assert rack.number("cpu_idle_w") == pytest.approx(rack.number("cpus") * cpu.number("idle_w"))
        assert rack.number("cpu_busy_w") == pytest.approx(rack.number("cpus") * cpu.number("tdp_w"))


def _changed(**watts: float | None) -> Part:
    rack = CATALOG.part("rack", "hgx_h100")
    values = dict(rack.values)
    for key, value in watts.items():
        if value is None:
            del values[key]
        else:
            values[key] = type(values[key])(**{**_fields(values[key]), "value": value})
    return Part(**{**_fields(rack), "values": values})


def _fields(thing: object) -> dict[str, object]:
    return {name: getattr(thing, name) for name in thing.__slots__}  # type: ignore[attr-defined]


def test_parts_that_do_not_add_up_are_told() -> None:
    assert any("more than other_busy_w" in said for said in rack_faults(_changed(cpu_busy_w=19_000.0), CATALOG))
    assert any("cpu_idle_w without cpu_busy_w" in said for said in rack_faults(_changed(cpu_busy_w=None), CATALOG))
    assert any("does not hold for fan" in said for said in rack_faults(_changed(fan_busy_w=1.0), CATALOG))


def test_a_run_records_shares_and_phases(tmp_path: Path) -> None:
    out = tmp_path / "run"
    api.run(ROOT / "scenarios/quickstart.yaml", out=out, set={"horizon": "40 s", "grid.events": []})
    summary = json.loads((out / "summary.json").read_text())
    table = pq.read_table(out / "power.parquet").to_pydict()
    names = [f"{name}_w" for name in Shares._fields]
    for row in range(len(table["time_s"])):
        assert sum(table[name][row] for name in names) == pytest.approx(table["it_w"][row], rel=1e-12)
        gpu_w = table["gpu_core_w"][row] + table["memory_w"][row] + table["smoothing_w"][row]
        assert gpu_w == pytest.approx(table["gpu_w"][row], rel=1e-12)
    energy = summary["energy"]
    assert sum(energy["it_shares_j"].values()) == pytest.approx(energy["it_j"], rel=1e-12)
    phases = summary["hardware"]["pools"]["chat"]["phases"]
    assert sum(phase["gpu_s"] for phase in phases.values()) == pytest.approx(32 * 40.0)
    gpu_j = sum(a * b for a, b in zip(table["gpu_w"], np.diff([0.0, *table["time_s"]]), strict=True))
    assert sum(phase["energy_j"] for phase in phases.values()) == pytest.approx(gpu_j)
    assert phases["idle"]["gpu_w"] == pytest.approx(CATALOG.part("gpu", "h100").number("idle_w"))
    # FACTS 5: decode on Hopper draws 40-60 % of TDP
    assert 0.4 < phases["decode"]["tdp_frac"] < 0.6
