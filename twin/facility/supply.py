"""Who carries a site: the utility, its generators, its battery, the UPS's own store, or nobody.

The site bus, which feeds the UPS, cooling and fixed loads, hangs on one source at a time. While it is dead the UPS carries the
racks from its store and cooling stands still. A source is chosen at the end of each step and at each verb, from the loads of the
step before: choices hold from the next step on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from twin.errors import InputError, SimulationError
from twin.facility.battery import Battery
from twin.facility.component import Component
from twin.facility.generator import Generators, GeneratorSpec
from twin.facility.store import Store, StoreSpec

Source = Literal["utility", "generator", "battery", "none"]

#: For how long a source must be able to carry the load to be chosen; steps are not longer than that by default.
_LOOK_AHEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class SupplySpec:
    """`islanding`: the site battery can carry the site bus by itself."""

    ups_store: StoreSpec | None = None
    generators: tuple[GeneratorSpec, ...] = ()
    islanding: bool = False

    def __post_init__(self) -> None:
        names = [bank.name for bank in self.generators]
        if len(set(names)) != len(names):
            raise InputError(f"generators: names must differ: {', '.join(names)}")

    @property
    def return_hold_s(self) -> float:
        """How long the utility must be back before the site goes back to it."""
        return max((bank.return_hold_s for bank in self.generators), default=0.0)


@dataclass(frozen=True, slots=True)
class SupplyStep:
    """Mean powers of a step, in W: what the generators gave and burnt, what left the UPS store (below zero: what entered it),
    and the store's loss. `charge_w` is what the recharge took at the UPS's DC link."""

    generator_w: float = 0.0
    fuel_w: float = 0.0
    store_w: float = 0.0
    store_loss_w: float = 0.0
    charge_w: float = 0.0


NOTHING = SupplyStep()


class Supply:
    """Sources of one site. `draws` gives each bank of generators its uniform numbers by name."""

    def __init__(self, spec: SupplySpec, battery: Battery | None, draws: Mapping[str, Iterator[float]]):
        self.spec = spec
        self.battery = battery
        self.store = Store(spec.ups_store) if spec.ups_store is not None else None
        self.banks = [Generators(bank, draws[bank.name]) for bank in spec.generators]
        self.utility_live = True
        self.source: Source = "utility"
        #: Whether racks have power, and whether cooling and fixed loads have.
        self.racks_live = True
        self.bus_live = True
        self.battery_failed = False
        #: What happened, in words: (kind of event, subject, detail); whoever records events takes them.
        self.said: list[tuple[str, str, str]] = []
        self._back_s = math.inf
        self._tripped = False
        self._ups_input_w = 0.0
        self._bus_w = 0.0
        self._parallel_w = 0.0

    # --- verbs -------------------------------------------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        """What can fail: units of generators, the battery."""
        own = [Component("generator", bank.spec.name, bank.spec.count) for bank in self.banks]
        if self.battery is not None:
            own.append(Component("battery", "battery"))
        return tuple(own)

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
            bank.fail(units) if fails else bank.repair(units)
        elif key == "battery/battery" and self.battery is not None and units == 1 and fails != self.battery_failed:
            self.battery_failed = fails
        else:
            raise SimulationError(f"supply: {units} units of {key!r} cannot {'fail' if fails else 'be repaired'}")
        self.choose()

    def set_utility(self, live: bool) -> None:
        """The utility is lost or back."""
        if live != self.utility_live:
            self.utility_live = live
            self._back_s = 0.0 if live else math.inf
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
        full = self.store is None or self.store.stored_j >= self.store.spec.capacity_j
        return self.source == "utility" and full and all(bank.idle for bank in self.banks)

    @property
    def running(self) -> int:
        """Generators that run."""
        return sum(bank.running for bank in self.banks)

    def feasible_range(self, duration_s: float) -> tuple[float, float]:
        """(least, highest) power of the generators that run, for all of `duration_s`."""
        ranges = [bank.feasible_range(duration_s) for bank in self.banks]
        return math.fsum(least for least, _ in ranges), math.fsum(highest for _, highest in ranges)

    def next_change_s(self) -> float:
        """Time until something changes by itself; infinite while nothing is under way."""
        waits = [bank.next_change_s() for bank in self.banks]
        if self.source in ("generator", "battery") and self.utility_live:
            waits.append(self.spec.return_hold_s - self._back_s)
        return min((wait for wait in waits if wait > 1e-6), default=math.inf)

    def advance(self, duration_s: float, ups_input_w: float, bus_w: float, ups_spare_w: float) -> SupplyStep:
        """Carry the UPS's input (loss included) and the rest of the bus for `duration_s`, then choose the next source.

        `ups_spare_w`: what the UPS's rating leaves for a recharge. The battery, where it carries, is run by the plant.
        """
        store, source = self.store, self.source
        generator_w = store_w = loss_w = charge_w = 0.0
        overload = False
        if source == "none":
            if store is not None and ups_input_w > 0:
                loss_w = store.carry(ups_input_w, duration_s)
                store_w = ups_input_w + loss_w
        else:
            room_w = math.inf
            if source == "generator":
                room_w = self.feasible_range(duration_s)[1] - bus_w
                short_w = max(0.0, ups_input_w - room_w)
                if short_w > 0 and store is not None and not store.open and short_w <= ups_input_w:
                    # walk-in: the UPS takes what the generators can give, its store the rest
                    loss_w = store.carry(short_w, duration_s)
                    store_w = short_w + loss_w
                    generator_w = bus_w + ups_input_w - short_w
                else:
                    overload = short_w > 0
                    generator_w = bus_w + ups_input_w
                room_w -= ups_input_w
            elif source == "utility":
                least_w, highest_w = self.feasible_range(duration_s)
                if self._parallel_w > 0:
                    generator_w = min(max(self._parallel_w, least_w), highest_w, bus_w + ups_input_w)
            if store is not None and source != "battery" and store_w == 0:
                charge_w = max(0.0, min(-store.feasible_range(duration_s)[0], ups_spare_w, room_w))
                if charge_w > 0:
                    loss_w = store.charge(charge_w, duration_s)
                    store_w = loss_w - charge_w
                    generator_w += charge_w if source == "generator" else 0.0
        fuel_w = self._burn(duration_s, generator_w, overload)
        if self.utility_live:
            self._back_s += duration_s
        if overload:
            self._tripped = True
            self.said.append(("generators_trip", "generators", f"{generator_w / 1e3:.1f} kW is more than they can carry"))
        if self.racks_live:
            self._ups_input_w = ups_input_w
        if self.bus_live:
            self._bus_w = bus_w
        self.choose()
        return SupplyStep(generator_w, fuel_w, store_w, loss_w, charge_w)

    def saw(self, duration_s: float, ups_input_w: float, bus_w: float) -> None:
        """What a step drew in which nothing was going on."""
        self._ups_input_w, self._bus_w = ups_input_w, bus_w
        self._back_s += duration_s

    def _burn(self, duration_s: float, generator_w: float, overload: bool) -> float:
        """Let the banks give `generator_w` in proportion to what each can; the fuel power."""
        highest_w = [bank.feasible_range(duration_s)[1] for bank in self.banks]
        whole_w = math.fsum(highest_w)
        fuel_w = 0.0
        for bank, most_w in zip(self.banks, highest_w, strict=True):
            step = bank.advance(duration_s, generator_w * most_w / whole_w if whole_w > 0 else 0.0, overload)
            fuel_w += step.fuel_w
            self.said += [("generator", bank.spec.name, said) for said in step.said]
        return fuel_w

    # --- the choice --------------------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Start and stop generators, choose the source, and say what changed."""
        before, racks_before = self.source, self.racks_live
        self._order_generators()
        self.source = self._source()
        self.bus_live = self.source != "none"
        self.racks_live = self.bus_live or (self.store is not None and not self.store.open)
        if self.source != before:
            carried = {"utility": "the utility", "generator": "generators", "battery": "the site battery", "none": "nobody"}
            detail = f"carried by {carried[self.source]}, before by {carried[before]}"
            if self.source == "none" and self.racks_live and self.store is not None and self._ups_input_w > 0:
                lasts_s = self.store.stored_j * (1 - self.store.spec.reserve_frac) / self._ups_input_w
                detail += f"; the UPS carries the racks for about {lasts_s:.0f} s"
            self.said.append(("supply", "site_bus", detail))
            if self.source == "utility":
                self._order_generators()
        if self.racks_live != racks_before:
            kind = "racks_live" if self.racks_live else "racks_dark"
            self.said.append((kind, "ups", "fed again" if self.racks_live else "no source and no store is left"))

    def _order_generators(self) -> None:
        for bank in self.banks:
            for_grid = bank.spec.for_grid and self._parallel_w > 0
            if (not self.utility_live and not self._tripped) or (for_grid and self.source == "utility"):
                bank.start()
            elif not bank.idle and (self._tripped or self.source == "utility"):
                bank.stop()

    def _source(self) -> Source:
        if self.utility_live:
            if self.source in ("utility", "none") or self._back_s >= self.spec.return_hold_s - 1e-9:
                return "utility"
            return self.source if self._can(self.source) else "utility"
        if self._can("generator"):
            return "generator"
        return "battery" if self._can("battery") else "none"

    def _can(self, source: Source) -> bool:
        """Whether generators or the battery can carry what the bus drew when it last was live.

        Generators need not carry the UPS at once: its store fills the gap while they ramp.
        """
        if source == "generator":
            if self._tripped:
                return False
            bridged = self.store is not None and not self.store.open
            need_w = self._bus_w + (0.0 if bridged else self._ups_input_w)
            highest_w = self.feasible_range(_LOOK_AHEAD_S)[1]
            return highest_w > 0 and highest_w >= need_w
        battery = self.battery
        if battery is None or not self.spec.islanding or self.battery_failed:
            return False
        return not battery.at_reserve and battery.spec.discharge_max_w >= self._bus_w + self._ups_input_w
