"""A small sound scenario for tests to spoil, on disk as two files."""

from __future__ import annotations

from pathlib import Path

TOPOLOGY = """\
name: small
sites:
  - name: main
    feed: {name: utility, contract: 300 kW}
    racks:
      - {name: racks, rack: gb200_nvl72, count: 2, loop: tcs}
    fabric: {switch: spectrum4_sn5600, optic: pluggable_1600g}
    cooling:
      loops: [{name: tcs, cdu: cdu_1mw}]
      dry_cooler: dry_cooler
      chiller: air_cooled_chiller
      air_handler: air_handler
    electrical:
      power_shelf: orv3_shelf_33kw
      ups: ups_double_conversion
      ups_rating: 400 kW
      transformer: transformer_mv_lv
      transformer_rating: 500 kW
    battery: {part: lfp_container, capacity: 60 kWh, power: 100 kW}
    climate: {dry_bulb: 22 C, wet_bulb: 15 C}
"""

SCENARIO = """\
name: small
topology: topology.yaml
tiers:
  - name: premium
    objectives: {ttft: 2 s}
  - name: standard
workload:
  kind: agents
  arrivals: {process: poisson, rate: 2 /s}
  tiers: {premium: 0.25, standard: 0.75}
serving:
  model: deepseek_r1
  precision: {weights: fp4}
  backend: trtllm
  pools:
    - name: workers
      role: aggregated
      racks: racks
      parallelism: {dp: 8, ep: 8}
      instances: 18
grid:
  events:
    - name: backdown
      start: 10 min
      duration: 10 min
      target: 80 %
horizon: 30 min
"""


def write(folder: Path, scenario: str = SCENARIO, topology: str = TOPOLOGY) -> str:
    """Writes both files and returns the path of the scenario."""
    (folder / "topology.yaml").write_text(topology)
    (folder / "scenario.yaml").write_text(scenario)
    return str(folder / "scenario.yaml")


def spoiled(text: str, *changes: tuple[str, str]) -> str:
    """The text with each (old, new) replaced once; old must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text
