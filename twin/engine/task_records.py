"""Rows of a site's tasks: sessions in flight, sandboxes in use, what CPU racks draw."""

from __future__ import annotations

from twin.engine.session_runner import SessionRunner
from twin.recording import TableWriter
from twin.serving import Level


class TaskRecorder:
    """Writes means over the time since the last row; counts are those of the real site."""

    def __init__(self, site: str, runner: SessionRunner, table: TableWriter, represent: int):
        self._site = site
        self._runner = runner
        self._table = table
        self._represent = represent
        self._last_s = 0.0
        self._last: dict[str, float] = {}

    def write(self, time_s: float, cpu_j: float) -> None:
        """A row; `cpu_j` is the energy of the CPU racks so far."""
        tools = self._runner.tools
        busy, waiting = (None, None) if tools is None else (tools.pool.busy, tools.pool.waiting)
        self._table.append(
            (
                time_s,
                self._site,
                self._count("sessions", self._runner.in_flight, time_s),
                None if busy is None else self._count("busy", busy, time_s),
                None if waiting is None else self._count("waiting", waiting, time_s),
                self._mean("cpu", cpu_j, time_s),
            )
        )
        self._last_s = time_s

    def _count(self, name: str, level: Level, time_s: float) -> float:
        return self._represent * self._mean(name, level.integral(time_s), time_s)

    def _mean(self, name: str, integral: float, time_s: float) -> float:
        before, self._last[name] = self._last.get(name, 0.0), integral
        return (integral - before) / (time_s - self._last_s)
