"""The plant of one site: from the racks' DC bus to the meter in watts, and to the sky in degrees."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError, did_you_mean
from twin.facility.battery import Battery, BatteryOrder
from twin.facility.chain import Chain, ChainEvent
from twin.facility.circuit import CircuitPower
from twin.facility.component import Component
from twin.facility.cooling import Cooling, CoolingStep, Floats
from twin.facility.racks import Racks
from twin.facility.spec import PlantSpec
from twin.facility.supply import Supply, SupplyStep
from twin.facility.weather import check_air


class LoopState(NamedTuple):
    """A loop or circuit at the end of a step; `gpu_max_c` is None where no GPU hangs on it.

    `heat_w` is the heat that entered in the step, its mover's included; `throttled_frac` the share of its racks whose clock
    is held down for heat. Powers and water are means over the step; a step that is divided (`coupling_step_s`) tells of its last
    part.
    """

    name: str
    supply_c: float
    return_c: float
    flow_kg_per_s: float
    heat_w: float
    gpu_max_c: float | None
    throttled_frac: float
    pump_w: float
    fan_w: float
    chiller_w: float
    water_kg_per_s: float


class LoopColumns(NamedTuple):
    """What `LoopState` has, as arrays (loops,), a step's thousand loops at once; `gpu_max_c` is NaN where no GPU hangs on one."""

    supply_c: Floats
    return_c: Floats
    flow_kg_per_s: Floats
    heat_w: Floats
    gpu_max_c: Floats
    throttled_frac: Floats
    pump_w: Floats
    fan_w: Floats
    chiller_w: Floats
    water_kg_per_s: Floats


class PlantStep(NamedTuple):
    """Mean powers over a step and the state at its end.

    utility_w + battery_w + generator_w = it_w + cooling_w + conversion_loss_w + other_w. `cooling_w` = pumps + fans + chillers.
    `battery_w` is what leaves all stores, the battery's and those of UPS (above zero: discharging), and their loss is part of the
    conversion loss; `battery_short_w` is what its order asked for beyond its feasible range or the site's own load (nothing is
    exported), with the order's sign; `battery_soc_frac` is None without a battery, `ups_soc_frac` that of the emptiest UPS store,
    None where there is none. `generator_w` is electrical: the rest of the fuel's energy leaves outdoors.
    `rack_clock_limit` (racks,) is the relative clock that heat allows.
    """

    end_s: float
    duration_s: float
    it_w: float
    cooling_w: float
    pump_w: float
    fan_w: float
    chiller_w: float
    shelf_loss_w: float
    ups_loss_w: float
    transformer_loss_w: float
    battery_loss_w: float
    conversion_loss_w: float
    other_w: float
    battery_w: float
    battery_short_w: float
    generator_w: float
    utility_w: float
    battery_soc_frac: float | None
    rack_clock_limit: Floats
    cooling_state: CoolingState
    ups_soc_frac: float | None = None
    generators_on: int = 0

    @property
    def rack_die_c(self) -> Floats:
        """Hottest die of each rack at the end of the step (racks,); of no meaning in racks without GPUs."""
        return self.cooling_state.gpu_c

    @property
    def loops(self) -> tuple[LoopState, ...]:
        """Liquid loops in order, the hall's air, then the circuits. Built when asked for: most steps are not recorded."""
        state = self.cooling_state
        columns = [values.tolist() for values in state.columns(self.rack_clock_limit)]
        columns[4] = [None if math.isnan(gpu_max_c) else gpu_max_c for gpu_max_c in columns[4]]
        return tuple(map(LoopState, state.cooling.names, *columns))

    @property
    def loop_columns(self) -> LoopColumns:
        """The same as arrays, in the order of `loops`."""
        return self.cooling_state.columns(self.rack_clock_limit)


class CoolingState(NamedTuple):
    """What `PlantStep.loops` is made from; arrays are never written again after the step.

    `circuits`: (supply, return, share of the full flow, heat, powers) of each.
    """

    cooling: Cooling
    supply_c: Floats
    return_c: Floats
    flow_frac: Floats
    heat_w: Floats
    mover_w: Floats
    gpu_c: Floats
    circuits: tuple[tuple[float, float, float, float, CircuitPower], ...]

    def columns(self, clock_limit: Floats) -> LoopColumns:
        """Liquid loops in order, the hall's air, then the circuits."""
        cooling, circuits = self.cooling, self.circuits
        liquid, standing = len(self.supply_c) - 1, np.zeros(len(circuits))
        none = np.zeros(liquid + 1)
        supply_c, return_c, flow_frac, heat_w = np.array([circuit[:4] for circuit in circuits]).T
        powers = np.array([circuit[4] for circuit in circuits])
        gpu_max_c, throttled_frac = cooling.dies.by_loop(self.gpu_c, clock_limit)
        pump_w, fan_w = self.mover_w.copy(), none.copy()
        pump_w[liquid], fan_w[liquid] = 0.0, pump_w[liquid]  # air is moved by fans
        join = np.concatenate
        return LoopColumns(
            join((self.supply_c, supply_c)),
            join((self.return_c, return_c)),
            join((self.flow_frac, flow_frac)) * cooling.flow_max_kg_per_s,
            join((self.heat_w, heat_w)),
            join((gpu_max_c, np.full(len(circuits), np.nan))),
            join((throttled_frac, standing)),
            join((pump_w, powers[:, 0])),
            join((fan_w, powers[:, 1])),
            join((none, powers[:, 2])),
            join((none, powers[:, 4])),
        )


#: A step in which nothing but the utility and the battery's orders carry the site.
_NOTHING = SupplyStep()


@dataclass(slots=True)
class PlantEnergy:
    """Totals since the start, in J. `battery_j` left the stores, `fuel_j` the tanks. Heat goes in with everything drawn, and out
    to the sky.

    `free_cooling_s` is the time of `span_s` with all chillers off, `water_kg` what cooling used."""

    utility_j: float = 0.0
    it_j: float = 0.0
    cooling_j: float = 0.0
    conversion_loss_j: float = 0.0
    battery_j: float = 0.0
    generator_j: float = 0.0
    other_j: float = 0.0
    heat_in_j: float = 0.0
    heat_rejected_j: float = 0.0
    heat_stored_j: float = 0.0
    water_kg: float = 0.0
    free_cooling_s: float = 0.0
    span_s: float = 0.0
    fuel_j: float = 0.0

    @property
    def balance_residual_frac(self) -> float:
        """|supplied - used| / used; 0 before the first step."""
        used = self.it_j + self.cooling_j + self.conversion_loss_j + self.other_j
        return abs(self.utility_j + self.battery_j + self.generator_j - used) / used if used else 0.0

    @property
    def heat_residual_frac(self) -> float:
        """|heat in - rejected - stored| / heat in; 0 before the first step."""
        rest = self.heat_in_j - self.heat_rejected_j - self.heat_stored_j
        return abs(rest) / self.heat_in_j if self.heat_in_j else 0.0


class Plant:
    """Racks, conversion chain, loops, circuits and supply of a site. It knows no clock but the time it was last told.

    `draws`: uniform numbers for the starts of each bank of generators, by name.
    """

    def __init__(self, spec: PlantSpec, start_s: float = 0.0, draws: Mapping[str, Iterator[float]] | None = None):
        self.spec = spec
        self.now_s = start_s
        self.racks = Racks(spec)
        self.chain = Chain(spec.chain, self.racks.shelves, spec.name)
        self.cooling = Cooling(spec)
        #: (racks,): which racks have power and are not off for heat. It is another array once any rack's state changes.
        self._up_of = (self.chain.rack_live, self.cooling.rack_tripped)
        self.rack_up: npt.NDArray[np.bool_] = self.chain.rack_live & ~self.cooling.rack_tripped
        self.battery = Battery(spec.battery) if spec.battery is not None else None
        self.supply = Supply(spec.supply, self.chain, self.battery, draws)
        self._owners: dict[str, Cooling | Supply] = {
            component.key: owner for owner in (self.cooling, self.supply) for component in owner.components()
        }
        self.energy = PlantEnergy()
        self._stored_from_j = self.cooling.stored_j()

    def components(self) -> tuple[Component, ...]:
        """Everything of it that can fail."""
        return (*self.chain.components(), *self.cooling.components(), *self.supply.components())

    def fail(self, key: str, units: int = 1) -> None:
        """Take `units` of a component away from the next step on. Raises SimulationError where there are none to take."""
        self._owner(key).fail(key, units)
        self._tell_supply(key, live=False)
        self._settle_power()

    def repair(self, key: str, units: int = 1) -> None:
        """Give `units` of a component back from the next step on. Raises SimulationError where none are missing."""
        self._owner(key).repair(key, units)
        self._tell_supply(key, live=True)
        self._settle_power()

    def run_generators(self, power_w: float) -> None:
        """Generators that may serve the grid give `power_w` beside the utility from when they can; 0: they stop."""
        self.supply.run_parallel(power_w)

    def next_change_s(self) -> float:
        """Time until the supply changes by itself, infinite while nothing is under way; a step should end there."""
        return self.supply.next_change_s() if self.supply.banks else math.inf

    def _tell_supply(self, key: str, live: bool) -> None:
        if self.supply.active and key not in self._owners:
            kind, _, name = key.partition("/")
            if kind == "incomer":
                self.supply.incomer(name, live)
            else:
                self.supply.choose()

    def _owner(self, key: str) -> Chain | Cooling | Supply:
        if key in self._owners:
            return self._owners[key]
        known = [component.key for component in self.components()]
        if key not in known:
            raise SimulationError(f"plant {self.spec.name}: no component {key!r}{did_you_mean(key, known)}")
        return self.chain

    def _settle_power(self) -> None:
        """What the chain can feed: cooling, and with heat the racks."""
        self.cooling.set_powered(float(self.chain.cooling_live), float(self.chain.pumps_live))
        live, tripped = self.chain.rack_live, self.cooling.rack_tripped
        if live is not self._up_of[0] or tripped is not self._up_of[1]:
            self._up_of = (live, tripped)
            self.rack_up = live & ~tripped

    def take_events(self) -> list[ChainEvent]:
        """What the plant did by itself since this was last asked: at the end of the last step, or by a verb since then."""
        return [*self.chain.take_events(), *self.supply.take_events()] if self.supply.active else self.chain.take_events()

    def settle(self, rack_it_w: Floats, dry_bulb_c: float, wet_bulb_c: float) -> None:
        """Put loops and circuits into the steady state of this load (racks,) and air, without counting any energy.

        For a run that starts in the middle of a day. Raises SimulationError once time has passed.
        """
        if self.energy.heat_in_j:
            raise SimulationError("a plant can be settled before its first step only")
        self.cooling.settle(self._heat(rack_it_w)[0], dry_bulb_c, wet_bulb_c)
        self._stored_from_j = self.cooling.stored_j()

    def advance(
        self,
        to_s: float,
        rack_it_w: Floats,
        gpu_max_w: Floats,
        dry_bulb_c: float,
        wet_bulb_c: float,
        battery: BatteryOrder,
    ) -> PlantStep:
        """Go on to `to_s` with each rack's mean DC power (racks,) and its hottest GPU's power (racks,) over the step.

        Raises SimulationError for time that does not advance, a power that is negative, not finite or beyond a rating, a
        battery order without a battery, and InputError for air that no weather has.
        """
        duration_s = to_s - self.now_s
        if not (duration_s > 0 and math.isfinite(duration_s)):
            raise SimulationError(f"plant {self.spec.name}: cannot advance from {self.now_s!r} s to {to_s!r} s")
        check_air(dry_bulb_c, wet_bulb_c)
        supply = self.supply
        busy = supply.active and not supply.settled
        if busy:
            supply.prepare(duration_s)
        heat_w, it_w, shelf_loss_w, indoor_loss_w = self._heat(rack_it_w)
        cooling = self.cooling.advance(duration_s, heat_w, dry_bulb_c, wet_bulb_c)
        cooling_w, other_w = cooling.total_w, self._other_w
        outdoor_loss_w = self.chain.carry_rest(cooling_w, other_w, cooling.pump_w)
        site_w = it_w + shelf_loss_w + indoor_loss_w + outdoor_loss_w + cooling_w + other_w
        generators_on = supply.running if busy else 0
        parallel_w = supply.parallel_w(duration_s, site_w) if busy else 0.0
        store_w, battery_loss_w, short_w, utility_w, bus_loss_w = self._deliver(battery, duration_s, site_w, parallel_w)
        carried = supply.advance(duration_s, parallel_w) if busy else _NOTHING
        store_w, battery_loss_w = store_w + carried.store_w, battery_loss_w + carried.loss_w
        outdoor_loss_w += bus_loss_w
        gpu_c = self.cooling.heat_up(duration_s, gpu_max_w)
        self.now_s = to_s
        conversion_loss_w = shelf_loss_w + indoor_loss_w + outdoor_loss_w + battery_loss_w
        step = PlantStep(
            to_s,
            duration_s,
            it_w,
            cooling_w,
            cooling.pump_w,
            cooling.hall_fan_w + cooling.outdoor_fan_w,
            cooling.chiller_w,
            shelf_loss_w,
            self.chain.loss_of_w("ups"),
            self.chain.loss_of_w("transformer"),
            battery_loss_w,
            conversion_loss_w,
            other_w,
            store_w,
            short_w,
            carried.generator_w,
            utility_w,
            self.battery.soc_frac if self.battery is not None else None,
            self.cooling.dies.clock_limit,
            self._cooling_state(gpu_c),
            supply.soc_frac if supply.active else None,
            generators_on,
        )
        self._count(step, cooling, outdoor_loss_w)
        self.energy.fuel_j += carried.fuel_w * duration_s
        if supply.active:
            supply.see()
        self.chain.count(duration_s)
        if busy:
            supply.choose()
        self._settle_power()
        return step

    def _cooling_state(self, gpu_c: Floats) -> CoolingState:
        cooling, loops = self.cooling, self.cooling.loops
        circuits = tuple((c.supply_c, c.return_c, c.flow_frac, c.heat_w, c.power) for c in cooling.circuits)
        return CoolingState(
            cooling, loops.supply_c, loops.return_c, loops.flow_frac, loops.heat_w, loops.mover_w, gpu_c, circuits
        )

    @property
    def _other_w(self) -> float:
        """The fixed loads, which are off where nothing feeds them."""
        return self.spec.other_w if self.chain.cooling_live else 0.0

    def _heat(self, rack_it_w: Floats) -> tuple[Floats, float, float, float]:
        """(heat into each loop (loops,), IT power, shelf loss, loss of the chain indoors). The last and the fixed loads warm the
        hall's air."""
        heat_w, rack_drawn_w, it_w, drawn_w = self.racks.heat(rack_it_w)
        indoor_loss_w = self.chain.carry_racks(rack_drawn_w, drawn_w)
        heat_w[-1] += indoor_loss_w + self._other_w
        return heat_w, it_w, drawn_w - it_w, indoor_loss_w

    def _deliver(
        self, order: BatteryOrder, duration_s: float, site_w: float, parallel_w: float
    ) -> tuple[float, float, float, float, float]:
        """(power out of the store, inverter loss, what the order asked for in vain, power from the feed, loss of the first
        element). Battery and generators beside the utility stand at the output of the only first element; where there are
        several, on their incomers' side. What holds first elements is not counted here."""
        chain, held = self.chain, bool(self.supply.held_roots)
        if not chain.feed_live or held or not self.supply.battery_works:
            order = BatteryOrder.hold()
        if chain.bus is None:
            load_w = chain.incomers_w() - parallel_w
            store_w, loss_w, short_w = self._run_battery(order, duration_s, load_w, order.limit_w)
            return store_w, loss_w, short_w, max(0.0, load_w - store_w + loss_w), 0.0
        bus_w = site_w - chain.held_w() - parallel_w if chain.live[chain.bus] else 0.0
        store_w, loss_w, short_w = self._run_battery(order, duration_s, bus_w, chain.bus_output_for_w(order.limit_w))
        behind_w = max(0.0, bus_w - store_w + loss_w)
        bus_loss_w = chain.carry_bus(behind_w)
        return store_w, loss_w, short_w, 0.0 if held else behind_w + bus_loss_w, bus_loss_w

    def _run_battery(self, order: BatteryOrder, duration_s: float, load_w: float, limit_w: float) -> tuple[float, float, float]:
        """(power out of the store, inverter loss, what the order asked for in vain) at a bus with this load, to be brought to
        `limit_w` by a follower. Nothing is exported."""
        if self.battery is None:
            if order.mode != "hold":
                raise SimulationError(f"plant {self.spec.name}: there is no battery to {order.mode}")
            return 0.0, 0.0, 0.0
        if order.mode == "hold":
            return 0.0, 0.0, 0.0
        if order.mode == "power":
            asked_w = order.power_w
        else:
            spare_w = limit_w - load_w
            asked_w = -min(spare_w, order.recharge_w) if spare_w > 0 else -spare_w
        lowest_w, highest_w = self.battery.feasible_range(duration_s)
        given_w = min(max(asked_w, lowest_w), highest_w, load_w)
        store_w, loss_w = self.battery.set_power(given_w, duration_s)
        # a follower that finds the battery full is not short of anything: it may recharge, it need not
        short_w = 0.0 if order.mode == "follow" and asked_w <= 0 else asked_w - given_w
        return store_w, loss_w, short_w

    def _count(self, step: PlantStep, cooling: CoolingStep, outdoor_loss_w: float) -> None:
        energy, duration_s = self.energy, step.duration_s
        energy.utility_j += step.utility_w * duration_s
        energy.it_j += step.it_w * duration_s
        energy.cooling_j += step.cooling_w * duration_s
        energy.conversion_loss_j += step.conversion_loss_w * duration_s
        energy.battery_j += step.battery_w * duration_s
        energy.other_j += step.other_w * duration_s
        energy.generator_j += step.generator_w * duration_s
        energy.heat_in_j += (step.it_w + step.cooling_w + step.conversion_loss_w + step.other_w) * duration_s
        # a part of the chain and the battery stand outdoors; so do the dry coolers' fans and the chillers
        outdoors_w = outdoor_loss_w + step.battery_loss_w + cooling.outdoor_fan_w + cooling.chiller_w
        energy.heat_rejected_j += (cooling.rejected_w + outdoors_w) * duration_s
        energy.span_s += duration_s
        energy.water_kg += cooling.water_kg_per_s * duration_s
        if cooling.outdoor_fan_w and not cooling.chiller_w:
            energy.free_cooling_s += duration_s
        energy.heat_stored_j = self.cooling.stored_j() - self._stored_from_j
