"""Scale-up domains, scale-out fabrics by rule, and transfers over them."""

from twin.fabric.network import Endpoint, Handoff, LinkClass, Network, NetworkSpec
from twin.fabric.plan import FabricPlan, nic_radix, plan_fabric
from twin.fabric.power import end_w, fabric_w, optics_w
from twin.fabric.scale_out import full_graph, switch_graph
from twin.fabric.scale_up import scale_up_graph
from twin.fabric.site import network_spec, site_graph, site_optics_w, site_plan

__all__ = [
    "Endpoint",
    "FabricPlan",
    "Handoff",
    "LinkClass",
    "Network",
    "NetworkSpec",
    "end_w",
    "fabric_w",
    "full_graph",
    "network_spec",
    "nic_radix",
    "optics_w",
    "plan_fabric",
    "scale_up_graph",
    "site_graph",
    "site_optics_w",
    "site_plan",
    "switch_graph",
]
