"""What a request costs: one engine instance, 512 input and 128 output tokens, Poisson at 6 per second, all tables written.

With `--all-on` prefix tiers, speculation and disaggregation are at work: four-turn conversations whose contexts a prefill
instance evicts between the turns, to host memory and on to storage, and a decode instance that drafts two tokens a step.

The cost is given in bare SimPy timeouts timed in the same process, so that the figure means the same on any machine: a
request of the whole twin (worker, power, plant, control, tables) against N naked events.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import simpy

from twin.engine import run_scenario
from twin.schema import load_scenario

ROOT = Path(__file__).resolve().parents[1]


#: Turns of a conversation of the benchmark with everything on.
TURNS = 4


def all_on(requests: int, folder: Path) -> dict[str, object]:
    """What the benchmark's scenario has instead with everything on; its trace goes to `folder`."""
    trace = folder / f"conversations_{requests}.jsonl"
    random = Random(1)
    at_s = 0.0
    with trace.open("w") as file:
        for number in range(requests // TURNS):
            at_s += random.expovariate(6 / TURNS)
            calls = []
            for turn in range(TURNS):
                # Each turn adds the answer before it and 64 tokens; three quarters of a minute pass between them.
                tokens, shared = 256 + 192 * turn, 64 + 192 * turn if turn else 0
                after, wait_s = ([turn - 1], 45.0) if turn else ([], 0.0)
                call = {"after": after, "wait_s": wait_s, "input_tokens": tokens, "output_tokens": 128}
                calls.append(call | {"shared_prefix_tokens": shared})
            file.write(json.dumps({"session": number, "arrival_s": at_s, "tier": "standard", "calls": calls}) + "\n")
    made = scenario(requests)
    pool = made["serving"]["pools"][0]  # type: ignore[index]
    return made | {
        "workload": {"kind": "trace", "trace": str(trace), "tiers": {"standard": 1.0}},
        "serving": made["serving"]  # type: ignore[operator]
        | {
            "kv_cache": {
                "host": {"capacity": "1 GB", "bandwidth": "50 GB/s"},
                "storage": {"capacity": "1 TB", "bandwidth": "20 GB/s"},
            },
            "pools": [
                pool | {"name": "prefill", "role": "prefill", "kv_blocks": 1000},
                pool | {"name": "decode", "role": "decode", "speculation": {"draft_tokens": 2, "acceptance": 0.7}},
            ],
        },
        "horizon": f"{requests / 6 * 1.1 + 300:.0f} s",
    }


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
        # The plant has a benchmark of its own: here it steps often enough to be on, not so often that it is what is timed.
        "records": {"interval": "10 s", "worker_interval": "60 s"},
        "control": {"step": "10 s"},
        "horizon": f"{requests / 6 * 1.1 + 60:.0f} s",
    }


def bare_timeout_s(timeouts: int = 20_000) -> float:
    """Wall seconds of one bare SimPy timeout: made, queued among `timeouts` others at random times, and called back.

    As many timeouts as the benchmark has requests, all in one environment, the garbage collector paused as it is in a run. One
    lone process that waits over and over with nothing else in the queue takes less than half of it (`lone_timeout_s`).
    """
    random = Random(1)
    delays = [random.expovariate(1.0) * timeouts for _ in range(timeouts)]
    seen: list[object] = []

    def once() -> float:
        environment = simpy.Environment()
        began = time.perf_counter()
        for delay in delays:
            environment.timeout(delay).callbacks.append(seen.append)
        environment.run()
        wall_s = time.perf_counter() - began
        seen.clear()
        return wall_s / timeouts

    gc.disable()
    try:
        return statistics.median(once() for _ in range(5))
    finally:
        gc.enable()


def lone_timeout_s(timeouts: int = 100_000) -> float:
    """Wall seconds of one timeout of one process in an otherwise empty environment: SimPy at its very best."""

    def wait(environment: simpy.Environment):  # type: ignore[no-untyped-def]
        for _ in range(timeouts):
            yield environment.timeout(1.0)

    def once() -> float:
        environment = simpy.Environment()
        environment.process(wait(environment))
        began = time.perf_counter()
        environment.run()
        return (time.perf_counter() - began) / timeouts

    return statistics.median(once() for _ in range(3))


def measure(requests: int, with_all: bool) -> dict[str, float]:
    """One run of the benchmark in this process, after a short one that loads what is imported late.

    `wall_s` is building, simulating and writing every table; the summary and the report, whose cost hardly grows with the
    requests, are `report_s`.
    """
    with tempfile.TemporaryDirectory() as folder:
        warm, made = (all_on(n, Path(folder)) if with_all else scenario(n) for n in (100, requests))
        run_scenario(load_scenario(warm), Path(folder) / "warm")
        loaded = load_scenario(made)
        before_s = bare_timeout_s()
        began = time.perf_counter()
        done = run_scenario(loaded, Path(folder) / "run")
        total_s = time.perf_counter() - began
        after_s = bare_timeout_s()
        wall_s = json.loads((done.path / "manifest.json").read_text())["wall"]["simulation_s"]
    counts, read_up = done.summary["requests"], done.summary["service"]["lower_cached_input_frac"]
    if counts["completed"] != requests or (with_all and read_up < 0.3):
        sys.exit(f"the benchmark is broken: {counts}, {read_up:.0%} of the input read from lower tiers")
    timeout_s = (before_s + after_s) / 2
    lone_s = lone_timeout_s()
    return {
        "requests": requests,
        "wall_s": round(wall_s, 3),
        "report_s": round(total_s - wall_s, 3),
        "requests_per_s": round(requests / wall_s, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "timeouts_per_request": round(wall_s / requests / timeout_s, 2),
        "lone_timeouts_per_request": round(wall_s / requests / lone_s, 2),
        "bare_timeout_us": round(timeout_s * 1e6, 3),
        "lone_timeout_us": round(lone_s * 1e6, 3),
    }


def main() -> None:
    """Print the figures, as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, metavar="N", help="how many requests (default: 20000)")
    parser.add_argument("--all-on", action="store_true", help="with prefix tiers, speculation and disaggregation")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args()
    figures = measure(options.requests, options.all_on)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>26}  {value:,}")


if __name__ == "__main__":
    main()
