"""Whether a trace of any length is replayed in flat memory: peak memory and wall time of each link at N and at 10 N calls.

Links are reading (`check_trace`), `twin trace info`, simulating with all tables written (small agent sessions of 8 calls with a
sub-agent, on two instances), and a whole run with its summary and report, which load columns of the tables. Each link at each
size is a process of its own, so that one's peak is not another's.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

# Nothing of the twin is loaded up here: a process begins with the peak of the one that started it.
if TYPE_CHECKING:
    from twin.workload import Session

#: Calls of a session, and sessions a second in the run.
CALLS, RATE = 8, 4.0
_LINKS = ("check", "info", "simulate", "run")
ENDINGS = {"agent_csv": "csv", "sessions": "jsonl", "parquet": "parquet", "mooncake": "mooncake.jsonl"}


def sessions(calls: int, form: str) -> Iterator[Session]:
    """Sessions of `CALLS` small calls, two of them a sub-agent's that the third spawns; for Mooncake single calls with hashes."""
    from twin.workload import Call, Session

    random = Random(1)
    at_s = 0.0
    hashed = form == "mooncake"
    for number in range(calls if hashed else calls // CALLS):
        at_s += random.expovariate(RATE * CALLS if hashed else RATE)
        if hashed:
            at_s = round(at_s, 3)
            blocks = 1 + number % 4
            hashes = (number // 8 % 1000, *range(10_000 + 4 * number, 10_000 + 4 * number + blocks - 1))
            yield Session(number, at_s, "", [Call((), 0.0, 512 * blocks, 16, hash_ids=hashes)])
            continue
        tree = [Call((), 0.0, 256, 16)]
        for turn in range(1, CALLS - 2):
            tree.append(Call((turn - 1,), 5.0, 256 + 64 * turn, 16, 64 * (3 + turn), tool=turn % 2 == 0))
        tree[3] = Call((2,), 0.0, 200, 16, 0, 1, 1)
        tree.insert(4, Call((3,), 2.0, 264, 16, 192, 1, 1))
        tree.append(Call((len(tree) - 1,), 5.0, 640, 16, 576))
        tree[5].after = (2, 4)
        tree[6].after, tree[7].after = (5,), (6,)
        yield Session(number, at_s, "standard", tree)


def _write(path: Path, calls: int, form: str) -> None:
    from twin.workload import trace_format

    chosen = trace_format(form)
    assert chosen.write is not None
    with path.open("wb") if chosen.binary else path.open("w", newline="\n") as file:
        chosen.write(file, sessions(calls, form))


def _run(path: Path, calls: int, whole: bool) -> None:
    from pyarrow.parquet import read_metadata
    from requests import scenario

    from twin.engine import run_scenario
    from twin.engine.simulation import Simulation
    from twin.recording import RunDirectory
    from twin.schema import load_scenario

    made = scenario(calls)
    pool = made["serving"]["pools"][0]  # type: ignore[index]
    made |= {
        "workload": {"kind": "trace", "trace": str(path), "tiers": {"standard": 1.0}},
        "serving": made["serving"] | {"pools": [pool | {"instances": 2}]},  # type: ignore[operator]
        "horizon": f"{calls / CALLS / RATE + 120:.0f} s",
    }
    loaded = load_scenario(made)
    with tempfile.TemporaryDirectory() as folder:
        if whole:
            completed = run_scenario(loaded, Path(folder) / "run").summary["requests"]["completed"]
        else:
            with RunDirectory.create(Path(folder) / "run") as output:
                Simulation(loaded.scenario, output).run()
                output.close_tables()
                completed = read_metadata(output.path / "requests.parquet").num_rows
    if completed != calls:
        sys.exit(f"the benchmark is broken: {completed} calls were completed")


def play(link: str, path: Path, form: str, calls: int) -> dict[str, Any]:
    """Wall time and peak memory of a link in this process."""
    from twin.workload import check_trace, trace_info

    began = time.perf_counter()
    if link == "write":
        _write(path, calls, form)
    elif link == "check":
        check_trace(path, form)
    elif link == "info":
        trace_info(path, form)
    else:
        _run(path, calls, whole=link == "run")
    wall_s = time.perf_counter() - began
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"link": link, "form": form, "calls": calls, "wall_s": round(wall_s, 2), "peak_rss_mb": round(rss_mb, 1)}


def measure(link: str, path: Path, form: str, calls: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", link, str(path), form, str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{link} of {calls:,} calls as {form} failed: {done.stderr}")
    return dict(json.loads(done.stdout))


def compare(links: list[str], forms: list[str], calls: int, folder: Path) -> list[dict[str, Any]]:
    """Each link of each form at `calls` and ten times as many, with the ratio of the peaks."""
    rows = []
    for form in forms:
        for link in ("write", *links):
            pair = []
            for size in (calls, 10 * calls):
                pair.append(measure(link, folder / f"{size}.{ENDINGS[form]}", form, size))
            rows += [pair[0], pair[1] | {"rss_ratio": round(pair[1]["peak_rss_mb"] / pair[0]["peak_rss_mb"], 3)}]
    return rows


def main() -> None:
    """Print the figures, as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, metavar="N", help="the smaller trace (default: 20000)")
    parser.add_argument("--links", nargs="+", choices=_LINKS, default=list(_LINKS))
    parser.add_argument("--forms", nargs="+", choices=tuple(ENDINGS), default=["agent_csv", "sessions", "parquet", "mooncake"])
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--one", nargs=4, metavar=("LINK", "PATH", "FORM", "CALLS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        link, path, form, calls = options.one
        print(json.dumps(play(link, Path(path), form, int(calls))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(options.links, options.forms, options.calls, Path(folder))
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        ratio = f"  {row['rss_ratio']:.3f} times the smaller's" if "rss_ratio" in row else ""
        size = f"{row['calls']:>12,} calls  {row['wall_s']:>8.1f} s  {row['peak_rss_mb']:>7.1f} MB"
        print(f"{row['link']:8}  {row['form']:9}  {size}{ratio}")


if __name__ == "__main__":
    main()
