"""What stands behind the electrical chain: generators, the site battery as an island, the stores of the UPS.

An element that the utility does not feed may be held by a source of its own: a UPS by its store at once, the first elements below
dead incomers by generators once these can take their load, or by a site battery that may form an island. While a first element is
dead, cooling stands still. Who holds what is chosen at the end of each step and at each verb, from the loads of the step before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

from twin.errors import InputError, SimulationError
from twin.facility.battery import Battery
from twin.facility.chain import Chain, ChainEvent, Sources
from twin.facility.component import Component
from twin.facility.generator import Generators, GeneratorSpec
from twin.facility.store import Store, StoreSpec

Source = Literal["generator", "battery", "none"]

#: For how long a source must be able to carry the load to be chosen; steps are not longer than that by default.
_LOOK_AHEAD_S = 1.0
#: What generators must be able to give to take a load, over what it was when it last lived: assumed.
_WALK_IN = 1.25


@dataclass(frozen=True, slots=True)
class SupplySpec:
    """`stores` are named after the elements that they hold; `islanding`: the site battery can carry the site by itself."""

    stores: tuple[StoreSpec, ...] = ()
    generators: tuple[GeneratorSpec, ...] = ()
    islanding: bool = False

    def __post_init__(self) -> None:
        for owner, names in (
            ("generators", [bank.name for bank in self.generators]),
            ("stores", [store.name for store in self.stores]),
        ):
            if len(set(names)) != len(names):
                raise InputError(f"{owner}: names must differ: {', '.join(names)}")

    @property
    def return_hold_s(self) -> float:
        """How long the utility must be back before the site goes back to it."""
        return max((bank.return_hold_s for bank in self.generators), default=0.0)


@dataclass(frozen=True, slots=True)
class SupplyStep:
    """Mean powers of a step, in W: what generators gave and burnt, what left the stores of UPS and islanded battery (below zero:
    what entered them) and was lost there."""

    generator_w: float = 0.0
    fuel_w: float = 0.0
    store_w: float = 0.0
    loss_w: float = 0.0


class Supply:
    """The sources of one site beside the utility. `draws` gives each bank of generators its uniform numbers by name; None,
    where a site is looked at in steady state: all units start."""

    def __init__(self, spec: SupplySpec, chain: Chain, battery: Battery | None, draws: Mapping[str, Iterator[float]] | None):
        self.spec = spec
        self._chain = chain
        self._battery = battery
        elements = chain.spec.elements
        self._index = {element.name: i for i, element in enumerate(elements)}
        self._above = {element.name: element.fed_from for element in elements}
        self._roots = {e.name: e.fed_from for e in elements if e.fed_from in chain.spec.incomers}
        for store in spec.stores:
            if store.name not in self._index:
                raise InputError(f"store {store.name}: the chain has no such element")
        self.stores = {store.name: Store(store) for store in spec.stores}
        self.banks = [Generators(bank, repeat(0.0) if draws is None else draws[bank.name]) for bank in spec.generators]
        #: Whether there is anything to ask at all.
        self.active = bool(self.stores or self.banks or spec.islanding)
        #: Who holds first elements, and which.
        self.source: Source = "none"
        self.held_roots: tuple[str, ...] = ()
        self._lost: dict[str, None] = {}
        self._back_s: dict[str, float] = {}
        self._load_w = dict.fromkeys(self._roots, 0.0)
        #: What all loads draw together, and those of them that no store carries.
        self._all_w = self._rest_w = 0.0
        feeds = (*chain.spec.rack_feeds, chain.spec.cooling_from, chain.spec.pumps_from or ())
        #: Some loads hang on several first elements.
        self._shared = any(len({self._root_of(name) for name in each}) > 1 for each in feeds)
        self._charge_w: dict[str, float] = {}
        self._battery_failed = False
        self._tripped = False
        self._parallel_w = 0.0
        self._events: list[ChainEvent] = []
        self._before: tuple[Source, tuple[str, ...], list[str]] = ("none", (), [])
        if self.active:
            self.choose()

    # --- verbs -------------------------------------------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        """What can fail: units of generators, the battery."""
        own = [Component("generator", bank.spec.name, bank.spec.count) for bank in self.banks]
        if self._battery is not None:
            own.append(Component("battery", "battery"))
        return tuple(own)

    def owns(self, key: str) -> bool:
        """Whether a component is one of these."""
        return key.partition("/")[0] in ("generator", "battery")

    def fail(self, key: str, units: int = 1) -> None:
        """Units of a component fail. Raises SimulationError for an unknown one, or more units than are left."""
        self._change(key, units, fails=True)

    def repair(self, key: str, units: int = 1) -> None:
        """Units of a component come back. Raises SimulationError for an unknown one, or more units than are out."""
        self._change(key, units, fails=False)

    def _change(self, key: str, units: int, fails: bool) -> None:
        kind, _, name = key.partition("/")
        bank = next((bank for bank in self.banks if kind == "generator" and bank.spec.name == name), None)
        if bank is not None:
            if fails:
                bank.fail(units)
            else:
                bank.repair(units)
        elif key == "battery/battery" and self._battery is not None and units == 1 and fails != self._battery_failed:
            self._battery_failed = fails
        else:
            raise SimulationError(f"supply: {units} units of {key!r} cannot {'fail' if fails else 'be repaired'}")
        self.choose()

    @property
    def battery_works(self) -> bool:
        """Whether the site battery has not failed."""
        return not self._battery_failed

    def incomer(self, name: str, live: bool) -> None:
        """An incomer is lost or back."""
        if live:
            del self._lost[name]
            if any(self._roots[root] == name for root in self.held_roots):
                self._back_s[name] = 0.0
        else:
            self._lost[name] = None
            self._back_s.pop(name, None)
        self._tripped = False
        self.choose()

    def run_parallel(self, power_w: float) -> None:
        """Units that may serve the grid give `power_w` beside the utility from when they can; 0: they stop."""
        if not (math.isfinite(power_w) and power_w >= 0):
            raise SimulationError(f"generators cannot give {power_w!r} W")
        self._parallel_w = power_w
        self.choose()

    # --- what a step takes -------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """On the utility with nothing going on: a step needs nothing of the supply."""
        return (
            not (self._lost or self._back_s or self._charge_w or self._chain.holding)
            and all(store.full for store in self.stores.values())
            and all(bank.idle for bank in self.banks)
        )

    @property
    def running(self) -> int:
        """Generators that run."""
        return sum(bank.running for bank in self.banks)

    @property
    def soc_frac(self) -> float | None:
        """The lowest content of a UPS store over its capacity; None where there is none."""
        return min((store.soc_frac for store in self.stores.values()), default=None)

    @property
    def contents(self) -> dict[str, float]:
        """Content of each store over its capacity, by name; the site battery's is `battery`."""
        contents = {name: store.soc_frac for name, store in self.stores.items()}
        return contents if self._battery is None else {**contents, "battery": self._battery.soc_frac}

    @property
    def fuel_l(self) -> float:
        """Litres of liquid fuel burnt."""
        return math.fsum(bank.fuel_used_j / j for bank in self.banks if (j := bank.spec.fuel_j_per_l))

    @property
    def books_balance(self) -> bool:
        """Whether every store and tank explains its change."""
        batteries = [] if self._battery is None else [self._battery.books_balance]
        stores = [store.books_balance for store in self.stores.values()]
        return all((*batteries, *stores, *(bank.books_balance for bank in self.banks)))

    def feasible_range(self, duration_s: float) -> tuple[float, float]:
        """(least, highest) power of the generators that run, for all of `duration_s`."""
        ranges = [bank.feasible_range(duration_s) for bank in self.banks]
        return math.fsum(least for least, _ in ranges), math.fsum(highest for _, highest in ranges)

    def next_change_s(self) -> float:
        """Time until something changes by itself; infinite while nothing is under way."""
        waits = [bank.next_change_s() for bank in self.banks]
        waits += [self.spec.return_hold_s - back_s for back_s in self._back_s.values()]
        return min((wait for wait in waits if wait > 1e-6), default=math.inf)

    def take_events(self) -> list[ChainEvent]:
        """What happened since this was last asked."""
        events, self._events = self._events, []
        return events

    def prepare(self, duration_s: float) -> None:
        """Say what the recharge of stores takes in the step to come. It waits until nothing but the utility carries the site."""
        charge_w: dict[str, float] = {}
        if not (self._lost or self._back_s):
            for name, store in self.stores.items():
                if not store.full and self._chain.live[self._index[name]]:
                    charge_w[name] = -store.feasible_range(duration_s)[0]
        if charge_w or self._charge_w:
            self._charge_w = charge_w
            self._tell()

    def parallel_w(self, duration_s: float, load_w: float) -> float:
        """What the generators give beside the utility in the step to come, to a load of `load_w`. Nothing is exported."""
        if self._parallel_w <= 0 or self.held_roots:
            return 0.0
        least_w, highest_w = self.feasible_range(duration_s)
        return min(max(self._parallel_w, least_w), highest_w, load_w)

    def advance(self, duration_s: float, parallel_w: float) -> SupplyStep:
        """Take the step that the chain has just reckoned, with what generators gave beside the utility."""
        delivered_w = self._chain.delivered_w
        root_w = math.fsum(delivered_w[root] for root in self.held_roots)
        generator_w, store_w, loss_w = parallel_w, 0.0, 0.0
        if self.source == "battery" and self._battery is not None:
            store_w, loss_w = self._battery.carry(root_w, duration_s)
        elif self.source == "generator":
            generator_w = root_w
        for name, store in self.stores.items():
            if name in delivered_w:
                lost_w = store.carry(delivered_w[name], duration_s)
                store_w += delivered_w[name] + lost_w
                loss_w += lost_w
            elif charge_w := self._charge_w.get(name, 0.0):
                lost_w = store.charge(charge_w, duration_s)
                store_w -= charge_w - lost_w
                loss_w += lost_w
        overload = generator_w > self.feasible_range(duration_s)[1] * (1 + 1e-9)
        fuel_w = self._burn(duration_s, generator_w, overload)
        if overload:
            self._tripped = True
            self._say("generator", "generators", f"{generator_w / 1e3:,.1f} kW is more than they can carry: they trip")
        for incomer in self._back_s:
            self._back_s[incomer] += duration_s
        return SupplyStep(generator_w, fuel_w, store_w, loss_w)

    def see(self) -> None:
        """Remember what each first element that lives drew in the step just reckoned, and what all loads drew together.

        What hangs on elements with stores draws on while first elements are dead; of the rest it counts what it last drew.
        """
        chain, held = self._chain, self._chain.delivered_w
        living = [root for root in self._roots if chain.live[self._index[root]]]
        for root in living:
            self._load_w[root] = float(chain.input_w[self._index[root]])
        stored_w = {name: float(chain.input_w[self._index[name]]) for name in self.stores}
        if living:
            fed_w = math.fsum(watts for name, watts in stored_w.items() if name not in held or name in self._roots)
            self._rest_w = max(0.0, self._drew_w(living) - fed_w)
        self._all_w = self._rest_w + math.fsum(stored_w.values())

    def _burn(self, duration_s: float, generator_w: float, overload: bool) -> float:
        """Let the banks give `generator_w` in proportion to what each can; the fuel power."""
        highest_w = [bank.feasible_range(duration_s)[1] for bank in self.banks]
        whole_w = math.fsum(highest_w)
        fuel_w = 0.0
        for bank, most_w in zip(self.banks, highest_w, strict=True):
            step = bank.advance(duration_s, generator_w * most_w / whole_w if whole_w > 0 else 0.0, overload)
            fuel_w += step.fuel_w
            for said in step.said:
                self._say("generator", bank.spec.name, said)
        return fuel_w

    # --- the choice --------------------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Start and stop generators, and say who holds what from the next step on."""
        before, hold_s = self._before, self.spec.return_hold_s
        for incomer in [name for name, back_s in self._back_s.items() if back_s >= hold_s - 1e-9]:
            del self._back_s[incomer]
        self._hold()
        # The utility is back and whoever stood in for it cannot go on: no waiting.
        for incomer in [n for n in self._back_s if any(self._roots[r] == n and r not in self.held_roots for r in self._roots)]:
            del self._back_s[incomer]
            self._hold()
        self._tell()
        unfed = self._unfed()
        if (self.source, self.held_roots, unfed) != before:
            self._say("supply", "site", self._state(unfed))
        self._before = self.source, self.held_roots, unfed

    def _state(self, unfed: list[str]) -> str:
        """Who carries what, in words."""
        if not unfed:
            return "the utility carries the site"
        if self.held_roots:
            by = "generators carry" if self.source == "generator" else "the site battery carries"
            return f"{by} {', '.join(self.held_roots)}"
        said = f"nothing carries {', '.join(unfed)}"
        left_s = [store.left_s(w) for n, store in self.stores.items() if (w := float(self._chain.input_w[self._index[n]])) > 0]
        return said + (f"; UPS stores last about {min(left_s):,.0f} s" if left_s else "")

    def _unfed(self) -> list[str]:
        """First elements without the utility."""
        return [root for root, incomer in self._roots.items() if incomer in self._lost or incomer in self._back_s]

    def _hold(self) -> None:
        """Choose who holds the first elements that the utility does not feed."""
        unfed = self._unfed()
        wanted = bool(unfed) and not self._covered(unfed)
        parallel_w = 0.0 if unfed else self._parallel_w
        for bank in self.banks:
            if wanted and not self._tripped:
                bank.start()
            elif bank.spec.for_grid and parallel_w > 0:
                units = min(bank.usable, math.ceil(parallel_w / bank.spec.rated_w - 1e-9))
                bank.start(units)
                parallel_w -= units * bank.spec.rated_w
            elif not bank.idle:
                bank.stop()
        carried = self.held_roots if self.source == "generator" else ()
        self.source, self.held_roots = "none", ()
        if wanted and not self._tripped:
            self._take(unfed, carried)
        if wanted and self.source == "none" and self._island(unfed):
            self.source, self.held_roots = "battery", tuple(unfed)

    def _take(self, unfed: list[str], carried: tuple[str, ...]) -> None:
        """Let generators take first elements that are not fed, one after another as far as their power goes.

        Where loads hang on several of them, the first to live would have all of it: they are taken together, or not at all.
        """
        room_w = self.feasible_range(_LOOK_AHEAD_S)[1]
        if self._shared:
            blocks = [(unfed, self._all_w if len(unfed) == len(self._roots) else self._drew_w(unfed))]
        else:
            blocks = [([root], self._load_w[root]) for root in unfed]
        taken: list[str] = []
        for roots, load_w in blocks:
            # What is yet to be taken comes back warm, and its stores and chillers with it.
            needed_w = load_w if set(roots) <= set(carried) else _WALK_IN * load_w
            if 0 < room_w >= needed_w:
                room_w -= load_w
                taken += roots
        if taken:
            self.source, self.held_roots = "generator", tuple(taken)

    def _drew_w(self, roots: Iterable[str]) -> float:
        return math.fsum(self._load_w[root] for root in roots)

    def _island(self, roots: list[str]) -> bool:
        """Whether the battery can carry these first elements by itself."""
        battery = self._battery
        if battery is None or not self.spec.islanding or self._battery_failed or battery.at_reserve:
            return False
        return battery.spec.discharge_max_w >= self._drew_w(roots)

    def _covered(self, unfed: list[str]) -> bool:
        """Whether all racks and cooling have another way to the utility."""
        spec = self._chain.spec
        hung = (*spec.rack_feeds, spec.cooling_from, spec.pumps_from or spec.cooling_from)
        return all(any(self._fed(name, unfed) for name in feeds) for feeds in hung)

    def _root_of(self, name: str) -> str:
        while self._above[name] in self._above:
            name = self._above[name]
        return name

    def _fed(self, name: str, unfed: list[str]) -> bool:
        while name in self._above:
            if name in unfed or self._chain.state(self._index[name]) in ("failed", "tripped"):
                return False
            name = self._above[name]
        return True

    def _tell(self) -> None:
        """Tell the chain. UPS stores and an island stand by, so that a loss is bridged in the moment that it comes."""
        stand_by = [name for name, store in self.stores.items() if not store.open]
        roots = list(self.held_roots)
        if not self._unfed() and self._island(list(self._roots)):
            roots = list(self._roots)
        incomers = [name for name in self._chain.spec.incomers if name not in self._back_s]
        self._chain.supply(Sources(frozenset(incomers), frozenset([*stand_by, *roots]), dict(self._charge_w)))

    def _say(self, kind: str, subject: str, detail: str) -> None:
        self._events.append(ChainEvent(kind, subject, detail))
