"""A run directory: written under a temporary name beside its final one, and renamed when whole."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from twin.errors import InputError, SimulationError
from twin.recording.tables import TABLES

if TYPE_CHECKING:
    from twin.recording.writer import TableWriter

#: What tells a run directory from any other: it is written last.
MANIFEST = "manifest.json"
#: Version of summary.json: readers refuse another.
SUMMARY_VERSION = 1


def is_run_directory(path: Path) -> bool:
    """Whether `path` holds a finished run."""
    return (path / MANIFEST).is_file()


def _remove_empty(folders: tuple[Path, ...]) -> None:
    """Remove folders that were made for a run, innermost first; whoever has come to use one meanwhile keeps it."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _sweep_away(final: Path) -> None:
    """Remove what runs for `final` left whose processes were killed and could not clean up."""
    start = f".{final.name}.partial-"
    for left in final.parent.iterdir():
        if left.name.startswith(start) and (pid := left.name.removeprefix(start)).isdecimal() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's: it is there
        return True
    return True


class RunDirectory:
    """The output of one run, as long as it is being written.

    Use as a context manager: leaving it without `commit` (an error, an interrupt) removes everything written, and an earlier
    run at the final place stays as it was.
    """

    def __init__(self, final: Path, path: Path, made_parents: tuple[Path, ...] = ()):
        self.final = final
        self.path = path
        self._made_parents = made_parents
        self._writers: dict[str, TableWriter] = {}
        self._open = True

    @classmethod
    def create(cls, final: Path) -> RunDirectory:
        """Start a run that will stand at `final`. Raises InputError if it cannot be written there, or if something that is
        no run stands there already."""
        final = Path(os.path.abspath(final))
        if final.exists() and not is_run_directory(final) and (not final.is_dir() or any(final.iterdir())):
            raise InputError(f"{final} exists and is not a run directory: name another place for the output")
        path = final.parent / f".{final.name}.partial-{os.getpid()}"
        missing = tuple(folder for folder in final.parents if not folder.exists())
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            _sweep_away(final)
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        except OSError as error:
            _remove_empty(missing)
            raise InputError(f"cannot write the output directory {final}: {error.strerror or error}") from error
        return cls(final, path, missing)

    def writer(self, table: str) -> TableWriter:
        """The writer of `table`, opened at the first call."""
        from twin.recording.writer import TableWriter

        if table not in self._writers:
            self._writers[table] = TableWriter(self.path / f"{table}.parquet", TABLES[table])
        return self._writers[table]

    def close_tables(self) -> None:
        """Finish every table; tables that nobody wrote to are there, without rows."""
        for table in TABLES:
            self.writer(table).close()

    def write_text(self, name: str, text: str) -> None:
        """Write the file `name`, UTF-8 with the line ends of `text`."""
        try:
            (self.path / name).write_bytes(text.encode())
        except OSError as error:
            raise SimulationError(f"cannot write {self.path / name}: {error.strerror or error}") from error

    def write_json(self, name: str, content: Any) -> None:
        """Write `content` as JSON in the order of its keys. NaN and infinity raise SimulationError: they are no JSON."""
        try:
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise SimulationError(f"{name}: {error}") from error
        self.write_text(name, text + "\n")

    def commit(self) -> Path:
        """Put the run in its final place, replacing an earlier one there, and return that place.

        Raises SimulationError if there is no manifest.json (a run without one would not be found) or if the rename fails; the
        earlier run then stands where it stood.
        """
        self.close_tables()
        if not is_run_directory(self.path):
            raise SimulationError(f"the run for {self.final} has no {MANIFEST}: it is not whole")
        earlier = self.final.parent / f".{self.final.name}.replaced-{os.getpid()}"
        had_earlier = self.final.exists()
        try:
            if had_earlier:
                os.rename(self.final, earlier)
            try:
                os.rename(self.path, self.final)
            except OSError:
                if had_earlier:
                    os.rename(earlier, self.final)
                raise
        except OSError as error:
            self.abort()
            raise SimulationError(f"cannot put the run at {self.final}: {error.strerror or error}") from error
        self._open = False
        shutil.rmtree(earlier, ignore_errors=True)
        return self.final

    def abort(self) -> None:
        """Remove everything written. Does nothing after `commit` or a second time."""
        if not self._open:
            return
        self._open = False
        try:
            for writer in self._writers.values():
                # A full disk is often why we are here; the file is about to go away.
                with suppress(SimulationError):
                    writer.discard()
        finally:
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_empty(self._made_parents)

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abort()
