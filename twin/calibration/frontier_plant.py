"""Frontier's electrical chain at plant level: power of the whole machine with all nodes idle and at peak, beside what was
published.

The numbers are those of the configuration that ExaDigiT (Brewer et al., SC 2024; ExaDigiT/RAPS, config/frontier) fitted to the
machine. The published megawatts hold the nodes, the losses of their two converters, the switches (fed without those
converters) and the pumps of the CDUs, and no cooling beyond these; the published efficiency is IT power, switches included,
over IT power and losses.
"""

from __future__ import annotations

from dataclasses import dataclass

from twin.facility import ElectricalElement

NODES, NODES_PER_RECTIFIER = 9472, 4
#: GPUs and CPU of a node, idle and at peak, and what else is in it: memory, four NICs, drives (W).
_GPUS_W, _CPU_W, _OTHERS_W = (4 * 88.0, 4 * 560.0), (90.0, 280.0), 74.26 + 4 * 20.0 + 30.0
#: 74 racks of 8 chassis of 4 switches, and 25 CDUs (W).
SWITCHES_W, PUMPS_W = 74 * 8 * 4 * 250.0, 25 * 8473.47
#: Efficiency and fixed loss (W): of a node's DC-DC converter, and of the rectifier of four nodes.
_DC_DC, _RECTIFIER = (0.98, 13.0), (0.96, 17.0)
#: Published: MW (idle: predicted and measured) and efficiency of the chain, idle and at peak.
PUBLISHED_MW = {"idle": (7.24, 7.31), "peak": (28.2, 28.2)}
PUBLISHED_EFFICIENCY = {"idle": 0.922, "peak": 0.936}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine in one state: W of all its nodes, of what the chain takes, and of the whole."""

    nodes_w: float
    loss_w: float

    @property
    def total_w(self) -> float:
        """What was published: nodes, losses, switches, pumps."""
        return self.nodes_w + self.loss_w + SWITCHES_W + PUMPS_W

    @property
    def efficiency(self) -> float:
        """IT power over IT power and losses."""
        it_w = self.nodes_w + SWITCHES_W
        return it_w / (it_w + self.loss_w)


def frontier(state: str) -> Machine:
    """The machine with all nodes "idle" or at "peak"."""
    place = ("idle", "peak").index(state)
    node_w = _GPUS_W[place] + _CPU_W[place] + _OTHERS_W
    dc_dc, rectifier = _converter("dc_dc", 4000.0, *_DC_DC), _converter("rectifier", 16000.0, *_RECTIFIER)
    dc_w = node_w + dc_dc.loss_w(node_w)
    ac_w = NODES_PER_RECTIFIER * dc_w + rectifier.loss_w(NODES_PER_RECTIFIER * dc_w)
    return Machine(NODES * node_w, NODES * (ac_w / NODES_PER_RECTIFIER - node_w))


def _converter(name: str, rated_w: float, efficiency_frac: float, fixed_w: float) -> ElectricalElement:
    """As ExaDigiT has them: input = (output + fixed) / efficiency. The rating bounds the load and does not enter."""
    return ElectricalElement(name, rated_w, fixed_w / efficiency_frac / rated_w, 1.0 / efficiency_frac - 1.0, 0.0)
