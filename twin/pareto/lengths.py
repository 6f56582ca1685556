"""The requests of a study: sizes drawn from the scenario's workload, and the state a closed loop over them settles in."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice

from twin.engine.workload_source import sessions
from twin.errors import InputError
from twin.schema.scenario import Scenario
from twin.schema.workload import AgentWorkload

#: Requests that are drawn; a longer play takes them again from the first.
DRAWN = 4096
#: Long enough for as many arrivals at any rate that a scenario may have; the times themselves mean nothing here.
_HORIZON_S = 1e12


@dataclass(frozen=True)
class RequestSizes:
    """(input, output) tokens of requests in the order in which they are sent."""

    sizes: tuple[tuple[int, int], ...]

    @cached_property
    def mean_input_tokens(self) -> float:
        """Mean prompt."""
        return sum(inputs for inputs, _ in self.sizes) / len(self.sizes)

    @cached_property
    def mean_output_tokens(self) -> float:
        """Mean answer."""
        return sum(outputs for _, outputs in self.sizes) / len(self.sizes)

    @cached_property
    def longest_tokens(self) -> int:
        """Input and output of the longest request."""
        return max(map(sum, self.sizes))

    @cached_property
    def mean_context_tokens(self) -> float:
        """Mean context of a sequence that is being decoded: each counts for as long as its answer takes."""
        weighted = sum(outputs * (inputs + outputs / 2) for inputs, outputs in self.sizes)
        return weighted / sum(outputs for _, outputs in self.sizes)

    def take(self, count: int) -> list[tuple[int, int]]:
        """The sizes of the first `count` requests."""
        return [self.sizes[number % len(self.sizes)] for number in range(count)]

    def in_flight(self, count: int) -> list[tuple[int, int]]:
        """`count` requests as a loop that has gone on for long has them in flight: what is generated has joined the input, save
        for the last token of it, which is the first to count as output.

        Long answers are met more often, in proportion to their length, and anywhere on their way (renewal theory). `count`
        even steps through all answers laid end to end do both: a step falls into an answer, and at a place in it.
        """
        answers = [size for size in self.sizes if size[1] > 1]  # a single token ends with its prompt and is never decoded
        ends = list(accumulate(outputs for _, outputs in answers))
        states = []
        for number in range(count):
            place = (number + 0.5) * ends[-1] / count
            index = bisect_right(ends, place)
            inputs, outputs = answers[index]
            left = min(outputs - 1, max(1, round(ends[index] - place)))
            states.append((inputs + outputs - left - 1, left + 1))
        return states


def request_sizes(scenario: Scenario) -> RequestSizes:
    """The sizes that `scenario`'s workload draws; alike ones once.

    Raises InputError for agents, whose calls share prefixes and follow each other, and for a workload without answers to time.
    """
    unbounded = scenario.model_copy(update={"horizon": _HORIZON_S, "represent": 1})
    of_agents = isinstance(scenario.workload, AgentWorkload)
    calls = [] if of_agents else [session.calls for session in islice(sessions(unbounded), DRAWN)]
    if of_agents or any(len(each) > 1 for each in calls):
        raise InputError(
            f"scenario {scenario.name}: a pareto study takes single calls (chat, reasoning, fixed), not agents' sessions"
        )
    drawn = [(call.input_tokens, call.output_tokens) for (call,) in calls]
    if not any(outputs > 1 for _, outputs in drawn):
        raise InputError("no request has more than one output token: there is no time per token to tell")
    return RequestSizes(tuple(drawn) if len(set(drawn)) > 1 else (drawn[0],))
