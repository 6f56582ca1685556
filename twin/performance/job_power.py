"""Power of work of which only its level and its share of arithmetic are known."""

from __future__ import annotations

from dataclasses import replace

from twin.performance.power import GpuPower


def power_at_level(model: GpuPower, level_w: float, compute_share: float) -> GpuPower:
    """`model` with all but idle scaled such that steps draw `level_w` at full clock, `compute_share` of them arithmetic.

    Its parts keep their proportions, and with them their answers to the clock. A level above the TDP is what the GPU would
    draw if nothing held it.
    """
    scale = (level_w - model.idle_w) / (model.active_w + compute_share * model.compute_w + (1.0 - compute_share) * model.memory_w)
    return replace(model, active_w=scale * model.active_w, compute_w=scale * model.compute_w, memory_w=scale * model.memory_w)
