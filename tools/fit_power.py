"""Fit the GPU power model to measured cap sweeps and serving runs, and print the values for the catalogue.

    python tools/fit_power.py phoenix DATA/power/phoenix_dvfs_sweep.csv
    python tools/fit_power.py serving DATA/power/h100x4_llama70b_online_instructcoder.csv
    python tools/fit_power.py node DATA/power/h100x4_llama70b_online_instructcoder.csv

`phoenix` (256 A100-class GPUs, eight workloads, six caps): share of arithmetic and level of each class of work, with the GPU's
clock exponent and voltage floor as they are in the catalogue, and fitted too. `node`: what a node draws beside its GPUs.
`serving` (Llama-3.1-70B in BF16 on 4 x H100): wattage for memory and arithmetic, with busy seconds from the step cost of vLLM
on Hopper.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear

from twin.calibration import read_table, validate
from twin.calibration.cap_fit import fit_classes, left_out
from twin.calibration.cap_sweep import CapPoint, cap_points, validation
from twin.calibration.request_rates import NODE_OTHER_W
from twin.catalog import load_catalog
from twin.performance import ModelShape, Parallelism, Precision, interconnect_of, step_cost


def phoenix(path: Path) -> None:
    table = read_table(path)
    points = [point for point in cap_points(table) if isinstance(point, CapPoint)]
    for clock in (False, True):
        power, known = fit_classes(points, clock=clock)
        print(f"clock exponent {power.exponent:.2f}, voltage floor {power.voltage_floor_frac:.3f}{' (fitted)' if clock else ''}")
        for name, one in known.items():
            print(f"  {name}: compute_share_frac {one.compute_share:.3f}, full_clock_ratio {one.level_w / power.tdp_w:.3f}")
        for figure, each in validation(points, known, power).metrics().items():
            print(f"  {figure}: mean absolute error {each['mae']:.4f}, relative {each['mape']:.1%}")
    for group in left_out(table).groups_by(("workload",)):
        print(f"left out {group['by']['workload']}: {group['metrics']['throughput']['mae']:.4f}")


def node(path: Path) -> None:
    found = validate(path)
    figures = [prediction.figures["power"] for prediction in found.predictions]
    rest = [measured - (predicted - NODE_OTHER_W) for predicted, measured in figures]
    print(f"beside the GPUs: {statistics.median(rest):.0f} W")


def serving(path: Path) -> None:
    catalog = load_catalog()
    gpu = catalog.part("gpu", "h100")
    idle, tdp = gpu.number("idle_w"), gpu.number("tdp_w")
    shape = ModelShape.from_part(catalog.part("model", "llama_3_1_70b"))
    cost = step_cost(
        shape, Precision("bf16", "bf16"), Parallelism(tp=4), gpu, catalog.part("backend", "vllm"), interconnect_of(gpu, 0.95)
    )
    busy, watts = [], []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if not row["output_throughput"]:
                continue
            out_rate, tpot = float(row["output_throughput"]), float(row["p50_tpot_ms"]) / 1e3
            in_rate = float(row["total_token_throughput"]) - out_rate
            completed = float(row["completed"])
            inputs, outputs = float(row["total_input_tokens"]) / completed, float(row["total_output_tokens"]) / completed
            batch = out_rate * tpot
            context = batch * (inputs + outputs / 2)
            _, weights, _ = cost.token_terms(round(batch))
            compute = cost.gemm_compute_s_per_token * (out_rate + in_rate) + context * cost.decode_attention_compute_s / tpot
            compute += in_rate * inputs / 2 * cost.prefill_attention_compute_s
            memory = (weights + context * cost.attention_memory_s) / tpot
            busy.append((min(1.0, compute), min(1.0, memory)))
            watts.append(float(row["mean_power[W]"]) / 4)
    design, target = np.array(busy), np.array(watts) - idle
    columns = np.column_stack([np.ones(len(design)), design])
    found = lsq_linear(columns, target, bounds=([0.0, 0.0, 0.0], [tdp, tdp, tdp]))
    choices = [found.x]
    for active_w in (100.0, 150.0, 200.0, 250.0, 300.0):
        # held to two published facts: prompts alone run at TDP, decode (memory half busy, arithmetic 5 %) at 60 % of it
        compute_w = tdp - idle - active_w
        memory_w = (0.6 * tdp - idle - active_w - 0.05 * compute_w) / 0.5
        choices.append(np.array([active_w, compute_w, memory_w]))
    for x in choices:
        error = np.abs(np.minimum(tdp, idle + columns @ x) / np.array(watts) - 1.0)
        print(f"active, compute, memory W {x.round()}: median |e| {np.median(error):.1%} p90 {np.quantile(error, 0.9):.1%}")
    print(f"n {len(watts)}; busy shares from {design.min(axis=0).round(2)} to {design.max(axis=0).round(2)}")
    print(f"mean power per GPU {statistics.fmean(watts):.0f} W")


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the GPU power model.")
    parser.add_argument("kind", choices=("phoenix", "serving", "node"))
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    {"phoenix": phoenix, "serving": serving, "node": node}[arguments.kind](arguments.path)


if __name__ == "__main__":
    main()
