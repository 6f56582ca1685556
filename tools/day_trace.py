"""Make the trace of scenarios/planner_day.yaml: a morning of chat and an afternoon of document reading, in half an hour.

    python tools/day_trace.py scenarios/traces/day_small.csv

In the format of the Azure LLM inference trace. Both kinds arrive at random all day; their rates cross over linearly
between 35 and 65 percent of the day, from and to 8 percent of their height.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from twin.workload import Call, Session, trace_azure

DAY_S = 1800.0
CROSSING = (0.35, 0.65)
LOW = 0.08
SIGMA_INPUT, SIGMA_OUTPUT = 0.3, 0.4


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of a kind: peak rate, medians of their lognormal lengths, and whether they are the afternoon's."""

    rate_per_s: float
    input_tokens: int
    output_tokens: int
    afternoon: bool


CHAT = Kind(3.2, 600, 2000, afternoon=False)
DOCUMENTS = Kind(2.5, 24000, 250, afternoon=True)


def afternoon_frac(time_s: float) -> float:
    """How far the day has gone over from morning to afternoon."""
    begin, end = CROSSING
    return min(1.0, max(0.0, (time_s / DAY_S - begin) / (end - begin)))


def calls(draws: Random) -> Iterator[tuple[float, int, int]]:
    """(arrival in s, input tokens, output tokens) of every call, kind by kind."""
    for kind in (CHAT, DOCUMENTS):
        time_s = 0.0
        while (time_s := time_s + draws.expovariate(kind.rate_per_s)) < DAY_S:
            share = afternoon_frac(time_s) if kind.afternoon else 1.0 - afternoon_frac(time_s)
            input_tokens = int(kind.input_tokens * draws.lognormvariate(0.0, SIGMA_INPUT))
            output_tokens = int(kind.output_tokens * draws.lognormvariate(0.0, SIGMA_OUTPUT))
            if draws.random() < LOW + (1.0 - LOW) * share:
                yield time_s, input_tokens, output_tokens


def sessions(seed: int) -> Iterator[Session]:
    """The day's calls in order of arrival, as sessions of one call."""
    for number, (time_s, input_tokens, output_tokens) in enumerate(sorted(calls(Random(seed)))):
        yield Session(number, time_s, "", [Call((), 0.0, input_tokens, output_tokens)])


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", encoding="utf-8") as file:
        trace_azure.write(file, sessions(seed=1))
