"""Measured sweeps of the power cap: throughput and power of a workload's GPUs under each cap.

A workload is known by its class alone, which the first word of its name tells. A row's throughput is relative to the
workload's own at a reference cap: that of its row with 1, or where no row has 1 the TDP, under which no cap is in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twin.calibration.prediction import OnRows, Prediction, Refusal, Validation
from twin.calibration.serving_points import Refused
from twin.calibration.table import Row, Table, missing_columns
from twin.catalog import Part, load_catalog
from twin.performance import GpuPower, gpu_power, power_at_level
from twin.serving import clock_under_cap

CAP, THROUGHPUT, POWER = "GPU power cap", "normalized throughput", "power per GPU"
COLUMNS = ("Workload", CAP, THROUGHPUT)
MARKERS = (*COLUMNS, POWER)
#: The class of GPU that was measured; files of this kind do not name it.
GPU = "a100"
_GROUPS = (("class",), ("cap",), ("workload",))
#: Throughput within this share of 1 is the reference: files hold few digits.
_ONE_FRAC = 1e-6


@dataclass(frozen=True, slots=True)
class JobClass:
    """The two numbers known of a class of work: the share of its step that slows with the clock, and what a GPU would draw at
    full clock if nothing held it, in W."""

    compute_share: float
    level_w: float

    @classmethod
    def of(cls, part: Part, gpu: Part) -> JobClass:
        """A class of the catalogue on a GPU."""
        return cls(part.number("compute_share_frac"), part.number("full_clock_ratio") * gpu.number("tdp_w"))

    def under_cap(self, model: GpuPower, cap_w: float) -> tuple[float, float]:
        """(speed over that at full clock, mean W of a GPU) under a cap, the TDP being one."""
        share = self.compute_share
        power = power_at_level(model, self.level_w, share)
        rest = 1.0 - share
        clock, _ = clock_under_cap(min(cap_w, model.tdp_w), 1.0, power, share, 0.0, 0.0, 0.0, rest, share, rest)
        step_s = share / clock + rest
        return 1.0 / step_s, power.step_energy_j(step_s, share, rest, clock) / step_s


@dataclass(frozen=True, slots=True)
class CapPoint:
    """A row: what a workload of a class made and drew under a cap, throughput over that under `reference_w`."""

    row: str
    workload: str
    job_class: str
    cap_w: float
    reference_w: float
    throughput: float
    power_w: float | None

    def predicted(self, known: JobClass, model: GpuPower) -> tuple[float, float]:
        """(throughput over that at the reference cap, W per GPU)."""
        speed, watts = known.under_cap(model, self.cap_w)
        return speed / known.under_cap(model, self.reference_w)[0], watts


def cap_points(table: Table) -> list[CapPoint | Refusal]:
    """The rows of a table, or why one can't be predicted. Raises InputError with every problem of the file."""
    table.problems += missing_columns(table, COLUMNS)
    table.check()
    table.need_numbers((CAP, THROUGHPUT))
    if POWER in table.columns:
        table.need_numbers((POWER,), may_lack=True)
    for row in table.rows:
        if not row.text("Workload"):
            table.wrong(row, "Workload", "is missing")
    table.need_distinct(("Workload", CAP))
    table.check()
    gpu = load_catalog().part("gpu", GPU)
    reference_w = _references_w(table, gpu.number("tdp_w"))
    found: list[CapPoint | Refusal] = []
    for row in table.rows:
        try:
            found.append(_point(row, reference_w, gpu))
        except Refused as why:
            found.append(Refusal(f"line {row.line}", str(why)))
    return found


def validate_cap_sweep(table: Table, jobs: int | None = None, on_rows: OnRows | None = None) -> Validation:
    """Throughput and power of each row from its class. Quick enough for one process."""
    points = cap_points(table)
    if on_rows is not None:
        on_rows(len(table.rows), len(table.rows))
    return validation(points, known_classes(), gpu_power(load_catalog().part("gpu", GPU)))


def known_classes() -> dict[str, JobClass]:
    """The classes of the catalogue by name."""
    catalog = load_catalog()
    gpu = catalog.part("gpu", GPU)
    return {name: JobClass.of(catalog.part("job_class", name), gpu) for name in catalog.names("job_class")}


def validation(points: Sequence[CapPoint | Refusal], known: Mapping[str, JobClass], model: GpuPower) -> Validation:
    """Points predicted with what is taken to be known of their classes and of the GPU."""
    predictions = []
    for point in points:
        if isinstance(point, Refusal):
            continue
        throughput, watts = point.predicted(known[point.job_class], model)
        figures = {"throughput": (throughput, point.throughput)}
        if point.power_w is not None:
            figures["power"] = (watts, point.power_w)
        labels = {"workload": point.workload, "class": point.job_class, "cap": f"{point.cap_w:g} W"}
        predictions.append(Prediction(point.row, labels, figures))
    refused = tuple(point for point in points if isinstance(point, Refusal))
    return Validation("cap_sweep", tuple(predictions), refused, _GROUPS)


def _references_w(table: Table, tdp_w: float) -> dict[str, float]:
    """Workload -> cap of its row with throughput 1, the highest where there are several; the TDP where there is none."""
    found: dict[str, float] = {}
    for row in table.rows:
        cap_w = row.number(CAP) or 0.0
        if abs((row.number(THROUGHPUT) or 0.0) - 1.0) <= _ONE_FRAC:
            found[row.text("Workload")] = max(cap_w, found.get(row.text("Workload"), 0.0))
    return {row.text("Workload"): found.get(row.text("Workload"), tdp_w) for row in table.rows}


def _point(row: Row, reference_w: Mapping[str, float], gpu: Part) -> CapPoint:
    workload, cap_w = row.text("Workload"), row.number(CAP) or 0.0
    least_w, tdp_w = gpu.number("cap_min_w"), gpu.number("tdp_w")
    for what, watts in (("a cap", cap_w), ("throughput relative to that under", reference_w[workload])):
        if not least_w <= watts <= tdp_w:
            raise Refused(f"{what} of {watts:g} W: GPUs of the class of {GPU} take {least_w:g} to {tdp_w:g} W")
    return CapPoint(
        f"line {row.line}",
        workload,
        _class_of(workload),
        cap_w,
        reference_w[workload],
        row.number(THROUGHPUT) or 0.0,
        row.number(POWER),
    )


def _class_of(workload: str) -> str:
    catalog = load_catalog()
    words = {word: name for name in catalog.names("job_class") for word in catalog.part("job_class", name).texts("names")}
    first = workload.replace("-", "_").replace(" ", "_").lower().split("_")[0]
    if first not in words:
        raise Refused(f"workload {workload!r}: its name does not begin with a class of work ({', '.join(sorted(words))})")
    return words[first]
