"""Fit the GPU power model to measured cap sweeps and serving runs, and print the values for the catalogue.

    python tools/fit_power.py phoenix DATA/power/phoenix_dvfs_sweep.csv
    python tools/fit_power.py serving DATA/power/h100x4_llama70b_online_instructcoder.csv

`phoenix` (256 A100-class GPUs, eight workloads, six caps): one clock exponent for all workloads, and the arithmetic share of
each. `serving` (Llama-3.1-70B in BF16 on 4 x H100): wattage for memory and
arithmetic, with busy seconds from the step cost of vLLM on Hopper.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
from scipy.optimize import brentq, least_squares, lsq_linear

from twin.catalog import load_catalog
from twin.performance import ModelShape, Parallelism, Precision, interconnect_of, step_cost


def phoenix(path: Path) -> None:
    gpu = load_catalog().part("gpu", "a100")
    idle, active = gpu.number("idle_w"), gpu.number("power_active_w")
    compute_w, memory_w = gpu.number("power_compute_w"), gpu.number("power_memory_w")
    with path.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if float(r["GPU power cap"]) > 100.0]  # at 100 W the voltage is at its floor
    names = sorted({r["Workload"] for r in rows})
    share_of = {name: i for i, name in enumerate(names)}
    power = np.array([float(r["power per GPU"]) for r in rows])
    throughput = np.array([float(r["normalized throughput"]) for r in rows])
    which = np.array([share_of[r["Workload"]] for r in rows])

    def at(clock: float, share: float, compute: float, memory: float, exponent: float) -> tuple[float, float]:
        step = share / clock + 1.0 - share
        busy = (compute * share * clock ** (exponent - 1.0) + memory * (1.0 - share)) / step
        return 1.0 / step, idle + active * clock**exponent + busy

    def clock_at(watts: float, share: float, compute: float, memory: float, exponent: float) -> float:
        if at(1.0, share, compute, memory, exponent)[1] <= watts:
            return 1.0
        return float(brentq(lambda f: at(f, share, compute, memory, exponent)[1] - watts, 0.02, 1.0))

    def predicted(x: np.ndarray) -> np.ndarray:
        compute, memory, exponent = x[:3]
        shares = x[3 + which]
        return np.array(
            [
                at(clock_at(w, s, compute, memory, exponent), s, compute, memory, exponent)[0]
                for w, s in zip(power, shares, strict=True)
            ]
        )

    def residuals(x: np.ndarray) -> np.ndarray:
        return predicted(np.array([compute_w, memory_w, *x])) - throughput

    bounds = ([1.0, *[0.2] * len(names)], [4.0, *[1.0] * len(names)])
    found = least_squares(residuals, np.array([2.0, *[0.7] * len(names)]), bounds=bounds)
    x = np.array([compute_w, memory_w, *found.x])
    error = np.abs(predicted(x) / throughput - 1.0)
    print(f"exponent {x[2]:.2f} at compute_w {compute_w:.0f} and memory_w {memory_w:.0f} of the catalogue")
    print({name: round(float(x[3 + i]), 2) for name, i in share_of.items()})
    print(f"n {len(rows)} median |e| of throughput {np.median(error):.1%} max {error.max():.1%}")


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
    parser.add_argument("kind", choices=("phoenix", "serving"))
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    {"phoenix": phoenix, "serving": serving}[arguments.kind](arguments.path)


if __name__ == "__main__":
    main()
