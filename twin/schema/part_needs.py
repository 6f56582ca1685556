"""What a simulation needs to know of a part, so that a part which lacks it is told of where a file names the part."""

from __future__ import annotations

from collections.abc import Iterator

from twin.catalog import Catalog, Part
from twin.errors import did_you_mean
from twin.schema.rack_parts import rack_part_faults

_CHAIN = ("load_frac", "efficiency_frac")
_SUPPLY = ("approach_k", "flow_min_frac", "time_constant_s")
_UNITS = ("unit_rated_w", "spare_units")
_PUMPS = ("pumps", "pumps_needed", "shutoff_head_ratio")
#: what a dry cooler is read for, by kind: one with a design wet bulb is a tower, one with wetted pads uses water.
_DRY = ("wetting_frac", "wetting_start_c")
_TOWER = ("design_wet_bulb_c", "water_to_air_ratio", "drift_frac", "concentration_cycles")
_PADS = ("air_range_k", "concentration_cycles")
_WATER_CONDENSER = ("condenser_power_frac", "concentration_cycles")

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
        *("die_throttle_c", "die_max_c", "thermal_resistance_k_per_w"),
    ),
    "nic": ("bytes_per_s",),
    "switch": ("ports", "port_bytes_per_s", "typical_w", "hop_latency_s", "co_packaged_optics"),
    "optic": ("power_w",),
    "cdu": (
        *("rated_heat_w", "pump_rated_w", "coolant", "return_intercept_c", "return_slope"),
        *_SUPPLY,
        *_PUMPS,
    ),
    "dry_cooler": (*_SUPPLY, "fan_power_frac", "pump_power_frac", *_UNITS, *_PUMPS),
    "chiller": (
        *("carnot_frac", "evaporator_approach_k", "condenser_approach_k", "lift_min_k"),
        *("trim_capacity_frac", "air_capacity_frac"),
        *("part_load", "load_min_frac", "condenser", *_UNITS),
    ),
    "air_handler": (*_SUPPLY, "supply_c", "range_k", "water_range_k", "fan_power_frac", *_UNITS),
    "cold_plate": ("heat_j_per_k", "convection_frac", "still_frac", "restart_s"),
    "power_shelf": ("rated_w", "psu_rated_w", "oversize_ratio", *_CHAIN),
    "element": ("element", *_CHAIN),
    "ups": _CHAIN,
    "transformer": _CHAIN,
    "battery": ("discharge_efficiency_frac", "charge_efficiency_frac"),
    "generator": (
        *("start_s", "start_probability_frac", "start_attempts", "ramp_s", "least_load_frac", "run_min_s"),
        *("efficiency_half_frac", "efficiency_full_frac"),
    ),
}
#: what a rack is counted in, at least one of each.
_COUNTS = ("gpus", "scale_up_domain_gpus", "nodes", "nics")
_MOST = 1_000_000


def lacking(part: Part, role: str) -> str | None:
    """What a simulation needs of the part in this role and nobody has published, in words; None if all is there."""
    unknown = [key for key in (*NEEDS[role], *_by_kind(part, role)) if not part.has(key)]
    if role == "optic" and part.has("power_w") and part.number("power_w") > 0 and not part.has("bytes_per_s"):
        unknown.append("bytes_per_s")
    return f"{part.kind} {part.name} cannot be simulated: nobody has published {', '.join(unknown)}" if unknown else None


def cooling_faults(part: Part, role: str) -> Iterator[str]:
    """What of a cooling part that lacks nothing does not go together: units that are no whole numbers, curves that fall."""
    counts = [key for key in ("pumps", "pumps_needed", "spare_units") if key in NEEDS[role]]
    wrong = [key for key in counts if not (part.number(key).is_integer() and part.number(key) <= _MOST)]
    if wrong:
        yield f"cooling {part.name}: {', '.join(wrong)} must be whole numbers up to {_MOST:,}"
    if "pumps" in counts and part.number("pumps_needed") > part.number("pumps"):
        yield f"cooling {part.name}: of {part.number('pumps'):g} pumps it needs {part.number('pumps_needed'):g}"
    if "shutoff_head_ratio" in NEEDS[role] and part.number("shutoff_head_ratio") <= 1:
        yield f"cooling {part.name}: a pump's head must fall with its flow: shutoff_head_ratio must be above 1"
    if role == "chiller":
        yield from _chiller_faults(part)


def _chiller_faults(part: Part) -> Iterator[str]:
    curve, least = part.numbers("part_load"), part.number("load_min_frac")
    if len(curve) != 3 or abs(sum(curve) - 1) > 1e-6:
        yield f"cooling {part.name}: part_load must be three coefficients that add up to 1 (full load)"
    elif min(curve[1] + 2 * curve[2] * load for load in (least, 1.0)) < 0:
        yield f"cooling {part.name}: part_load falls with the load somewhere from load_min_frac to full load; it must not"
    if part.text("condenser") not in ("air", "water"):
        yield f"cooling {part.name}: its condenser is cooled by air or water, not {part.text('condenser')!r}"


def _by_kind(part: Part, role: str) -> tuple[str, ...]:
    """What else is read of the part, by what it says of itself."""
    if role == "dry_cooler":
        if part.has("design_wet_bulb_c"):
            return _TOWER
        return (*_DRY, *_PADS) if part.has("wetting_frac") and part.number("wetting_frac") > 0 else _DRY
    if role == "chiller" and part.has("condenser") and part.text("condenser") == "water":
        return _WATER_CONDENSER
    return ()


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
