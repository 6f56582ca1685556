"""The shape of one agent session: how many calls, what each waits for, how its context grows, which sub-agents it forks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from twin.rng import stream
from twin.workload.agent_figures import OWN, AgentFigures
from twin.workload.call_columns import Flags, Ints
from twin.workload.quantiles import Floats, QuantileTable
from twin.workload.session import Call

_NORMAL = NormalDist()
#: Sessions over which the levels of calls are reckoned.
_SAMPLE = 1 << 14
_NOTHING = QuantileTable([0, 1], [0, 0])


@dataclass(slots=True)
class Timeline:
    """What a session's main agent waits for before each call (the first waits for nothing), and the session's own scores."""

    waits_s: Floats
    #: True where a person, not a tool, is waited for.
    human: Flags
    #: Normal scores of the first input, the system prefix, the outputs, the growth, whether it may delegate and is long.
    own: tuple[float, ...]


@dataclass(slots=True)
class SubAgent:
    """A sub-agent's calls, a chain of its own, and the sub-agents forked at some of them."""

    inputs: list[int]
    outputs: list[int]
    shared: list[int]
    waits_s: list[float]
    #: Whether the call that follows the spawn waits for it.
    joined: bool
    #: Call -> the sub-agents it forks.
    forks: dict[int, list[SubAgent]] = field(default_factory=dict)


@dataclass(slots=True)
class SessionShape:
    """Token counts of a session's main calls, and the sub-agents forked at some of them and joined by the next."""

    timeline: Timeline
    inputs: list[int]
    outputs: list[int]
    shared: list[int]
    #: Main call -> the sub-agents it forks.
    forks: dict[int, list[SubAgent]] = field(default_factory=dict)
    system_tokens: int = 0

    def calls(
        self, skipped: int, keep: int, wait_scale: float, system_tokens: int = 0, join_first: int | None = None
    ) -> list[Call]:
        """The main calls from `skipped` up to `keep`, with the sub-agents they fork; the first is a root without a wait.

        `system_tokens` of each main call's input are told as a system prompt that other sessions have as well. A call waits
        for `join_first` of the sub-agents forked before it, for all where there are no more or it is None.
        """
        waits_s = (self.timeline.waits_s * wait_scale).tolist()
        human = self.timeline.human.tolist()
        tree = _Tree(wait_scale, join_first)
        main, joins = 0, _NO_JOINS
        for i in range(skipped, keep):
            root = i == skipped
            tool = not (root or human[i])
            system = min(system_tokens, self.inputs[i])
            tokens = (self.inputs[i], self.outputs[i], self.shared[i])
            after = () if root else (main,)
            main = tree.append(
                Call((*after, *joins[0]), 0.0 if root else waits_s[i], *tokens, 0, 0, None, tool, system, *joins[1:])
            )
            joins = tree.fork(main, self.forks.get(i, ()), 1)
        return tree.calls


#: (calls to wait for, calls of which some are enough, how many).
_Joins = tuple[tuple[int, ...], tuple[int, ...], int]
_NO_JOINS: _Joins = ((), (), 0)


class _Tree:
    """The calls of a session as they are put down, each agent's behind the call that forks it."""

    def __init__(self, wait_scale: float, join_first: int | None):
        self.calls: list[Call] = []
        self._scale = wait_scale
        self._join_first = join_first
        self._agents = 0

    def append(self, call: Call) -> int:
        """Position of `call`."""
        self.calls.append(call)
        return len(self.calls) - 1

    def fork(self, at: int, subs: Sequence[SubAgent], depth: int) -> _Joins:
        """Put down the sub-agents forked at `at`; what the forking agent's next call waits for."""
        ends = tuple([end for sub in subs if (end := self._chain(at, sub, depth)) is not None])
        if self._join_first is None or len(ends) <= self._join_first:
            return ends, (), 0
        return (), ends, self._join_first

    def _chain(self, forked_at: int, sub: SubAgent, depth: int) -> int | None:
        self._agents += 1
        agent, before, joins = self._agents, forked_at, _NO_JOINS
        for i, (tokens, output, shared, wait_s) in enumerate(zip(sub.inputs, sub.outputs, sub.shared, sub.waits_s, strict=True)):
            waits_for = (before, *joins[0])
            call = Call(waits_for, wait_s * self._scale, tokens, output, shared, agent, depth, None, i > 0, 0, *joins[1:])
            before = self.append(call)
            joins = self.fork(before, sub.forks.get(i, ()), depth + 1)
        return before if sub.joined else None


class ShapeModel:
    """The fitted model of agent sessions.

    Draws of one session go together: each is sqrt(r) x the session's own normal draw + sqrt(1 - r) x a fresh one, with r the
    share of variance between sessions (`within_session`), turned into a value by the quantile table (a Gaussian copula).
    """

    def __init__(self, figures: AgentFigures):
        self._figures = figures
        # A table that the figures lack is never drawn from: `read_figures` has seen to it.
        self._tables: defaultdict[str, QuantileTable] = defaultdict(lambda: _NOTHING, figures.tables)
        self._together = np.linalg.cholesky(np.array(figures.between_sessions))
        self._level = self._levels()
        self._long_drops = (figures.long_drop_frac,) * len(figures.drop_frac)
        self._delegates_score = _NORMAL.inv_cdf(share) if 0 < (share := figures.delegating_frac) < 1 else math.inf * (share - 0.5)

    def timelines(self, rng: np.random.Generator, sessions: int) -> Iterator[Timeline]:
        """`sessions` timelines, drawn together; what is drawn once a session is sliced (see `_sliced_scores`)."""
        own = dict(zip(OWN, _ranked_alike(rng, sessions, self._together), strict=True))
        turns, human_frac = self._turns_and_human_frac(own)
        of = np.repeat(np.arange(sessions), turns)
        ends = np.cumsum(turns)
        human = _some_of_each(rng, human_frac, turns)
        fresh = rng.standard_normal(len(of))
        scores = {kind: self._shared(own[f"{kind}_wait"][of], fresh, f"{kind}_wait") for kind in ("tool", "human")}
        waits_s = np.empty(len(of))
        persons = np.add.reduceat(human, ends - turns, dtype=np.int64)
        for kind, edges, counts, theirs in (
            ("tool", self._figures.turn_edges, turns, ~human),
            ("human", self._figures.human_edges, persons, human),
        ):
            bins = np.searchsorted(edges, counts, side="right")[of]
            for each in range(len(edges) + 1):
                chosen = theirs & (bins == each)
                waits_s[chosen] = self._tables[f"wait_{kind}_s_{each}"].seconds(scores[kind][chosen])
        waits_s[ends - turns] = 0.0
        others = [_sliced_scores(rng, sessions) for _ in range(3)]
        rows = np.stack([own["first_input"], others[0], own["output"], own["extra"], *others[1:]], axis=1).tolist()
        for (begin, end), scores in zip(pairwise([0, *ends.tolist()]), rows, strict=True):
            yield Timeline(waits_s[begin:end].copy(), human[begin:end].copy(), tuple(scores))

    def shape(self, rng: np.random.Generator, timeline: Timeline) -> SessionShape:
        """The token counts that go with `timeline`."""
        turns = len(timeline.waits_s)
        tables, figures, human = self._tables, self._figures, timeline.human
        own = timeline.own
        turn_bin = int(np.searchsorted(figures.turn_edges, turns, side="right"))
        first = int(tables[f"first_input_tokens_{turn_bin}"].whole(own[0]))
        prefix = int(tables["system_prefix_tokens"].whole(own[1], 0))
        luck = rng.random((3, turns))
        outputs = tables["output_tokens"].whole(self._shared(own[2], rng.standard_normal(turns), "output"))
        fresh = rng.standard_normal(turns)
        score = self._shared(own[3], fresh, "extra")
        late = np.where(human, tables["extra_human_tokens"].at(score), tables["extra_tool_tokens"].at(score))
        extra = np.stack([*(tables[f"extra_tokens_{i}"].at(fresh) for i in range(len(figures.context_edges))), late])
        reads = figures.first_reads + 1
        extra[:, :reads] = tables["extra_first_tokens"].at(fresh[:reads])
        changes = _Changes(
            added=_grown(extra, outputs),
            added_broken=_grown(tables["extra_break_tokens"].at(score), outputs),
            dropped_to_frac=np.round(tables["drop_frac"].at(rng.standard_normal(turns)), 6).tolist(),
            break_frac=np.where(human, figures.break_frac["human"], figures.break_frac["tool"]).tolist(),
            luck=luck[:2].tolist(),
        )
        long = _NORMAL.cdf(own[5]) < figures.long_frac[bool(figures.drop_edges) and first >= figures.drop_edges[-1]]
        inputs, shared = self._context(first, prefix, self._long_drops if long else figures.drop_frac, changes)
        forks = {}
        if own[4] < self._delegates_score:
            begun = 0
            for i in np.flatnonzero(luck[2, 1:] < figures.spawn_frac).tolist():
                if not human[i + 1]:
                    forks[i] = self._sub_agents(rng, inputs[i], 1, begun)
                    begun += len(forks[i])
        return SessionShape(timeline, inputs, outputs.tolist(), shared, forks, prefix)

    def _context(self, first: int, prefix: int, drop_frac: Sequence[float], changes: _Changes) -> tuple[list[int], list[int]]:
        """(inputs, how much of each repeats the one before), call by call; `drop_frac` for each size of context."""
        figures = self._figures
        block, edges, drop_edges = figures.block_tokens, figures.context_edges, figures.drop_edges
        after_drop = figures.break_frac["after_drop"]
        drops, breaks = changes.luck
        inputs, shared = [first], [0]
        context, dropped = first, False
        for i in range(1, len(breaks)):
            kept = context
            if drops[i] < drop_frac[bisect_right(drop_edges, context)]:
                context = max(round(context * changes.dropped_to_frac[i]), 1)
                kept, dropped = min(prefix, kept), True
            else:
                broken = breaks[i] < (after_drop if dropped else changes.break_frac[i])
                added = changes.added_broken if broken else changes.added[bisect_right(edges, context)]
                kept, dropped = min(prefix, kept) if broken else kept, False
                context = max(context + added[i], min(prefix, context) + 1)
            inputs.append(context)
            shared.append(min(kept, context - 1) // block * block)
        return inputs, shared

    def _sub_agents(self, rng: np.random.Generator, context: int, depth: int, begun: int) -> list[SubAgent]:
        """The sub-agents forked at a call with `context` tokens of input, when `begun` of the session's have begun before."""
        count = int(self._tables["sub_agents"].whole(rng.standard_normal()))
        return [self._sub_agent(rng, context, depth, begun + i == 0) for i in range(count)]

    def _sub_agent(self, rng: np.random.Generator, context: int, depth: int, earliest: bool) -> SubAgent:
        tables, figures = self._tables, self._figures
        turns = int(tables["sub_calls"].whole(rng.standard_normal()))
        scores = rng.standard_normal((3, turns))
        outputs = tables["sub_output_tokens"].whole(scores[0])
        grown = np.rint(tables["sub_extra_tokens"].at(scores[1][1:])).astype(np.int64) + outputs[:-1]
        first = int(tables["sub_first_input_tokens"].whole(rng.standard_normal()))
        inputs = np.maximum(np.concatenate([[first], first + np.cumsum(grown)]), 1).tolist()
        # What begins every sub-agent is in the caches from the session's first one on.
        begins = tables["sub_first_shared_frac" if earliest else "sub_next_shared_frac"]
        kept = [min(round(first * float(begins.at(rng.standard_normal()))), context, first - 1), *map(min, pairwise(inputs))]
        shared = [
            min(each, tokens - 1) // figures.block_tokens * figures.block_tokens
            for each, tokens in zip(kept, inputs, strict=True)
        ]
        waits_s = tables["sub_wait_s"].seconds(scores[2])
        waits_s[0] = 0.0
        joined = bool(rng.random() < figures.joined_frac)
        forks = {}
        if depth < figures.most_depth:
            spawns = np.flatnonzero(rng.random(turns)[1:] < figures.nested_spawn_frac).tolist()
            forks = {i: self._sub_agents(rng, inputs[i], depth + 1, 1) for i in spawns}
        return SubAgent(inputs, outputs.tolist(), shared, waits_s.tolist(), joined, forks)

    def _shared(self, own: Floats | float, fresh: Floats, quantity: str) -> Floats:
        share = self._figures.within_session[quantity]
        mean, spread = self._level[quantity]
        return (math.sqrt(share) * own + math.sqrt(1 - share) * fresh - mean) / spread

    def _levels(self) -> dict[str, tuple[float, float]]:
        """Quantity -> (mean, standard deviation) of its scores over all calls of many sessions.

        The tables hold what calls have, whichever session they are of, and long sessions have most calls: where their level
        is another than that of short ones, the scores of calls are no standard normal draws.
        """
        own = dict(zip(OWN, _ranked_alike(stream(0, "workload.agents.levels"), _SAMPLE, self._together), strict=True))
        turns, human_frac = self._turns_and_human_frac(own)
        tool, human = (turns - 1) * (1 - human_frac), (turns - 1) * human_frac
        found = {}
        for quantity, calls in (("tool_wait", tool), ("human_wait", human), ("output", turns), ("extra", turns - 1)):
            if not calls.any():
                found[quantity] = (0.0, 1.0)
                continue
            mean = float(np.average(own[quantity], weights=calls))
            variance = float(np.average((own[quantity] - mean) ** 2, weights=calls))
            share = self._figures.within_session[quantity]
            found[quantity] = (math.sqrt(share) * mean, math.sqrt(1 - share + share * variance))
        return found

    def _turns_and_human_frac(self, own: Mapping[str, Floats]) -> tuple[Ints, Floats]:
        """Of sessions with these scores the main calls, and the share of them that a person is waited for before."""
        turns = self._tables["turns"].whole(own["turns"])
        edges = self._figures.turn_edges
        bins = np.searchsorted(edges, turns, side="right")
        return turns, np.choose(bins, [self._tables[f"human_frac_{i}"].at(own["human"]) for i in range(len(edges) + 1)])


@dataclass(slots=True)
class _Changes:
    """What would become of the context at each call of a session."""

    #: Tokens added for each size of the context before.
    added: list[list[int]]
    added_broken: list[int]
    dropped_to_frac: list[float]
    break_frac: list[float]
    #: Uniform draws: of a drop, of a break.
    luck: list[list[float]]


def _grown(extra: Floats, outputs: Ints) -> Any:
    """Tokens that each call adds to the context before it: the answer to that, and what was read since."""
    return (np.rint(extra).astype(np.int64) + np.concatenate([[0], outputs[:-1]])).tolist()


def _sliced_scores(rng: np.random.Generator, count: int) -> Floats:
    """Standard normal draws, one from each of `count` equal slices of the distribution, shuffled.

    Sessions differ a hundredfold: with plain draws the load of a short run would wander by chance.
    """
    slices = (rng.permutation(count) + rng.random(count)) / count
    return np.array([_NORMAL.inv_cdf(p) for p in slices.tolist()])


def _ranked_alike(rng: np.random.Generator, count: int, cholesky: Floats) -> Floats:
    """Rows of sliced scores that go together: each is put into the order of a row of normal draws correlated as told.

    The rearrangement of Iman and Conover (1982), "A distribution-free approach to inducing rank correlation among input
    variables", Communications in Statistics 11 (3).
    """
    drawn = cholesky @ rng.standard_normal((len(cholesky), count))
    rows = np.empty_like(drawn)
    for row, draws in zip(rows, drawn, strict=True):
        row[np.argsort(draws, kind="stable")] = np.sort(_sliced_scores(rng, count))
    return rows


def _some_of_each(rng: np.random.Generator, frac: Floats, turns: Ints) -> Flags:
    """Of the later calls of each session the share `frac`, at random places; what is left of a whole call is drawn."""
    later = turns - 1
    counts = np.floor(frac * later + rng.random(len(turns))).astype(np.int64)
    ends = np.cumsum(turns)
    order = rng.random(int(ends[-1]))
    order[ends - turns] = 2.0  # a session's first call waits for nobody
    of = np.repeat(np.arange(len(turns)), turns)
    chosen = np.zeros(len(order), dtype=bool)
    places = np.lexsort((order, of))
    chosen[places] = np.arange(len(order)) - (ends - turns)[of] < counts[of]
    return chosen
