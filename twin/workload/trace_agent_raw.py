"""Agent sessions as recorded: JSON, a file a session, with the hashes of every input's blocks and sub-agents in their places.

Source of the format: callanjfox/kv-cache-tester. A file holds `id`, `block_size` (tokens), `hash_id_scope` (`local`: a hash means
nothing in another file, or `global`) and `requests`: calls of `t` (s since the agent began), `in`, `out`, `hash_ids`, `stop`,
`think_time`, `api_time` (s), and entries of type `subagent` with `t` and `requests` of their own. A trace is a file or a folder.

A hash stands for its block and everything before it; an input of n tokens has the hashes of its whole blocks, or one more for the
rest. What an input has in common with any earlier one of its session is `shared_prefix_tokens`; the hashes go along as runs of
blocks that are always together, so that a memory finds what an infinite one would, among sub-agents too.

An entry's agent is spawned by the call before it. Whom the next call waits for, which wait is a tool's, and what is said where
the file is silent, are as in the flat CSV made from such files (trace_agents.py). No arrivals are recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twin.workload.agent_tree import Row, assemble
from twin.workload.block_runs import BlockRuns
from twin.workload.json_place import line_and_column, offset_of, steps
from twin.workload.json_rows import count_of, seconds_of
from twin.workload.seen import SeenNames
from twin.workload.session import NO_ARRIVAL, Session
from twin.workload.session_rows import HASHES, check_hash_range
from twin.workload.trace_agents import CUT_OFF, NO_THINK_TIME
from twin.workload.trace_rows import MOST_AGENT, BadRows, FieldError, ReadLog, open_trace, shown

NO_CALLS = "sub-agent without a recorded call: left out"
#: A larger block than anybody caches by; a file that says so means something else.
_MOST_BLOCK_TOKENS = 1 << 20


def recognises(head: str) -> bool:
    """Whether a file that begins with `head` is one."""
    return head.lstrip().startswith("{") and '"block_size"' in head and '"requests"' in head


def recognises_folder(folder: Path) -> bool:
    """Whether the first JSON file of a folder is one."""
    for path in _files(folder)[:1]:
        with open_trace(path) as file:
            return recognises(file.read(4096))
    return False


def _files(path: Path) -> list[Path]:
    """The files of a trace, in the order of the numbers in their names."""
    if not path.is_dir():
        return [path]
    found = [each for each in path.iterdir() if each.suffix == ".json" and each.is_file()]
    return sorted(found, key=lambda each: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", each.name)])


def read(path: Path, log: ReadLog) -> Iterator[Session]:
    """The sessions in the order of the files, one in memory at a time."""
    bad = BadRows(path)
    reader = _Reader(log)
    count = 0
    for file in _files(path):
        bad.file = file
        session = reader.session(file, count, bad)
        if session is not None and not bad:
            yield session
            count += 1
    bad.file = path
    bad.finish(count, 1)


class _Reader:
    """What is known from one file to the next: names of sessions, hashes taken."""

    def __init__(self, log: ReadLog):
        self._log = log
        self._seen = SeenNames()
        self._scope: str | None = None
        #: Hashes of local scope are shifted by the number of those before them, so that no two files share any.
        self._shift = 0

    def session(self, path: Path, number: int, bad: BadRows) -> Session | None:
        """The session of a file; None where something is wrong with it, which `bad` has heard."""
        with open_trace(path) as file:
            text = file.read()

        def fail(name: str, message: str) -> None:
            bad.add(*line_and_column(text, offset_of(text, steps(name)) if name else 0), name, message)

        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            bad.add(error.lineno, error.colno, "", f"is not JSON: {error.msg}")
            return None
        except (ValueError, RecursionError):
            bad.add(1, 1, "", "holds a number of thousands of digits, or is nested too deep to be read")
            return None
        try:
            if not isinstance(document, dict):
                raise FieldError("", "must be a JSON object")
            return self._assembled(document, path.stem, number, fail)
        except FieldError as error:
            fail(error.name, error.message)
            return None

    def _assembled(self, document: dict[str, Any], stem: str, number: int, fail: Any) -> Session | None:
        name = str(document.get("id", stem))
        if not self._seen.add(name):
            raise FieldError("id" if "id" in document else "", f"{name!r} is a duplicate: a file before has that session")
        scope = document.get("hash_id_scope", "local")
        if scope not in ("local", "global"):
            raise FieldError("hash_id_scope", f"must be local or global, not {shown(scope)}")
        if self._scope not in (None, scope):
            raise FieldError("hash_id_scope", f"is {scope} where that of the files before is {self._scope}")
        self._scope = scope
        block_tokens = count_of(document, "block_size", 1, most=_MOST_BLOCK_TOKENS)
        rows = _Rows(self._log, BlockRuns(block_tokens), block_tokens)
        rows.read(document.get("requests"), "requests")
        for problem in rows.problems:
            fail(problem.name, problem.message)
        if rows.problems:
            return None
        runs = rows.runs
        for row in rows.rows:
            hashes = row.hash_ids or ()
            if scope == "local":
                names, row.block_tokens = runs.of(hashes, row.input_tokens)
                row.hash_ids = tuple(each + self._shift for each in names)
            else:
                row.block_tokens = tuple(
                    min(block_tokens, row.input_tokens - index * block_tokens) for index in range(len(hashes))
                )
        if scope == "local" and self._shift + runs.largest > HASHES[1]:
            raise FieldError("requests", "its hashes, numbered behind those of the files before, need more than 64 bits")
        self._shift += runs.largest + 1 if scope == "local" else 0
        faults: list[FieldError] = []
        calls = assemble(rows.rows, False, partial(_note, faults))
        for fault in faults:
            fail(fault.name, fault.message)
        self._log.latest_s = max(self._log.latest_s, *(row.start_s for row in rows.rows))
        self._log.session_s = max(row.start_s + row.service_s for row in rows.rows)
        return None if faults else Session(number, NO_ARRIVAL, "", calls)


#: Names of the flat form that `assemble` speaks in -> keys of this one.
_KEYS = {"t_s": "t", "agent": "requests"}


def _note(faults: list[FieldError], row: Row, name: str, message: str) -> None:
    faults.append(FieldError(f"{row.place}.{_KEYS.get(name, name)}", message))


class _Rows:
    """The calls of a document as rows, agents numbered in the order in which they stand there."""

    def __init__(self, log: ReadLog, runs: BlockRuns, block_tokens: int):
        self.rows: list[Row] = []
        self.problems: list[FieldError] = []
        self.runs = runs
        self._log = log
        self._block_tokens = block_tokens
        self._agents = 0

    def read(self, requests: Any, where: str) -> None:
        """All rows of the main agent and those below it, in the order of the document."""
        if not isinstance(requests, list) or not requests:
            raise FieldError(where, "must be a list of at least one call")
        stack = [_Open(0, None, None, 0, 0.0, where, requests)]
        while stack:
            top = stack[-1]
            if top.next == len(top.requests):
                stack.pop()
                continue
            index = top.next
            top.next += 1
            place = f"{top.where}.{index}"
            entry = top.requests[index]
            try:
                if not isinstance(entry, dict):
                    raise FieldError(place, "must be a JSON object")
                if entry.get("type") == "subagent":
                    if (below := self._spawned(entry, place, top)) is not None:
                        stack.append(below)
                else:
                    self.rows.append(self._row(entry, place, top))
                    top.calls += 1
            except FieldError as error:
                self.problems.append(error)

    def _spawned(self, entry: dict[str, Any], place: str, parent: _Open) -> _Open | None:
        if not parent.calls:
            raise FieldError(place, "a sub-agent stands before any call of its parent: nobody spawned it")
        began_s = parent.began_s + seconds_of(entry, "t", f"{place}.t")
        requests = entry.get("requests")
        if not isinstance(requests, list):
            raise FieldError(f"{place}.requests", "must be a list of calls")
        if not any(isinstance(each, dict) and each.get("type") != "subagent" for each in requests):
            self._log.remarks[NO_CALLS] += 1
            return None
        if self._agents == MOST_AGENT:
            raise FieldError(place, f"the session has more than {MOST_AGENT:,} sub-agents")
        self._agents += 1
        return _Open(self._agents, parent.agent, parent.calls - 1, parent.depth + 1, began_s, f"{place}.requests", requests)

    def _row(self, entry: dict[str, Any], place: str, agent: _Open) -> Row:
        tokens = count_of(entry, "in", 1, f"{place}.in")
        hashes = self._hashes(entry, tokens, place)
        found = self._found(hashes, place)
        api_s = 0.0 if entry.get("api_time") is None else seconds_of(entry, "api_time", f"{place}.api_time")
        if entry.get("ttft") is not None and seconds_of(entry, "ttft", f"{place}.ttft") > api_s > 0:
            raise FieldError(f"{place}.ttft", f"{entry['ttft']:g} s is after the whole answer, at {api_s:g} s")
        stop, kinds = entry.get("stop", ""), entry.get("input_types", [])
        if not isinstance(stop, str):
            raise FieldError(f"{place}.stop", f"must be a text, not {shown(stop)}")
        return Row(
            place=place,
            agent=agent.agent,
            depth=agent.depth,
            index=agent.calls,
            parent=agent.parent,
            spawned_after=agent.spawned_after,
            joined_by=None,
            join_first=None,
            input_tokens=tokens,
            output_tokens=self._output(entry, stop, place),
            shared_tokens=min(found * self._block_tokens, tokens),
            wait_s=self._wait(entry, place),
            stop=stop,
            takes_tool_result=isinstance(kinds, list) and "tool_result" in kinds,
            start_s=agent.began_s + seconds_of(entry, "t", f"{place}.t"),
            service_s=api_s,
            hash_ids=hashes,
        )

    def _hashes(self, entry: dict[str, Any], tokens: int, place: str) -> tuple[int, ...]:
        hashes = entry.get("hash_ids")
        name = f"{place}.hash_ids"
        if not isinstance(hashes, list) or not all(type(each) is int and each >= 0 for each in hashes):
            raise FieldError(name, "must be a list of whole numbers of at least 0")
        whole, due = tokens // self._block_tokens, -(-tokens // self._block_tokens)
        if len(hashes) not in (whole, due):
            raise FieldError(name, f"has {len(hashes)} hashes; {tokens} tokens are {whole} whole blocks of {self._block_tokens}")
        try:
            check_hash_range(hashes)
        except FieldError as error:
            raise FieldError(name, error.message) from None
        return tuple(hashes)

    def _found(self, hashes: Sequence[int], place: str) -> int:
        try:
            return self.runs.add(hashes)
        except FieldError as error:
            raise FieldError(f"{place}.{error.name}", error.message) from None

    def _output(self, entry: dict[str, Any], stop: str, place: str) -> int:
        if not stop and entry.get("out") == 0:
            self._log.remarks[CUT_OFF] += 1
            return 1
        return count_of(entry, "out", 1, f"{place}.out")

    def _wait(self, entry: dict[str, Any], place: str) -> float:
        if entry.get("think_time") is None:
            self._log.remarks[NO_THINK_TIME] += 1
            return 0.0
        return seconds_of(entry, "think_time", f"{place}.think_time")


class _Open:
    """An agent whose entries are being read."""

    __slots__ = ("agent", "began_s", "calls", "depth", "next", "parent", "requests", "spawned_after", "where")

    def __init__(
        self,
        agent: int,
        parent: int | None,
        spawned_after: int | None,
        depth: int,
        began_s: float,
        where: str,
        requests: list[Any],
    ):
        self.agent, self.parent, self.spawned_after, self.depth = agent, parent, spawned_after, depth
        self.began_s, self.where, self.requests = began_s, where, requests
        self.calls = self.next = 0
