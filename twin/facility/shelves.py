"""The rectifiers of all racks: on which feeds they hang, how many of them work, what each feed has to deliver to them.

The rectifiers (PSUs) of a rack are spread evenly over its feeds, the first feeds having one more where that is not even; those
that work share the rack's load evenly. Failed ones are taken from the feeds in turn, the first feed first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError, did_you_mean
from twin.facility.component import Component
from twin.facility.electrical import ElectricalElement

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Shelves:
    """Arrays of shape (racks,): `rated_w` is what the working rectifiers of a rack may deliver, `installed_w` all of them.

    `feeds` are the numbers of the elements that each group hangs on.
    """

    def __init__(
        self, names: list[str], counts: list[int], shelves: list[ElectricalElement], psus: list[int], feeds: list[list[int]]
    ):
        self._names, self._counts, self._psus = names, counts, psus
        self._first = np.concatenate(([0], np.cumsum(counts))).tolist()
        group = np.repeat(np.arange(len(names)), counts)
        self._group_of = group
        self.installed_w: Floats = np.array([shelf.rated_w for shelf in shelves])[group]
        self._fixed_frac: Floats = np.array([shelf.loss_fixed_frac for shelf in shelves])[group]
        self.linear: Floats = np.array([1 + shelf.loss_linear_frac for shelf in shelves])[group]
        self._quadratic_frac: Floats = np.array([shelf.loss_quadratic_frac for shelf in shelves])[group]
        racks = len(group)
        width = max(len(each) for each in feeds)
        #: (racks, feeds): the element that feed is, and how many rectifiers hang on it; none where a rack has fewer feeds.
        self._feed = np.zeros((racks, width), dtype=np.intp)
        self._on_feed = np.zeros((racks, width))
        for number, each in enumerate(feeds):
            rows = slice(self._first[number], self._first[number + 1])
            for place, element in enumerate(each):
                self._feed[rows, place] = element
                self._on_feed[rows, place] = psus[number] // len(each) + (place < psus[number] % len(each))
        self._flat_feed = self._feed.ravel()
        self._all_psus = np.array(psus, dtype=np.float64)[group]
        self._out = np.zeros(racks)
        self._dropped_at = np.full(racks, np.inf)
        self._overloaded: list[int] = []
        self.live: Flags = np.ones(racks, dtype=np.bool_)
        #: the only element that all racks hang on, if they all hang on one.
        self.one_feed = feeds[0][0] if width == 1 and len({each[0] for each in feeds}) == 1 else None
        self.settle(np.ones(int(self._feed.max()) + 1, dtype=np.bool_))

    def components(self) -> tuple[Component, ...]:
        """The rectifiers of each rack."""
        return tuple(
            Component("psu", f"{name}/{rack}", psus)
            for name, count, psus in zip(self._names, self._counts, self._psus, strict=True)
            for rack in range(count)
        )

    def change(self, name: str, units: int) -> None:
        """So many more rectifiers of rack "GROUP/INDEX" are out; below zero: fewer. Raises SimulationError where they are not."""
        group, _, number = name.rpartition("/")
        if group not in self._names:
            raise SimulationError(f"no rectifiers {name!r}{did_you_mean(group, self._names)}")
        place = self._names.index(group)
        if not (number.isdecimal() and int(number) < self._counts[place]):
            raise SimulationError(f"no rectifiers {name!r}: {group} has racks 0 to {self._counts[place] - 1}")
        rack = self._first[place] + int(number)
        if not 0 <= self._out[rack] + units <= self._psus[place]:
            raise SimulationError(
                f"psu/{name}: of {self._psus[place]} rectifiers {self._out[rack]:.0f} are out already, not {units} more"
            )
        self._out[rack] += units

    def settle(self, element_live: Flags) -> None:
        """Reckon anew who is live and shares what, with these elements alive."""
        feeds = np.maximum((self._on_feed > 0).sum(axis=1, dtype=np.float64), 1.0)
        place = np.arange(self._feed.shape[1])
        each = np.floor_divide(self._out, feeds)[:, None]
        over = self._out[:, None] - each * feeds[:, None]
        out = np.minimum(self._on_feed, each + (place < over))
        rest: Floats = self._out - out.sum(axis=1)  # a feed with fewer rectifiers than its turn asked for
        for column in range(self._feed.shape[1]) if rest.any() else ():
            more = np.minimum(rest, self._on_feed[:, column] - out[:, column])
            out[:, column] += more
            rest = rest - more
        working = (self._on_feed - out) * element_live[self._feed]
        number = working.sum(axis=1)
        rated = self.installed_w * (number / self._all_psus)
        self._dropped_at = np.where(rated > self._dropped_at, np.inf, self._dropped_at)
        live = (number > 0) & np.isinf(self._dropped_at)
        self.rated_w: Floats = np.where(live, rated, 0.0)
        self.fixed_w: Floats = self.rated_w * self._fixed_frac
        self.quadratic_per_w: Floats = self._quadratic_frac / np.where(live, rated, 1.0)
        self._shares = np.where(live[:, None], working / np.maximum(number, 1.0)[:, None], 0.0)
        if not np.array_equal(live, self.live):
            self.live = live
        self.degraded = bool((self.rated_w < self.installed_w).any())

    def load_w(self, drawn_w: Floats, elements: int) -> Floats:
        """What each element (elements,) delivers to racks that draw `drawn_w` (racks,)."""
        loads = np.bincount(self._flat_feed, (drawn_w[:, None] * self._shares).ravel(), elements)
        return np.asarray(loads, dtype=np.float64)

    def beyond(self, it_w: Floats) -> str | None:
        """What is wrong with DC powers above `rated_w` or below zero. None where rectifiers that failed are why: such a rack
        loses its power at the end of the step."""
        for rack in np.flatnonzero(~((it_w >= 0) & (it_w <= self.rated_w))).tolist():
            said = f"rack {rack} ({self._names[self._group_of[rack]]}) draws {it_w[rack]:,.0f} W of DC power"
            if not 0 <= it_w[rack] <= self.installed_w[rack]:
                return f"{said}, outside 0 to the {self.installed_w[rack]:,.0f} W of its power shelves"
            if not self.live[rack]:
                return f"{said} and has no power"
            self._overloaded.append(rack)
        return None

    def drop(self) -> bool:
        """Racks that drew more than their rectifiers may are off until more of these work. Whether there are any."""
        if not self._overloaded:
            return False
        self._dropped_at[self._overloaded] = self.rated_w[self._overloaded]
        self._overloaded.clear()
        return True

    def carried_on(self, elements: list[int]) -> int:
        """How many live racks have rectifiers on one of these elements."""
        return int(np.count_nonzero(self.live & (np.isin(self._feed, elements) & (self._on_feed > 0)).any(axis=1)))

    def by_group(self, racks: Flags) -> Iterator[tuple[str, list[int]]]:
        """Of some racks, each group that has any, with their numbers in it."""
        for number, name in enumerate(self._names):
            inside = np.flatnonzero(racks[self._first[number] : self._first[number + 1]]).tolist()
            if inside:
                yield name, inside
