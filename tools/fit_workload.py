"""Fit the figures of twin/workload/data/ to traces: `python tools/fit_workload.py AGENTS_CSV AZURE_CSV SERVEGEN_DIR`.

The agents' figures are those of `twin trace fit`; of single calls, the quantile knots are read off the traces.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from twin.workload import ReadLog
from twin.workload.fit_file import fit_text, fit_trace

PROBABILITIES = [0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.925, 0.95, 0.965, 0.975, 0.985, 0.995, 1]
OUT = Path(__file__).parent.parent / "twin" / "workload" / "data"

AGENT_SOURCE = "344 coding-agent sessions of callanjfox/kv-cache-tester, Apache-2.0"
AZURE_SOURCE = (
    "fitted by tools/fit_workload.py to AzureLLMInferenceTrace_conv (19,366 chat requests) of Azure/AzurePublicDataset, "
    "CC-BY-4.0, Patel et al., Splitwise, ISCA 2024"
)

SERVEGEN_SOURCE = (
    "fitted by tools/fit_workload.py to 24 of the 73 clients of a DeepSeek-R1 reasoning service in alibaba/ServeGen, Apache-2.0, "
    "Xiang et al. 2025: their length distributions, pooled by their number of requests"
)


def knots(values: pd.Series | np.ndarray) -> list[float]:
    return [round(float(v), 3) for v in np.quantile(np.asarray(values, dtype=float), PROBABILITIES)]


def chat(path: Path) -> dict[str, object]:
    data = pd.read_csv(path)
    return {
        "source": AZURE_SOURCE,
        "probabilities": PROBABILITIES,
        "tables": {"input_tokens": knots(data.ContextTokens), "output_tokens": knots(data.GeneratedTokens)},
    }


def reasoning(folder: Path) -> dict[str, object]:
    """Each client has a rate by ten minutes and distributions of lengths by six hours; both pooled by requests."""
    pooled: dict[str, dict[int, float]] = {"input_tokens": {}, "output_tokens": {}}
    for dataset in sorted(folder.glob("chunk-*-dataset.json")):
        rates = pd.read_csv(dataset.with_name(dataset.name.replace("-dataset.json", "-trace.csv")), header=None)
        windows = {int(start): text for start, text in json.loads(dataset.read_text()).items()}
        for start, texts in windows.items():
            end = min((later for later in windows if later > start), default=np.inf)
            requests = float(rates.loc[(rates[0] >= start) & (rates[0] < end), 1].sum()) * 600.0
            for name, pool in pooled.items():
                for tokens, share in ast.literal_eval(texts[name] or "{}").items():
                    pool[int(tokens)] = pool.get(int(tokens), 0.0) + share * requests
    return {
        "source": SERVEGEN_SOURCE,
        "probabilities": PROBABILITIES,
        "tables": {name: weighted_knots(pool) for name, pool in pooled.items()},
    }


def weighted_knots(weights: dict[int, float]) -> list[float]:
    values = np.array(sorted(value for value, weight in weights.items() if weight > 0))
    cumulated = np.cumsum([weights[value] for value in values])
    return [float(values[min(np.searchsorted(cumulated, p * cumulated[-1]), len(values) - 1)]) for p in PROBABILITIES]


def write(name: str, document: dict[str, object]) -> None:
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=128)
    (OUT / f"{name}.yaml").write_text(f"# Written by tools/fit_workload.py; do not edit by hand.\n{text}", encoding="utf-8")


if __name__ == "__main__":
    fitted, _ = fit_trace(Path(sys.argv[1]), "agent_csv", AGENT_SOURCE, ReadLog())
    (OUT / "agent_generator.yaml").write_text(fit_text(fitted), encoding="utf-8")
    write("chat_generator", chat(Path(sys.argv[2])))
    write("reasoning_generator", reasoning(Path(sys.argv[3])))
