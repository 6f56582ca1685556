"""The catalogue: every value carries source and status, the five traps of vendor numbers are held, unknown values are errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from twin.catalog import KIND_FILES, STATUSES, Catalog, CatalogError, Part, UnknownPartError, load_catalog
from twin.catalog.part import dimension_of, parse_value
from twin.cli.catalog import catalog_command, readable
from twin.errors import TwinError, UnknownValueError
from twin.performance.layout import ELEMENT_BYTES
from twin.units import SI_UNIT

CATALOG = load_catalog()
ALL = [CATALOG.part(kind, name) for kind in CATALOG.kinds() for name in CATALOG.names(kind)]
SOURCE = {"source": "datasheet of it", "status": "datasheet"}


def test_every_kind_has_its_file() -> None:
    assert CATALOG.kinds() == tuple(KIND_FILES)


@pytest.mark.parametrize("part", ALL, ids=repr)
def test_every_value_has_a_source_a_status_and_the_unit_of_its_key(part: Part) -> None:
    assert part.values, "a part without values says nothing"
    for key, value in part.values.items():
        assert value.source.strip(), key
        assert value.status in STATUSES, key
        dimension = dimension_of(key)
        if dimension:
            assert value.unit == SI_UNIT[dimension], key
        if key.endswith("_median_ape"):
            assert isinstance(value.value, float), key
            assert value.value >= 0.0, key  # how far a fit is off has no upper end: a model may say five times what was measured
        elif key.endswith("_frac") and isinstance(value.value, float):
            assert 0.0 <= value.value <= 2.0, key  # catches '87' for '87 %'; capacities may be above 1


@pytest.mark.parametrize("key", ["fp8", "bf16", "nvlink"])
def test_headline_forms_are_twice_what_is_held(key: str) -> None:
    """Trap 1: sparse FLOPS and bidirectional NVLink are for display; the catalogue holds dense and one way."""
    held, headline = (
        ("nvlink_bytes_per_s", "nvlink_headline_bytes_per_s") if key == "nvlink" else (f"{key}_flops", f"{key}_headline_flops")
    )
    compared = 0
    for name in CATALOG.names("gpu"):
        gpu = CATALOG.part("gpu", name)
        if gpu.has(headline):
            assert gpu.number(headline) == pytest.approx(2 * gpu.number(held), rel=1e-3), name
            compared += 1
    assert compared >= 4


def test_traps_four_and_five_packages_and_dense_fp4() -> None:
    rack = CATALOG.part("rack", "rubin_ultra_nvl576")
    dies = CATALOG.part("gpu", "rubin_ultra").number("die_count")
    assert rack.number("gpus") == 144
    assert rack.number("gpus") * dies == 576
    assert CATALOG.part("rack", "vr_nvl72").number("gpus") * CATALOG.part("gpu", "rubin").number("die_count") == 144
    assert CATALOG.part("gpu", "rubin").number("fp4_flops") == 35e15
    # 72 x 10 PF dense = 0.72 EF where the keynote says 1 EF
    assert 72 * CATALOG.part("gpu", "gb200").number("fp4_flops") == pytest.approx(0.72e18)


@pytest.mark.parametrize(
    ("gpu", "bf16", "fp8", "memory", "bandwidth", "nvlink", "watts"),
    [
        ("a100", 312e12, None, 80e9, 2.04e12, 300e9, 400),
        ("h100", 989e12, 1979e12, 80e9, 3.35e12, 450e9, 700),
        ("h200", 989e12, 1979e12, 141e9, 4.8e12, 450e9, 700),
        ("b200", 2250e12, 4500e12, 180e9, 8.0e12, 900e9, 1000),
        ("b300", 2250e12, 4500e12, 288e9, 8.0e12, 900e9, 1100),
        ("gb200", 2500e12, 5000e12, 186e9, 8.0e12, 900e9, 1200),
        ("gb300", 2500e12, 5000e12, 288e9, 8.0e12, 900e9, 1400),
        ("rubin", 4000e12, 17500e12, 288e9, 22e12, 1800e9, 1800),
    ],
)
def test_gpu_numbers(
    gpu: str, bf16: float, fp8: float | None, memory: float, bandwidth: float, nvlink: float, watts: float
) -> None:
    part = CATALOG.part("gpu", gpu)
    assert part.number("bf16_flops") == pytest.approx(bf16)
    assert part.has("fp8_flops") == (fp8 is not None)
    if fp8 is not None:
        assert part.number("fp8_flops") == pytest.approx(fp8)
    assert part.number("memory_bytes") == pytest.approx(memory)
    assert part.number("memory_bytes_per_s") == pytest.approx(bandwidth)
    assert part.number("nvlink_bytes_per_s") == pytest.approx(nvlink)
    assert part.number("tdp_w") == watts


def test_gpus_keep_weights_in_every_format_that_they_compute_in() -> None:
    for name in CATALOG.names("gpu"):
        gpu = CATALOG.part("gpu", name)
        if not gpu.has("kv_formats"):
            continue
        computed = {each for each in ELEMENT_BYTES if gpu.has(f"{each}_flops")}
        assert computed <= set(gpu.texts("weight_formats")) <= set(ELEMENT_BYTES), name
        assert set(gpu.texts("kv_formats")) <= {"bf16", "fp8"}, name
        assert ("fp8" in gpu.texts("kv_formats")) == ("fp8" in computed), name
    with pytest.raises(CatalogError, match="not a list of texts"):
        CATALOG.part("gpu", "h100").texts("generation")
    with pytest.raises(CatalogError, match="not a list of numbers"):
        CATALOG.part("gpu", "h100").numbers("kv_formats")


def test_racks_add_up_to_their_rating() -> None:
    for name in ("hgx_h100", "hgx_h200", "hgx_b200", "hgx_b300", "gb200_nvl72", "gb300_nvl72", "vr_nvl72", "rubin_ultra_nvl576"):
        rack = CATALOG.part("rack", name)
        gpus = rack.number("gpus") * CATALOG.part("gpu", rack.text("gpu")).number("tdp_w")
        assert gpus + rack.number("other_busy_w") == pytest.approx(rack.number("rated_w"), rel=1e-6), name
        assert rack.number("gpus") % rack.number("scale_up_domain_gpus") == 0
        for key in ("cpu", "nic"):
            if rack.has(key):
                assert CATALOG.part(key, rack.text(key))


def test_unknown_values_and_parts_are_clear_errors() -> None:
    with pytest.raises(UnknownValueError, match=r"rubin_ultra has no published 'fp8_flops'.*keynote"):
        CATALOG.part("gpu", "rubin_ultra").number("fp8_flops")
    with pytest.raises(UnknownValueError, match="did you mean 'tdp_w'"):
        CATALOG.part("gpu", "h100").number("tpd_w")
    assert not CATALOG.part("gpu", "rubin_ultra").has("fp8_flops")
    with pytest.raises(UnknownPartError, match="did you mean 'gb200'") as caught:
        CATALOG.part("gpu", "gb20")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, TwinError)
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownPartError, match="did you mean 'rack'"):
        CATALOG.names("racks")
    with pytest.raises(CatalogError, match="not a number"):
        CATALOG.part("gpu", "h100").number("generation")
    with pytest.raises(CatalogError, match="not a text"):
        CATALOG.part("gpu", "h100").text("tdp_w")


@pytest.mark.parametrize(
    ("key", "entry", "wrong"),
    [
        ("tdp_w", {"value": "700 W", "status": "datasheet"}, "source is missing"),
        ("tdp_w", {"value": "700 W", "source": "x", "status": "rumoured"}, "'rumoured' is none of"),
        ("tdp_w", {"value": 700, **SOURCE}, "unit is missing"),
        ("tdp_w", {"value": "700 GB", **SOURCE}, "is bytes, but a power is due"),
        ("tdp_w", {**SOURCE}, "value is missing"),
        ("tdp_w", {"value": "7 W", "vlaue": 1, **SOURCE}, "unknown field 'vlaue'"),
        ("tdp_w", "700 W", "expected"),
    ],
)
def test_bad_entries_are_refused(key: str, entry: object, wrong: str) -> None:
    with pytest.raises(CatalogError, match=wrong):
        parse_value(key, entry)


def test_values_are_parsed_by_the_suffix_of_their_key() -> None:
    assert parse_value("fp8_flops", {"value": "1979 TFLOPS", **SOURCE}).value == 1979e12
    assert parse_value("bytes_per_s", {"value": "400 Gb/s", **SOURCE}).value == 50e9
    assert parse_value("inlet_c", {"value": ["25 C", "30 C"], **SOURCE}).value == (25.0, 30.0)
    assert parse_value("ports", {"value": 64, **SOURCE}).value == 64.0
    assert parse_value("liquid_cooled", {"value": True, **SOURCE}).value is True
    assert parse_value("fan_curve", {"value": "3 kW", **SOURCE}).value == 3000.0
    unknown = parse_value("idle_w", {"value": "?", **SOURCE})
    assert (unknown.value, unknown.unit) == (None, "W")
    assert parse_value("experts_per_token", {"value": 8, **SOURCE}).unit == ""


def test_a_broken_file_names_file_part_and_key(tmp_path: Path) -> None:
    (tmp_path / "gpus.yaml").write_text(
        "parts:\n  x1:\n    description: x\n    values:\n      tdp_w: {value: 3 GB, source: s, status: assumed}\n"
    )
    with pytest.raises(CatalogError, match=r"gpus\.yaml: x1: tdp_w: "):
        Catalog(tmp_path).part("gpu", "x1")
    (tmp_path / "gpus.yaml").write_text("parts: [1]\n")
    with pytest.raises(CatalogError, match=r"gpus\.yaml: expected"):
        Catalog(tmp_path).names("gpu")


def test_importing_and_reading_stays_light() -> None:
    code = (
        "import sys\nfrom twin.catalog import load_catalog\nc = load_catalog()\n[c.names(k) for k in c.kinds()]\n"
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'simpy', 'networkx', 'matplotlib', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]"


def test_command_prints_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert catalog_command("gpu", as_json=False) == 0
    text = capsys.readouterr().out
    assert "gpu gb200" in text
    assert "10 PFLOP/s" in text
    assert "unknown" in text
    assert "\x1b" not in text
    assert catalog_command(None, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == set(KIND_FILES)
    h100 = document["gpu"]["h100"]["tdp_w"]
    assert h100 == {"value": 700.0, "unit": "W", "source": "NVIDIA H100 datasheet", "status": "datasheet", "note": ""}
    with pytest.raises(UnknownPartError):
        catalog_command("gpus", as_json=True)


def test_readable_forms() -> None:
    def form(key: str, value: object) -> str:
        return readable(key, parse_value(key, {"value": value, **SOURCE}))

    assert form("liquid_heat_frac", "87.1 %") == "87.1 %"
    assert form("hop_latency_s", "100 ns") == "0.1 us"
    assert form("nic_latency_s", "40 us") == "40 us"
    assert form("inlet_c", ["25 C", "30 C"]) == "25 C, 30 C"
    assert form("tdp_w", "?") == "unknown"
    assert form("kv_formats", ["bf16", "fp8"]) == "bf16, fp8"
    assert form("liquid_cooled", False) == "no"
    assert form("params_total", 671e9) == "671,000,000,000"
