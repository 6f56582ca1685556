"""Measured prompt and token times of one batch (Splitwise's table): durations that the step cost predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from twin.calibration.fitted import Fitted, Key
from twin.calibration.fitting import Measured, fit
from twin.calibration.prediction import OnRows, Prediction, Refusal, Validation, quantile
from twin.calibration.step_terms import Column, Setup, terms_of
from twin.calibration.table import Row, Table, missing_columns
from twin.calibration.trajectory import Trajectory
from twin.catalog import Catalog, Part, load_catalog
from twin.errors import InputError, UnknownValueError
from twin.performance import (
    IDEAL,
    Coefficients,
    FitRange,
    ModelShape,
    Parallelism,
    Precision,
    interconnect_of,
    kv_capacity_tokens,
    step_cost_with,
)

COLUMNS = ("model", "hardware", "prompt_size", "batch_size", "token_size", "prompt_time", "token_time", "tensor_parallel")
MARKERS = ("prompt_time", "token_time", "prompt_size", "token_size")
#: The engine of these measurements has coefficients of its own.
BACKEND = "vllm_2023"
#: Instances of these measurements stand inside a node; what a fabric would add does not come up.
_FABRIC_EFFICIENCY_FRAC = 0.95
#: Share of GPU memory that the engine kept free (its default then).
_RESERVE_FRAC = 0.1
_MODELS = {"llama2-70b": "llama_2_70b", "bloom-176b": "bloom_176b"}
_GPUS = {"a100-80gb": "a100", "h100-80gb": "h100"}
_GROUPS = (("model",), ("hardware",), ("model", "hardware"), ("tensor_parallel",))


@dataclass(frozen=True, slots=True)
class Phase:
    """A prompt phase and one token of the decode phase after it, over a whole batch in step."""

    row: Row
    gpu: Part
    shape: ModelShape
    layout: Parallelism
    batch: int
    prompt_tokens: int
    output_tokens: int
    prompt_s: float
    token_s: float

    @property
    def coefficients_key(self) -> Key:
        """The group that it belongs to."""
        return BACKEND, self.gpu.text("generation"), "bf16"

    @property
    def setup(self) -> Setup:
        """Its instance."""
        links = interconnect_of(self.gpu, _FABRIC_EFFICIENCY_FRAC)
        return Setup(self.shape, Precision("bf16", "bf16"), self.layout, self.gpu, links, 0)

    def times_s(self, use: Coefficients) -> tuple[float, float]:
        """(prompt_s, token_s) with given coefficients."""
        cost = step_cost_with(use, *self.setup[:5])
        prompt = self.batch * self.prompt_tokens
        prompt_s = cost.front_end_s(self.prompt_tokens) + cost.step_s(0, 0.0, prompt, self._pairs)
        return prompt_s, cost.step_s(self.batch, self._context)

    @property
    def trajectory(self) -> Trajectory:
        """The two steps as classes: the prompts' counts as time to first token, the decode step as time per token."""
        rows = np.zeros((2, len(Column)))
        rows[0, Column.PROMPT], rows[0, Column.PAIRS] = self.batch * self.prompt_tokens, self._pairs
        rows[1, Column.DECODES], rows[1, Column.CONTEXT] = self.batch, self._context
        first, later = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        return Trajectory(terms_of(self.setup, rows), first, later, 0.0, 0.0, 0.0, self.prompt_tokens, 1.0, 1.0)

    @property
    def _pairs(self) -> float:
        return self.batch * self.prompt_tokens * (self.prompt_tokens + 1) / 2

    @property
    def _context(self) -> float:
        return self.batch * (self.prompt_tokens + self.output_tokens / 2)


def phases(table: Table) -> Iterator[Phase | Refusal]:
    """The rows of a table, or why one can't be predicted. Raises InputError with every problem of the file.

    The published table has rows that are there twice; the first of them counts.
    """
    table.problems += missing_columns(table, COLUMNS)
    table.check()
    table.need_numbers(("prompt_size", "batch_size", "token_size", "prompt_time", "token_time", "tensor_parallel"))
    table.need_whole(("prompt_size", "batch_size", "token_size", "tensor_parallel"))
    table.check()
    catalog = load_catalog()
    seen: dict[tuple[str, ...], int] = {}
    for row in table.rows:
        first = seen.setdefault(tuple(row.texts.values()), row.line)
        if first != row.line:
            yield Refusal(f"line {row.line}", f"repeats line {first}")
            continue
        try:
            yield _phase(row, catalog)
        except (InputError, UnknownValueError) as error:
            yield Refusal(f"line {row.line}", str(error))


def validate_phase_times(table: Table, jobs: int | None = None, on_rows: OnRows | None = None) -> Validation:
    """Prompt and token time of each row. Quick enough for one process."""
    backend = load_catalog().part("backend", BACKEND)
    predictions, refused = [], []
    for phase in phases(table):
        if isinstance(phase, Refusal):
            refused.append(phase)
            continue
        prompt_s, token_s = phase.times_s(Coefficients.of(backend, *phase.coefficients_key[1:]))
        labels = {key: phase.row.text(key) for key in ("model", "hardware", "tensor_parallel")}
        figures = {"prompt_time": (prompt_s, phase.prompt_s), "token_time": (token_s, phase.token_s)}
        predictions.append(Prediction(f"line {phase.row.line}", labels, figures))
    if on_rows is not None:
        on_rows(len(table.rows), len(table.rows))
    return Validation("phase_times", tuple(predictions), tuple(refused), _GROUPS)


def calibrate_phase_times(table: Table, source: str, jobs: int | None, say: Callable[[str], None]) -> list[Fitted]:
    """A fit for each GPU generation."""
    groups: dict[Key, list[Phase]] = {}
    for phase in phases(table):
        if isinstance(phase, Phase):
            groups.setdefault(phase.coefficients_key, []).append(phase)
    say(f"fitting {sum(len(group) for group in groups.values()):,} rows")
    # No prompt queues here, so both times are worth the same.
    found = {
        key: fit([Measured(phase.trajectory, phase.prompt_s, phase.token_s) for phase in group], ttft_weight=1.0)
        for key, group in groups.items()
    }
    return [Fitted(key, found[key], _range(group, found[key]), source) for key, group in sorted(groups.items())]


def _range(group: list[Phase], use: Coefficients) -> FitRange:
    times = [(phase, *phase.times_s(use)) for phase in group]
    gpus = [phase.layout.gpus for phase in group]
    batches = [phase.batch for phase in group]
    tokens = [phase.prompt_tokens + phase.output_tokens for phase in group]
    return FitRange(
        points=len(group),
        models=tuple(sorted({phase.shape.name for phase in group})),
        gpus=(min(gpus), max(gpus)),
        sequences=(min(batches), max(batches)),
        request_tokens=(min(tokens), max(tokens)),
        tpot_median_ape=quantile(sorted(abs(token_s / p.token_s - 1.0) for p, _, token_s in times), 0.5),
        ttft_median_ape=quantile(sorted(abs(prompt_s / p.prompt_s - 1.0) for p, prompt_s, _ in times), 0.5),
    )


def _phase(row: Row, catalog: Catalog) -> Phase:
    model, hardware = row.text("model"), row.text("hardware")
    if model not in _MODELS:
        raise InputError(f"model {model!r} is none of the catalogue")
    if hardware not in _GPUS:
        raise InputError(f"hardware {hardware!r} is none of the catalogue")
    gpu, shape = catalog.part("gpu", _GPUS[hardware]), ModelShape.from_part(catalog.part("model", _MODELS[model]))
    layout, batch, prompt = Parallelism(tp=row.count("tensor_parallel")), row.count("batch_size"), row.count("prompt_size")
    room = kv_capacity_tokens(shape, Precision("bf16", "bf16"), layout, gpu, _RESERVE_FRAC)
    if batch * prompt > room:
        raise InputError(f"memory holds {room:,} tokens beside the weights, the prompts take {batch * prompt:,}: they were split")
    phase = Phase(
        row,
        gpu,
        shape,
        layout,
        batch,
        prompt,
        row.count("token_size"),
        (row.number("prompt_time") or 0.0) / 1e3,
        (row.number("token_time") or 0.0) / 1e3,
    )
    for name, least_s, measured_s in zip(
        ("prompt_time", "token_time"), phase.times_s(IDEAL), (phase.prompt_s, phase.token_s), strict=True
    ):
        if measured_s < least_s:
            raise InputError(
                f"{name} {1e3 * measured_s:,.4g} ms is less than the {1e3 * least_s:,.4g} ms that it takes at the GPUs' peak "
                "rates: not all of the batch was in it"
            )
    return phase
