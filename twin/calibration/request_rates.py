"""Measured runs of one node under requests that come at a rate: node power, time to first token and per output token.

Files of this kind name neither model, engine nor node: they are runs of Llama-3.1-70B in BF16 on four H100 under vLLM. Each
is played by the real worker: as many prompts as the row says, at a Poisson rate, of its mean lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np
from scipy.optimize import brentq
from scipy.stats import gamma

from twin.calibration.prediction import OnRows, Prediction, Refusal, Validation
from twin.calibration.serving_points import Refused
from twin.calibration.table import Row, Table, missing_columns
from twin.catalog import load_catalog
from twin.performance import Instance, ModelShape, Parallelism, Precision, gpu_power, interconnect_of
from twin.serving import Request, Worker, WorkerSpec

RATE, LONGEST, POWER = "request_rate_x", "hf-output-len", "mean_power[W]"
_TOTALS = ("completed", "total_input_tokens", "total_output_tokens")
_TIMES = ("mean_ttft_ms", "mean_tpot_ms")
COLUMNS = (RATE, LONGEST, "num-prompts", *_TOTALS, *_TIMES, POWER)
MARKERS = (RATE, LONGEST, "num-prompts", POWER)
GPUS = 4
#: What the node draws beside its GPUs, in W: the median of what their catalogued power leaves of these runs
#: (tools/fit_power.py node). A run in which nothing was completed drew 744 W, 456 W more than four idle GPUs: so what the
#: catalogue takes for GPUs that step at all (`power_active_w`, fitted to the same runs) holds a part of the host's.
NODE_OTHER_W = 203.0
#: vLLM's defaults on this GPU: new tokens of a step, sequences of an instance, share of memory kept free, tokens of a block.
_BATCHED_TOKENS, _SEQUENCES, _RESERVE_FRAC, _BLOCK_TOKENS = 8192, 1024, 0.1, 16
#: The same prompts are sent in each run of a series, and the engine keeps prefixes: at 200 a second or more, arithmetic of
#: twice the GPUs' peak would be due for them otherwise. So all but a prompt's last block is found.
#: Answers without a limit spread as a gamma distribution of this shape, cut at the limit: fits the means at 256, 512 and 1,024.
_ANSWER_SHAPE = 1.75
#: Prompts are spread evenly over this share of their mean to either side (assumed): what counts is that their ends fall
#: anywhere in a block, half of which is computed on the mean.
_PROMPT_SPREAD_FRAC = 0.5
_GROUPS = (("rate",), ("longest",))


@dataclass(frozen=True, slots=True)
class Load:
    """What was asked of the node: `prompts` at `rate` a second, mean lengths, and the longest answer allowed."""

    rate: float
    prompts: int
    input_tokens: int
    output_tokens: float
    longest: int


@dataclass(frozen=True, slots=True)
class Played:
    """Means over the requests, and of the power of all GPUs from the first request's coming to the last one's end."""

    ttft_s: float
    tpot_s: float
    gpus_w: float


def validate_request_rates(table: Table, jobs: int | None = None, on_rows: OnRows | None = None) -> Validation:
    """Power and times of each row."""
    table.problems += missing_columns(table, COLUMNS)
    table.check()
    table.need_numbers((RATE, LONGEST, "num-prompts"))
    table.need_numbers((*_TOTALS, *_TIMES, POWER), positive=False, may_lack=True)
    table.need_whole((LONGEST, "num-prompts", *_TOTALS))
    table.check()
    predictions, refused = [], []
    for number, row in enumerate(table.rows, 1):
        try:
            predictions.append(_predicted(row))
        except Refused as why:
            refused.append(Refusal(f"line {row.line}", str(why)))
        if on_rows is not None:
            on_rows(number, len(table.rows))
    return Validation("request_rates", tuple(predictions), tuple(refused), _GROUPS)


def instance() -> Instance:
    """What was measured."""
    catalog = load_catalog()
    gpu = catalog.part("gpu", "h100")
    shape = ModelShape.from_part(catalog.part("model", "llama_3_1_70b"))
    # One node: what a fabric would add does not come up.
    return Instance(
        shape, Precision("bf16", "bf16"), Parallelism(tp=GPUS), gpu, catalog.part("backend", "vllm"), interconnect_of(gpu, 0.95)
    )


def load_of(row: Row) -> Load:
    """What a row asked of the node. Raises Refused with the reason where it cannot be told or is more than the model knows."""
    prompts, longest = row.count("num-prompts"), row.count(LONGEST)
    done = round(row.number("completed") or 0)
    if done != prompts:
        raise Refused(f"{done:,} of {prompts:,} requests were completed")
    inputs, outputs = ((row.number(f"total_{what}_tokens") or 0.0) / prompts for what in ("input", "output"))
    if inputs < 1 or not 1 < outputs <= longest:
        raise Refused(f"{inputs:g} input and {outputs:g} output tokens a request cannot be, with answers of up to {longest:,}")
    return Load(row.number(RATE) or 0.0, prompts, max(1, round(inputs)), outputs, longest)


@lru_cache(maxsize=1024)
def played(load: Load) -> Played:
    """The run of a load. Raises Refused where the memory cannot keep the prompts."""
    what = instance()
    cost = what.cost()
    room = what.kv_capacity_tokens(_RESERVE_FRAC, _BATCHED_TOKENS, _SEQUENCES)
    kept = load.prompts * load.input_tokens
    made = round(min(load.prompts, _SEQUENCES) * load.output_tokens)
    if kept + made > room:
        raise Refused(f"memory holds {room:,} tokens, the prompts take {kept:,} and their answers {made:,}: not all stay cached")
    spec = WorkerSpec(
        name="node",
        role="aggregated",
        cost=cost,
        power=gpu_power(what.gpu),
        gpus=GPUS,
        kv_capacity_tokens=room,
        max_sequences=_SEQUENCES,
        max_batched_tokens=_BATCHED_TOKENS,
        block_tokens=_BLOCK_TOKENS,
    )
    worker = Worker(spec)
    front_end_s = cost.front_end_s(load.input_tokens)
    draws = np.random.default_rng([load.prompts, load.input_tokens, load.longest])
    gaps = draws.exponential(1.0, load.prompts)
    arrivals = np.cumsum(gaps) / gaps.mean() / load.rate
    least, most = (max(1, round((1.0 + sign * _PROMPT_SPREAD_FRAC) * load.input_tokens)) for sign in (-1, 1))
    inputs = draws.integers(least, most + 1, load.prompts)
    answers = draws.permutation(_answers(load))
    requests = []
    for number, (at_s, prompt, answer) in enumerate(zip(arrivals.tolist(), inputs.tolist(), answers.tolist(), strict=True)):
        path = ((number + 1, prompt),)
        worker.memory.warm(path)
        requests.append(Request(number, at_s, prompt, answer, shared_prefix_tokens=prompt, path=path))
    for request in requests:
        queued_s = request.arrival_s + front_end_s
        worker.advance(queued_s)
        worker.submit(request, queued_s)
    while worker.next_change_s < inf:
        worker.advance(worker.next_change_s)
    finish = np.array([request.finish_s for request in requests])
    first = np.array([request.first_token_s for request in requests])
    several = answers > 1
    return Played(
        ttft_s=float((first - arrivals).mean()),
        tpot_s=float(((finish - first)[several] / (answers[several] - 1)).mean()),
        gpus_w=worker.meter.energy_j / float(finish.max()),
    )


def _answers(load: Load) -> np.ndarray:
    """Lengths of the answers at even quantiles, with the row's mean."""
    places = (np.arange(load.prompts) + 0.5) / load.prompts
    spread = gamma.ppf(places, _ANSWER_SHAPE)

    def cut(scale: float) -> np.ndarray:
        return np.clip(scale * spread, 1.0, load.longest)

    if load.output_tokens >= load.longest * (1.0 - 1e-9):
        return np.full(load.prompts, load.longest)
    scale = brentq(lambda s: cut(s).mean() - load.output_tokens, 1e-6, 1e9)
    return np.rint(cut(scale)).astype(int)


def _predicted(row: Row) -> Prediction:
    load = load_of(row)
    measured = {"power": row.number(POWER), "ttft": row.number("mean_ttft_ms"), "tpot": row.number("mean_tpot_ms")}
    missing = [name for name, value in measured.items() if not value]
    if missing:
        raise Refused(f"no {', '.join(missing)} was measured")
    power_w, ttft_ms, tpot_ms = (value or 0.0 for value in measured.values())
    found = played(load)
    figures = {
        "power": (found.gpus_w + NODE_OTHER_W, power_w),
        "ttft": (found.ttft_s, ttft_ms / 1e3),
        "tpot": (found.tpot_s, tpot_ms / 1e3),
    }
    return Prediction(f"line {row.line}", {"rate": f"{load.rate:g}", "longest": str(load.longest)}, figures)
