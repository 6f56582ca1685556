"""Stores, generators and who carries a site when the utility is gone: by hand, against a slow reference, in a plant."""

from __future__ import annotations

import dataclasses
import math
from itertools import chain as joined
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_facility_plant import HOLD, example_spec, racks_w, unbalance

from twin.errors import InputError, SimulationError
from twin.facility import (
    BatterySpec,
    ChainElementSpec,
    ChainSpec,
    ElectricalElement,
    Generators,
    GeneratorSpec,
    Plant,
    PlantStep,
    Store,
    StoreSpec,
    SupplySpec,
)

#: Names that `input_w` of the UPS in `example_spec` is reckoned with: about 311 kW at 60 kW a rack.
STORE = StoreSpec("ups", 60e6, 1.05e6, 100e3, 0.96, 0.96)
BANK = GeneratorSpec("sets", 2, 500e3, 10.0, 0.985, 3, 100e3, 0.3, 60.0, 0.36, 0.40, 1e10, 36e6, return_hold_s=30.0)


def test_store_by_hand() -> None:
    store = Store(StoreSpec("ups", 1000.0, 50.0, 20.0, 0.8, 0.5, 0.1))
    # above the reserve of 100 J: 900 J x 0.8 = 720 J to give
    assert store.feasible_range(1.0) == (0.0, 50.0)
    assert store.feasible_range(20.0) == (0.0, pytest.approx(36.0))
    assert store.left_s(40.0) == pytest.approx(18.0)
    assert store.carry(40.0, 10.0) == pytest.approx(10.0)  # 50 W out of the cells
    assert store.stored_j == pytest.approx(500.0)
    assert store.feasible_range(100.0)[0] == pytest.approx(-10.0)  # room of 500 J takes 1000 J
    assert store.charge(20.0, 10.0) == pytest.approx(10.0)
    assert store.stored_j == pytest.approx(600.0)
    assert (store.taken_j, store.given_j, store.lost_j) == (200.0, 400.0, 200.0)
    assert store.books_balance


def test_a_store_opens_at_its_reserve_and_never_empties() -> None:
    store = Store(StoreSpec("ups", 1000.0, 50.0, 20.0, 1.0, 1.0, 0.1))
    store.carry(44.0, 20.0)
    assert not store.open
    store.carry(44.0, 1.0)  # the reserve bridges the step
    assert store.open
    assert store.stored_j == pytest.approx(76.0)
    with pytest.raises(SimulationError, match="below zero"):
        store.carry(44.0, 2.0)
    with pytest.raises(SimulationError, match="outside 0 to 50"):
        store.carry(51.0, 0.1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(0.01, 500)), max_size=40), st.floats(0.5, 1), st.floats(0.5, 1)
)
def test_store_conserves_energy(orders: list[tuple[bool, float, float]], out: float, into: float) -> None:
    store = Store(StoreSpec("ups", 1000.0, 50.0, 20.0, out, into, 0.05))
    for gives, share, duration_s in orders:
        lowest, highest = store.feasible_range(duration_s)
        if gives:
            store.carry(share * highest, duration_s)
        else:
            store.charge(share * -lowest, duration_s)
        assert 0 <= store.stored_j <= store.spec.capacity_j
        assert store.books_balance


def test_fuel_by_hand() -> None:
    # half load of 500 kW at 36 %: 694.4 kW; full load at 40 %: 1250 kW; so 138.9 kW without load
    assert BANK.fuel_w(250e3) == pytest.approx(250e3 / 0.36)
    assert BANK.fuel_w(500e3) == pytest.approx(500e3 / 0.40)
    assert BANK.fuel_idle_frac * 500e3 == pytest.approx(138.9e3, rel=1e-3)
    assert BANK.fuel_w(0.0) == BANK.fuel_w(0.3 * 500e3)
    with pytest.raises(InputError, match="fuel that falls"):
        dataclasses.replace(BANK, efficiency_half_frac=0.45)


def test_start_ramp_and_stop_by_hand() -> None:
    bank = Generators(BANK, iter([0.99, 0.5, 0.5]))  # the first unit starts at its second attempt
    bank.start()
    assert bank.next_change_s() == 10.0
    assert bank.advance(10.0, 0.0).said == ["unit 0 did not start, attempt 1", "unit 1 runs"]
    assert bank.feasible_range(1.0) == (0.0, 0.0)  # at the foot of its ramp
    bank.advance(3.0, 0.0)
    assert bank.feasible_range(1.0) == (pytest.approx(150e3), pytest.approx(300e3))
    bank.advance(7.0, 300e3)
    assert bank.running == 2
    bank.advance(5.0, 500e3)
    assert bank.available_w() == 1e6
    assert bank.fuel_used_j == pytest.approx(3 * BANK.fuel_w(0) + 7 * BANK.fuel_w(300e3) + 5 * 2 * BANK.fuel_w(250e3))
    assert not bank.stop()  # not for their minimum time yet
    bank.advance(45.0, 0.0)
    assert not bank.stop()
    assert bank.running == 1
    bank.advance(15.0, 0.0)
    assert bank.stop()
    assert bank.books_balance


def test_a_unit_that_never_starts_is_out_and_the_others_carry() -> None:
    bank = Generators(BANK, joined(iter([0.99, 0.1, 0.99, 0.99]), repeat(0.0)))
    bank.start()
    for _ in range(40):
        bank.advance(1.0, 0.0)
    assert (bank.running, bank.usable, bank.failed_starts) == (1, 1, 1)
    assert bank.feasible_range(1.0)[1] == 500e3
    bank.repair(1)
    assert bank.usable == 2
    with pytest.raises(SimulationError, match="more than are out"):
        bank.repair(1)


def test_out_of_fuel() -> None:
    bank = Generators(dataclasses.replace(BANK, count=1, start_s=0.0, fuel_j=1250e3 * 20), repeat(0.0))
    bank.start()
    bank.advance(5.0, 0.0)
    used_j = bank.fuel_used_j
    seconds = (bank.spec.fuel_j - used_j) / 1250e3
    highest_w = bank.feasible_range(seconds)[1]
    assert highest_w == pytest.approx(500e3)
    assert bank.feasible_range(2 * seconds)[1] < 500e3
    assert bank.advance(seconds, 500e3).said == ["out of fuel"]
    assert (bank.running, bank.fuel_left_j, bank.usable) == (0, 0.0, 0)
    assert bank.books_balance
    with pytest.raises(SimulationError, match="outside 0 to 0"):
        bank.advance(1.0, 1.0)


class _SlowBank:
    """The same bank in steps of a tenth of a second, a unit a list: the obvious way."""

    def __init__(self, spec: GeneratorSpec, draws: list[float]):
        self.spec, self.draws = spec, iter(draws)
        self.units: list[list[Any]] = [["off", 0, 0] for _ in range(spec.count)]  # state, ticks left or up, attempts

    def tick(self) -> None:
        for unit in self.units:
            if unit[0] == "running":
                unit[1] += 1
            elif unit[0] == "starting":
                unit[1] -= 1
                if unit[1] == 0:
                    unit[2] += 1
                    if next(self.draws) < self.spec.start_probability_frac:
                        unit[:] = ["running", 0, 0]
                    elif unit[2] < self.spec.start_attempts:
                        unit[1] = round(self.spec.start_s * 10)
                    else:
                        unit[0] = "out"

    def start(self) -> None:
        for unit in self.units:
            if unit[0] == "off":
                unit[:] = ["starting", round(self.spec.start_s * 10), 0]

    def stop(self) -> None:
        for unit in self.units:
            if unit[0] == "starting" or (unit[0] == "running" and unit[1] >= self.spec.run_min_s * 10):
                unit[0] = "off"

    def available_w(self) -> float:
        rated_w = self.spec.rated_w
        return sum(min(rated_w, self.spec.ramp_w_per_s * u[1] / 10) for u in self.units if u[0] == "running")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["start", "stop", "wait", "wait", "wait"]), max_size=30),
    st.lists(st.integers(1, 40), min_size=30, max_size=30),
    st.lists(st.floats(0, 1), min_size=300, max_size=300),
)
def test_against_a_slow_reference(orders: list[str], tenths: list[int], draws: list[float]) -> None:
    spec = dataclasses.replace(BANK, count=3, start_s=2.0, run_min_s=5.0, start_probability_frac=0.6, start_attempts=2)
    bank, slow = Generators(spec, iter(draws)), _SlowBank(spec, draws)
    for order, ticks in zip(orders, tenths, strict=False):
        if order == "start":
            bank.start()
            slow.start()
        elif order == "stop":
            bank.stop()
            slow.stop()
        left = ticks
        while left > 0:  # as the engine does: no step goes beyond the next change
            change_s = bank.next_change_s()
            now = min(left, round(change_s * 10)) if math.isfinite(change_s) else left
            bank.advance(now / 10, 0.0)
            left -= now
            for _ in range(now):
                slow.tick()
        assert bank.running == sum(unit[0] == "running" for unit in slow.units)
        assert bank.usable == sum(unit[0] != "out" for unit in slow.units)
        assert bank.available_w() == pytest.approx(slow.available_w())
        assert bank.books_balance


# --- in a plant ----------------------------------------------------------------------------------------------------------


def plant(supply: SupplySpec, **changes: Any) -> Plant:
    return Plant(example_spec(supply=supply, **changes), draws={"sets": repeat(0.5)})


def run(site: Plant, seconds: int, rack_w: float = 60e3, gpu_w: float = 600.0) -> list[PlantStep]:
    steps = []
    for _ in range(seconds):
        up = site.rack_up
        steps.append(site.advance(site.now_s + 1.0, racks_w(rack_w) * up, racks_w(gpu_w) * up, 10.0, 8.0, HOLD))
        if steps[-1].it_w:
            assert unbalance(steps[-1]) < 1e-12
    return steps


def test_ride_through_until_generators_carry() -> None:
    site = plant(SupplySpec((STORE,), (BANK,)))
    before = run(site, 10)[-1]
    site.fail("incomer/utility")
    assert site.rack_up.all()
    dark = run(site, 10)
    # the UPS carries the racks, cooling and fixed loads stand still
    link_w = dark[0].it_w + dark[0].shelf_loss_w + dark[0].ups_loss_w
    assert dark[0].it_w == before.it_w
    assert (dark[0].utility_w, dark[0].cooling_w, dark[0].other_w, dark[0].generator_w) == (0, 0, 0, 0)
    assert dark[0].battery_w == pytest.approx(link_w / 0.96)
    assert dark[-1].ups_soc_frac == pytest.approx(1 - 10 * link_w / 0.96 / 60e6)
    # up after 10 s; two ramps of 100 kW/s reach 1.25 times the 335 kW of stores and cooling in the third second
    carried = run(site, 20)
    assert [step.generator_w > 0 for step in carried[:4]] == [False, False, False, True]
    assert carried[5].generator_w == pytest.approx(
        carried[5].it_w + carried[5].cooling_w + carried[5].other_w + carried[5].conversion_loss_w
    )
    assert carried[5].cooling_w > 0
    assert carried[5].generators_on == 2
    site.repair("incomer/utility")
    held = run(site, 31)
    assert [step.utility_w == 0 for step in held[28:]] == [True, True, False]  # back after its hold of 30 s
    # the recharge is a load at the UPS's input: 100 kW into the link, 96 kW into the cells
    assert held[30].battery_w == pytest.approx(-96e3)
    run(site, 200)
    assert site.supply.settled  # full again, and the generators off after their minimum time
    assert site.supply.books_balance
    assert site.energy.balance_residual_frac < 1e-12
    assert site.energy.heat_residual_frac < 1e-9
    assert site.energy.generator_j == pytest.approx(site.supply.banks[0].energy_j)
    assert site.energy.fuel_j == pytest.approx(site.supply.banks[0].fuel_used_j)
    assert site.supply.fuel_l == pytest.approx(site.energy.fuel_j / 36e6)


def test_without_generators_the_racks_go_dark_before_the_store_is_empty() -> None:
    site = plant(SupplySpec((STORE,)))
    run(site, 5)
    site.fail("incomer/utility")
    steps = run(site, 300, gpu_w=0.0)  # cold dies: without pumps the others would trip first
    dark = next(i for i, step in enumerate(steps) if step.it_w == 0)
    assert dark == math.ceil(0.95 * 60e6 / steps[0].battery_w)
    assert 0 < site.supply.stores["ups"].soc_frac < 0.05
    assert not site.rack_up.any()
    assert all(step.battery_w == step.conversion_loss_w == 0 for step in steps[dark:])
    site.repair("incomer/utility")
    assert site.rack_up.all()
    back = run(site, 5)
    assert back[-1].utility_w > back[-1].it_w
    assert any("UPS stores last about" in event.detail for event in site.take_events())


def test_without_a_store_the_racks_are_dark_until_generators_carry() -> None:
    site = plant(SupplySpec((), (BANK,)))
    run(site, 5)
    site.fail("incomer/utility")
    assert not site.rack_up.any()
    steps = run(site, 20)
    assert [step.it_w > 0 for step in steps].index(True) == 13


def test_an_island_on_the_site_battery_goes_on_with_its_cooling() -> None:
    battery = BatterySpec(36e6, 600e3, 100e3, 0.95, 0.95, 0.5, 0.9)
    site = plant(SupplySpec(islanding=True), battery=battery)
    run(site, 5)
    site.fail("incomer/utility")
    steps = run(site, 120)
    assert steps[0].cooling_w > 0
    drawn_w = steps[0].it_w + steps[0].cooling_w + steps[0].other_w + steps[0].conversion_loss_w
    assert steps[0].battery_w == pytest.approx(drawn_w)
    assert steps[-1].it_w == 0  # below its floor of half, down to 5 %
    assert 0.03 < site.supply.contents["battery"] <= 0.05
    assert site.supply.books_balance


def test_generators_too_small_trip() -> None:
    site = plant(SupplySpec((), (dataclasses.replace(BANK, rated_w=210e3, return_hold_s=0.0),)))
    run(site, 5)
    site.fail("incomer/utility")
    run(site, 20)
    assert site.rack_up.all()
    run(site, 1, 85e3)
    assert any("they trip" in event.detail for event in site.take_events())
    assert not site.rack_up.any()
    run(site, 30)
    assert not site.rack_up.any()
    site.repair("incomer/utility")
    assert site.rack_up.all()
    assert site.supply.books_balance


def test_a_failed_unit_leaves_the_others_to_carry() -> None:
    site = plant(SupplySpec((STORE,), (BANK,)))
    assert [c.key for c in site.components()][-2:] == ["generator/sets", "battery/battery"]
    run(site, 5)
    site.fail("incomer/utility")
    run(site, 20)
    site.fail("generator/sets")
    assert run(site, 10)[-1].generators_on == 1
    assert site.rack_up.all()
    site.fail("generator/sets")
    assert run(site, 1)[-1].battery_w > 0
    with pytest.raises(SimulationError):
        site.fail("generator/sets")
    with pytest.raises(SimulationError):
        site.fail("generator/none")


def two_feeds() -> ChainSpec:
    def element(name: str, kind: str, above: str) -> ChainElementSpec:
        return ChainElementSpec(ElectricalElement(name, 1e6, 0.005, 0.01, 0.02), kind, above)

    elements = tuple(
        element(f"{kind}_{feed}", kind, feed if kind == "transformer" else f"transformer_{feed}")
        for feed in ("a", "b")
        for kind in ("transformer", "ups")
    )
    return ChainSpec(("a", "b"), elements, (("ups_a", "ups_b"),) * 3, ("transformer_a", "transformer_b"))


def test_generators_stay_off_where_the_other_feed_takes_over() -> None:
    spec = example_spec()
    racks = tuple(dataclasses.replace(rack, psus=6) for rack in spec.racks)
    stores = (dataclasses.replace(STORE, name="ups_a"), dataclasses.replace(STORE, name="ups_b"))
    site = plant(SupplySpec(stores, (BANK,)), chain=two_feeds(), racks=racks, battery=None)
    run(site, 5)
    site.fail("incomer/a")
    alone = run(site, 20)
    assert site.supply.running == 0
    # UPS a carries its half from its store, the rest comes through b
    assert alone[0].battery_w > 0.4 * alone[0].it_w
    assert alone[0].cooling_w > 0
    site.fail("incomer/b")
    run(site, 20)
    assert site.supply.source == "generator"
    assert site.supply.held_roots == ("transformer_a", "transformer_b")
    site.repair("incomer/a")
    site.repair("incomer/b")
    run(site, 400)
    assert site.supply.settled
    assert site.supply.books_balance
    assert site.energy.balance_residual_frac < 1e-12


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["lose", "back", "unit", "mend", "wait"]), st.integers(1, 25), st.floats(0, 90e3)), max_size=12
    )
)
def test_books_balance_over_random_losses(orders: list[tuple[str, int, float]]) -> None:
    site = plant(SupplySpec((STORE,), (BANK,)))
    live, out = True, 0
    for order, seconds, rack_w in orders:
        if order == "lose" and live:
            site.fail("incomer/utility")
            live = False
        elif order == "back" and not live:
            site.repair("incomer/utility")
            live = True
        elif order == "unit" and out < 2:
            site.fail("generator/sets")
            out += 1
        elif order == "mend" and out:
            site.repair("generator/sets")
            out -= 1
        run(site, seconds, rack_w)
    assert site.supply.books_balance
    assert site.energy.balance_residual_frac < 1e-9
    assert site.energy.heat_residual_frac < 1e-6
    assert np.isfinite(site.energy.fuel_j)
