"""All loops of a site at once: the rack side of CDUs in order, then the hall's air through its air handlers."""

from __future__ import annotations

import numpy as np

from twin.facility import exchanger
from twin.facility.circuit import Circuit
from twin.facility.exchanger import Floats
from twin.facility.spec import LoopSpec
from twin.facility.thermal import rejected_w, rejection, relax

#: the least warming that the flow controller reckons with, so that a supply above the return's target means full speed.
_RANGE_MIN_K = 0.01
#: the least heat that the valves of the exchangers reckon with, so that a loop at rest has a (tiny) flow of water too.
_HEAT_MIN_W = 1e-6


class Loops:
    """Arrays of shape (loops,), in SI. They are new ones after each step, so whoever holds an old one may keep it.

    Failures scale what a loop has: `limit` says how. A loop without flow, or whose circuit gives no water, is `cut`: it rejects
    nothing and warms by its mass.
    """

    def __init__(self, specs: tuple[LoopSpec, ...], circuits: tuple[Circuit, ...]):
        self.specs = specs
        self._circuits = circuits
        names = [circuit.spec.name for circuit in circuits]
        self._circuit_of = np.array([names.index(loop.circuit) for loop in specs])
        #: (circuits, loops): 1 where the loop is on the circuit.
        self._on_circuit = (self._circuit_of == np.arange(len(circuits))[:, None]).astype(np.float64)
        self._setpoint_c = np.array([loop.supply_c for loop in specs])
        self._intercept_c = np.array([loop.return_intercept_c for loop in specs])
        self._closing = 1 - np.array([loop.return_slope for loop in specs])
        self._flow_min = np.array([loop.flow_min_frac for loop in specs])
        self.capacity_j_per_k = np.array([loop.heat_capacity_j_per_k for loop in specs])
        self._return_approach_k = np.array([loop.return_approach_k for loop in specs])
        self._rated_w_per_k = np.array([loop.specific_heat_j_per_kg_k * loop.flow_max_kg_per_s for loop in specs])
        self._rated_mover_w = np.array([loop.mover_rated_w for loop in specs])
        self._rated_wall = np.array([loop.exchanger_w_per_k for loop in specs])
        self._rated_water = np.array([loop.water_max_w_per_k for loop in specs])
        self.return_c: Floats = self._setpoint_c.copy()
        self.supply_c: Floats = self._setpoint_c
        self.flow_frac: Floats = self._flow_min.copy()
        self.heat_w: Floats = np.zeros(len(specs))
        self.mover_w: Floats = np.zeros(len(specs))
        self.water_w_per_k: Floats = np.zeros(len(specs))
        #: Flow over what the controller asks for within the rated flow; None while nothing falls short.
        self.flow_met_frac: Floats | None = None
        self._duration_s = 0.0
        self._held = False
        self._liquid = np.ones(len(specs))
        self._liquid[-1] = 0.0
        self.limit(np.ones(len(specs)), np.ones(len(specs)), np.ones(len(specs)))

    def limit(self, exchanger_share: Floats, flow_share: Floats, mover_share: Floats) -> None:
        """What is left of each loop's exchangers, greatest flow and movers' power, as shares of the rating; 0 flow: cut.

        A loop is cut as well while its circuit's pumps give no water.
        """
        watered = np.array([circuit.flow_share > 0 for circuit in self._circuits])[self._circuit_of]
        flowing = (flow_share > 0) & (exchanger_share > 0)
        cut = np.flatnonzero(~(flowing & watered))
        self._cut = cut if len(cut) else None
        self._flowing = flowing
        self._share = None if (flow_share == 1).all() else np.where(flowing, flow_share, 0.0)
        # a cut loop is reckoned as if it were whole, and what comes of it is replaced
        passing, moving = np.where(flowing, exchanger_share, 1.0), np.where(flowing, flow_share, 1.0)
        self._full_w_per_k = self._rated_w_per_k * moving
        self._mover_w = self._rated_mover_w * np.where(flowing, mover_share, 0.0)
        self._wall = self._rated_wall * passing
        self._water_max = self._rated_water * passing
        self._shares_water = None if self._cut is None else (flowing & watered).astype(np.float64)
        self._target_w = np.maximum(self._intercept_c - self._closing * self._setpoint_c, _RANGE_MIN_K) * self._full_w_per_k
        # The least ratio that the exchangers have while their circuit has so much water per coolant: it falls with the flow, so
        # that of full flow.
        all_coolant = self.by_circuit(self._full_w_per_k)
        self._plenty = [
            max(1.0, circuit.full_w_per_k * circuit.flow_share / coolant if coolant else 1.0) * (1 - 1e-9)
            for circuit, coolant in zip(self._circuits, all_coolant, strict=True)
        ]
        least_water = np.minimum(self._water_max, self._full_w_per_k * np.array(self._plenty)[self._circuit_of])
        self._ratio_least = exchanger.ratio(self._wall / self._full_w_per_k, self._wall / least_water)
        self._k_per_wall = 1 / self._wall
        self._waters = [circuit.full_w_per_k * circuit.flow_share for circuit in self._circuits]
        self._facing_c: list[float] = []  # anew from what was reckoned here

    def advance(self, duration_s: float, heat_w: Floats) -> tuple[Floats, Floats]:
        """Take `heat_w`, constant over the step. Returns (mover power, heat handed to the circuits).

        A loop that stays on one straight piece of its rejection (held setpoint, or exchanger at its limit) is stepped with the
        others; the few that cross from one to another, or are shut, go through the exact scalar form.
        """
        if duration_s != self._duration_s:
            self._duration_s, self._decay = duration_s, -duration_s / self.capacity_j_per_k
            self._w_per_k = self.capacity_j_per_k / duration_s
        held_c, full = self._setpoint_c, self._full_w_per_k
        if self.supply_c is held_c:
            wanted = heat_w / self._target_w
        else:
            wanted = heat_w / (np.maximum(self._intercept_c - self._closing * self.supply_c, _RANGE_MIN_K) * full)
        flow = np.minimum(np.maximum(wanted, self._flow_min), 1.0)
        mover_w = self._mover_w * flow * flow * flow
        heat = heat_w + mover_w
        conductance = flow * full
        facing_c = [circuit.supply_c for circuit in self._circuits]
        if facing_c != self._facing_c:
            self._face(facing_c)
        plentiful, water_limit = self._water_limit(conductance)
        before_c = self.return_c
        rest_c = held_c + heat / conductance
        after_c = rest_c + (before_c - rest_c) * np.exp(conductance * self._decay)
        ratio_limit = None
        self.supply_c = held_c
        held = plentiful and self._holds(after_c)
        if not (held and (self._held or self._holds(before_c))):
            ratio_limit, after_c = self._strained(duration_s, heat, conductance, water_limit)
            held = False
        self._held = held
        moved_w = heat - self._w_per_k * (after_c - before_c)
        water_w_per_k = self._water(moved_w, conductance, water_limit, ratio_limit)
        if self._cut is not None:
            after_c = self._stay(duration_s, heat_w, flow, mover_w, heat, moved_w, water_w_per_k, after_c, before_c)
        self.return_c = after_c
        self.flow_frac = flow if self._share is None else flow * self._share
        self.flow_met_frac = None if self._share is None else self._met(wanted)
        self.heat_w = heat
        self.mover_w = mover_w
        self.water_w_per_k = water_w_per_k
        return mover_w, moved_w

    def by_circuit(self, values: Floats) -> list[float]:
        """Sums over each circuit's loops."""
        sums: list[float] = self._on_circuit.dot(values).tolist()
        return sums

    def liquid_mover_w(self) -> float:
        """Power of all movers but the hall's fans in the last step."""
        return float(self.mover_w.dot(self._liquid))

    def _face(self, facing_c: list[float]) -> None:
        """What follows from the circuits' supplies: they seldom change, being held at setpoints."""
        held_c = self._setpoint_c
        self._facing_c = facing_c
        self._sink_c = np.array(facing_c)[self._circuit_of]
        self._margin_k = held_c - self._sink_c
        self._holds_to_c = held_c + self._margin_k * self._ratio_least
        self._shut_c = np.maximum(held_c, self._sink_c)
        with np.errstate(divide="ignore"):  # no margin: no water suffices
            self._growth_per_w = 1 / (self._wall * self._margin_k)
        self._short_k = self._return_approach_k - self._margin_k
        self._held = False

    def _holds(self, return_c: Floats) -> bool:
        """Whether at these returns all loops hold their setpoints, given water in plenty."""
        return np.count_nonzero((return_c <= self._holds_to_c) & (return_c > self._shut_c)) == len(return_c)

    def _strained(self, duration_s: float, heat: Floats, conductance: Floats, water_limit: Floats) -> tuple[Floats, Floats]:
        """(ratio of the exchangers at their limit, return after the step), with `supply_c` set, where some cannot hold."""
        before_c, held_c, sink_c, margin_k = self.return_c, self._setpoint_c, self._sink_c, self._margin_k
        ratio_limit = exchanger.ratio(self._wall / conductance, self._wall / water_limit)
        switch_c = held_c + margin_k * ratio_limit
        strained = before_c > switch_c
        effectiveness = ratio_limit / (1 + ratio_limit)
        share = np.where(strained, effectiveness, 1.0)
        base_c = np.where(strained, sink_c, held_c)
        slope = conductance * share
        rest_c = base_c + heat / slope
        after_c = rest_c + (before_c - rest_c) * np.exp(slope * self._decay)
        supply_c = np.where(strained, after_c - share * (after_c - base_c), held_c)
        plain = ((after_c > switch_c) == strained) & (np.minimum(before_c, after_c) > self._shut_c)
        for i in np.flatnonzero(~plain).tolist():
            pieces = rejection(float(conductance[i]), float(effectiveness[i]), float(held_c[i]), float(sink_c[i]), 0.0)
            after = relax(float(before_c[i]), duration_s, float(heat[i]), self.specs[i].heat_capacity_j_per_k, pieces)
            after_c[i] = after
            supply_c[i] = after - rejected_w(after, pieces) / float(conductance[i])
        self.supply_c = supply_c
        return ratio_limit, after_c

    def _stay(
        self,
        duration_s: float,
        heat_w: Floats,
        flow: Floats,
        mover_w: Floats,
        heat: Floats,
        moved_w: Floats,
        water_w_per_k: Floats,
        after_c: Floats,
        before_c: Floats,
    ) -> Floats:
        """Replace what was reckoned for the loops that are cut: they keep their heat. Returns the returns after the step."""
        cut = self._cut
        still = ~self._flowing
        mover_w[still] = 0.0
        heat[still] = heat_w[still]
        flow[still] = 0.0
        moved_w[cut] = 0.0
        water_w_per_k[cut] = 0.0
        after_c[cut] = before_c[cut] + heat[cut] * duration_s / self.capacity_j_per_k[cut]
        supply_c = self.supply_c.copy()
        supply_c[cut] = after_c[cut]
        self.supply_c = supply_c
        return after_c

    def _met(self, wanted: Floats) -> Floats:
        """Flow over the flow that is asked for, where that is no more than the rated one."""
        assert self._share is not None
        asked = np.minimum(np.maximum(wanted * np.where(self._flowing, self._share, 1.0), self._flow_min), 1.0)
        return np.minimum(self.flow_frac / asked, 1.0)

    def _water_limit(self, conductance: Floats) -> tuple[bool, Floats]:
        """(whether every circuit has water in plenty for its loops' coolant, the most water of each exchanger).

        That is its valve wide open, or its share of the pump's full flow. Shares go with the loops' own capacity rates, for
        balanced exchangers need as much water as there is coolant.
        """
        shared = conductance if self._shares_water is None else conductance * self._shares_water
        plentiful = True
        per_coolant = []
        for water, coolant, plenty in zip(self._waters, self.by_circuit(shared), self._plenty, strict=True):
            # a circuit that no loop draws on: any share will do
            share = water / coolant if water > 0 and coolant > 0 else plenty
            per_coolant.append(share)
            plentiful = plentiful and share >= plenty
        return plentiful, np.minimum(self._water_max, conductance * np.array(per_coolant)[self._circuit_of])

    def _water(self, moved_w: Floats, conductance: Floats, limit: Floats, ratio_limit: Floats | None) -> Floats:
        """Capacity rate of the water through each exchanger for its mean heat: what the supply needs, or the return's approach.

        More than the heat needs goes to waste only as flow: the valve beside the exchanger's other side mixes the supply.
        """
        moved_w = np.maximum(moved_w, _HEAT_MIN_W)
        k_per_coolant = 1 / conductance
        if ratio_limit is None:
            growth, short_k = moved_w * self._growth_per_w, self._short_k
        else:
            cold_end_k = np.maximum(self._margin_k, moved_w * k_per_coolant / ratio_limit)
            growth, short_k = moved_w / (self._wall * cold_end_k), self._return_approach_k - cold_end_k
        # of 1 / W: what the supply needs is 1 / H - a / UA, what the return needs 1 / H - short_k / moved_w
        least = np.maximum(exchanger.shift(growth) * self._k_per_wall, short_k / moved_w)
        return 1 / np.maximum(k_per_coolant - least, 1 / limit)
