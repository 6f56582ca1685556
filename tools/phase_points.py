"""Measured prompt and token times of one batch (Splitwise's table), as durations that the step cost predicts."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twin.catalog import Part, load_catalog
from twin.performance import Coefficients, ModelShape, Parallelism, Precision, interconnect_of, step_cost_with

_GPUS = {"a100-80gb": "a100", "h100-80gb": "h100"}


@dataclass(frozen=True, slots=True)
class Phase:
    """A prompt phase (`kind` ttft) or one token of a decode phase (tpot) over a whole batch."""

    kind: str
    gpu: Part
    layout: Parallelism
    batch: int
    prompt_tokens: int
    output_tokens: int
    measured_s: float

    def predict_s(self, coefficients: Coefficients) -> float:
        """Seconds that the model gives for this phase."""
        shape = ModelShape.from_part(load_catalog().part("model", "llama_2_70b"))
        links = interconnect_of(self.gpu, 0.95)
        cost = step_cost_with(coefficients, shape, Precision("bf16", "bf16"), self.layout, self.gpu, links)
        if self.kind == "tpot":
            return cost.step_s(self.batch, self.batch * (self.prompt_tokens + self.output_tokens / 2))
        pairs = self.batch * self.prompt_tokens * (self.prompt_tokens + 1) / 2
        return cost.request_overhead_s + cost.step_s(self.batch * self.prompt_tokens, 0.0, pairs)


def read_phases(path: Path) -> Iterator[Phase]:
    """Prompt and token phases of Llama-2-70B.

    Left out: batches beyond 32, whose prompt times do not follow those of the smaller ones (the rows at 64 are inconsistent).
    """
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] != "llama2-70b" or int(row["batch_size"]) > 32:
                continue
            gpu = load_catalog().part("gpu", _GPUS[row["hardware"]])
            layout = Parallelism(tp=int(row["tensor_parallel"]))
            sizes = (int(row["batch_size"]), int(row["prompt_size"]), int(row["token_size"]))
            yield Phase("tpot", gpu, layout, *sizes, float(row["token_time"]) / 1e3)
            yield Phase("ttft", gpu, layout, *sizes, float(row["prompt_time"]) / 1e3)
