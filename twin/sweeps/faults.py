"""A fault campaign: the same scenario many times, each time with one random fault, beside the run without any."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twin.engine.fault_plan import check_faults, components_of
from twin.errors import InputError, did_you_mean
from twin.facility.component import Component
from twin.processes import processes
from twin.rng import stream
from twin.schema import LoadedScenario, catalog_with, load_scenario
from twin.schema.faults import Faults, ScheduledFault
from twin.schema.scenario import Scenario
from twin.sweeps.task import Outcome, Task, perform_all

if TYPE_CHECKING:
    import pandas as pd

#: Faults begin in the middle of the run: this share of it is left free at both ends.
MARGIN_FRAC = 0.1
#: The tables of a campaign, and the run without a fault.
TABLES, REFERENCE = ("faults.parquet", "faults.csv"), "reference"

#: Hears of each run as it ends: its number from 1 (0: the reference), how many faults there are, its outcome.
OnRun = Callable[[int, int, Outcome], None]


@dataclass(frozen=True, slots=True)
class FaultRun:
    """One fault and what it did. Figures are None where the run could not go on.

    `goodput_frac` is the goodput of the whole run over that of the run without the fault; `overshoot_w` the most that the meter
    was above a load target, `instances_min_frac` the least share of instances that served at any moment. `invariants` says
    whether every one held, of the fault's run; a run that broke its own books does not, whatever else stopped it is in `error`.
    """

    run: str
    site: str
    kind: str
    component: str
    start_s: float
    end_s: float
    goodput_frac: float | None = None
    overshoot_w: float | None = None
    over_contract_s: float | None = None
    racks_down_max: int | None = None
    instances_down_max: int | None = None
    instances_min_frac: float | None = None
    invariants: bool | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Campaign:
    """Its runs, worst first: those that broke something, then by the goodput that was left."""

    name: str
    seed: int
    runs: tuple[FaultRun, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a run."""
        import pandas as pd

        return pd.DataFrame([asdict(run) for run in self.runs])

    def by_kind(self) -> list[dict[str, Any]]:
        """A row for each kind of component: how many runs, goodput that was left (mean, least), most racks and instances down."""
        rows = []
        for kind in dict.fromkeys(sorted(run.kind for run in self.runs)):
            runs = [run for run in self.runs if run.kind == kind]
            kept = [run.goodput_frac for run in runs if run.goodput_frac is not None]
            rows.append(
                {
                    "kind": kind,
                    "runs": len(runs),
                    "goodput_frac_mean": sum(kept) / len(kept) if kept else None,
                    "goodput_frac_min": min(kept, default=None),
                    "racks_down_max": max((run.racks_down_max for run in runs if run.racks_down_max is not None), default=None),
                    "instances_down_max": max(
                        (run.instances_down_max for run in runs if run.instances_down_max is not None), default=None
                    ),
                    "failed": sum(run.error is not None for run in runs),
                }
            )
        return rows


def run_campaign(
    loaded: LoadedScenario,
    runs: int,
    seed: int,
    kinds: Sequence[str] = (),
    duration_s: float | None = None,
    jobs: int | None = None,
    out: Path | None = None,
    on_run: OnRun | None = None,
) -> Campaign:
    """Play `runs` single faults, each of one unit, and the scenario without any; its own faults are laid aside.

    A component is drawn evenly over kinds, then over the components of the kind; its time evenly over the middle of the run; the
    repair takes `duration_s`, or a time drawn from the catalogue's mean, to the end of the run at most. The run directories and
    the tables go to `out`; without it only the figures are kept. Raises InputError before anything is written.
    """
    jobs = processes(jobs)
    if runs < 1:
        raise InputError(f"--runs {runs}: at least 1 is needed")
    faults = list(_draw(loaded.scenario, runs, seed, kinds, duration_s))
    plain = load_scenario(loaded.scenario.model_copy(update={"faults": Faults()}))
    scenarios = [plain, *(_with(loaded.scenario, fault) for fault in faults)]
    with _folder(out) as folder:
        names = [REFERENCE, *(f"{number:04d}" for number in range(1, runs + 1))]
        tasks = [Task(each, folder / name) for each, name in zip(scenarios, names, strict=True)]
        outcomes = perform_all(tasks, jobs, None if on_run is None else lambda index, outcome: on_run(index, runs, outcome))
        reference = outcomes[0].summary
        if reference is None:
            raise InputError(f"the run without a fault cannot go on: {outcomes[0].error}")
        horizon_s = loaded.scenario.horizon
        rows = [
            _row(name, fault, outcome, reference, horizon_s)
            for name, fault, outcome in zip(names[1:], faults, outcomes[1:], strict=True)
        ]
        campaign = Campaign(loaded.scenario.name, seed, tuple(sorted(rows, key=_badness)))
        if out is not None:
            _write(campaign, folder)
    return campaign


def fallible(scenario: Scenario) -> list[tuple[str, Component]]:
    """Everything that can fail, with its site."""
    return [(site.name, component) for site in scenario.topology.sites for component in components_of(scenario, site)]


def _draw(scenario: Scenario, runs: int, seed: int, kinds: Sequence[str], duration_s: float | None) -> Iterator[ScheduledFault]:
    components = fallible(scenario)
    there = list(dict.fromkeys(component.kind for _, component in components))
    for kind in kinds:
        if kind not in there:
            raise InputError(f"--kinds: nothing of kind {kind!r} can fail here{did_you_mean(kind, there)}")
    catalog, random = catalog_with(scenario.catalog), stream(seed, "fault_campaign")
    known = catalog.names("reliability")
    for number in range(1, runs + 1):
        kind = (kinds or there)[int(random.integers(len(kinds or there)))]
        alike = [(site, component) for site, component in components if component.kind == kind]
        site, component = alike[int(random.integers(len(alike)))]
        start_s = float(random.uniform(MARGIN_FRAC, 1.0 - MARGIN_FRAC)) * scenario.horizon
        # Drawn in any case: what one fault takes moves no later one.
        share = float(random.exponential())
        lasts_s = duration_s
        if lasts_s is None:
            if kind not in known:
                raise InputError(f"the catalogue has no time to repair for {kind}{did_you_mean(kind, known)}: give --duration")
            lasts_s = share * catalog.part("reliability", kind).number("mttr_s")
        duration = lasts_s if start_s + lasts_s < scenario.horizon else None
        yield ScheduledFault.model_construct(
            name=f"fault-{number:04d}", component=component.key, site=site, units=1, start=start_s, duration=duration
        )


def _with(scenario: Scenario, fault: ScheduledFault) -> LoadedScenario:
    loaded = load_scenario(scenario.model_copy(update={"faults": Faults.model_construct(scheduled=(fault,), drawn=())}))
    check_faults(loaded)
    return loaded


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="twin-faults-") as folder:
            yield Path(folder)
        return
    if out.exists() and not (out / TABLES[0]).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a fault campaign: name another place for the output")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    yield out


def _row(name: str, fault: ScheduledFault, outcome: Outcome, reference: dict[str, Any], horizon_s: float) -> FaultRun:
    end_s = horizon_s if fault.duration is None else fault.start + fault.duration
    kind = fault.component.partition("/")[0]
    place = (name, fault.site or "", kind, fault.component, fault.start, end_s)
    summary = outcome.summary
    if summary is None:
        broke_books = "broke its own books" in (outcome.error or "")
        return FaultRun(*place, invariants=False if broke_books else None, error=outcome.error)
    entry, sites = summary["faults"][0], summary["availability"]["sites"]
    before = reference["service"]["goodput_output_tokens_per_s"]
    over_w = [event["overshoot_w_max"] for event in summary["curtailment"] if event["overshoot_w_max"] is not None]
    return FaultRun(
        *place,
        goodput_frac=summary["service"]["goodput_output_tokens_per_s"] / before if before else None,
        overshoot_w=max(over_w, default=None),
        over_contract_s=max(site["over_contract_s"] for site in summary["energy"]["sites"].values()),
        racks_down_max=entry["racks_down_max"],
        instances_down_max=entry["instances_down_max"],
        instances_min_frac=min(site["instances_min_frac"] for site in sites.values()),
        invariants=all(summary["invariants"].values()),
        error=None,
    )


def _badness(run: FaultRun) -> tuple[bool, float, str]:
    return run.error is None, 1.0 if run.goodput_frac is None else run.goodput_frac, run.run


def _write(campaign: Campaign, folder: Path) -> None:
    parquet, csv = TABLES
    try:
        campaign.frame.to_parquet(folder / parquet, index=False)
        campaign.frame.to_csv(folder / csv, index=False)
    except OSError as error:
        raise InputError(f"cannot write the tables of {folder}: {error.strerror or error}") from error
