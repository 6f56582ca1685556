"""A row of a study: a configuration at a number of sequences, and what came of it."""

from __future__ import annotations

from typing import Any, Literal

from twin.pareto.configuration import Configuration, spoken
from twin.recording import Column
from twin.serving import TimeSplit

#: `counts`: may be on the frontier; `misses` an objective or a limit of the site; `refused`: cannot run; `skipped`: not tried.
Status = Literal["counts", "misses", "refused", "skipped"]
Row = dict[str, Any]


def _text(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, "category", "", description, nullable)


def _count(name: str, unit: str, description: str) -> Column:
    return Column(name, "int64", unit, description, nullable=True)


def _number(name: str, unit: str, description: str) -> Column:
    return Column(name, "float64", unit, description, nullable=True)


#: Columns of points.parquet and keys of the points in pareto.json. What a row was not played far enough to know is null.
COLUMNS = (
    _text("system", "system of the study"),
    _text("configuration", "the configuration in a few letters"),
    _text("split", "aggregated, or prefill and decode instances of a group (1P2D)", nullable=True),
    _text("prefill_parallelism", "layout of prefill instances", nullable=True),
    _text("parallelism", "layout of aggregated or decode instances", nullable=True),
    _count("tp", "GPU", "tensor-parallel ranks of an aggregated or decode instance"),
    _count("dp", "", "its data-parallel attention ranks"),
    _count("ep", "", "its expert-parallel ranks"),
    _count("pp", "", "its pipeline stages"),
    _count("draft_tokens", "token", "drafts of a sequence and step; 0 without speculation"),
    _count("prompt_wait_steps", "", "most steps that prompts wait to be taken in together; 0 where they join the next step"),
    _count("prompt_wait_tokens", "token", "prompt tokens that end such a wait; 0 where there is no such number"),
    _count("gpus", "GPU", "GPUs of an instance or group"),
    _number("prefill_gpus_frac", "", "share of the GPUs that prefill alone"),
    _count("sequences", "", "sequences in flight on an aggregated or decode instance"),
    _count("concurrency", "", "requests in flight on the instance or group"),
    Column("status", "category", "", "counts, misses (an objective or a limit of the site), refused or skipped"),
    _text("reason", "why it does not count", nullable=True),
    _number("tokens_per_s_per_user", "token/s", "one over the mean time per output token"),
    _number("tokens_per_s_per_gpu", "token/s", "output tokens over all GPUs of the instance or group"),
    _number("tokens_per_s_per_mw", "token/s", "output tokens for each MW at the meter"),
    _number("ttft_mean_s", "s", "time to first token"),
    _number("ttft_p99_s", "s", "time to first token that 99 percent of the requests keep"),
    _number("tpot_p99_s", "s", "time per output token that 99 percent of the requests keep"),
    _number("completion_p99_s", "s", "time from arrival to the last token that 99 percent of the requests keep"),
    _number("gpu_w", "W", "mean power of a GPU"),
    _number("meter_w_per_gpu", "W", "power at the meter for each GPU of a site full of such instances"),
    _number("pue", "", "power at the meter over IT power at the racks' DC bus"),
    _number("prefill_busy_frac", "", "share of the time in which prefill (else aggregated) instances compute"),
    _number("mean_batch", "", "sequences that decode together on an instance"),
    _count("preemptions", "", "sequences that memory had no room for any more"),
    *(
        _number(f"time_{name.removesuffix('_s')}_frac", "", "where the time of aggregated or decode instances goes")
        for name in TimeSplit._fields
    ),
    _text("outside", "where the point leaves what its coefficients were fitted on; empty inside"),
    Column("frontier_per_gpu", "int16", "", "1 on the frontier of tokens/s per GPU over tokens/s per user"),
    Column("frontier_per_mw", "int16", "", "1 on the frontier of tokens/s per MW over tokens/s per user"),
)


def row_of(system: str, configuration: Configuration, sequences: int | None = None) -> Row:
    """A row that says what is tried; nothing has come of it yet."""
    layout, wait = configuration.layout, configuration.prompt_wait
    prefill, draft = configuration.prefill_layout, configuration.speculation
    return _empty(system, configuration.label) | {
        "split": configuration.split,
        "prefill_parallelism": None if prefill is None else spoken(prefill),
        "parallelism": spoken(layout),
        "tp": layout.tp,
        "dp": layout.dp,
        "ep": layout.ep,
        "pp": layout.pp,
        "draft_tokens": 0 if draft is None else draft.draft_tokens,
        "prompt_wait_steps": 0 if wait is None else wait.steps,
        "prompt_wait_tokens": 0 if wait is None else wait.tokens or 0,
        "gpus": configuration.gpus,
        "prefill_gpus_frac": configuration.prefill_gpus / configuration.gpus,
        "sequences": sequences,
        "concurrency": None if sequences is None else sequences * configuration.counts[1],
    }


def refused_row(system: str, label: str, reason: str) -> Row:
    """The row of a layout or configuration that cannot run at all."""
    return _empty(system, label) | {"status": "refused", "reason": reason}


def _empty(system: str, label: str) -> Row:
    fixed = {"system": system, "configuration": label, "outside": "", "frontier_per_gpu": 0, "frontier_per_mw": 0}
    return {column.name: fixed.get(column.name) for column in COLUMNS}
