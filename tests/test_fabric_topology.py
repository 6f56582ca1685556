"""Topologies as fabrics, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import pytest

from twin.catalog import load_catalog
from twin.cli.topology import FORMATS, topology_show
from twin.errors import InputError
from twin.fabric import network_spec, site_graph, site_optics_w, site_plan
from twin.schema import Topology, load_topology

TOPOLOGIES = Path(__file__).resolve().parents[1] / "topologies"


@pytest.fixture(scope="module")
def factory() -> Topology:
    return load_topology(TOPOLOGIES / "factory_1mw.yaml").topology


def test_the_main_factory(factory: Topology) -> None:
    site, catalog = factory.sites[0], load_catalog()
    plan = site_plan(site, catalog)
    # 8 racks x 18 trays x 4 NICs of 400G; an SN5600 has 64 ports of 800G = 128 of 400G, half of them down: 3 blocks of 64 nodes
    # with a leaf for each of 4 rails, whose 12 x 64 up-links fill 6 spines
    assert (plan.nodes, plan.nics, plan.radix, plan.leaves, plan.spines) == (144, 576, 128, 12, 6)
    graph = site_graph(site, catalog)
    racks = [name for name, role in graph.nodes(data="role") if role == "rack"]
    assert len(racks) == 8
    assert sum(links for _, _, links in graph.edges(racks, data="links")) == 576
    # 30 W per 1.6 Tb/s is 7.5 W an end: two for each NIC's link, two for each of the up-links
    assert site_optics_w(site, plan, catalog) == pytest.approx((2 * 576 + 2 * 12 * 64) * 7.5)
    spec = network_spec(site, catalog.part("gpu", "gb200"), catalog)
    assert spec.scale_out_bytes_per_s == 50e9
    assert spec.hop_latency_s == pytest.approx(6e-7)


def test_formats(factory: Topology) -> None:
    table = topology_show(factory, "table")
    assert "8" in table
    assert "12 leaves, 6 spines, 0 cores, 576 NICs" in table
    facts = json.loads(topology_show(factory, "json"))["sites"][0]
    assert facts["gpus"] == 576
    assert facts["fabric"]["leaves"] == 12
    graph = nx.parse_graphml(topology_show(factory, "graphml"))
    roles = nx.get_node_attributes(graph, "role")
    assert sorted(roles.values()).count("leaf") == 12
    assert nx.is_connected(graph)
    svg = ElementTree.fromstring(topology_show(factory, "svg"))
    assert svg.tag.endswith("svg")
    with pytest.raises(ValueError, match="did you mean 'json'"):
        topology_show(factory, "jsn")


@pytest.mark.parametrize("file", sorted(TOPOLOGIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_shipped_topology_can_be_shown(file: Path) -> None:
    topology = load_topology(file).topology
    for fmt in FORMATS:
        if "100mw" in file.stem or "1gw" in file.stem:
            fmt = "table"
        assert topology_show(topology, fmt)


def test_one_fabric_needs_one_kind_of_nic(factory: Topology) -> None:
    site = factory.sites[0]
    mixed = site.model_copy(update={"racks": (site.racks[0], site.racks[1].model_copy(update={"rack": "vr_nvl72"}))})
    with pytest.raises(InputError, match="same NICs"):
        site_plan(mixed, load_catalog())
