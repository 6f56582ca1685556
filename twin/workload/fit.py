"""The figures of the agent generator, fitted to the calls of a trace.

Quantile knots are read off the trace. Shares are occurrences by occasions: of calls that could have begun anew those that did, of
calls behind which an agent could have spawned those that did. What goes together within a session is the share of the variance of
log values that lies between sessions. The bounds of what counts as a break and the knots are set by hand; where a trace is
silent, the figure is 0 and `missing` says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from twin.workload.call_columns import CallColumns, Flags, Ints
from twin.workload.fit_together import correlation, normal_scores, within_sessions
from twin.workload.quantiles import Floats

PROBABILITIES = [
    *(0, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9),
    *(0.925, 0.95, 0.965, 0.975, 0.985, 0.995, 0.999, 1),
]
#: A context that keeps less than this of the one before is broken: most of it is computed again.
_KEPT_FRAC = 0.9
#: A broken context that is shorter than this share of the one before has dropped: a compaction, or a new beginning.
_DROPPED_FRAC = 0.8
#: Main calls 1 and 2 read most, whatever the context.
_FIRST_READS = 2
#: Quantiles of the turns that part short sessions from long ones, which more often begin from nothing, and unattended; of the
#: context before a call: an agent with little in its context reads much more than one that has read.
_TURN_QUANTILES, _CONTEXT_QUANTILES = (0.35, 0.65, 0.85), (0.05, 0.2)
#: Least sessions of a bin of turns, calls of a bin of contexts, drops of a bin of contexts.
_LEAST_SESSIONS, _LEAST_CALLS, _LEAST_DROPS = 20, 50, 10
_MOST_DROP_BINS = 12
#: Variations of the gaps between arrivals that can be drawn (`twin.workload.arrivals.Gamma`).
_BURSTINESS = (1e-3, 100.0)
#: Of the mixture's fit, and of the search for the two shares of delegation: both have settled long before.
_ROUNDS = 50
#: Values of a session from which its own mean is told.
_LEAST_VALUES = 10


def fit_agents(calls: CallColumns, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a fit (docs/trace_fit.md), as plain data that `twin.workload.agent_figures` reads."""
    missing: list[str] = []
    turns = calls.turns
    turn_edges = _edges(turns, _TURN_QUANTILES, _LEAST_SESSIONS)
    tables = {"turns": knots(turns), "output_tokens": knots(calls.outputs[calls.main])}
    growth = _Growth(calls, turns, turn_edges)
    document = {
        "provenance": {**provenance, "sessions": len(turns), "calls": len(calls.inputs)},
        "arrivals": _arrivals(calls.arrival_s, missing),
        "block_tokens": _block_tokens(calls.shared),
        "turn_edges": turn_edges,
        "human_edges": growth.human_edges,
        "first_reads": _FIRST_READS,
        **_together(calls, growth),
    }
    tables |= growth.tables(missing)
    document |= growth.shares()
    sub_tables, document["sub_agents"] = _sub_agents(calls, growth, missing)
    return document | {"missing": missing, "probabilities": PROBABILITIES, "tables": tables | sub_tables}


class _Growth:
    """How the context of main agents goes on from call to call."""

    def __init__(self, calls: CallColumns, turns: Ints, turn_edges: list[int]):
        self.calls = calls
        self.turn_edges = turn_edges
        self.turn_bin = np.searchsorted(turn_edges, turns, side="right")
        self.before = np.concatenate([[0], calls.inputs[:-1]])
        self.before_out = np.concatenate([[0], calls.outputs[:-1]])
        self.grown = calls.inputs - self.before
        self.extra = self.grown - self.before_out
        self.later: Flags = calls.main & (calls.place > 0)
        broken = self.later & (calls.shared < _KEPT_FRAC * self.before)
        self.dropped: Flags = broken & (calls.inputs < _DROPPED_FRAC * self.before)
        self.broken: Flags = broken & ~self.dropped
        self.smooth: Flags = self.later & ~broken
        self.read: Flags = self.smooth & (calls.place > _FIRST_READS)
        self.humans = np.bincount(calls.session[self.later & ~calls.tool], minlength=len(turns))
        self.human_edges = _edges(self.humans[self.humans > 0], _TURN_QUANTILES, _LEAST_SESSIONS)
        #: Bin of each call's wait, of a tool by its session's turns, of a person by its session's persons.
        self.wait_bin = np.where(
            calls.tool, self.turn_bin[calls.session], np.searchsorted(self.human_edges, self.humans, side="right")[calls.session]
        )
        self.context_edges = _edges(self.before[self.read], _CONTEXT_QUANTILES, _LEAST_CALLS)
        self.context_bin = np.searchsorted(self.context_edges, self.before, side="right")
        self.settled: Flags = self.read & (self.context_bin == len(self.context_edges))

    def tables(self, missing: list[str]) -> dict[str, list[float]]:
        calls, later = self.calls, self.later
        first = calls.main & (calls.place == 0)
        first_inputs, first_bin = calls.inputs[first], self.turn_bin[calls.session[first]]
        found: dict[str, Ints | Floats] = {
            **{f"first_input_tokens_{i}": first_inputs[first_bin == i] for i in range(len(self.turn_edges) + 1)}
        }
        if not later.any():
            missing.append("no session has a second call: waits and growth are unknown, and each session is one call")
            return {name: knots(values) for name, values in found.items()}
        followed = np.bincount(calls.session[later], minlength=len(self.turn_bin))
        for i in range(len(self.turn_edges) + 1):
            chosen = (self.turn_bin == i) & (followed > 0)
            found[f"human_frac_{i}"] = self.humans[chosen] / followed[chosen] if chosen.any() else np.zeros(1)
        for kind, waits in (("tool", later & calls.tool), ("human", later & ~calls.tool)):
            for i in range(len(self.turn_edges if kind == "tool" else self.human_edges) + 1):
                own = waits & (self.wait_bin == i)
                found[f"wait_{kind}_s_{i}"] = calls.wait_s[own if own.sum() >= _LEAST_CALLS else waits]
            found[f"extra_{kind}_tokens"] = self.extra[_first_of(self.settled & waits, self.settled, self.smooth)]
            if not waits.any():
                missing.append(f"no main call waits for a {kind}")
        for i in range(len(self.context_edges)):
            found[f"extra_tokens_{i}"] = self.extra[self.read & (self.context_bin == i)]
        found["extra_first_tokens"] = self.extra[_first_of(self.smooth & (calls.place <= _FIRST_READS), self.smooth)]
        found["extra_break_tokens"] = self.extra[self.broken]
        found["drop_frac"] = calls.inputs[self.dropped] / self.before[self.dropped]
        kept = calls.shared[self.broken | self.dropped]
        found["system_prefix_tokens"] = kept[(kept > 0) & (kept < 0.5 * self.before[self.broken | self.dropped])]
        for name, said in (
            ("extra_first_tokens", "every context is broken: no call repeats nine tenths of the one before"),
            ("extra_break_tokens", "no context is broken"),
            ("drop_frac", "no context drops"),
            ("system_prefix_tokens", "no broken context keeps its beginning"),
        ):
            if not len(found[name]):
                missing.append(said)
        return {name: knots(values) for name, values in found.items() if len(values)}

    def shares(self) -> dict[str, Any]:
        calls = self.calls
        after_drop = np.concatenate([[False], self.dropped[:-1]]) & self.later & ~self.dropped
        stays = self.later & ~self.dropped & ~after_drop
        return {
            "context_edges": self.context_edges,
            "drop": self.drops(),
            "break_frac": {
                "tool": _share(self.broken, stays & calls.tool),
                "human": _share(self.broken, stays & ~calls.tool),
                "after_drop": _share(self.broken, after_drop),
            },
        }

    def drops(self) -> dict[str, Any]:
        """When contexts drop: a mixture of two kinds of sessions, fitted by expectation and maximization.

        Those of the first kind have a limit, near which they drop, told as a share of the calls with a context in each bin;
        long ones have not, and drop at any time. Which kind a session is shows where it drops or lives on; of the others, that
        ended before, the model tells how probable it is.
        """
        calls = self.calls
        sessions = len(self.turn_bin)
        edges = _edges(self.before[self.dropped], [i / _MOST_DROP_BINS for i in range(1, _MOST_DROP_BINS)], _LEAST_DROPS)
        size = np.searchsorted(edges, self.before, side="right")
        happened, could = np.zeros((2, sessions, len(edges) + 1))
        np.add.at(happened, (calls.session[self.dropped], size[self.dropped]), 1)
        np.add.at(could, (calls.session[self.later], size[self.later]), 1)
        first = calls.inputs[calls.main & (calls.place == 0)]
        beyond = (first >= edges[-1]).astype(int) if edges else np.zeros(sessions, dtype=int)
        lived = could[:, -1] - happened[:, -1] > _LEAST_VALUES if edges else np.ones(sessions, dtype=bool)
        long = np.where(lived, 0.9, 0.1)
        for _ in range(_ROUNDS):
            frac = _ratios(((1 - long)[:, None] * happened).sum(axis=0), ((1 - long)[:, None] * could).sum(axis=0))
            long_frac = _ratios((long[:, None] * happened).sum(), (long[:, None] * could).sum())
            share = _ratios(np.bincount(beyond, long, 2), np.bincount(beyond, minlength=2))
            fits = [
                (happened * np.log(p) + (could - happened) * np.log1p(-p)).sum(axis=1)
                for p in (np.clip(each, 1e-9, 1 - 1e-9) for each in (frac, long_frac))
            ]
            odds = np.log(np.clip(share, 1e-9, 1)) - np.log(np.clip(1 - share, 1e-9, 1))
            long = 1 / (1 + np.exp(np.clip(fits[0] - fits[1] - odds[beyond], -50, 50)))
        return {
            "context_edges": edges,
            "call_frac": np.round(frac, 5).tolist(),
            "long_call_frac": round(float(long_frac), 5),
            "long_frac": np.round(share, 5).tolist(),
        }


def _sub_agents(calls: CallColumns, growth: _Growth, missing: list[str]) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Tables and shares of sub-agents: a session may delegate or not; one that may forks some behind calls with a tool."""
    by_main = calls.spawn_depth == 0
    occasions = np.bincount(calls.session[growth.later & calls.tool], minlength=len(calls.session_s))
    session_frac, call_frac = _delegation(calls.spawn_session[by_main], occasions)
    if by_main.any() and not call_frac:
        missing.append("sub-agents are spawned, but no main call waits for a tool: none will be drawn")
    nested_occasions = (calls.depth > 0) & (calls.place > 0)
    shares = {
        "session_frac": session_frac,
        "call_frac": call_frac,
        "nested_call_frac": min(_ratio((~by_main).sum(), nested_occasions.sum()), 1.0),
        "most_depth": int(calls.depth.max()),
        "joined_frac": round(float(np.average(calls.spawn_joined_frac, weights=calls.spawn_agents)), 5) if len(by_main) else 1.0,
    }
    sub = calls.depth > 0
    if not sub.any():
        missing.append("no sub-agents")
        return {}, shares
    first, later = sub & (calls.place == 0), sub & (calls.place > 0)
    _, earliest = np.unique(calls.session[first], return_index=True)
    begins = np.zeros(int(first.sum()), dtype=bool)
    begins[earliest] = True
    shared_frac = calls.shared[first] / calls.inputs[first]
    found = {
        "sub_agents": calls.spawn_agents,
        "sub_calls": calls.agent_calls[first],
        "sub_first_input_tokens": calls.inputs[first],
        "sub_first_shared_frac": shared_frac[begins],
        "sub_next_shared_frac": shared_frac[~begins] if (~begins).any() else shared_frac,
        "sub_output_tokens": calls.outputs[sub],
        "sub_extra_tokens": growth.extra[later],
        "sub_wait_s": calls.wait_s[later],
    }
    return {name: knots(values) for name, values in found.items() if len(values)}, shares


def _delegation(spawn_session: Ints, occasions: Ints) -> tuple[float, float]:
    """(share of sessions that may delegate, share of those sessions' occasions at which they spawn).

    The two with which sessions of so many `occasions` make, on average, as many spawns as recorded, in as many sessions. Sessions
    that may but never spawn don't show, and short ones seldom do: those that show are not all, and are longer than others.
    """
    spawns, delegating, possible = len(spawn_session), len(np.unique(spawn_session)), int(occasions.sum())
    if not spawns or not possible:
        return 0.0, 0.0
    least, most = min(spawns / possible, 1.0), 1.0
    for _ in range(_ROUNDS):
        call_frac = (least + most) / 2
        session_frac = spawns / possible / call_frac
        # The rarer the spawns of those that may, the more sessions may and have one.
        if session_frac * (1 - (1 - call_frac) ** occasions).sum() > delegating:
            least = call_frac
        else:
            most = call_frac
    return round(min(session_frac, 1.0), 5), round(call_frac, 5)


def knots(values: Ints | Floats) -> list[float]:
    """The quantiles of `values` at `PROBABILITIES`, to 3 decimals."""
    return [round(float(each), 3) for each in np.quantile(np.asarray(values, dtype=float), PROBABILITIES)]


def _edges(values: Ints, quantiles: Any, least: int) -> list[int]:
    """Whole numbers that part `values` near their `quantiles`, leaving out those that would leave fewer than `least` in a bin."""
    ordered = np.sort(values)
    edges: list[int] = []
    below = 0
    for q in quantiles:
        if not len(ordered):
            break
        edge = math.ceil(float(np.quantile(ordered, q)))
        upto = int(np.searchsorted(ordered, edge))
        if upto - below >= least and len(ordered) - upto >= least:
            edges.append(edge)
            below = upto
    return edges


def _together(calls: CallColumns, growth: _Growth) -> dict[str, Any]:
    """How far values are the session's own, and how those of its quantities go together."""
    sessions = len(calls.session_s)
    first = calls.inputs[calls.main & (calls.place == 0)]
    human = growth.humans / np.maximum(calls.turns - 1, 1)
    # Of these, and of waits, sessions of different lengths have tables of their own: it is the place in those that counts.
    levels = {
        "turns": calls.turns.astype(float),
        "first_input": _ranks(first, growth.turn_bin),
        "human": _ranks(human, growth.turn_bin),
    }
    shares = {}
    for name, values, of in (
        ("tool_wait", calls.wait_s, growth.later & calls.tool),
        ("human_wait", calls.wait_s, growth.later & ~calls.tool),
        ("output", calls.outputs, calls.main),
        ("extra", growth.extra, growth.settled),
    ):
        scores = _ranks(values[of], growth.wait_bin[of] if name.endswith("wait") else np.zeros(int(of.sum())))
        share, levels[name] = within_sessions(scores, calls.session[of], sessions)
        shares[name] = round(share, 3)
    return {"within_session": shares, "between_sessions": correlation(levels)}


def _ranks(values: Ints | Floats, bins: Ints | Floats) -> Floats:
    """Of each value its score within its bin."""
    scores = np.zeros(len(values))
    for each in np.unique(bins):
        scores[bins == each] = normal_scores(values[bins == each])
    return scores


def _arrivals(times_s: Floats, missing: list[str]) -> dict[str, float] | None:
    gaps_s = np.diff(times_s)
    if not len(gaps_s) or not np.isfinite(gaps_s).all() or gaps_s.sum() <= 0:
        missing.append("no times of arrival from which a rate could be told")
        return None
    burstiness = float(gaps_s.std() / gaps_s.mean())
    drawn = min(max(burstiness, _BURSTINESS[0]), _BURSTINESS[1])
    if drawn != burstiness:
        missing.append(f"gaps between arrivals vary by {burstiness:g} of their mean; {drawn:g} is the nearest that can be drawn")
    return {"rate_per_s": float(f"{1 / gaps_s.mean():.6g}"), "burstiness": round(drawn, 3)}


def _block_tokens(shared: Ints) -> int:
    """Prefixes are shared in whole blocks: the largest size of which all are multiples."""
    found = shared[shared > 0]
    return int(np.gcd.reduce(found)) if len(found) > 1 else 1


def _first_of(*choices: Flags) -> Flags:
    return next((each for each in choices if each.any()), choices[-1])


def _share(happened: Flags, among: Flags) -> float:
    return _ratio((happened & among).sum(), among.sum())


def _ratios(counts: Any, of: Any) -> Any:
    return np.divide(counts, of, out=np.zeros_like(of, dtype=float), where=np.asarray(of) > 0)


def _ratio(count: Any, of: Any) -> float:
    return round(float(count) / float(of), 5) if of else 0.0
