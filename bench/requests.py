"""What a request costs: one engine instance, 512 input and 128 output tokens, Poisson arrivals at 6 per second, all tables written.

The cost is given in bare SimPy timeouts timed in the same process, so that the figure means the same on any machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import simpy

from twin.engine import run_scenario
from twin.schema import load_scenario

ROOT = Path(__file__).resolve().parents[1]


def scenario(requests: int) -> dict[str, object]:
    """The benchmark's scenario: Llama-3.1-8B on one H100 of an HGX rack, long enough for all requests to finish."""
    return {
        "name": "bench_requests",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [{"name": "standard", "objectives": {"ttft": "1 s", "tpot": "50 ms"}}],
        "workload": {
            "kind": "fixed",
            "input_tokens": 512,
            "output_tokens": 128,
            "arrivals": {"process": "poisson", "rate": "6 /s"},
            "tiers": {"standard": 1.0},
            "sessions": requests,
        },
        "serving": {
            "model": "llama_3_1_8b",
            "precision": {"weights": "fp8", "kv": "fp8"},
            "backend": "vllm",
            "pools": [{"name": "engine", "role": "aggregated", "racks": "racks", "parallelism": {"tp": 1}, "instances": 1}],
        },
        "horizon": f"{requests / 6 * 1.1 + 60:.0f} s",
    }


def bare_timeout_s(timeouts: int = 200_000) -> float:
    """Wall seconds of one SimPy timeout: the median of five runs of one process that waits `timeouts` times."""

    def wait(environment: simpy.Environment):  # type: ignore[no-untyped-def]
        for _ in range(timeouts):
            yield environment.timeout(1.0)

    def once() -> float:
        environment = simpy.Environment()
        environment.process(wait(environment))
        began = time.perf_counter()
        environment.run()
        return (time.perf_counter() - began) / timeouts

    return statistics.median(once() for _ in range(5))


def measure(requests: int) -> dict[str, float]:
    """One run of the benchmark in this process."""
    loaded = load_scenario(scenario(requests))
    with tempfile.TemporaryDirectory() as folder:
        before_s = bare_timeout_s()
        began = time.perf_counter()
        done = run_scenario(loaded, Path(folder) / "run")
        wall_s = time.perf_counter() - began
        after_s = bare_timeout_s()
    counts = done.summary["requests"]
    if counts["completed"] != requests:
        sys.exit(f"the benchmark is broken: {counts}")
    timeout_s = (before_s + after_s) / 2
    return {
        "requests": requests,
        "wall_s": round(wall_s, 3),
        "requests_per_s": round(requests / wall_s, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "timeouts_per_request": round(wall_s / requests / timeout_s, 2),
        "bare_timeout_us": round(timeout_s * 1e6, 3),
    }


def main() -> None:
    """Print the figures, as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="how many requests (default: 20000)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args()
    figures = measure(options.requests)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>22}  {value:,}")


if __name__ == "__main__":
    main()
