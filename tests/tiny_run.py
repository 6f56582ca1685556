"""A scenario that runs in a fraction of a second: 8 H100, fixed requests, a short event."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TINY = f"""\
name: tiny
topology: {ROOT / "topologies" / "hgx_h100.yaml"}
tiers:
  - {{name: chat, objectives: {{ttft: 1 s, tpot: 50 ms}}, price: {{input: 1, output: 2}}}}
workload:
  kind: fixed
  arrivals: {{process: poisson, rate: 4 /s}}
  tiers: {{chat: 1}}
  input_tokens: 512
  output_tokens: 32
serving:
  model: llama_3_1_70b
  precision: {{weights: fp8, kv: fp8}}
  backend: trtllm
  pools:
    - {{name: chat, role: aggregated, racks: racks, parallelism: {{tp: 4}}, instances: 2}}
control: {{policy: uniform_cap}}
grid:
  energy_price: 60 USD/MWh
  events:
    - {{name: dip, start: 4 s, duration: 4 s, target: 90 %}}
records: {{worker_interval: 1 s}}
horizon: 10 s
seed: 3
"""


def write_tiny(folder: Path, name: str = "tiny", rate: str = "4 /s", more: str = "") -> Path:
    """`<folder>/<name>.yaml`: TINY under that name at that rate of arrivals, with `more` behind it."""
    path = folder / f"{name}.yaml"
    path.write_text(TINY.replace("name: tiny", f"name: {name}").replace("rate: 4 /s", f"rate: {rate}") + more)
    return path
