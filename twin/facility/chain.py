"""The electrical chain of a site at work: a tree of elements below each incomer, reckoned bottom-up in every step.

One step of the plant: `carry_racks` (what the racks draw, through the elements in the hall), `carry_rest` (cooling and fixed
loads, once known), `carry_bus` where the chain has one first element (the site battery stands at its output), `count` (energy,
breakers: a trip holds from the end of the step on). Every element delivers the sum of what hangs on it and draws its loss on top.

What stands behind the chain is another's business. Before a step and after every change that one is asked through `Sources`:
which incomers are energised (by the utility or by a generator behind them), which elements are held by a source of their own at
their input (a UPS by its store, a switchboard by a generator), and what a store draws beside its element's load while it charges.
`unfed` names the elements without power from above, which is when a store must hold; `delivered_w` says after a step what each
incomer and each holding source delivered in it. An incomer that failed is dead whatever `Sources` says.

Heat: elements at or above a transformer, or at or above one that cooling hangs on, stand in an electrical building that outside
air ventilates; all others warm the hall's air.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError, did_you_mean
from twin.facility.breaker import Breaker
from twin.facility.chain_books import ChainBooks, ElementMeans, ElementTotals
from twin.facility.chain_layout import chain_graph, elements_outdoors
from twin.facility.chain_spec import ELEMENT_KINDS, ChainSpec
from twin.facility.component import Component
from twin.facility.shelves import Shelves

Floats = npt.NDArray[np.float64]

#: up to so many elements plain floats are faster than arrays.
_FEW = 24
#: how far rounding may carry an element above its rating.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Sources:
    """What energises the chain: `incomers` by name; elements `held` by a source at their input; `charge_w` that the store of a
    held-no-more element draws from above, by element."""

    incomers: frozenset[str]
    held: frozenset[str] = frozenset()
    charge_w: Mapping[str, float] = field(default_factory=dict)


class ChainEvent(NamedTuple):
    """Something that the chain did by itself; kinds as in twin.recording.event_kinds."""

    kind: str
    subject: str
    detail: str


class Chain:
    """The elements in order of the spec; `shelves` are the racks' rectifiers below them.

    State of an element: `live`, `failed` (no unit of it works), `tripped` (open until repaired) or `dead` (nothing above).
    """

    def __init__(self, spec: ChainSpec, shelves: Shelves, name: str):
        self.spec = spec
        self.shelves = shelves
        self._name = name
        elements = spec.elements
        count = len(elements)
        self._index = {element.name: i for i, element in enumerate(elements)}
        self._incomers = {incomer: i for i, incomer in enumerate(spec.incomers)}
        #: number of the element above; below zero: -1 - number of the incomer.
        self._above = [self._index.get(e.fed_from, -1 - self._incomers.get(e.fed_from, 0)) for e in elements]
        depth = [self._depth(i) for i in range(count)]
        self._down = sorted(range(count), key=depth.__getitem__)  # parents before children
        #: Elements whose losses warm no hall.
        outdoors = elements_outdoors(spec)
        self.outdoors = [e.name in outdoors for e in elements]
        self._roots = [i for i in range(count) if self._above[i] < 0]
        #: The only first element, at whose output the site battery stands; None where there are several.
        self.bus = self._roots[0] if len(self._roots) == 1 else None
        self._of_kind = {kind: [i for i, e in enumerate(elements) if e.kind == kind] for kind in ELEMENT_KINDS}
        indoor = [i for i in reversed(self._down) if not self.outdoors[i]]
        outdoor = [i for i in reversed(self._down) if self.outdoors[i] and i != self.bus]
        self._few = count <= _FEW
        self._orders = (indoor, outdoor)
        self._levels = tuple(_levels(order, depth) for order in self._orders)
        self._above_array = np.array(self._above)
        self._taps = [self._index[tap] for tap in spec.cooling_from]
        #: Where the pumps hang on; the taps of cooling if they have none of their own.
        self._pump_taps = [self._index[tap] for tap in spec.pumps_from] or self._taps
        self._rated = np.array([e.element.rated_w for e in elements])
        self._share = [
            np.array([getattr(e.element, f"loss_{part}_frac") for e in elements]) for part in ("fixed", "linear", "quadratic")
        ]
        self._breakers = {i: Breaker(e.breaker) for i, e in enumerate(elements) if e.breaker is not None}
        self._pickups = np.array([b.spec.pickup_w for b in self._breakers.values()])
        self._guarded = np.array(list(self._breakers), dtype=np.intp)
        self._warm: set[int] = set()
        self._units_out = [0] * count
        self._tripped = [False] * count
        self._incomers_out = [False] * len(spec.incomers)
        self._sources = Sources(frozenset(spec.incomers))
        self._events: list[ChainEvent] = []
        self.live = [True] * count
        self._held: list[bool] = [False] * count
        self._charge: list[float] = [0.0] * count
        self._live_taps, self._live_pump_taps = list(self._taps), list(self._pump_taps)
        self.output_w: Any = [0.0] * count if self._few else np.zeros(count)
        self.loss_w: Any = [0.0] * count if self._few else np.zeros(count)
        self.input_w: Any = [0.0] * count if self._few else np.zeros(count)
        self._books = ChainBooks(count, self._few)
        self._overloads: list[int] = []
        self._settle(told=False)

    # --- who can fail ---------------------------------------------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        """Incomers, elements with their units, and the rectifiers of each rack."""
        incomers = tuple(Component("incomer", name) for name in self.spec.incomers)
        elements = tuple(Component(e.kind, e.name, e.count) for e in self.spec.elements)
        return (*incomers, *elements, *self.shelves.components())

    def fail(self, key: str, units: int = 1) -> None:
        """Take `units` away from the next step on. Raises SimulationError for an unknown key or more units than are left."""
        self._change(key, units, 1)

    def repair(self, key: str, units: int = 1) -> None:
        """Give `units` back and close what had tripped. Raises SimulationError where neither is due."""
        self._change(key, units, -1)

    def supply(self, sources: Sources) -> None:
        """What energises the chain from the next step on. Raises SimulationError for a name that is not in it."""
        for name in (*sources.incomers, *sources.held, *sources.charge_w):
            known = self._incomers if name in sources.incomers else self._index
            if name not in known:
                raise SimulationError(f"chain of {self._name}: no {name!r}{did_you_mean(name, known)}")
        if sources != self._sources:
            self._sources = sources
            self._settle()

    def _change(self, key: str, units: int, sign: int) -> None:
        kind, _, name = key.partition("/")
        if units < 1:
            raise SimulationError(f"{key}: at least one unit is due, not {units}")
        if kind == "psu":
            self.shelves.change(name, sign * units)
        elif kind == "incomer" and name in self._incomers:
            place = self._incomers[name]
            if units > 1 or self._incomers_out[place] == (sign > 0):
                raise SimulationError(f"{key}: {units} of it cannot {'fail' if sign > 0 else 'be repaired'} now")
            self._incomers_out[place] = sign > 0
        elif name in self._index and self.spec.elements[self._index[name]].kind == kind:
            i = self._index[name]
            closes = sign < 0 and self._tripped[i]
            if not (closes and self._units_out[i] == 0 and units == 1):
                left = self._units_out[i] + sign * units
                if not 0 <= left <= self.spec.elements[i].count:
                    raise SimulationError(
                        f"{key}: with {self._units_out[i]} of its {self.spec.elements[i].count} units out, {units} cannot "
                        f"{'fail' if sign > 0 else 'be repaired'}"
                    )
                self._units_out[i] = left
            if closes:
                self._tripped[i] = False
                if i in self._breakers:
                    self._breakers[i].reset()
                self._warm.discard(i)
        else:
            raise SimulationError(f"chain of {self._name}: nothing called {key!r}{did_you_mean(key, self._keys())}")
        self._settle()

    def _keys(self) -> list[str]:
        return [component.key for component in self.components() if component.kind != "psu"]

    # --- what is alive --------------------------------------------------------------------------------------------------------

    @property
    def rack_live(self) -> npt.NDArray[np.bool_]:
        """(racks,): whether a rectifier of it has power, and it was not dropped for too few of them. Never written again."""
        return self.shelves.live

    @property
    def cooling_live(self) -> bool:
        """Whether cooling and the fixed loads have power."""
        return bool(self._live_taps)

    @property
    def pumps_live(self) -> bool:
        """Whether pumps have power."""
        return bool(self._live_pump_taps)

    @property
    def holding(self) -> bool:
        """Whether an element is held by a source of its own now."""
        return any(self._held)

    @property
    def unfed(self) -> tuple[str, ...]:
        """Elements that work but have no power from above, held or not: a store behind one must hold it or it is dead."""
        return tuple(e.name for i, e in enumerate(self.spec.elements) if self._works(i) and not self._fed(i))

    def _works(self, i: int) -> bool:
        return not self._tripped[i] and self._units_out[i] < self.spec.elements[i].count

    def _fed(self, i: int) -> bool:
        above = self._above[i]
        if above >= 0:
            return self.live[above]
        return not self._incomers_out[-1 - above] and self.spec.incomers[-1 - above] in self._sources.incomers

    def state(self, i: int) -> str:
        """live, failed, tripped or dead."""
        if self.live[i]:
            return "live"
        if self._tripped[i]:
            return "tripped"
        return "dead" if self._works(i) else "failed"

    def _settle(self, told: bool = True) -> None:
        """Who is alive now, and what follows for ratings, shares of racks and loads."""
        before, racks_before = list(self.live), self.shelves.live
        elements, count = self.spec.elements, len(self.spec.elements)
        for i in self._down:
            self._held[i] = self._works(i) and not self._fed(i) and elements[i].name in self._sources.held
            self.live[i] = self._works(i) and (self._held[i] or self._fed(i))
        self._charge = [
            self._sources.charge_w.get(e.name, 0.0) if self.live[i] and not self._held[i] else 0.0 for i, e in enumerate(elements)
        ]
        self._charging = any(self._charge)
        self._sourced = self._charging or any(self._held)
        #: Whether what the site battery stands at has power.
        self.feed_live = any(map(self._fed, self._roots)) if self.bus is None else self.live[self.bus]
        part = np.array([1 - out / e.count for out, e in zip(self._units_out, elements, strict=True)])
        live = np.array(self.live)
        self._now_rated = self._rated * np.where(live, part, 0.0)
        divisor = np.where(self._now_rated > 0, self._now_rated, 1.0)
        self._linear, self._quadratic = self._share[1], self._share[2]
        self._fixed_w = self._now_rated * self._share[0]
        self._divisor = divisor
        self._ratings: Any = divisor.tolist() if self._few else divisor
        self._coefficients = list(
            zip(
                self._now_rated.tolist(),
                divisor.tolist(),
                *(share.tolist() for share in self._share),
                strict=True,
            )
        )
        #: an element carries on into its parent unless a source of its own holds it.
        self._carried_by = np.where(np.array(self._held) | (self._above_array < 0), count, self._above_array)
        self._carries = self._carried_by.tolist()
        self._live_taps = [tap for tap in self._taps if self.live[tap]]
        self._live_pump_taps = [tap for tap in self._pump_taps if self.live[tap]]
        self._all_well = all(self.live) and not any(self._units_out)
        self.shelves.settle(live)
        if told:
            self._tell(before, racks_before)

    def _tell(self, before: list[bool], racks_before: npt.NDArray[np.bool_]) -> None:
        lost = [i for i, was in enumerate(before) if was and not self.live[i]]
        if lost and (racks := self.shelves.carried_on(lost)):
            top = min(lost, key=self._down.index)
            more = f" and {len(lost) - 1} elements more" if len(lost) > 1 else ""
            name = self.spec.elements[top].name
            self._events.append(ChainEvent("failover", name, f"{name}{more} lost, {racks} racks go on with their other feeds"))
        if self.shelves.live is not racks_before:
            for kind, changed in (
                ("rack_dark", racks_before & ~self.shelves.live),
                ("rack_back", ~racks_before & self.shelves.live),
            ):
                for group, racks_of in self.shelves.by_group(changed):
                    self._events.append(ChainEvent(kind, group, f"racks {', '.join(map(str, racks_of))}"))

    def take_events(self) -> list[ChainEvent]:
        """What happened since this was last asked."""
        events, self._events = self._events, []
        return events

    # --- a step ---------------------------------------------------------------------------------------------------------------

    def carry_racks(self, drawn_w: Floats, total_w: float) -> float:
        """Take what the racks draw (racks,), `total_w` in all, through the elements indoors. Returns the loss of these in W."""
        count = len(self.spec.elements)
        shelves = self.shelves
        if self._few:
            if shelves.one_feed is not None:
                out = [0.0] * count
                out[shelves.one_feed] = total_w
            else:
                out = shelves.load_w(drawn_w, count).tolist()
            self.output_w, self.loss_w, self.input_w = out, [0.0] * count, [0.0] * count
        else:
            self.output_w, self.loss_w, self.input_w = shelves.load_w(drawn_w, count), np.zeros(count), np.zeros(count)
        return self._carry(0)

    def carry_rest(self, cooling_w: float, other_w: float, pump_w: float = 0.0) -> float:
        """Take cooling, of it `pump_w` in pumps, and fixed loads. Returns the loss of the elements outdoors but the bus, in W.

        Raises SimulationError for a load that nothing carries.
        """
        if self.spec.pumps_from:
            self._hang(pump_w, self._live_pump_taps, "pumps")
            cooling_w = max(0.0, cooling_w - pump_w)  # of sums that cancel out something may be left
        self._hang(cooling_w + other_w, self._live_taps, "cooling and fixed loads")
        return self._carry(1)

    def _hang(self, load_w: float, taps: list[int], what: str) -> None:
        """Spread a load evenly over the elements it hangs on."""
        if taps:
            each_w = load_w / len(taps)
            for tap in taps:
                self.output_w[tap] += each_w
        elif load_w:
            raise SimulationError(f"chain of {self._name}: {load_w:,.0f} W of {what} hang on no live element")

    def held_w(self) -> float:
        """What sources of their own deliver to elements below the bus, less what stores draw there; in W."""
        if not self._sourced:
            return 0.0
        return math.fsum(
            (self.input_w[i] if self._held[i] else -self._charge[i]) for i in range(len(self._held)) if i != self.bus
        )

    def carry_bus(self, output_w: float) -> float:
        """Let the only first element deliver `output_w`. Returns its loss in W."""
        assert self.bus is not None
        self.output_w[self.bus] = output_w
        self._one(self.bus)
        return float(self.loss_w[self.bus])

    def bus_output_for_w(self, input_w: float) -> float:
        """What the only first element delivers when it draws `input_w`."""
        assert self.bus is not None
        return self.spec.elements[self.bus].element.output_for_input_w(input_w)

    def incomers_w(self) -> float:
        """What all incomers deliver in this step, in W."""
        return math.fsum(float(self.input_w[i]) for i in self._roots if not self._held[i])

    @property
    def delivered_w(self) -> dict[str, float]:
        """What each incomer, and each source that holds an element, delivers in the step just reckoned, in W."""
        delivered = dict.fromkeys(self.spec.incomers, 0.0)
        for i, above in enumerate(self._above):
            if self._held[i]:
                delivered[self.spec.elements[i].name] = float(self.input_w[i])
            elif above < 0:
                delivered[self.spec.incomers[-1 - above]] += float(self.input_w[i])
        return delivered

    def _carry(self, stage: int) -> float:
        """Bottom-up through the elements of a stage."""
        if not self._few:
            return self._carry_levels(stage)
        lost_w, outputs, carries, count = 0.0, self.output_w, self._carries, len(self._carries)
        for i in self._orders[stage]:
            self._one(i)
            lost_w += self.loss_w[i]
            above = carries[i]
            if above < count:
                outputs[above] += self.input_w[i]
        return lost_w

    def _one(self, i: int) -> None:
        rated_w, divisor, fixed, linear, quadratic = self._coefficients[i]
        output_w = self.output_w[i]
        if not 0 <= output_w <= rated_w * _ROUNDING:
            self._overloaded(i, float(output_w))
        load = output_w / divisor
        loss_w = rated_w * (fixed + load * (linear + load * quadratic))
        self.loss_w[i] = loss_w
        self.input_w[i] = output_w + loss_w + self._charge[i]

    def _carry_levels(self, stage: int) -> float:
        lost_w, outputs, count = 0.0, self.output_w, len(self._carries)
        rated, fixed_w, charge = self._now_rated, self._fixed_w, np.array(self._charge) if self._charging else None
        for level in self._levels[stage]:
            out = outputs[level]
            beyond = (out > rated[level] * _ROUNDING) | (out < 0)
            if beyond.any():
                for i in level[beyond].tolist():
                    self._overloaded(i, float(outputs[i]))
            load = out / self._divisor[level]
            loss = fixed_w[level] + rated[level] * load * (self._linear[level] + load * self._quadratic[level])
            self.loss_w[level] = loss
            drawn = out + loss if charge is None else out + loss + charge[level]
            self.input_w[level] = drawn
            lost_w += float(np.add.reduce(loss))
            outputs += np.bincount(self._carried_by[level], drawn, count + 1)[:count]
        return lost_w

    def _overloaded(self, i: int, output_w: float) -> None:
        """An element beyond its rating: with a breaker that is the breaker's business; else it drops out at the end of the step
        if that is because of something that failed, and is an error if the site is simply too small."""
        spec = self.spec.elements[i]
        if not 0 <= output_w < math.inf or (not self.live[i] and output_w > 0):
            raise SimulationError(f"{spec.name} is {self.state(i)} and cannot carry {output_w:,.0f} W")
        if i in self._breakers:
            return
        if self._all_well and not self.shelves.degraded:
            raise SimulationError(
                f"{spec.name} carries {output_w:,.0f} W, outside 0 to its rating of {spec.element.rated_w:,.0f} W"
            )
        self._overloads.append(i)

    def count(self, duration_s: float) -> None:
        """Count the step just reckoned; breakers that it brings to their trip and what it overloads are open from its end on."""
        self._books.add(duration_s, self.output_w, self.loss_w, self._ratings)
        changed = self.shelves.drop()
        for i in self._overloads:
            self._trip(i, f"{self.output_w[i] / 1e3:,.1f} kW on units for {self._now_rated[i] / 1e3:,.1f} kW")
            changed = True
        self._overloads.clear()
        if self._breakers:
            changed = self._run_breakers(duration_s) or changed
        if changed:
            self._settle()

    def _run_breakers(self, duration_s: float) -> bool:
        if self._few:
            loaded = [i for i, breaker in self._breakers.items() if self.output_w[i] > breaker.spec.pickup_w]
        else:
            loaded = self._guarded[self.output_w[self._guarded] > self._pickups].tolist()
        if not (loaded or self._warm):
            return False
        tripped = False
        for i in sorted(self._warm.union(loaded)):
            breaker, load_w = self._breakers[i], float(self.output_w[i])
            if breaker.advance(duration_s, load_w):
                self._trip(i, f"{load_w / 1e3:,.1f} kW on a breaker of {breaker.spec.pickup_w / 1e3:,.1f} kW")
                self._warm.discard(i)
                tripped = True
            elif breaker.filled > 0:
                self._warm.add(i)
            else:
                self._warm.discard(i)
        return tripped

    def _trip(self, i: int, detail: str) -> None:
        if not self._tripped[i]:
            self._tripped[i] = True
            self._books.trips[i] += 1
            self._events.append(ChainEvent("breaker_trip", self.spec.elements[i].name, detail))

    def next_change_s(self) -> float:
        """Time to the next trip if all loads stay as in the last step; infinite if none trips."""
        return min(
            (b.next_change_s(float(self.output_w[i])) for i, b in self._breakers.items() if self.live[i]), default=math.inf
        )

    # --- what is said of it ---------------------------------------------------------------------------------------------------

    def take_means(self) -> list[ElementMeans]:
        """Each element over the time since this was last asked."""
        output_w, loss_w = self._books.take()
        means = []
        for i, (e, out, lost) in enumerate(zip(self.spec.elements, output_w, loss_w, strict=True)):
            headroom_w = float(self._now_rated[i]) - out if self.live[i] else 0.0
            means.append(ElementMeans(e.name, e.kind, out, lost, out / e.element.rated_w, headroom_w, self.state(i)))
        return means

    def totals(self) -> tuple[ElementTotals, ...]:
        """Each element since the start."""
        elements = self.spec.elements
        return self._books.totals([e.name for e in elements], [e.kind for e in elements])

    def loss_of_w(self, kind: str) -> float:
        """Loss of all elements of a kind in the step just reckoned, in W."""
        places, loss_w = self._of_kind[kind], self.loss_w
        return float(sum([loss_w[i] for i in places])) if self._few else float(np.add.reduce(loss_w[places]))

    def graph(self) -> nx.DiGraph[str]:
        """`chain_graph` of its spec, with `state`, `loading_frac` and `loss_w` of the step just reckoned at each element."""
        graph = chain_graph(self.spec)
        for i, element in enumerate(self.spec.elements):
            loading = float(self.output_w[i]) / element.element.rated_w
            graph.nodes[element.name].update(state=self.state(i), loading_frac=loading, loss_w=float(self.loss_w[i]))
        return graph

    def _depth(self, i: int) -> int:
        depth = 0
        while (i := self._above[i]) >= 0:
            depth += 1
        return depth


def _levels(order: list[int], depth: list[int]) -> list[npt.NDArray[np.intp]]:
    """The elements of an order by depth, the deepest first."""
    return [np.array([i for i in order if depth[i] == d], dtype=np.intp) for d in sorted({depth[i] for i in order}, reverse=True)]
