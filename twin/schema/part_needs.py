"""What a simulation needs to know of a part, so that a part which lacks it is told of where a file names the part."""

from __future__ import annotations

from collections.abc import Iterator

from twin.catalog import Catalog, Part
from twin.errors import did_you_mean
from twin.schema.rack_parts import rack_part_faults

_CHAIN = ("load_frac", "efficiency_frac")
_SUPPLY = ("approach_k", "flow_min_frac", "time_constant_s")

#: role -> the values that are read of it.
NEEDS = {
    "rack": (
        *("gpu", "gpus", "scale_up_domain_gpus", "nodes", "nic", "nics"),
        *("other_idle_w", "other_busy_w", "rated_w", "liquid_heat_frac"),
    ),
    "cpu_rack": ("cpus", "sandboxes", "idle_w", "busy_w", "rated_w", "liquid_heat_frac"),
    "gpu": (
        *("generation", "bf16_flops", "weight_formats", "kv_formats", "memory_bytes", "memory_bytes_per_s"),
        *("tdp_w", "idle_w", "cap_min_w", "power_active_w", "power_compute_w", "power_memory_w"),
        *("power_clock_exponent", "power_voltage_floor_frac", "clock_min_frac"),
        *("nvlink_bytes_per_s", "nvlink_latency_s", "nic_bytes_per_s", "nic_latency_s"),
        *("die_throttle_c", "thermal_resistance_k_per_w"),
    ),
    "nic": ("bytes_per_s",),
    "switch": ("ports", "port_bytes_per_s", "typical_w", "hop_latency_s", "co_packaged_optics"),
    "optic": ("power_w",),
    "cdu": (
        *("rated_heat_w", "pump_rated_w", "coolant", "return_intercept_c", "return_slope"),
        *_SUPPLY,
    ),
    "dry_cooler": (*_SUPPLY, "fan_power_frac", "pump_power_frac", "wetting_frac", "wetting_start_c"),
    "chiller": (
        *("carnot_frac", "evaporator_approach_k", "condenser_approach_k", "lift_min_k"),
        *("trim_capacity_frac", "air_capacity_frac"),
    ),
    "air_handler": (*_SUPPLY, "supply_c", "range_k", "water_range_k", "fan_power_frac"),
    "power_shelf": ("rated_w", "oversize_ratio", *_CHAIN),
    "ups": _CHAIN,
    "transformer": _CHAIN,
    "battery": ("discharge_efficiency_frac", "charge_efficiency_frac"),
}
#: what a rack is counted in, at least one of each.
_COUNTS = ("gpus", "scale_up_domain_gpus", "nodes", "nics")
_MOST = 1_000_000


def lacking(part: Part, role: str) -> str | None:
    """What a simulation needs of the part in this role and nobody has published, in words; None if all is there."""
    unknown = [key for key in NEEDS[role] if not part.has(key)]
    if role == "optic" and part.has("power_w") and part.number("power_w") > 0 and not part.has("bytes_per_s"):
        unknown.append("bytes_per_s")
    return f"{part.kind} {part.name} cannot be simulated: nobody has published {', '.join(unknown)}" if unknown else None


def cpu_rack_faults(rack: Part) -> Iterator[str]:
    """What keeps CPU racks of this part from being simulated."""
    if unknown := lacking(rack, "cpu_rack"):
        yield unknown
        return
    wrong = [key for key in ("cpus", "sandboxes") if not (rack.number(key).is_integer() and 1 <= rack.number(key) <= _MOST)]
    if wrong:
        yield f"rack {rack.name}: {', '.join(wrong)} must be whole numbers from 1 to {_MOST:,}"
    if not 0 <= rack.number("idle_w") < rack.number("busy_w") <= rack.number("rated_w"):
        yield f"rack {rack.name}: 0 <= idle_w < busy_w <= rated_w does not hold"


def rack_faults(rack: Part, catalog: Catalog) -> Iterator[str]:
    """What keeps racks of this part from being simulated: values that nobody has published, counts that do not go together."""
    unknown = lacking(rack, "rack")
    if unknown:
        yield unknown
    for kind in ("gpu", "nic"):
        if not rack.has(kind):
            continue
        name = rack.text(kind)
        if name not in catalog.names(kind):
            yield f"rack {rack.name} has the unknown {kind} {name!r}{did_you_mean(name, catalog.names(kind))}"
        elif said := lacking(catalog.part(kind, name), kind):
            yield f"rack {rack.name}: {said}"
    if unknown:
        return
    yield from rack_part_faults(rack)
    counts = {key: rack.number(key) for key in _COUNTS}
    wrong = [key for key, count in counts.items() if not (count.is_integer() and 1 <= count <= _MOST)]
    if wrong:
        yield f"rack {rack.name}: {', '.join(wrong)} must be whole numbers from 1 to {_MOST:,}"
        return
    uneven = [
        f"{part} {counts[part]:g} does not divide {whole} {counts[whole]:g}"
        for whole, part in (("gpus", "scale_up_domain_gpus"), ("gpus", "nodes"), ("nics", "nodes"))
        if counts[whole] % counts[part]
    ]
    if uneven:
        yield f"rack {rack.name}: {'; '.join(uneven)}"
