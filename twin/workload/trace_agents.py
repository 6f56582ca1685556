"""The flat agent-session CSV: a row a call, the rows of a session together, sub-agents (agent > 0) among them.

Source of the format: callanjfox/kv-cache-tester, flattened. What drives a replay is `think_time_s`, the wait after the call
before; never `api_time_s`, another factory's service time. The wait is a tool's where the call before stopped with `tool_use`
(where its `stop` is blank: where this call's `input_types` name a tool result), else a person's.

Where the file is silent, these rules speak, and are counted in the log:
- blank `think_time_s`: the recorder could not tell the wait from the service; the call follows at once;
- `out_tokens` 0 with a blank `stop`: an answer cut off before it was counted; it is replayed as 1 token.

Sub-agents start when the call that spawned them has finished. Which later call waits for them stands in
`joined_by_parent_idx` (ours); a file without that column is read so: the next main call waits for those whose recorded span
(first `t_s` to last `t_s` + `api_time_s`) fits into its think time, and then for what is left of that; the others run beside it.
Sessions have no absolute arrival unless the column `arrival_s` (ours) gives one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twin.workload.agent_tree import Row, assemble
from twin.workload.agent_write import write
from twin.workload.session import NO_ARRIVAL, Session
from twin.workload.trace_rows import BadRows, CsvRows, FieldError, ReadLog, open_trace, seconds, whole

__all__ = ["read", "recognises", "write"]

NEEDED = (
    "session",
    "agent",
    "depth",
    "idx",
    "spawned_after_parent_idx",
    "in_tokens",
    "out_tokens",
    "cached_prefix_tokens",
    "think_time_s",
    "stop",
)
OPTIONAL = ("t_s", "api_time_s", "input_types", "joined_by_parent_idx", "arrival_s")
NO_THINK_TIME = "no think time recorded: the call follows at once"
CUT_OFF = "answer cut off before its first token was counted: replayed as 1 token"


def recognises(head: str) -> bool:
    """Whether a file that begins with `head` is one."""
    names = head.partition("\n")[0].strip().split(",")
    return all(name in names for name in ("session", "agent", "in_tokens", "think_time_s"))


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """The sessions in the order of the file, which is the order of arrival where `arrival_s` is given."""
    bad = BadRows(path)
    with open_trace(path) as file:
        rows = CsvRows(file, bad, NEEDED, OPTIONAL)
        parse = _Parser(rows, log)
        count = 0
        latest_arrival_s = 0.0
        for group in _groups(rows, parse):
            arrival_s = group[0].arrival_s
            if arrival_s < latest_arrival_s:
                bad.add(group[0].line, 1, "arrival_s", f"{arrival_s:g} is earlier than the session before")
                continue
            latest_arrival_s = arrival_s if rows.has("arrival_s") else 0.0
            calls = assemble(group, rows.has("joined_by_parent_idx"), bad)
            if not bad:
                log.latest_s = max(log.latest_s, latest_arrival_s, *(row.start_s for row in group))
                yield Session(count, arrival_s, "", calls)
                count += 1
        bad.finish(count, rows.line)


def _groups(rows: CsvRows, parse: Callable[[list[str]], Row]) -> Iterator[list[Row]]:
    """The good rows of each session; a session's rows must stand together."""
    seen: set[str] = set()
    group: list[Row] = []
    name: str | None = None
    broken = False  # a session with a bad row is not assembled: its gaps would be reported as well
    at = rows.index("session")
    for fields in rows:
        if fields[at] != name:
            if group and not broken:
                yield group
            group, name, broken = [], fields[at], False
            if name in seen:
                rows.fail(fields, FieldError("session", f"{name!r} began earlier: the rows of a session must stand together"))
                broken = True
            seen.add(name)
        try:
            group.append(parse(fields))
        except FieldError as error:
            rows.fail(fields, error)
            broken = True
    if group and not broken:
        yield group


@dataclass(slots=True)
class _Parser:
    """Turns the fields of a line into a `Row`; FieldError where one is wrong."""

    rows: CsvRows
    log: ReadLog

    def __call__(self, fields: list[str]) -> Row:
        def text(name: str) -> str:
            return fields[self.rows.index(name)] if self.rows.has(name) else ""

        agent = whole(text("agent"), "agent", 0)
        depth = whole(text("depth"), "depth", 0)
        if depth != min(agent, 1):
            raise FieldError(
                "depth", f"must be {min(agent, 1)} for agent {agent}: sub-agents of sub-agents are not told apart here"
            )
        input_tokens = whole(text("in_tokens"), "in_tokens", 1)
        cached = whole(text("cached_prefix_tokens"), "cached_prefix_tokens", 0)
        if cached > input_tokens:
            raise FieldError("cached_prefix_tokens", f"{cached} is more than the {input_tokens} input tokens")
        return Row(
            line=self.rows.line,
            agent=agent,
            index=whole(text("idx"), "idx", 0),
            spawned_after=self._position(text("spawned_after_parent_idx"), agent),
            joined_by=self._joined(text("joined_by_parent_idx"), agent),
            input_tokens=input_tokens,
            output_tokens=self._output(text("out_tokens"), text("stop")),
            shared_tokens=cached,
            wait_s=self._wait(text("think_time_s")),
            stop=text("stop"),
            takes_tool_result="tool_result" in text("input_types"),
            start_s=seconds(text("t_s") or "0", "t_s"),
            service_s=seconds(text("api_time_s") or "0", "api_time_s"),
            arrival_s=seconds(text("arrival_s"), "arrival_s") if self.rows.has("arrival_s") else NO_ARRIVAL,
        )

    @staticmethod
    def _position(text: str, agent: int) -> int | None:
        name = "spawned_after_parent_idx"
        if not agent:
            if text:
                raise FieldError(name, "must be blank for the main agent")
            return None
        return whole(text.removesuffix(".0"), name, 0)

    @staticmethod
    def _joined(text: str, agent: int) -> int | None:
        if text and not agent:
            raise FieldError("joined_by_parent_idx", "must be blank for the main agent")
        return whole(text, "joined_by_parent_idx", 1) if text else None

    def _output(self, text: str, stop: str) -> int:
        if not stop and text == "0":
            self.log.remarks[CUT_OFF] += 1
            return 1
        return whole(text, "out_tokens", 1)

    def _wait(self, text: str) -> float:
        if not text:
            self.log.remarks[NO_THINK_TIME] += 1
            return 0.0
        return seconds(text, "think_time_s")
