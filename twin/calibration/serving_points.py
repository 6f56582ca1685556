"""Measured serving points (TTFT and TPOT at a concurrency) as instances that the model can run, or the reason why it can't."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twin.calibration.campaigns import Campaign, campaigns
from twin.calibration.table import Row, Table, missing_columns, read_table
from twin.catalog import Catalog, Part, load_catalog
from twin.errors import InputError, UnknownValueError
from twin.performance import (
    IDEAL,
    Interconnect,
    ModelShape,
    Parallelism,
    Precision,
    activation_bytes_per_gpu,
    interconnect_of,
    kv_capacity_tokens,
    step_cost_with,
)

_LAYOUT = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
#: What every file has, and what those with aggregated and with disaggregated rows have besides.
COLUMNS = (
    "backend",
    "model_path",
    "system",
    "precision",
    "mode",
    "isl",
    "osl",
    "concurrency",
    "silicon_ttft_ms",
    "silicon_tpot_ms",
)
_BY_MODE = {
    "agg": ("tp_size",),
    "disagg": tuple(f"{pool}_{key}" for pool in ("prefill", "decode") for key in ("num_workers", "tp_size")),
}
#: Counts: whole numbers, and 0 or nothing where they do not apply.
_COUNTS = (
    *("concurrency", "batch_size", "decode_batch_size"),
    *(f"{pool}{key}" for pool in ("", "prefill_", "decode_") for key in ("num_workers", *_LAYOUT)),
)
#: Which columns tell files of this kind, and what their curves are: the rows that differ in concurrency alone.
MARKERS = ("silicon_ttft_ms", "silicon_tpot_ms", "isl", "osl")
#: The scale-out fabric of the measured clusters is not recorded; collectives across it reach this share of the line rate.
_SCALE_OUT_EFFICIENCY_FRAC = 0.95
#: Tokens of a sequence in a step with every draft of an eager speculation accepted: more than that is an error of the row.
_MOST_TOKENS_A_STEP = 8


class Refused(InputError):  # noqa: N818  # a verdict
    """A row outside what the model knows, or that contradicts itself; the text says why."""


@dataclass(frozen=True, slots=True)
class Instance:
    """Engine instances of one role: how they are laid out, how many there are, and what memory leaves for KV."""

    layout: Parallelism
    count: int
    kv_capacity_tokens: int


@dataclass(frozen=True, slots=True)
class ServingPoint:
    """One measured point: `concurrency` requests in flight over all instances."""

    row: str
    labels: Mapping[str, Any]
    campaign: Campaign
    gpu: Part
    links: Interconnect
    shape: ModelShape
    precision: Precision
    engine: Instance
    """Aggregated instances, or the decode side of a disaggregated point."""
    prefill: Instance | None
    concurrency: int
    input_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float

    @property
    def coefficients_key(self) -> tuple[str, str, str]:
        """Backend, GPU generation and format of the weights: what one set of coefficients holds for."""
        return self.campaign.backend, self.gpu.text("generation"), self.precision.weights

    @property
    def curve(self) -> tuple[Any, ...]:
        """What rows of one curve share: model, system, backend, mode, lengths, parallelism, precision."""
        prefill = None if self.prefill is None else (self.prefill.layout, self.prefill.count, self.engine.count)
        labels = self.labels
        return (
            (labels["model"], labels["system"], labels["backend"], labels["mode"]),
            (self.input_tokens, self.output_tokens, self.engine.layout, prefill, self.precision.weights),
        )


@dataclass(frozen=True, slots=True)
class ServingPoints:
    """What a file holds: points that can be predicted, and refused rows with the reason."""

    points: tuple[ServingPoint, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return len(self.points) + len(self.refused)


def read_serving_points(path: Path) -> ServingPoints:
    """The points of a file. Raises InputError with every problem: missing columns, no numbers, times not above 0, repeats."""
    return serving_points(read_table(path))


def serving_points(table: Table) -> ServingPoints:
    """As `read_serving_points`, of a table already read."""
    modes = {row.text("mode") for row in table.rows}
    needed = [*COLUMNS, *(column for mode, columns in _BY_MODE.items() if mode in modes for column in columns)]
    table.problems += missing_columns(table, needed)
    table.need_numbers([name for name in ("isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms") if name in table.columns])
    table.need_numbers([name for name in _COUNTS if name in table.columns], positive=False, may_lack=True)
    table.need_whole([name for name in ("isl", "osl", *_COUNTS) if name in table.columns])
    table.need_distinct(["id"] if "id" in table.columns else list(table.columns))
    for row in table.rows:
        if "mode" in table.columns and row.text("mode") not in _BY_MODE:
            table.wrong(row, "mode", f"{row.text('mode')!r} is neither agg nor disagg")
    table.check()
    points, refused = [], []
    catalog = load_catalog()
    for row in table.rows:
        name = row_name(row)
        try:
            points.append(_point(row, name, catalog))
        except (InputError, UnknownValueError) as error:
            refused.append((name, str(error)))
    return ServingPoints(tuple(points), tuple(refused))


def row_name(row: Row) -> str:
    """What a row is called: its id, or its line."""
    return row.text("id") or f"line {row.line}"


def _point(row: Row, name: str, catalog: Catalog) -> ServingPoint:
    known = campaigns()
    path, system = row.text("model_path"), row.text("system")
    model, device = known.checkpoints.get(path, path), known.systems.get(system, system)
    if model not in catalog.names("model"):
        raise Refused(f"{path!r} is neither a checkpoint that is known nor a model of the catalogue (`twin catalog model`)")
    if device not in catalog.names("gpu"):
        raise Refused(f"{system!r} is no GPU of the catalogue (`twin catalog gpu`)")
    shape = ModelShape.from_part(catalog.part("model", model))
    gpu = catalog.part("gpu", device)
    aggregated = row.text("mode") == "agg"
    prefix = "" if aggregated else "decode_"
    if not aggregated and not (row.number("decode_num_workers") and row.number("prefill_num_workers")):
        raise Refused("disaggregated, and the row does not say over how many prefill and decode instances")
    layout = _layout(row, prefix, shape)
    if not (row.number("concurrency") or row.number(f"{prefix}batch_size")):
        raise Refused(f"says neither concurrency nor {prefix}batch_size")
    batch = row.count(f"{prefix}batch_size") * row.count(f"{prefix}attention_dp_size")  # as labelled, whatever it means
    instances = 1 if aggregated else row.count("decode_num_workers")
    concurrency = round(row.number("concurrency") or instances * batch)
    if aggregated and row.number("batch_size") and concurrency != batch and not row.number("attention_dp_size"):
        raise Refused(f"{concurrency} requests in flight on a batch of {batch}: the row does not say over how many instances")
    weights = row.text("precision") or "bf16"
    inputs, outputs = round(row.number("isl") or 0), round(row.number("osl") or 0)
    if outputs == 1:
        raise Refused("answers of one token have no time per output token")
    labels = {
        "backend": row.text("backend"),
        "version": row.text("backend_version"),
        "measured": row.text("measured"),
        "mode": row.text("mode"),
        "system": system,
        "model": shape.name,
        "weights": weights,
    }
    inferencex = bool(row.text("measured")) and (inputs, outputs) in ((1024, 1024), (1024, 8192), (8192, 1024))
    campaign = known.of(
        labels
        | {
            "generation": gpu.text("generation"),
            "lengths": ("inferencex" if inferencex else "other", f"{inputs}x{outputs}"),
            "tp": layout.tp,
            "dp": layout.dp,
            "gpus": layout.gpus,
            "concurrency": concurrency,
        }
    )
    precision = Precision(weights, campaign.kv)
    links = interconnect_of(gpu, _SCALE_OUT_EFFICIENCY_FRAC)
    sides = [(layout, instances)]
    if not aggregated:
        sides.append((_layout(row, "prefill_", shape), row.count("prefill_num_workers")))
    sized = []
    for side, count in sides:
        step_cost_with(IDEAL, shape, precision, side, gpu, links)
        tokens = campaign.batched_tokens * (side.dp if campaign.per_rank else 1)
        activations = activation_bytes_per_gpu(shape, side, tokens, concurrency)
        sized.append(Instance(side, count, kv_capacity_tokens(shape, precision, side, gpu, campaign.reserve, activations)))
    tpot_s = (row.number("silicon_tpot_ms") or 0.0) / 1e3
    least_s = step_cost_with(IDEAL, shape, precision, layout, gpu, links).step_s(1, inputs) / _MOST_TOKENS_A_STEP
    if tpot_s < least_s:
        raise Refused(
            f"{1e3 * tpot_s:.3g} ms per output token is less than the {1e3 * least_s:.3g} ms that reading the weights takes at "
            f"the GPUs' peak rates with {_MOST_TOKENS_A_STEP} tokens a step: is it in milliseconds?"
        )
    return ServingPoint(
        row=name,
        labels=labels,
        campaign=campaign,
        gpu=gpu,
        links=links,
        shape=shape,
        precision=precision,
        engine=sized[0],
        prefill=None if aggregated else sized[1],
        concurrency=concurrency,
        input_tokens=inputs,
        output_tokens=outputs,
        ttft_s=(row.number("silicon_ttft_ms") or 0.0) / 1e3,
        tpot_s=tpot_s,
    )


def _layout(row: Row, prefix: str, shape: ModelShape) -> Parallelism:
    """The parallelism of a row.

    Labels come in three readings. With attention DP told, a width equal to moe_tp x moe_ep of two equal numbers is one of them:
    tp (or dp) and ep over the same GPUs, multiplied. Experts over more GPUs than attention mean data-parallel attention on the
    rest. With data-parallel attention the experts run in parallel over all GPUs, even if the label has them in tensor parallel.
    """
    tp, dp = row.count(f"{prefix}tp_size"), row.count(f"{prefix}attention_dp_size")
    ep, moe_tp, pp = (row.count(f"{prefix}{key}") for key in ("moe_ep_size", "moe_tp_size", "pp_size"))
    if not shape.experts:
        return Parallelism(tp=tp, pp=pp)
    if row.text(f"{prefix}attention_dp_size") and 1 < ep == moe_tp and tp * dp == ep * moe_tp:
        tp, dp, moe_tp = (ep, 1, 1) if tp > 1 else (1, ep, 1)
    if 1 < moe_tp * ep < tp * dp:
        raise Refused(f"experts over {moe_tp * ep} GPUs (moe_tp x moe_ep), attention over {tp * dp} (tp x attention_dp)")
    if tp * dp < moe_tp * ep:
        dp = moe_tp * ep // tp
    if dp > 1 and ep == 1:
        ep = tp * dp
    if (tp * dp) % ep:
        raise Refused(f"expert parallelism {ep} does not divide the {tp * dp} GPUs of tp {tp} x dp {dp}")
    return Parallelism(tp=tp, dp=dp, ep=ep, pp=pp)
