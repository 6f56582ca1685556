"""What a scale-out fabric draws."""

from __future__ import annotations

from twin.errors import InputError
from twin.fabric.plan import FabricPlan


def optics_w(plan: FabricPlan, nic_end_w: float, switch_end_w: float) -> float:
    """Transceivers at NICs and in switches, in W, from the power of one end of a link at NIC speed.

    Pluggable everywhere: both ends the same. Co-packaged: `switch_end_w` is the switch's share, the NIC end stays pluggable.
    """
    if min(nic_end_w, switch_end_w) < 0:
        raise InputError("the power of an optical module is at least 0 W")
    return plan.nics * nic_end_w + plan.switch_ends * switch_end_w


def end_w(module_w: float, module_bytes_per_s: float, nic_bytes_per_s: float) -> float:
    """Power of one link end at NIC speed: a module's power in proportion to the bandwidth used of it."""
    return module_w * nic_bytes_per_s / module_bytes_per_s


def fabric_w(plan: FabricPlan, switch_w: float, nic_end_w: float, switch_end_w: float) -> float:
    """All switches (without optics) and transceivers, in W."""
    return plan.switches * switch_w + optics_w(plan, nic_end_w, switch_end_w)
