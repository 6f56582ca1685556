"""The flat agent-session CSV: a row a call, the rows of a session together, sub-agents (agent > 0) among them.

Source of the format: callanjfox/kv-cache-tester, flattened. What drives a replay is `think_time_s`, the wait after the call
before; never `api_time_s`, another factory's service time. The wait is a tool's where the call before stopped with `tool_use`
(where its `stop` is blank: where this call's `input_types` name a tool result), else a person's.

Where the file is silent, these rules speak, and are counted in the log:
- blank `think_time_s`: the recorder could not tell the wait from the service; the call follows at once;
- `out_tokens` 0 with a blank `stop`: an answer cut off before it was counted; it is replayed as 1 token.

Sub-agents start when the call that spawned them has finished: `spawned_after_parent_idx` of the main agent, or of the agent
that `parent_agent` (ours) names, so that they nest. Which later call of the parent waits for them stands in
`joined_by_parent_idx` (ours); with `join_first` (ours) k, the first k are enough of those that have it and the same waiting
call. A file without `joined_by_parent_idx` is read so: the parent's next call waits for those whose recorded span
(first `t_s` to last `t_s` + `api_time_s`) fits into its think time, and then for what is left of that; the others run beside it.
Sessions have no absolute arrival unless the column `arrival_s` (ours) gives one; `tier`, `tenant` and `deadline_s` (ours), the
same in all rows of a session, are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from twin.workload.agent_tree import Row, assemble
from twin.workload.agent_write import write
from twin.workload.seen import SeenNames
from twin.workload.session import NO_ARRIVAL, Session
from twin.workload.trace_rows import MOST, MOST_AGENT, BadRows, CsvRows, FieldError, ReadLog, open_trace, seconds, whole, within

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
OPTIONAL = (
    *("t_s", "api_time_s", "input_types", "parent_agent", "joined_by_parent_idx", "join_first"),
    *("arrival_s", "tier", "tenant", "deadline_s"),
)
#: What all rows of a session say alike.
_OF_SESSION = ("arrival_s", "tier", "tenant", "deadline_s")
#: What only a sub-agent's rows say.
_OF_SUB_AGENT = ("parent_agent", "spawned_after_parent_idx", "joined_by_parent_idx", "join_first")
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
        timed = rows.has("t_s") and rows.has("api_time_s")
        count = 0
        latest_arrival_s = 0.0
        for group in _groups(rows, parse):
            session = parse.session(group[0].place[1])
            if session.arrival_s < latest_arrival_s:
                _fail(rows, group[0], "arrival_s", f"{session.arrival_s:g} is earlier than the session before")
                continue
            latest_arrival_s = session.arrival_s if rows.has("arrival_s") else 0.0
            session.calls = assemble(group, rows.has("joined_by_parent_idx"), partial(_fail, rows))
            if not bad:
                session.session_id = count
                log.latest_s = max(log.latest_s, latest_arrival_s, *(row.start_s for row in group))
                log.session_s = max(row.start_s + row.service_s for row in group) if timed else None
                yield session
                count += 1
        bad.finish(count, rows.line)


def _fail(rows: CsvRows, row: Row, name: str, message: str) -> None:
    line, fields = row.place
    rows.fail(fields, FieldError(name, message), line)


def _groups(rows: CsvRows, parse: _Parser) -> Iterator[list[Row]]:
    """The good rows of each session; a session's rows must stand together."""
    seen = SeenNames()
    group: list[Row] = []
    first: list[str] = []
    broken = False  # a session with a bad row is not assembled: its gaps would be reported as well
    at = rows.index("session")
    for fields in rows:
        if not first or fields[at] != first[at]:
            if group and not broken:
                yield group
            group, first, broken = [], fields, False
            if not seen.add(fields[at]):
                said = f"{fields[at]!r} began earlier: the rows of a session must stand together"
                rows.fail(fields, FieldError("session", said))
                broken = True
        try:
            parse.check_alike(fields, first)
            group.append(parse(fields))
        except FieldError:
            for error in parse.faults(fields, first):
                rows.fail(fields, error)
            broken = True
    if group and not broken:
        yield group


@dataclass(slots=True)
class _Parser:
    """Turns the fields of a line into a `Row`, the first of a session into that; FieldError where one is wrong."""

    rows: CsvRows
    log: ReadLog

    def _text(self, fields: list[str], name: str) -> str:
        return fields[self.rows.index(name)] if self.rows.has(name) else ""

    def session(self, fields: list[str]) -> Session:
        """The session of a line that was parsed, without its calls."""
        arrival_s = float(self._text(fields, "arrival_s")) if self.rows.has("arrival_s") else NO_ARRIVAL
        deadline = self._text(fields, "deadline_s")
        tier, tenant = self._text(fields, "tier"), self._text(fields, "tenant")
        return Session(0, arrival_s, tier, [], tenant=tenant, deadline_s=float(deadline) if deadline else None)

    def check_alike(self, fields: list[str], first: list[str]) -> None:
        """FieldError where a row says of its session what the first one does not."""
        for name in _OF_SESSION:
            if self._text(fields, name) != self._text(first, name):
                raise FieldError(name, f"{self._text(fields, name)!r} differs from the session's first row")

    def __call__(self, fields: list[str]) -> Row:
        def text(name: str) -> str:
            return self._text(fields, name)

        agent = within(whole(text("agent"), "agent", 0), "agent", 0, MOST_AGENT)
        input_tokens = whole(text("in_tokens"), "in_tokens", 1)
        cached = whole(text("cached_prefix_tokens"), "cached_prefix_tokens", 0)
        if cached > input_tokens:
            raise FieldError("cached_prefix_tokens", f"{cached} is more than the {input_tokens} input tokens")
        if self.rows.has("arrival_s"):
            seconds(text("arrival_s"), "arrival_s")
        if text("deadline_s") and not seconds(text("deadline_s"), "deadline_s"):
            raise FieldError("deadline_s", "must be more than 0: nothing is done in no time")
        self.log.known_tier(text("tier"))
        return Row(
            place=(self.rows.line, fields),
            agent=agent,
            depth=within(whole(text("depth"), "depth", 0), "depth", 0, 2**15 - 1),
            index=whole(text("idx"), "idx", 0),
            parent=self._of_sub_agent(text("parent_agent") or ("0" if agent else ""), "parent_agent", agent, 0),
            spawned_after=self._spawned_after(text("spawned_after_parent_idx"), agent),
            joined_by=self._of_sub_agent(text("joined_by_parent_idx"), "joined_by_parent_idx", agent, 1),
            join_first=self._of_sub_agent(text("join_first"), "join_first", agent, 1),
            input_tokens=input_tokens,
            output_tokens=self._output(text("out_tokens"), text("stop")),
            shared_tokens=cached,
            wait_s=self._wait(text("think_time_s")),
            stop=text("stop"),
            takes_tool_result="tool_result" in text("input_types"),
            start_s=seconds(text("t_s") or "0", "t_s"),
            service_s=seconds(text("api_time_s") or "0", "api_time_s"),
        )

    def faults(self, fields: list[str], first: list[str]) -> list[FieldError]:
        """All that is wrong with a line, in the order of its columns: parsed with each bad field made good till it passes."""
        found: dict[str, FieldError] = {}
        mended, likewise = list(fields), list(first)
        while True:
            try:
                self.check_alike(mended, likewise)
                self(mended)
                break
            except FieldError as error:
                if error.name in found or not self.rows.has(error.name):
                    break
                found[error.name] = error
                for name in (error.name, *(_OF_SUB_AGENT if error.name == "agent" else ())):
                    if self.rows.has(name):
                        mended[self.rows.index(name)] = self._sound(name, mended)
                if error.name in _OF_SESSION:
                    likewise[self.rows.index(error.name)] = mended[self.rows.index(error.name)]
        return sorted(found.values(), key=lambda error: self.rows.index(error.name))

    def _sound(self, name: str, fields: list[str]) -> str:
        """A value of a field that nothing is wrong with, whatever the others are."""
        if name == "in_tokens":
            return str(MOST)
        if name == "out_tokens":
            return "1"
        if name in _OF_SUB_AGENT:
            return "" if self._text(fields, "agent") == "0" else "1"
        return "" if name in ("tier", "tenant", "deadline_s") else "0"

    @staticmethod
    def _spawned_after(text: str, agent: int) -> int | None:
        name = "spawned_after_parent_idx"
        if agent and not text:
            raise FieldError(name, f"is blank: no call spawned agent {agent}")
        return _Parser._of_sub_agent(text.removesuffix(".0"), name, agent, 0)

    @staticmethod
    def _of_sub_agent(text: str, name: str, agent: int, least: int) -> int | None:
        if text and not agent:
            raise FieldError(name, "must be blank for the main agent")
        return whole(text, name, least) if text else None

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
