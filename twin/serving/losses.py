"""Where the time of an instance goes, against the speed of light."""

from __future__ import annotations

from typing import NamedTuple


class TimeSplit(NamedTuple):
    """Seconds of one instance's steps, by what they went to; together its busy time.

    `light_s` is the bound: what the same tokens take with every efficiency 1, at full clock, with weights read once for batches
    as large as arithmetic needs to hide them. What comes on top was lost to
    `batching_s` (weights read for batches too small to hide it, attention ranks that wait for one another),
    `memory_s` and `compute_s` (the efficiency of the roof that binds), `clocks_s` (clocks below the maximum),
    `network_s` (collectives), `launches_s` (kernel launches and host work between and around them) and
    `drafts_s` (drafting tokens, and verifying those that are refused).
    """

    light_s: float = 0.0
    batching_s: float = 0.0
    memory_s: float = 0.0
    compute_s: float = 0.0
    clocks_s: float = 0.0
    network_s: float = 0.0
    launches_s: float = 0.0
    drafts_s: float = 0.0
