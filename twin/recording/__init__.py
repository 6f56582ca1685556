"""What a run writes: table definitions, a streaming Parquet writer, and the run directory that appears only when whole."""

from twin.recording.run_directory import RunDirectory, is_run_directory
from twin.recording.tables import TABLES, Column
from twin.recording.writer import TableWriter

__all__ = ["TABLES", "Column", "RunDirectory", "TableWriter", "is_run_directory"]
