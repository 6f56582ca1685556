"""The shape of one agent session: how many calls, what each waits for, how its context grows, which sub-agents it forks."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from twin.workload.quantiles import Floats, QuantileTable, fitted
from twin.workload.session import Call

_NORMAL = NormalDist()

Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(slots=True)
class Timeline:
    """What a session's main agent waits for before each call (the first waits for nothing), and the session's own scores."""

    waits_s: Floats
    #: True where a person, not a tool, is waited for.
    human: Flags
    #: Normal scores of the first input, the system prefix, the context limit, its kind, the outputs and the growth.
    own: tuple[float, ...]


@dataclass(slots=True)
class SubAgent:
    """A sub-agent's calls, a chain of its own."""

    inputs: list[int]
    outputs: list[int]
    shared: list[int]
    waits_s: list[float]


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

    def calls(self, skipped: int, keep: int, wait_scale: float, system_tokens: int = 0) -> list[Call]:
        """The main calls from `skipped` up to `keep`, with the sub-agents they fork; the first is a root without a wait.

        `system_tokens` of each main call's input are told as a system prompt that other sessions have as well.
        """
        waits_s = (self.timeline.waits_s * wait_scale).tolist()
        human = self.timeline.human.tolist()
        calls: list[Call] = []
        after: tuple[int, ...] = ()
        agent = 0
        for i in range(skipped, keep):
            root = i == skipped
            wait_s = 0.0 if root else waits_s[i]
            tool = not (root or human[i])
            system = min(system_tokens, self.inputs[i])
            calls.append(Call(after, wait_s, self.inputs[i], self.outputs[i], self.shared[i], 0, 0, None, tool, system))
            after = (main := len(calls) - 1,)
            for sub in self.forks.get(i, ()):
                agent += 1
                _append_sub_agent(calls, main, sub, agent, wait_scale)
                after = (*after, len(calls) - 1)
        return calls


def _append_sub_agent(calls: list[Call], forked_at: int, sub: SubAgent, agent: int, wait_scale: float) -> None:
    after = forked_at
    for i, (tokens, output, shared, wait_s) in enumerate(zip(sub.inputs, sub.outputs, sub.shared, sub.waits_s, strict=True)):
        calls.append(Call((after,), wait_s * wait_scale, tokens, output, shared, agent, 1, None, i > 0))
        after = len(calls) - 1


class ShapeModel:
    """The fitted model of agent sessions.

    Draws of one session go together: each is sqrt(r) x the session's own normal draw + sqrt(1 - r) x a fresh one, with r the
    share of variance between sessions (`within_session`), turned into a value by the quantile table (a Gaussian copula).
    """

    def __init__(self) -> None:
        figures = fitted("agent_generator")
        self._tables: dict[str, QuantileTable] = figures["tables"]
        self._together: dict[str, float] = figures["within_session"]
        self._breaks: dict[str, float] = figures["prefix_break_frac"]
        self._block: int = figures["block_tokens"]
        self._turn_bins: list[int] = figures["turn_bins"]
        self._first_reads: int = figures["first_reads"]
        self._context_bins: list[int] = figures["context_bins"]
        self._spawn_frac: float = figures["spawn_frac"]
        self._long_score = _NORMAL.inv_cdf(figures["long_context_frac"])
        self._long_limit: int = figures["long_context_limit_tokens"]

    def timelines(self, rng: np.random.Generator, sessions: int) -> Iterator[Timeline]:
        """`sessions` timelines, drawn together; what is drawn once a session is sliced (see `_sliced_scores`)."""
        turns = self._tables["turns"].whole(_sliced_scores(rng, sessions))
        bins = np.searchsorted(self._turn_bins, turns, side="right")
        own_human = _sliced_scores(rng, sessions)
        human_frac = np.choose(bins, [self._tables[f"human_frac_{i}"].at(own_human) for i in range(len(self._turn_bins) + 1)])
        own_pace = _sliced_scores(rng, sessions)
        total = int(turns.sum())
        of = np.repeat(np.arange(sessions), turns)
        human = rng.random(total) < human_frac[of]
        score = self._shared(own_pace[of], rng.standard_normal(total), "think")
        waits_s = np.where(human, self._tables["think_human_s"].seconds(score), self._tables["think_tool_s"].seconds(score))
        ends = np.cumsum(turns)
        waits_s[ends - turns] = 0.0
        own = np.stack([_sliced_scores(rng, sessions) for _ in range(6)], axis=1).tolist()
        for (begin, end), scores in zip(pairwise([0, *ends.tolist()]), own, strict=True):
            yield Timeline(waits_s[begin:end].copy(), human[begin:end].copy(), tuple(scores))

    def shape(self, rng: np.random.Generator, timeline: Timeline) -> SessionShape:
        """The token counts that go with `timeline`."""
        turns = len(timeline.waits_s)
        tables = self._tables
        own = timeline.own
        first = int(tables[f"first_input_tokens_{int(np.searchsorted(self._turn_bins, turns, side='right'))}"].whole(own[0]))
        prefix = int(tables["system_prefix_tokens"].whole(own[1]))
        limit = int(tables["context_limit_tokens"].whole(own[2]))
        luck = rng.random((2, turns))
        if own[3] < self._long_score or first >= limit:
            limit = self._long_limit
        outputs = tables["output_tokens"].whole(self._shared(own[4], rng.standard_normal(turns), "output"))
        fresh = rng.standard_normal(turns)
        score = self._shared(own[5], fresh, "extra")
        broken = luck[0] < np.where(timeline.human, self._breaks["human"], self._breaks["tool"])
        late = np.where(timeline.human, tables["extra_human_tokens"].at(score), tables["extra_tool_tokens"].at(score))
        extra = np.stack([*(tables[f"extra_tokens_{i}"].at(fresh) for i in range(len(self._context_bins))), late])
        extra[:, : self._first_reads + 1] = tables["extra_first_tokens"].at(fresh[: self._first_reads + 1])
        extra[:, broken] = tables["extra_break_tokens"].at(score[broken])
        added = (np.rint(extra[:, 1:]).astype(np.int64) + outputs[:-1]).tolist()
        summaries = tables["compacted_tokens"].whole(rng.standard_normal(turns))
        inputs, shared = self._context(first, prefix, limit, added, broken.tolist(), summaries.tolist())
        forks = {}
        for i in np.flatnonzero(luck[1, 1:] < self._spawn_frac).tolist():
            if not timeline.human[i + 1]:
                forks[i] = [self._sub_agent(rng) for _ in range(int(tables["sub_agents"].whole(rng.standard_normal())))]
        return SessionShape(timeline, inputs, outputs.tolist(), shared, forks, prefix)

    def _context(
        self, first: int, prefix: int, limit: int, added: list[list[int]], broken: list[bool], summaries: list[int]
    ) -> tuple[list[int], list[int]]:
        """(inputs, how much of each repeats the one before), call by call; `added` holds the growth for each size of context."""
        block, bins = self._block, self._context_bins
        inputs, shared = [first], [0]
        context = first
        for i in range(1, len(broken)):
            kept = context
            context = max(context + added[bisect_right(bins, context)][i - 1], prefix + 1)
            if kept > limit:
                context = summaries[i]
                kept = prefix
            elif broken[i]:
                kept = min(prefix, kept)
            kept = min(kept, context - 1)
            inputs.append(context)
            shared.append(kept // block * block)
        return inputs, shared

    def _sub_agent(self, rng: np.random.Generator) -> SubAgent:
        tables = self._tables
        turns = int(tables["sub_turns"].whole(rng.standard_normal()))
        scores = rng.standard_normal((3, turns))
        outputs = tables["sub_output_tokens"].whole(scores[0])
        grown = tables["sub_extra_tokens"].whole(scores[1][1:]) + outputs[:-1]
        first = int(tables["sub_first_input_tokens"].whole(rng.standard_normal()))
        inputs = np.concatenate([[first], first + np.cumsum(grown)]).tolist()
        shared = [0, *(tokens // self._block * self._block for tokens in inputs[:-1])]
        waits_s = tables["sub_think_s"].seconds(scores[2])
        waits_s[0] = 0.0
        return SubAgent(inputs, outputs.tolist(), shared, waits_s.tolist())

    def _shared(self, own: Floats | float, fresh: Floats, quantity: str) -> Floats:
        share = self._together[quantity]
        return math.sqrt(share) * own + math.sqrt(1 - share) * fresh


def _sliced_scores(rng: np.random.Generator, count: int) -> Floats:
    """Standard normal draws, one from each of `count` equal slices of the distribution, shuffled.

    Sessions differ a hundredfold: with plain draws the load of a short run would wander by chance.
    """
    slices = (rng.permutation(count) + rng.random(count)) / count
    return np.array([_NORMAL.inv_cdf(p) for p in slices.tolist()])
