"""Measured serving points (InferenceX, as shipped in ai-dynamo/aiconfigurator) as instances that the model can predict."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from twin.catalog import Part, load_catalog
from twin.performance import IDEAL, Interconnect, ModelShape, Parallelism, Precision, Unfit, interconnect_of, step_cost_with

_MODELS = {
    "DeepSeek-R1": "deepseek_r1",
    "DeepSeek-R1-NVFP4": "deepseek_r1",
    "DeepSeek-V3": "deepseek_v3",
    "DeepSeek-V3.1-NVFP4": "deepseek_v3",
    "Llama-3.1-70B": "llama_3_1_70b",
    "Llama-3.1-8B-Instruct": "llama_3_1_8b",
    "Llama-3.1-8B-Instruct-FP8": "llama_3_1_8b",
    "Qwen3-235B-A22B-FP8": "qwen3_235b",
    "Qwen3-32B": "qwen3_32b",
    "Qwen3-32B-NVFP4": "qwen3_32b",
    "gpt-oss-120b": "gpt_oss_120b",
}
_GPUS = {"h100_sxm": "h100", "h200_sxm": "h200", "b200_sxm": "b200", "gb200": "gb200"}
CHUNK_TOKENS = 8192
SPECULATIVE = 0.75  # of the slowest time per token in the same setting: below it, DeepSeek's second token per step is suspected


@dataclass(frozen=True, slots=True)
class Point:
    """One measured point of one instance: `concurrency` requests in flight on it; chunk_tokens 0 in a decode pool."""

    row: str
    backend: str
    gpu: Part
    links: Interconnect
    shape: ModelShape
    precision: Precision
    layout: Parallelism
    concurrency: int
    input_tokens: int
    output_tokens: int
    chunk_tokens: int
    ttft_s: float
    tpot_s: float

    @property
    def generation(self) -> str:
        return self.gpu.text("generation")


class RefusedError(Exception):
    """A row that does not say enough to be predicted, or that contradicts itself."""


def read_points(path: Path) -> tuple[list[Point], Counter[str]]:
    """Points that can be predicted, and how many rows were refused for each reason."""
    points, refused = [], Counter[str]()
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                point = _point(row)
                step_cost_with(IDEAL, point.shape, point.precision, point.layout, point.gpu, point.links)
                points.append(point)
            except (RefusedError, Unfit) as error:
                refused[str(error)] += 1
    slowest: dict[object, float] = {}
    for point in points:
        slowest[_setting(point)] = max(point.tpot_s, slowest.get(_setting(point), 0.0))
    kept = [p for p in points if "deepseek" not in p.shape.name or p.tpot_s > SPECULATIVE * slowest[_setting(p)]]
    refused["faster than the same setting measured elsewhere: multi-token prediction suspected"] = len(points) - len(kept)
    return kept, refused


def _setting(point: Point) -> object:
    return (
        (point.backend, point.gpu.name, point.precision, point.layout, point.concurrency),
        (point.input_tokens, point.output_tokens, point.chunk_tokens),
    )


def _count(row: dict[str, str], key: str) -> int:
    """A count of the row; absent, 0 and empty all mean 'one'."""
    return max(1, int(float(row[key] or 1)))


def _point(row: dict[str, str]) -> Point:
    catalog = load_catalog()
    gpu = catalog.part("gpu", _GPUS[row["system"]])
    shape = ModelShape.from_part(catalog.part("model", _MODELS[row["model_path"].split("/")[-1]]))
    aggregated = row["mode"] == "agg"
    if not aggregated and not row["decode_num_workers"]:
        raise RefusedError("disaggregated without the number of decode workers")
    weights = row["precision"] or "bf16"
    kv = "fp8" if weights != "bf16" and (row["backend"] == "trtllm" or gpu.text("generation") == "blackwell") else "bf16"
    prefix = "" if aggregated else "decode_"
    layout = _layout(row, prefix, shape, int(gpu.number("nvlink_domain_gpus")))
    label_dp = _count(row, f"{prefix}attention_dp_size")
    return Point(
        row=row["id"],
        backend=row["backend"],
        gpu=gpu,
        links=interconnect_of(gpu, 0.95),
        shape=shape,
        precision=Precision(weights, kv),
        layout=layout,
        concurrency=_count(row, f"{prefix}batch_size") * label_dp,
        input_tokens=int(row["isl"]),
        output_tokens=int(row["osl"]),
        chunk_tokens=CHUNK_TOKENS if aggregated else 0,
        ttft_s=float(row["silicon_ttft_ms"]) / 1e3,
        tpot_s=float(row["silicon_tpot_ms"]) / 1e3,
    )


def _layout(row: dict[str, str], prefix: str, shape: ModelShape, domain: int) -> Parallelism:
    """The parallelism of a row.

    Two labels are mended: on eight-GPU nodes a width of 16 or 64 with experts in parallel is tp x ep of the same GPUs; and
    with data-parallel attention the experts run in parallel over all GPUs, also where the label has them in tensor parallel.
    """
    tp, dp = _count(row, f"{prefix}tp_size"), _count(row, f"{prefix}attention_dp_size")
    ep, moe_tp = _count(row, f"{prefix}moe_ep_size"), _count(row, f"{prefix}moe_tp_size")
    if not shape.experts:
        return Parallelism(tp=tp)
    if domain == 8 and tp * dp > domain and ep > 1 and moe_tp > 1:
        tp, dp = (moe_tp, 1) if tp > 1 else (1, moe_tp)
    if dp > 1 and ep == 1:
        ep = tp * dp
    if (tp * dp) % ep:
        raise RefusedError("expert parallelism does not divide the GPUs")
    return Parallelism(tp=tp, dp=dp, ep=ep)
