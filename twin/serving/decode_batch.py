"""The sequences that an instance decodes together: who ends when, and what they hold in all."""

from __future__ import annotations

from heapq import heappop, heappush

from twin.serving.request import Request


class DecodeBatch:
    """Sequences by the decode step at which each ends; costs O(log n) a change and nothing a step.

    `step` counts decode steps of the instance. `context_tokens` is the sum of the contexts and `gained` what they gain in a step
    together, in the mean: with speculation neither is whole.
    """

    __slots__ = ("_ends", "_running", "_serial", "context_tokens", "gained", "step")

    def __init__(self) -> None:
        #: Sequence -> number of its stay, by which entries of earlier stays are told from it.
        self._running: dict[Request, int] = {}
        self._ends: list[tuple[int, int, Request]] = []
        self._serial = 0
        self.step = 0
        self.context_tokens: float = 0
        self.gained: float = 0

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, request: Request) -> bool:
        return request in self._running

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._running)

    @property
    def newest(self) -> Request:
        """The sequence that joined last."""
        return next(reversed(self._running))

    @property
    def next_end_step(self) -> int:
        """The step at which the next one ends."""
        ends = self._ends
        while self._running.get(ends[0][2]) != ends[0][1]:
            heappop(ends)
        return ends[0][0]

    def add(self, request: Request, steps: int) -> None:
        """A sequence joins and ends in `steps` steps."""
        request.steps = steps
        request.gain = (request.output_tokens - request.generated) / steps
        request.end_step = self.step + steps
        self.context_tokens += request.context_tokens
        self.gained += request.gain
        self._serial += 1
        self._running[request] = self._serial
        heappush(self._ends, (request.end_step, self._serial, request))

    def advance(self, steps: int, gained: float) -> list[Request]:
        """Steps were taken in which the batch gained so many tokens each; the sequences that end with them, not yet removed."""
        self.step = step = self.step + steps
        self.context_tokens += gained * steps
        ends = self._ends
        ended = []
        while ends and ends[0][0] <= step:
            _, stay, request = heappop(ends)
            if self._running.get(request) == stay:
                ended.append(request)
        return ended

    def remove(self, request: Request) -> tuple[int, float]:
        """Take a sequence out, with what it has gained: whole tokens, which it keeps, and the mean that the sums have had."""
        del self._running[request]
        gained = self.gained_by(request, self.step)
        mean = request.gain * (self.step - request.end_step + request.steps)
        if request.gain == 1:
            mean = gained
        self.context_tokens -= request.context_tokens + mean
        self.gained -= request.gain
        if not self._running:
            self.context_tokens = self.gained = 0
        request.context_tokens += gained
        request.generated += gained
        return gained, mean

    @staticmethod
    def gained_by(request: Request, step: int) -> int:
        """Whole tokens that a sequence of the batch has gained up to a decode step."""
        return (request.output_tokens - request.generated) * (step - request.end_step + request.steps) // request.steps
