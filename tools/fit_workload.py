"""Fit the figures of twin/workload/data/ to traces: `python tools/fit_workload.py AGENTS_CSV AZURE_CSV SERVEGEN_DIR`.

Quantile knots are read off the traces; correlations within a session are the share of the variance of log values that lies
between sessions. The two free numbers are stated where they stand.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

PROBABILITIES = [0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.925, 0.95, 0.965, 0.975, 0.985, 0.995, 1]
TURN_BINS = [
    22,
    67,
    120,
]  # sessions with fewer main-agent calls than these: longer ones more often begin from nothing, and unattended
FIRST_READS = 2  # main calls 1 and 2 read most, whatever the context
CONTEXT_BINS = [30_000, 60_000]  # an agent with little in its context reads much more than one that has read
BLOCK = 64
#: The two free numbers, chosen by the p50 and p95 of the input. Limits are seen only where a session lived to reach its own,
#: which favours low ones: scaled so, compactions come as often as recorded (0.6 % of the calls).
LIMIT_SCALE = 1.2
#: Share of sessions on a model with a context of a million tokens, besides those that begin above their limit.
LONG_CONTEXT_FRAC = 0.15
OUT = Path(__file__).parent.parent / "twin" / "workload" / "data"

AGENT_SOURCE = (
    "fitted by tools/fit_workload.py to 344 coding-agent sessions (21,177 calls) of callanjfox/kv-cache-tester, Apache-2.0"
)
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


def between_share(values: pd.Series, session: pd.Series) -> float:
    """Share of the variance of log(1 + value) that lies between sessions (of at least ten values)."""
    logs = np.log1p(values.clip(lower=0))
    groups = logs.groupby(session)
    groups = groups.filter(lambda x: len(x) >= 10).groupby(session)
    between = groups.mean().var() - (groups.var() / groups.size()).mean()
    return round(float(between / (between + groups.var().mean())), 3)


def agents(path: Path) -> dict[str, object]:
    data = pd.read_csv(path)
    main = data[data.agent == 0].copy()
    for column in ("in_tokens", "out_tokens", "stop"):
        main["prev_" + column] = main.groupby("session")[column].shift()
    tool_result = main.input_types.str.contains("tool_result")
    main["tool"] = np.where(main.prev_stop.notna(), main.prev_stop == "tool_use", tool_result)
    first = main[main.idx == 0].set_index("session")
    later = main[main.idx > 0].copy()
    turns = main.groupby("session").size()
    human = 1 - later.groupby("session").tool.mean()
    broken = later.cached_prefix_tokens < 0.9 * later.prev_in_tokens
    compacted = broken & (later.in_tokens < 0.8 * later.prev_in_tokens)
    smooth = later[~broken].copy()
    smooth["extra"] = smooth.in_tokens - smooth.prev_in_tokens - smooth.prev_out_tokens
    smooth["growth"] = smooth.in_tokens - smooth.prev_in_tokens
    settled = smooth.prev_in_tokens > CONTEXT_BINS[-1]
    size = np.digitize(smooth.prev_in_tokens, CONTEXT_BINS)
    later_reads = smooth.idx > FIRST_READS
    answered = main[main.out_tokens >= 1]
    reached = main.groupby("session").in_tokens.max()
    never = ~reached.index.isin(later[compacted].session)
    limits = pd.concat([later[compacted].prev_in_tokens, reached[never & (first.in_tokens < 120_000)]])
    limits = limits[(limits > 120_000) & (limits < 250_000)]
    bins = np.digitize(turns, TURN_BINS)
    tables = {
        "turns": knots(turns),
        "output_tokens": knots(answered.out_tokens),
        "think_tool_s": knots(later[later.tool].think_time_s.dropna()),
        "think_human_s": knots(later[~later.tool].think_time_s.dropna()),
        "extra_first_tokens": knots(smooth[smooth.idx <= FIRST_READS].extra),
        **{f"extra_tokens_{i}": knots(smooth[later_reads & (size == i)].extra) for i in range(len(CONTEXT_BINS))},
        "extra_tool_tokens": knots(smooth[later_reads & smooth.tool & (size == len(CONTEXT_BINS))].extra),
        "extra_human_tokens": knots(smooth[later_reads & ~smooth.tool & (size == len(CONTEXT_BINS))].extra),
        "extra_break_tokens": knots(
            later[broken & ~compacted].pipe(lambda x: x.in_tokens - x.prev_in_tokens - x.prev_out_tokens)
        ),
        "context_limit_tokens": knots(limits * LIMIT_SCALE),
        "compacted_tokens": knots(later[compacted & (later.in_tokens < 120_000)].in_tokens),
        "system_prefix_tokens": knots(later[broken & later.cached_prefix_tokens.between(1, 30_000)].cached_prefix_tokens),
    }
    for i in range(len(TURN_BINS) + 1):
        chosen = turns.index[bins == i]
        tables[f"first_input_tokens_{i}"] = knots(first.loc[chosen].in_tokens)
        tables[f"human_frac_{i}"] = knots(human.loc[human.index.intersection(chosen)])
    sub = data[data.agent > 0].copy()
    sub["session_agent"] = sub.session + "/" + sub.agent.astype(str)
    groups = sub.groupby("session_agent")
    sub["extra"] = groups.in_tokens.diff() - groups.out_tokens.shift()
    per_spawn = sub.groupby(["session", "spawned_after_parent_idx"]).agent.nunique()
    tables |= {
        "sub_agents": knots(per_spawn),
        "sub_turns": knots(groups.size()),
        "sub_first_input_tokens": knots(sub[sub.idx == 0].in_tokens),
        "sub_extra_tokens": knots(sub.extra.dropna()),
        "sub_output_tokens": knots(sub.out_tokens.clip(lower=1)),
        "sub_think_s": knots(sub[sub.idx > 0].think_time_s),
    }
    plain_break = broken & ~compacted
    return {
        "source": AGENT_SOURCE,
        "block_tokens": BLOCK,
        "turn_bins": TURN_BINS,
        "first_reads": FIRST_READS,
        "context_bins": CONTEXT_BINS,
        "within_session": {
            "think": between_share(later[later.tool].think_time_s.dropna(), later[later.tool].session),
            "output": between_share(answered.out_tokens, answered.session),
            "extra": between_share(*(smooth[settled][c] for c in ("growth", "session"))),
        },
        "prefix_break_frac": {
            "tool": round(float(plain_break[later.tool].mean()), 5),
            "human": round(float(plain_break[~later.tool].mean()), 5),
        },
        "spawn_frac": round(len(per_spawn) / float(later.tool.sum()), 5),
        "long_context_frac": LONG_CONTEXT_FRAC,
        "long_context_limit_tokens": 1_000_000,
        "probabilities": PROBABILITIES,
        "tables": tables,
    }


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
    write("agent_generator", agents(Path(sys.argv[1])))
    write("chat_generator", chat(Path(sys.argv[2])))
    write("reasoning_generator", reasoning(Path(sys.argv[3])))
