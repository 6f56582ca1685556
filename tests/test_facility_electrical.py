"""Losses by load and the battery, against hand arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.catalog import load_catalog
from twin.errors import InputError, SimulationError
from twin.facility import Battery, BatteryOrder, BatterySpec, ElectricalElement, sizing


def test_loss_form_by_hand() -> None:
    ups = ElectricalElement("ups", 1e6, 0.01, 0.01, 0.02)
    # at half load: 1 MW x (0.01 + 0.5 x 0.01 + 0.25 x 0.02) = 20 kW -> 500 / 520 = 96.15 %
    assert ups.loss_w(5e5) == pytest.approx(20_000.0)
    assert ups.loss_w(0.0) == pytest.approx(10_000.0)
    with pytest.raises(SimulationError, match="outside 0 to its rating"):
        ups.loss_w(1.1e6)
    with pytest.raises(SimulationError, match="outside 0 to its rating"):
        ups.loss_w(-1.0)


def test_efficiencies_are_met() -> None:
    catalog = load_catalog()
    for name in catalog.names("electrical"):
        part = catalog.part("electrical", name)
        made = sizing.element(part, name, 2e6)
        for load, efficiency in zip(part.numbers("load_frac"), part.numbers("efficiency_frac"), strict=True):
            output_w = load * 2e6
            assert output_w / (output_w + made.loss_w(output_w)) == pytest.approx(efficiency, abs=1e-9)


def test_efficiencies_nobody_can_have() -> None:
    for efficiencies in ([0.9, 1.02, 0.9], [0.99, 0.9, 0.99]):
        with pytest.raises(InputError):
            ElectricalElement.from_efficiencies("ups", 1e6, [0.25, 0.5, 1.0], efficiencies)
    with pytest.raises(InputError, match="share from 0 to 1"):
        ElectricalElement("ups", 1e6, -0.01, 0.0, 0.0)


@given(st.floats(0, 1), st.floats(0, 0.05), st.floats(0, 0.05), st.sampled_from([0.0, 0.03]))
def test_inverse_of_loss(load: float, fixed: float, linear: float, quadratic: float) -> None:
    made = ElectricalElement("x", 1e6, fixed, linear, quadratic)
    output_w = load * 1e6
    assert made.output_for_input_w(output_w + made.loss_w(output_w)) == pytest.approx(output_w, rel=1e-9, abs=1e-3)


def test_inverse_below_no_load_loss_is_negative() -> None:
    made = ElectricalElement("x", 1e6, 0.01, 0.0, 0.02)
    assert made.output_for_input_w(4000.0) == pytest.approx(-6000.0)


SPEC = BatterySpec(3.6e9, 1e6, 5e5, 0.9, 0.8, 0.1, 0.5)  # 1 MWh at 50 %


def test_battery_range_and_losses_by_hand() -> None:
    battery = Battery(SPEC)
    # 0.4 MWh above the floor gives 0.36 MWh at the bus; 0.5 MWh of room takes 0.625 MWh
    assert battery.feasible_range(7200.0) == pytest.approx((-312_500.0, 180_000.0))
    assert battery.feasible_range(60.0) == (-5e5, 1e6)
    store_w, loss_w = battery.set_power(180_000.0, 7200.0)
    assert (store_w, loss_w) == pytest.approx((200_000.0, 20_000.0))
    assert battery.soc_frac == pytest.approx(0.1)
    store_w, loss_w = battery.set_power(-5e5, 3600.0)
    assert (store_w, loss_w) == pytest.approx((-4e5, 1e5))
    assert battery.soc_frac == pytest.approx(0.5)
    with pytest.raises(SimulationError, match="outside"):
        battery.set_power(2e6, 1.0)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1e5)), max_size=30))
def test_battery_stays_between_floor_and_full(orders: list[tuple[float, float]]) -> None:
    battery = Battery(SPEC)
    given_j = 0.0
    for share, duration_s in orders:
        lowest, highest = battery.feasible_range(duration_s)
        store_w, loss_w = battery.set_power(share * (highest if share > 0 else -lowest), duration_s)
        assert loss_w >= 0
        given_j += store_w * duration_s
        assert SPEC.floor_frac - 1e-9 <= battery.soc_frac <= 1 + 1e-9
    assert battery.stored_j == pytest.approx(SPEC.capacity_j * SPEC.initial_frac - given_j, rel=1e-9, abs=1.0)


def test_bad_batteries_and_orders() -> None:
    for change in ({"capacity_j": -1.0}, {"charge_efficiency_frac": 1.1}, {"floor_frac": 0.7}, {"discharge_max_w": -5.0}):
        values = {name: getattr(SPEC, name) for name in SPEC.__slots__} | change
        with pytest.raises(InputError):
            BatterySpec(**values)
    with pytest.raises(SimulationError):
        BatteryOrder.follow(float("nan"))
    with pytest.raises(SimulationError):
        BatteryOrder.power(float("inf"))
