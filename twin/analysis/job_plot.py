"""GPUs of a site by use over time: serving, jobs, idle."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from twin.analysis import style
from twin.analysis.series import Steps


def draw_gpus(axes: Axes, held: Steps, site: dict[str, Any], edges: np.ndarray, at: np.ndarray) -> list[tuple[float, str, str]]:
    """Stack GPUs that serve, that jobs hold, and that are spare into `axes`; the labels at its right edge.

    `held` are GPUs that jobs hold over time, `site` the `sites.<name>` of the summary's jobs.
    """
    jobs = np.nan_to_num(held.mean(edges))
    serving = np.full(len(at), float(site["serving_gpus"]))
    idle = np.maximum(site["gpus"] - serving - jobs, 0.0)
    axes.stackplot(at, serving, jobs, idle, colors=[colour for _, colour in style.GPU_USES], linewidth=0, step="mid")
    axes.set_ylim(0, site["gpus"] * 1.04)
    tops = np.cumsum([serving[-1], jobs[-1], idle[-1]])
    middles = tops - np.array([serving[-1], jobs[-1], idle[-1]]) / 2
    parts = ((serving, *style.GPU_USES[0]), (jobs, *style.GPU_USES[1]), (idle, *style.GPU_USES[2]))
    return [(float(y), label, colour) for y, (part, label, colour) in zip(middles, parts, strict=True) if part[-1] > 0]
