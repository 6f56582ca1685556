"""The hottest die of each rack: its temperature, the clock that heat allows, and the trip.

C dT/dt = P - (T - coolant) / R: a die with its cold plate (or heat sink in air) is one mass between its power and the coolant, so
that T relaxes exponentially to coolant + R P and a step has a closed form. The mass matters for the die alone: the heat that it
stores is part of the loop's own mass in the heat balance, for only one GPU of a rack is known.

R is the rated resistance as long as the loop has the flow that its controller asks for. With less it grows as forced convection
falls, Nu ~ Re^0.8 (F. W. Dittus, L. M. K. Boelter, 1930; Incropera et al., chapter 8), in series with what is conduction
(die, interface, base plate); without any, `still_frac` of the conductance is left (conduction into standing coolant and metal).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from twin.errors import SimulationError
from twin.facility.exchanger import Floats
from twin.facility.spec import GpuHeatSpec, HeatSinkSpec, PlantSpec

#: how fast the firmware moves the clock towards what the die temperature allows; assumed, die time constants are near it.
THROTTLE_RESPONSE_S = 2.0

#: what a rack without GPUs has instead: at 0 W it never gets too hot.
_NO_GPU = GpuHeatSpec(1.0, 1e6, 1.0, 1e6, HeatSinkSpec(1.0, 0.0, 1.0, 0.0))


class Dies:
    """Racks in the order of the spec's groups. Loop numbers are those of the liquid loops, then the hall's air.

    Dies begin in the steady state of the first step. `clock_limit` (racks,) is the relative clock that heat allows; `tripped`
    (racks,) says which racks are off for heat. Both are new arrays whenever they change.
    """

    def __init__(self, spec: PlantSpec):
        groups = spec.racks
        counts = [group.count for group in groups]
        self.count = sum(counts)
        #: "GROUP/INDEX" of each rack.
        self.names = [f"{group.name}/{index}" for group in groups for index in range(group.count)]
        loops = {loop.name: i for i, loop in enumerate(spec.loops)}
        self._name = spec.name
        self._air = len(loops)
        self._loop = np.repeat([loops[g.loop] if g.loop is not None else len(loops) for g in groups], counts)
        gpus = [group.gpu or _NO_GPU for group in groups]

        def each(values: list[float]) -> Floats:
            return np.repeat(np.array(values, dtype=np.float64), counts)

        self._resistance = each([gpu.resistance_k_per_w for gpu in gpus])
        self._heat_j_per_k = each([gpu.sink.heat_j_per_k for gpu in gpus])
        self._convection = each([gpu.sink.convection_frac for gpu in gpus])
        self._still = each([gpu.sink.still_frac for gpu in gpus])
        self._restart_s = each([gpu.sink.restart_s for gpu in gpus])
        self._throttle_c = each([gpu.throttle_c for gpu in gpus])
        self._trip_c = each([gpu.trip_c for gpu in gpus])
        self._clock_min = each([gpu.clock_min_frac for gpu in gpus])
        with_gpus = np.flatnonzero(np.repeat([group.gpu is not None for group in groups], counts))
        #: Racks with GPUs by loop, and of these the loops, where each begins and how many racks it has.
        self._order = with_gpus[np.argsort(self._loop[with_gpus], kind="stable")]
        self._used_loops, self._starts, self._racks_on = np.unique(self._loop[self._order], return_index=True, return_counts=True)
        self.clock_limit: Floats = np.ones(self.count)
        self.tripped: npt.NDArray[np.bool_] = np.zeros(self.count, dtype=bool)
        self._throttling = self._any_tripped = False
        self._wait_s = self._restart_s.copy()
        self._gpu_c: Floats | None = None
        self._supply_c: Floats | None = None
        self._coolant_c: Floats = np.zeros(self.count)
        self._decay_of_s = -1.0
        self._decay: Floats = np.zeros(self.count)

    def advance(self, duration_s: float, gpu_max_w: Floats, supply_c: Floats, flow_met_frac: Floats | None) -> Floats:
        """Die temperature of each rack's hottest GPU (racks,) after a step at `gpu_max_w` (racks,), with its consequences.

        `supply_c` and `flow_met_frac` (None: all of it) are the loops' (loops,). While a die is too hot its clock limit moves by
        the square root of allowed over actual power, which converges for any power law between the first and the fourth power of
        the clock. Raises SimulationError for a bad GPU power.
        """
        if gpu_max_w.shape != (self.count,) or np.count_nonzero(gpu_max_w >= 0) != self.count:
            raise SimulationError(f"plant {self._name}: the hottest GPU's power of {self.count} racks is due, at least 0 W each")
        if supply_c is not self._supply_c:  # loops that hold their setpoints give the same array at each step
            self._supply_c, self._coolant_c = supply_c, supply_c[self._loop]
        coolant_c = self._coolant_c
        resistance = self._resistance if flow_met_frac is None else self._with_less_flow(flow_met_frac)
        rest_c = coolant_c + resistance * gpu_max_w
        if self._gpu_c is None:
            self._gpu_c = rest_c
        gpu_c = self._gpu_c = rest_c + (self._gpu_c - rest_c) * self._decay_over(duration_s, resistance)
        hot = gpu_c > self._throttle_c
        if self._throttling or np.count_nonzero(hot):
            if not np.maximum.reduce(gpu_max_w) < math.inf:  # such a die is hot
                raise SimulationError(f"plant {self._name}: the hottest GPU of a rack draws power without end")
            self._throttle(duration_s, gpu_max_w, coolant_c, resistance, hot)
            self._trip(gpu_c)
        if self._any_tripped:
            self._come_back(duration_s, hot, flow_met_frac)
        return gpu_c

    def by_loop(self, gpu_c: Floats, clock_limit: Floats) -> tuple[Floats, Floats]:
        """(hottest die, share of racks with GPUs held down for heat) of each loop (loops,); NaN and 0 for one without GPUs."""
        count = self._air + 1
        hottest, throttled = np.full(count, np.nan), np.zeros(count)
        if len(self._order):
            hottest[self._used_loops] = np.maximum.reduceat(gpu_c[self._order], self._starts)
            if self._throttling:
                slow = np.bincount(self._loop, clock_limit < 1, count)
                throttled[self._used_loops] = slow[self._used_loops] / self._racks_on
        return hottest, throttled

    def _decay_over(self, duration_s: float, resistance: Floats) -> Floats:
        if resistance is not self._resistance:
            return np.exp(-duration_s / (self._heat_j_per_k * resistance))
        if duration_s != self._decay_of_s:
            self._decay_of_s = duration_s
            self._decay = np.exp(-duration_s / (self._heat_j_per_k * resistance))
        return self._decay

    def _with_less_flow(self, flow_met_frac: Floats) -> Floats:
        """Resistance at this share of the flow that is due. Servers in air have their own fans: theirs does not change."""
        met = flow_met_frac[self._loop]
        met[self._loop == self._air] = 1.0
        convection = self._convection
        with np.errstate(divide="ignore"):
            flowing = 1 / (1 - convection + convection / met**0.8)
        return self._resistance / (self._still + (1 - self._still) * flowing)

    def _throttle(
        self, duration_s: float, gpu_max_w: Floats, coolant_c: Floats, resistance: Floats, hot: npt.NDArray[np.bool_]
    ) -> None:
        allowed_w = np.maximum(self._throttle_c - coolant_c, 0.0) / resistance
        ratio = np.minimum(np.sqrt(allowed_w / np.maximum(gpu_max_w, 1.0)), 2.0)
        limit = self.clock_limit
        moved = limit * (1 + (ratio - 1) * -math.expm1(-duration_s / THROTTLE_RESPONSE_S))
        # a new array: the last step still hands out the old one
        self.clock_limit = np.where(hot | (limit < 1), np.minimum(np.maximum(moved, self._clock_min), 1.0), 1.0)
        self._throttling = bool((self.clock_limit < 1).any())

    def _trip(self, gpu_c: Floats) -> None:
        over = gpu_c > self._trip_c
        if over.any():
            self.tripped = self.tripped | over
            self._any_tripped = True

    def _come_back(self, duration_s: float, hot: npt.NDArray[np.bool_], flow_met_frac: Floats | None) -> None:
        """A tripped rack comes back once its die has been below the throttle limit, with coolant flowing, for so long."""
        fit = ~hot
        if flow_met_frac is not None:
            fit &= (flow_met_frac[self._loop] > 0) | (self._loop == self._air)
        self._wait_s = np.where(fit & self.tripped, self._wait_s - duration_s, self._restart_s)
        back = self.tripped & (self._wait_s <= 1e-9)
        if back.any():
            self.tripped = self.tripped & ~back
            self._any_tripped = bool(self.tripped.any())
