"""GPUs of a site by use over time: serving, jobs, idle."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from twin.analysis import style
from twin.analysis.series import Steps


def draw_gpus(axes: Axes, held: Steps, site: dict[str, Any], edges: np.ndarray, at: np.ndarray) -> list[tuple[float, str, str]]:
    """Stack GPUs that serve and that jobs hold into `axes`, up to all that there are; the labels at its right edge.

    `held` are GPUs that jobs hold over time, `site` the `sites.<name>` of the summary's jobs.
    """
    jobs = np.nan_to_num(held.mean(edges))
    serving = np.full(len(at), float(site["serving_gpus"]))
    (_, serving_colour), (_, jobs_colour) = style.GPU_USES
    # What is idle stays paper, on which the events show.
    axes.stackplot(at, serving, jobs, colors=[serving_colour, jobs_colour], linewidth=0, step="mid")
    axes.set_ylim(0, site["gpus"])
    tops = (serving[-1], serving[-1] + jobs[-1])
    labels = [(float(serving[-1]) / 2, *style.GPU_USES[0])]
    if jobs[-1] > 0:
        labels.append((float(tops[0] + tops[1]) / 2, *style.GPU_USES[1]))
    if tops[1] < site["gpus"]:
        labels.append((float(tops[1] + site["gpus"]) / 2, "idle", style.MUTED))
    return labels
