"""What a request of an agent session costs: 1,000 sessions of 8 turns with prefix hashes on four instances, all tables written.

Each session begins with one of four system prompts that sessions share, and each turn adds the answer before it and what a tool
said; contexts are hashed in blocks of 512 tokens as in the Mooncake trace. The prefix-aware router sends a call to where its
context lies. The cost is given in bare SimPy timeouts, as in bench/requests.py: the figure means the same on any machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from random import Random

from requests import ROOT, bare_timeout_s

from twin.engine import run_scenario
from twin.schema import load_scenario

TURNS, INSTANCES, BLOCK_TOKENS = 8, 4, 512
#: Tokens of a system prompt, and of the first question; then of an answer, and of what a tool says to it.
SYSTEM, FIRST, ANSWER, TOOL = 4096, 1024, 128, 640
#: Sessions a second, and mean seconds of a tool.
RATE_PER_S, TOOL_S = 1.0, 5.0
PROMPTS = 4


def write_trace(trace: Path, sessions: int) -> None:
    """The sessions, one a line, in the form that `twin trace convert` writes."""
    random = Random(1)
    at_s = 0.0
    unused = PROMPTS * SYSTEM // BLOCK_TOKENS
    with trace.open("w") as file:
        for number in range(sessions):
            at_s += random.expovariate(RATE_PER_S)
            first = number % PROMPTS * (SYSTEM // BLOCK_TOKENS)
            hashes = list(range(first, first + SYSTEM // BLOCK_TOKENS))
            calls = []
            for turn in range(TURNS):
                tokens = SYSTEM + FIRST + turn * (ANSWER + TOOL)
                whole = tokens // BLOCK_TOKENS
                more = max(0, whole - len(hashes))
                hashes += range(unused, unused + more)
                unused += more
                ends = [unused] if tokens % BLOCK_TOKENS else []  # of a block that is not full the hash is another next time
                unused += len(ends)
                call = {"after": [turn - 1] if turn else [], "wait_s": random.expovariate(1 / TOOL_S) if turn else 0.0}
                call |= {"input_tokens": tokens, "output_tokens": ANSWER, "hash_ids": hashes + ends, "tool": turn > 0}
                calls.append(call)
            file.write(json.dumps({"session": number, "arrival_s": at_s, "tier": "standard", "calls": calls}) + "\n")


def scenario(trace: Path, sessions: int) -> dict[str, object]:
    """Llama-3.1-8B on four H100 of an HGX rack, long enough for all sessions to finish."""
    return {
        "name": "bench_agents",
        "topology": str(ROOT / "topologies" / "hgx_h100.yaml"),
        "tiers": [{"name": "standard", "objectives": {"ttft": "1 s", "tpot": "50 ms"}}],
        "workload": {"kind": "trace", "trace": str(trace), "tiers": {"standard": 1.0}},
        "serving": {
            "model": "llama_3_1_8b",
            "precision": {"weights": "fp8", "kv": "fp8"},
            "backend": "vllm",
            "router": "kv_affinity",
            "pools": [
                {"name": "engine", "role": "aggregated", "racks": "racks", "parallelism": {"tp": 1}, "instances": INSTANCES}
            ],
        },
        "records": {"interval": "10 s", "worker_interval": "60 s"},
        "control": {"step": "10 s"},
        "horizon": f"{sessions / RATE_PER_S * 1.2 + 300:.0f} s",
    }


def measure(sessions: int) -> dict[str, float]:
    """One run of the benchmark in this process, after a short one that loads what is imported late; `wall_s` is building,
    simulating and writing every table."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = []
        for count in (20, sessions):
            trace = Path(folder) / f"sessions_{count}.jsonl"
            write_trace(trace, count)
            loaded.append(load_scenario(scenario(trace, count)))
        run_scenario(loaded[0], Path(folder) / "warm")
        before_s = bare_timeout_s()
        done = run_scenario(loaded[1], Path(folder) / "run")
        after_s = bare_timeout_s()
        wall_s = json.loads((done.path / "manifest.json").read_text())["wall"]["simulation_s"]
    requests, hit_frac = sessions * TURNS, done.summary["cache"]["hit_frac"]
    if done.summary["requests"]["completed"] != requests or hit_frac < 0.5:
        sys.exit(f"the benchmark is broken: {done.summary['requests']}, {hit_frac:.0%} of the input found in caches")
    timeout_s = (before_s + after_s) / 2
    return {
        "requests": requests,
        "wall_s": round(wall_s, 3),
        "requests_per_s": round(requests / wall_s, 1),
        "hit_frac": round(hit_frac, 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "timeouts_per_request": round(wall_s / requests / timeout_s, 2),
        "bare_timeout_us": round(timeout_s * 1e6, 3),
    }


def main() -> None:
    """Print the figures, as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000, metavar="N", help="how many sessions of 8 turns (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = parser.parse_args()
    figures = measure(options.sessions)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>26}  {value:,}")


if __name__ == "__main__":
    main()
