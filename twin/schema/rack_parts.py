"""The parts of a rack beside its GPUs whose power the catalogue may tell."""

from __future__ import annotations

from collections.abc import Iterator

from twin.catalog import Part

#: Each has two values, NAME_idle_w and NAME_busy_w; without them it counts as a part of the rest.
RACK_PARTS = ("cpu", "nic", "nvswitch", "fan")


def rack_part_faults(rack: Part) -> Iterator[str]:
    """What does not add up in the parts of a rack: one value without the other, less at full load than idle, or together more
    than all that is no GPU."""
    halves = [
        f"{name}_{there}_w without {name}_{lacks}_w"
        for name in RACK_PARTS
        for there, lacks in (("idle", "busy"), ("busy", "idle"))
        if rack.has(f"{name}_{there}_w") and not rack.has(f"{name}_{lacks}_w")
    ]
    if halves:
        yield f"rack {rack.name}: {', '.join(halves)}"
        return
    known = [name for name in RACK_PARTS if rack.has(f"{name}_idle_w")]
    wrong = [name for name in known if not 0 <= rack.number(f"{name}_idle_w") <= rack.number(f"{name}_busy_w")]
    if wrong:
        yield f"rack {rack.name}: 0 <= idle_w <= busy_w does not hold for {', '.join(wrong)}"
    for state in ("idle", "busy"):
        parts_w = sum(rack.number(f"{name}_{state}_w") for name in known)
        if parts_w > rack.number(f"other_{state}_w"):
            yield (
                f"rack {rack.name}: {', '.join(f'{name}_{state}_w' for name in known)} come to {parts_w:,.0f} W, more than "
                f"other_{state}_w of {rack.number(f'other_{state}_w'):,.0f} W, of which they are parts"
            )
