"""What a run came to: summaries, comparison, regression, plots and the report. Sees recorded tables and no simulator.

Importing this package loads neither numpy nor pyarrow: `import twin` goes through here.
"""

from typing import TYPE_CHECKING, Any

from twin.analysis.compare import compare_summaries, comparison_table
from twin.analysis.junit import JUnitCase, write_junit
from twin.analysis.regress import TOLERANCES, Change, Tolerance, check_baseline
from twin.analysis.run import Run, open_run
from twin.analysis.totals import (
    CacheTotals,
    ElementEnergy,
    FaultRecord,
    GridEventRecord,
    PoolTime,
    RunTotals,
    SiteEnergy,
    SiteGpus,
    SiteHardware,
    TierObjectives,
)

if TYPE_CHECKING:
    from twin.analysis.summary import summarise

__all__ = [
    "TOLERANCES",
    "CacheTotals",
    "Change",
    "ElementEnergy",
    "FaultRecord",
    "GridEventRecord",
    "JUnitCase",
    "PoolTime",
    "Run",
    "RunTotals",
    "SiteEnergy",
    "SiteGpus",
    "SiteHardware",
    "TierObjectives",
    "Tolerance",
    "check_baseline",
    "compare_summaries",
    "comparison_table",
    "open_run",
    "summarise",
    "write_junit",
]


def __getattr__(name: str) -> Any:
    if name == "summarise":
        from twin.analysis.summary import summarise

        return summarise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
