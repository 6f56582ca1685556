"""Agent sessions drawn from distributions fitted to real coding-agent sessions, consistent by construction.

Every input is a kept prefix plus new tokens: normally the whole previous input (in whole blocks) plus the previous output plus
what a tool or a person added; after a change near the front, the system prefix plus the rest; after a compaction at the
context limit, the system prefix plus a summary. Figures: `data/agent_generator.yaml`, written by tools/fit_workload.py.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twin.errors import InputError
from twin.rng import stream
from twin.workload.agent_figures import AgentFigures, shipped_figures
from twin.workload.agent_shape import SessionShape, ShapeModel, Timeline
from twin.workload.intake import Intake
from twin.workload.session import Session

#: Sessions whose timelines are drawn at once, from one stream: a session's shape depends on its number alone.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Begin in the middle of the day: sessions that began before 0 enter with their remaining calls.

    Where such a session stands at 0 is reckoned with `service_s` for each call (the twin's own service time is not known yet;
    9.5 s is the mean of the recorded ones). Calls that would have started before 0 are left out with their sub-agents; what
    they left in the context is `warm_tokens`. The arrivals begin one lookback before 0: the 99th percentile of the sessions'
    lengths, but no more than `lookback_cap_s` (a day: who comes back later begins anew). With the fitted figures 1.2 %
    of the calls fall later in their session than that, so the load at 0 is that much short.
    """

    service_s: float = 9.5
    lookback_cap_s: float = 86_400.0

    def __post_init__(self) -> None:
        if not (0 <= self.service_s < math.inf and 0 <= self.lookback_cap_s < math.inf):
            raise InputError("the service time and the lookback of a warm start must be finite and at least 0")


class AgentGenerator:
    """A `SessionSource` of coding-agent sessions.

    Sessions are made as they are asked for; of those waiting to enter only the timeline is kept. A session's main calls are
    left out after the first that cannot start before the horizon even if serving took no time; that one stays, so that the
    session is still under way when the run ends.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        warm_start: WarmStart | None = None,
        think_time_scale: float = 1.0,
        system_prompts: int | None = None,
        join_first: int | None = None,
        figures: AgentFigures | None = None,
    ):
        """`system_prompts`: how many different ones the sessions have among them; None: each its own. `join_first`: how many of
        the sub-agents that a call forks the next one waits for; None: all. `figures`: a fit to a trace; None: the shipped one.
        """
        if not (math.isfinite(think_time_scale) and think_time_scale > 0):
            raise InputError(f"the think time scale must be a positive number, not {think_time_scale!r}")
        if system_prompts is not None and system_prompts < 1:
            raise InputError(f"sessions have at least 1 system prompt among them, not {system_prompts}")
        if join_first is not None and join_first < 1:
            raise InputError(f"a call waits for at least 1 of the sub-agents before it, not {join_first}")
        self._intake = intake
        self._warm = warm_start
        self._scale = think_time_scale
        self._prompts = system_prompts
        self._join_first = join_first
        self._model = ShapeModel(shipped_figures() if figures is None else figures)

    @property
    def lookback_s(self) -> float:
        """How long before 0 the arrivals begin; 0 without a warm start."""
        if self._warm is None:
            return 0.0
        sample = self._model.timelines(stream(self._intake.seed, "workload.agents.lookback"), 4096)
        lengths_s = [float(line.waits_s.sum()) * self._scale + len(line.waits_s) * self._warm.service_s for line in sample]
        return min(float(math.ceil(np.quantile(lengths_s, 0.99))), self._warm.lookback_cap_s)

    def sessions(self) -> Iterator[Session]:
        """The sessions in order of arrival."""
        for count, session in enumerate(self._endless()):
            if count == self._intake.limit:
                return
            yield session

    def _endless(self) -> Iterator[Session]:
        entries = zip(self._intake.entries(-self.lookback_s), self._timelines(), strict=False)
        waiting: list[tuple[float, int, str, int, Timeline]] = []
        for (session_id, arrival_s, tier), timeline in entries:
            if arrival_s < 0:
                skipped, entry_s = self._position_at_zero(arrival_s, timeline)
                if skipped < len(timeline.waits_s) and entry_s < self._intake.horizon_s:
                    heapq.heappush(waiting, (entry_s, session_id, tier, skipped, timeline))
                continue
            while waiting and waiting[0][0] <= arrival_s:
                yield self._session(*heapq.heappop(waiting))
            yield self._session(arrival_s, session_id, tier, 0, timeline)
        while waiting:
            yield self._session(*heapq.heappop(waiting))

    def _timelines(self) -> Iterator[Timeline]:
        block = 0
        while True:
            yield from self._model.timelines(stream(self._intake.seed, f"workload.agents.timelines.{block}"), _BLOCK)
            block += 1

    def _position_at_zero(self, arrival_s: float, timeline: Timeline) -> tuple[int, float]:
        """(main calls that started before 0, when the next one starts) of a session that arrived at `arrival_s` < 0."""
        assert self._warm is not None
        starts_s = arrival_s + np.cumsum(timeline.waits_s) * self._scale + np.arange(len(timeline.waits_s)) * self._warm.service_s
        skipped = int(np.searchsorted(starts_s, 0.0))
        return skipped, float(starts_s[skipped]) if skipped < len(starts_s) else math.inf

    def _session(self, entry_s: float, session_id: int, tier: str, skipped: int, timeline: Timeline) -> Session:
        shape = self._model.shape(stream(self._intake.seed, f"workload.agents.tokens.{session_id}"), timeline)
        keep = self._calls_that_matter(entry_s, skipped, timeline)
        # Sessions are numbered without regard to their prompts, so their numbers deal them out.
        prompt = None if self._prompts is None else session_id % self._prompts
        calls = shape.calls(skipped, keep, self._scale, 0 if prompt is None else shape.system_tokens, self._join_first)
        return Session(session_id, entry_s, tier, calls, _resident_tokens(shape, skipped), prompt)

    def _calls_that_matter(self, entry_s: float, skipped: int, timeline: Timeline) -> int:
        if math.isinf(self._intake.horizon_s):
            return len(timeline.waits_s)
        soonest_s = entry_s + np.cumsum(timeline.waits_s[skipped + 1 :]) * self._scale
        beyond = skipped + 1 + int(np.searchsorted(soonest_s, self._intake.horizon_s))
        return min(beyond + 1, len(timeline.waits_s))


def _resident_tokens(shape: SessionShape, skipped: int) -> int:
    return shape.inputs[skipped - 1] + shape.outputs[skipped - 1] if skipped else 0
