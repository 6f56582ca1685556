"""What the utility asks of a feed, and when: a level to stay at or below, announced, ramped into, held and lifted."""

from __future__ import annotations

from dataclasses import dataclass

from twin.errors import InputError


@dataclass(frozen=True, slots=True)
class LoadTargetEvent:
    """One load target on a feed. Times in s since the start of the run, powers in W.

    From `start_s` the limit falls linearly from the contract to `target_w`, reached at `ramp_end_s`, and holds to `end_s`.
    `announced_s` is when the factory hears of it (never before the run begins).
    """

    name: str
    announced_s: float
    start_s: float
    ramp_end_s: float
    end_s: float
    target_w: float
    mandatory: bool

    def __post_init__(self) -> None:
        if not self.start_s <= self.ramp_end_s <= self.end_s or self.start_s == self.end_s:
            raise InputError(f"event {self.name}: start {self.start_s} s, end of ramp {self.ramp_end_s} s, end {self.end_s} s")

    def limit_w(self, time_s: float, contract_w: float) -> float:
        """The level in force at `time_s`, the contract outside the event."""
        if not self.start_s <= time_s < self.end_s:
            return contract_w
        if time_s >= self.ramp_end_s:
            return self.target_w
        share = (time_s - self.start_s) / (self.ramp_end_s - self.start_s)
        return contract_w + share * (self.target_w - contract_w)


class FeedSchedule:
    """A feed's contract and all load targets on it; the lowest counts where they overlap."""

    def __init__(self, contract_w: float, events: tuple[LoadTargetEvent, ...]):
        self.contract_w = contract_w
        self.events = tuple(sorted(events, key=lambda e: (e.start_s, e.name)))

    def boundaries_s(self) -> list[float]:
        """Every time at which the level or its slope changes, or something is announced, in order."""
        return sorted({t for e in self.events for t in (e.announced_s, e.start_s, e.ramp_end_s, e.end_s)})

    def announced(self, time_s: float) -> tuple[LoadTargetEvent, ...]:
        """Events that the factory knows of and that have not ended."""
        return tuple(e for e in self.events if e.announced_s <= time_s < e.end_s)

    def limit_w(self, time_s: float) -> float:
        """The level that the meter must not exceed at `time_s`."""
        return min((e.limit_w(time_s, self.contract_w) for e in self.events), default=self.contract_w)

    def known_limit_w(self, time_s: float, as_of_s: float) -> float:
        """The level at `time_s` as far as the factory has been told at `as_of_s`."""
        told = (e.limit_w(time_s, self.contract_w) for e in self.events if e.announced_s <= as_of_s)
        return min(told, default=self.contract_w)

    def target_w(self, from_s: float, to_s: float) -> float | None:
        """The lowest target in force in the step [from_s, to_s), None where there is none.

        Steps end at boundaries, so the lowest is at one of their ends; an event that begins at `to_s` is the next step's.
        """
        levels = [
            min(e.limit_w(from_s, self.contract_w), e.target_w if to_s >= e.ramp_end_s else e.limit_w(to_s, self.contract_w))
            for e in self.events
            if e.start_s <= from_s < e.end_s
        ]
        return min(levels, default=None)
