"""What a run came to: summaries, comparison, regression, plots and the report. Sees recorded tables and no simulator."""

from twin.analysis.compare import compare_summaries, comparison_table
from twin.analysis.junit import JUnitCase, write_junit
from twin.analysis.regress import TOLERANCES, Change, Tolerance, check_baseline
from twin.analysis.run import Run, open_run
from twin.analysis.summary import summarise
from twin.analysis.totals import GridEventRecord, RunTotals, SiteEnergy, TierObjectives

__all__ = [
    "TOLERANCES",
    "Change",
    "GridEventRecord",
    "JUnitCase",
    "Run",
    "RunTotals",
    "SiteEnergy",
    "TierObjectives",
    "Tolerance",
    "check_baseline",
    "compare_summaries",
    "comparison_table",
    "open_run",
    "summarise",
    "write_junit",
]
