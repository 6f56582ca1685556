"""Writes the catalogue's backends.yaml: `twin calibrate` on the measurements that the project knows, each with its source.

python tools/calibrate.py DATA [--jobs N]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twin.calibration import Fitted, calibrate, catalogue_text

OUT = Path(__file__).resolve().parents[1] / "twin" / "catalog" / "data" / "backends.yaml"
#: File -> where it is from.
SOURCES = {
    "perf/serving_points.csv": "InferenceX serving points (ai-dynamo/aiconfigurator)",
    "perf/llama2_70b_bloom_a100_h100.csv": "Llama-2-70B and BLOOM-176B prompt and token times (Mutinifni/splitwise-sim)",
}


def main() -> None:
    """Fit and write."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--jobs", type=int)
    given = options.parse_args()
    groups: list[Fitted] = []
    for file, source in SOURCES.items():
        groups += calibrate(given.data / file, source, given.jobs, lambda said: print(said, file=sys.stderr, flush=True))
    OUT.write_text(catalogue_text(groups), encoding="utf-8")
    print(OUT)


if __name__ == "__main__":
    main()
