"""A fit of the agent generator as a file: read, checked, every problem with its place. docs/trace_fit.md describes the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from twin.workload.placed_yaml import PlacedYaml
from twin.workload.quantiles import QuantileTable
from twin.workload.trace_rows import MOST

#: No wait is longer than a hundred years.
_LONGEST_S = 100 * 365.25 * 86_400
#: Sub-agents of sub-agents, as deep as a trace can hold them.
_MOST_DEPTH = 2**15 - 1

#: Beginning of a table's name -> the least and the largest value that it may hold.
_BOUNDS: dict[str, tuple[float, float]] = {
    "turns": (1, MOST),
    "output_tokens": (1, MOST),
    "first_input_tokens_": (1, MOST),
    "human_frac_": (0, 1),
    "wait_tool_s_": (0, _LONGEST_S),
    "wait_human_s_": (0, _LONGEST_S),
    "extra_": (-MOST, MOST),
    "drop_frac": (0, 1),
    "system_prefix_tokens": (0, MOST),
    "sub_agents": (1, MOST),
    "sub_calls": (1, MOST),
    "sub_first_input_tokens": (1, MOST),
    "sub_first_shared_frac": (0, 1),
    "sub_next_shared_frac": (0, 1),
    "sub_output_tokens": (1, MOST),
    "sub_extra_tokens": (-MOST, MOST),
    "sub_wait_s": (0, _LONGEST_S),
}
#: What a session has a level of its own of.
OWN = ("turns", "first_input", "human", "tool_wait", "human_wait", "output", "extra")
_KEYS = (
    *(
        "provenance",
        "arrivals",
        "block_tokens",
        "turn_edges",
        "human_edges",
        "first_reads",
        "within_session",
        "between_sessions",
        "context_edges",
        "drop",
    ),
    *("break_frac", "sub_agents", "missing", "probabilities", "tables"),
)


@dataclass(frozen=True, slots=True)
class AgentFigures:
    """The figures of a fit; `tables` by name, those left out are never drawn from."""

    provenance: Mapping[str, Any]
    #: Mean rate of arrivals and the variation of their gaps, where the trace tells.
    arrivals: tuple[float, float] | None
    #: Prefixes are shared in whole blocks of so many tokens.
    block_tokens: int
    #: Turns that part the tables of sessions by length, contexts that part those of growth and the shares of drops.
    turn_edges: tuple[int, ...]
    #: Waits for a person in a session, which part their tables: sessions with few have longer ones.
    human_edges: tuple[int, ...]
    context_edges: tuple[int, ...]
    drop_edges: tuple[int, ...]
    #: Main calls after the first that read as agents do at their beginning.
    first_reads: int
    #: Of the calls with a context in each bin, those at which it drops; of those of long sessions, whatever the context.
    drop_frac: tuple[float, ...]
    long_drop_frac: float
    #: Sessions without a limit to their context, of those that begin below the last edge of drops and of those above.
    long_frac: tuple[float, ...]
    #: Of the calls that follow a tool, a person, a drop: those that keep little of their context though it does not drop.
    break_frac: Mapping[str, float]
    #: Of the variance of each quantity of `OWN` that sessions have many values of, the share that lies between sessions.
    within_session: Mapping[str, float]
    #: Correlations of what is a session's own, in the order of `OWN`.
    between_sessions: tuple[tuple[float, ...], ...]
    #: Sessions that may have sub-agents; of their calls that a tool follows those that fork some; of sub-agents' calls likewise.
    delegating_frac: float
    spawn_frac: float
    nested_spawn_frac: float
    most_depth: int
    #: Sub-agents that the next call of the forking agent waits for.
    joined_frac: float
    tables: Mapping[str, QuantileTable]


@cache
def shipped_figures() -> AgentFigures:
    """The figures fitted to 344 real coding-agent sessions."""
    return read_figures(Path(__file__).parent / "data" / "agent_generator.yaml")


def read_figures(path: Path) -> AgentFigures:
    """The figures of a file that `twin trace fit` wrote. Raises InputError with every problem and its place."""
    yaml = PlacedYaml(path)
    _check(yaml)
    yaml.finish()
    return agent_figures(yaml.data)


def agent_figures(document: Mapping[str, Any]) -> AgentFigures:
    """The figures of a document that is as `twin.workload.fit.fit_agents` makes it."""
    probabilities = document["probabilities"]
    drop, subs = document["drop"], document["sub_agents"]
    arrivals = document["arrivals"]
    return AgentFigures(
        provenance=document["provenance"],
        arrivals=None if arrivals is None else (float(arrivals["rate_per_s"]), float(arrivals["burstiness"])),
        block_tokens=document["block_tokens"],
        turn_edges=tuple(document["turn_edges"]),
        human_edges=tuple(document["human_edges"]),
        context_edges=tuple(document["context_edges"]),
        drop_edges=tuple(drop["context_edges"]),
        first_reads=document["first_reads"],
        drop_frac=tuple(drop["call_frac"]),
        long_drop_frac=drop["long_call_frac"],
        long_frac=tuple(drop["long_frac"]),
        break_frac=document["break_frac"],
        within_session=document["within_session"],
        between_sessions=tuple(map(tuple, document["between_sessions"])),
        delegating_frac=subs["session_frac"],
        spawn_frac=subs["call_frac"],
        nested_spawn_frac=subs["nested_call_frac"],
        most_depth=subs["most_depth"],
        joined_frac=subs["joined_frac"],
        tables={name: QuantileTable(probabilities, values) for name, values in document["tables"].items()},
    )


def _check(yaml: PlacedYaml) -> None:
    if not yaml.keys((), _KEYS):
        return
    yaml.mapping(("provenance",))
    if yaml.at(("arrivals",)) is not None and yaml.keys(("arrivals",), ("rate_per_s", "burstiness")):
        yaml.number(("arrivals", "rate_per_s"), 1e-12, 1e9)
        yaml.number(("arrivals", "burstiness"), 1e-3, 100)
    yaml.whole(("block_tokens",), 1, MOST)
    yaml.whole(("first_reads",), 0, MOST)
    turn_edges = yaml.increasing(("turn_edges",))
    human_edges = yaml.increasing(("human_edges",))
    context_edges = yaml.increasing(("context_edges",))
    _check_correlations(yaml)
    for key, shares in (("within_session", OWN[3:]), ("break_frac", ("tool", "human", "after_drop"))):
        if yaml.keys((key,), shares):
            for share in shares:
                yaml.number((key, share), 0, 1)
    drops = _check_drops(yaml)
    if yaml.keys(("sub_agents",), ("session_frac", "call_frac", "nested_call_frac", "most_depth", "joined_frac")):
        for share in ("session_frac", "call_frac", "nested_call_frac", "joined_frac"):
            yaml.number(("sub_agents", share), 0, 1)
        yaml.whole(("sub_agents", "most_depth"), 0, _MOST_DEPTH)
    probabilities = yaml.numbers(("probabilities",), 0, 1)
    if probabilities is not None and (len(probabilities) < 2 or any(b <= a for a, b in pairwise(probabilities))):
        yaml.problem(("probabilities",), "must be at least two numbers that increase")
    if not yaml.mapping(("tables",)):
        return
    tables = _check_tables(yaml, 0 if probabilities is None else len(probabilities))
    if turn_edges is not None and human_edges is not None and context_edges is not None and not yaml.problems:
        for name in _needed(yaml, tables, len(turn_edges) + 1, len(human_edges) + 1, len(context_edges), drops):
            if name not in tables:
                yaml.problem(("tables",), f"the table {name!r} is missing")


def _check_correlations(yaml: PlacedYaml) -> None:
    key, size = "between_sessions", len(OWN)
    rows = yaml.at((key,))
    if not isinstance(rows, list) or len(rows) != size:
        yaml.problem((key,), f"must be {size} rows of {size} correlations")
        return
    found = [yaml.numbers((key, i), -1, 1) for i in range(size)]
    good = [row for row in found if row is not None]
    if len(good) < size:
        return
    if any(len(row) != size for row in good):
        yaml.problem((key,), f"must be {size} rows of {size} correlations")
        return
    matrix = np.array(good)
    if not np.array_equal(matrix, matrix.T) or not np.array_equal(np.diag(matrix), np.ones(size)):
        yaml.problem((key,), "must be symmetric, with 1 on its diagonal")
    elif np.linalg.eigvalsh(matrix)[0] <= 0:
        yaml.problem((key,), "are no correlations that can hold at once: the matrix is not positive definite")


def _check_drops(yaml: PlacedYaml) -> bool:
    """Whether contexts ever drop."""
    if not yaml.keys(("drop",), ("context_edges", "call_frac", "long_call_frac", "long_frac")):
        return False
    edges = yaml.increasing(("drop", "context_edges"))
    shares = yaml.numbers(("drop", "call_frac"), 0, 1)
    if edges is not None and shares is not None and len(shares) != len(edges) + 1:
        yaml.problem(("drop", "call_frac"), f"has {len(shares)} shares; {len(edges)} edges part {len(edges) + 1} bins")
    yaml.number(("drop", "long_call_frac"), 0, 1)
    long = yaml.numbers(("drop", "long_frac"), 0, 1)
    if long is not None and len(long) != 2:
        yaml.problem(("drop", "long_frac"), f"has {len(long)} shares; those below and above the last edge are 2")
    return any(shares or ()) or yaml.at(("drop", "long_call_frac")) != 0


def _check_tables(yaml: PlacedYaml, length: int) -> dict[str, list[float]]:
    tables = {}
    for name in yaml.at(("tables",)):
        bounds = next((bounds for start, bounds in _BOUNDS.items() if name == start or _numbered(name, start)), None)
        if bounds is None:
            yaml.problem(("tables", name), "is no table of a fit", name, [start.rstrip("_") for start in _BOUNDS])
            continue
        values = yaml.numbers(("tables", name), *bounds)
        if values is None:
            continue
        if length and len(values) != length:
            yaml.problem(("tables", name), f"has {len(values)} values for {length} probabilities")
        elif (fall := next((i for i, (a, b) in enumerate(pairwise(values)) if b < a), None)) is not None:
            yaml.problem(
                ("tables", name, fall + 1), f"{values[fall + 1]:g} follows {values[fall]:g}: quantiles must not decrease"
            )
        tables[name] = values
    return tables


def _numbered(name: str, start: str) -> bool:
    return start.endswith("_") and name.startswith(start)


def _needed(
    yaml: PlacedYaml, tables: Mapping[str, list[float]], turn_bins: int, human_bins: int, context_bins: int, drops: bool
) -> list[str]:
    """Names of the tables that sessions of these figures are drawn from."""
    needed = ["turns", "output_tokens", *(f"first_input_tokens_{i}" for i in range(turn_bins))]
    if max(tables.get("turns", [1])) > 1:
        fracs = [f"human_frac_{i}" for i in range(turn_bins)]
        needed += fracs
        shares = [share for name in fracs for share in tables.get(name, ())]
        breaks = yaml.at(("break_frac",))
        reached = {"tool": min(shares, default=0) < 1, "human": max(shares, default=0) > 0, "after_drop": drops}
        for kind, bins in (("tool", turn_bins), ("human", human_bins)):
            if reached[kind]:
                needed += [f"wait_{kind}_s_{i}" for i in range(bins)]
        if any(reached[kind] and breaks[kind] < 1 for kind in reached):
            needed += ["extra_first_tokens", *(f"extra_tokens_{i}" for i in range(context_bins))]
            needed += [f"extra_{kind}_tokens" for kind in ("tool", "human") if reached[kind]]
        needed += ["extra_break_tokens"] if any(reached[kind] and breaks[kind] > 0 for kind in reached) else []
        needed += ["drop_frac"] if drops else []
    subs = yaml.at(("sub_agents",))
    if subs["session_frac"] * subs["call_frac"] > 0 and max(tables.get("turns", [1])) > 1:
        needed += ["sub_agents", "sub_calls", "sub_first_input_tokens", "sub_first_shared_frac", "sub_next_shared_frac"]
        needed += ["sub_output_tokens"]
        needed += ["sub_extra_tokens", "sub_wait_s"] if max(tables.get("sub_calls", [1])) > 1 else []
    return needed
