"""What a run writes: table definitions, a streaming Parquet writer, and the run directory that appears only when whole.

pyarrow is loaded with the first `TableWriter`: opening an old run's summary does not wait for it.
"""

from typing import TYPE_CHECKING, Any

from twin.recording.event_kinds import COMMAND_KINDS, EVENT_KINDS, EventKind
from twin.recording.run_directory import SUMMARY_VERSION, RunDirectory, is_run_directory
from twin.recording.tables import TABLES, Column

if TYPE_CHECKING:
    from twin.recording.writer import TableWriter

__all__ = [
    "COMMAND_KINDS",
    "EVENT_KINDS",
    "SUMMARY_VERSION",
    "TABLES",
    "Column",
    "EventKind",
    "RunDirectory",
    "TableWriter",
    "is_run_directory",
]


def __getattr__(name: str) -> Any:
    if name == "TableWriter":
        from twin.recording.writer import TableWriter

        return TableWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
