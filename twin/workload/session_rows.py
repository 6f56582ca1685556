"""Sessions as records of plain values, which our lossless forms share: one place that names the keys and says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from twin.errors import InputError
from twin.workload.json_rows import count_of, seconds_of, text_of
from twin.workload.session import HASH_BLOCK_TOKENS, NO_ARRIVAL, Call, Session
from twin.workload.trace_rows import MOST, MOST_AGENT, FieldError, ReadLog, shown, within

#: Key -> its least and its largest value; those with 0 may be left out. A depth is kept in 16 bits.
COUNTS = {
    "input_tokens": (1, MOST),
    "output_tokens": (1, MOST),
    "shared_prefix_tokens": (0, MOST),
    "system_tokens": (0, MOST),
    "agent": (0, MOST_AGENT),
    "depth": (0, 2**15 - 1),
    "any_count": (0, MOST),
}
#: Hashes are kept in 64 bits.
HASHES = (-(2**63), 2**63 - 1)


def session_of(row: dict[str, Any], session_id: int, log: ReadLog) -> Session:
    """The session that a record describes; FieldError (its name the path of the key) where it describes none."""
    arrival_s = NO_ARRIVAL if row.get("arrival_s", 0) is None else seconds_of(row, "arrival_s")
    tier, tenant, calls = text_of(row, "tier"), text_of(row, "tenant"), row.get("calls")
    log.known_tier(tier)
    if not isinstance(calls, list) or not calls:
        raise FieldError("calls", "must be a list of at least one call")
    deadline_s = None
    if row.get("deadline_s") is not None:
        deadline_s = seconds_of(row, "deadline_s")
        if not deadline_s:
            raise FieldError("deadline_s", "must be more than 0: nothing is done in no time")
    session = Session(
        session_id,
        arrival_s,
        tier,
        [_call(each, position, len(calls)) for position, each in enumerate(calls)],
        count_of(row, "warm_tokens", 0) if "warm_tokens" in row else 0,
        count_of(row, "system_prompt", 0) if row.get("system_prompt") is not None else None,
        tenant,
        deadline_s,
    )
    _check_agents(session.calls, [each.get("depth") is not None for each in calls])
    return session


def record_of(session: Session) -> dict[str, Any]:
    """The session as a record, what says nothing left out, but for its calls."""
    row: dict[str, Any] = {
        "session": session.session_id,
        "arrival_s": None if math.isnan(session.arrival_s) else session.arrival_s,
        "tier": session.tier,
        "warm_tokens": session.warm_tokens,
    }
    if session.system_prompt is not None:
        row["system_prompt"] = session.system_prompt
    if session.tenant:
        row["tenant"] = session.tenant
    if session.deadline_s is not None:
        row["deadline_s"] = session.deadline_s
    return row


def refuse_whose(session: Session) -> None:
    """InputError where a session has a tenant or a deadline, for forms that have no place for them."""
    for what, value in (("tenant", session.tenant), ("deadline_s", session.deadline_s)):
        if value:
            raise InputError(f"session {session.session_id} has a {what}, which this format can't tell; write .jsonl or .parquet")


def call_record_of(call: Call) -> dict[str, Any]:
    """The call as a record, what says nothing left out."""
    row: dict[str, Any] = {"after": list(call.after), "wait_s": call.wait_s}
    row |= {key: getattr(call, key) for key in COUNTS if key != "any_count"}
    if call.hash_ids is not None:
        row["hash_ids"] = list(call.hash_ids)
    if call.block_tokens is not None:
        row["block_tokens"] = list(call.block_tokens)
    if call.any_of:
        row |= {"any_of": list(call.any_of), "any_count": call.any_count}
    return row | {"tool": call.tool}


def _call(row: Any, position: int, calls: int) -> Call:
    where = f"calls.{position}"
    if not isinstance(row, dict):
        raise FieldError(where, "must be a JSON object")
    if "after" not in row:
        raise FieldError(f"{where}.after", "is missing")
    after = _before(row["after"], f"{where}.after", position, calls)
    any_of = _before(row.get("any_of", []), f"{where}.any_of", position, calls)
    tool = row.get("tool", False)
    if not isinstance(tool, bool):
        raise FieldError(f"{where}.tool", f"must be true or false, not {shown(tool)}")
    wait_s = seconds_of(row, "wait_s", f"{where}.wait_s")
    counts = {
        key: count_of(row, key, least, f"{where}.{key}", most) for key, (least, most) in COUNTS.items() if key in row or least
    }
    if any_of and not 1 <= counts.get("any_count", 0) <= len(any_of):
        raise FieldError(f"{where}.any_count", f"must be from 1 to {len(any_of)}, the calls of `any_of`")
    if not any_of and counts.get("any_count"):
        raise FieldError(f"{where}.any_count", "needs the calls of which it counts the first: `any_of` is empty")
    twice = set(after) & set(any_of)
    if twice or len(set(after)) < len(after) or len(set(any_of)) < len(any_of):
        raise FieldError(f"{where}.{'any_of' if twice else 'after'}", "names a call twice")
    tokens = counts["input_tokens"]
    for part in ("shared_prefix_tokens", "system_tokens"):
        if counts.get(part, 0) > tokens:
            raise FieldError(f"{where}.{part}", f"is more than the {tokens} input tokens")
    hashes = _whole_numbers(row.get("hash_ids"), f"{where}.hash_ids")
    blocks = _whole_numbers(row.get("block_tokens"), f"{where}.block_tokens")
    try:
        check_hashes(hashes, blocks, tokens)
    except FieldError as error:
        raise FieldError(f"{where}.{error.name}", error.message) from None
    return Call(after, wait_s, **counts, hash_ids=hashes, tool=tool, any_of=any_of, block_tokens=blocks)


def _before(value: Any, name: str, position: int, calls: int) -> tuple[int, ...]:
    """Positions of calls before `position` of a session of so many `calls`: whoever waits for a later one is in a cycle."""
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise FieldError(name, f"must be a list of calls before call {position}")
    for each in value:
        if not 0 <= each < calls:
            raise FieldError(name, f"waits for call {each}: the session has calls 0 to {calls - 1}")
        if each >= position:
            said = "itself" if each == position else f"call {each}, which comes later"
            raise FieldError(name, f"must be a list of calls before call {position}: it waits for {said}, in a cycle")
    return tuple(value)


def _whole_numbers(value: Any, name: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise FieldError(name, "must be a list of whole numbers")
    return tuple(value)


def check_hashes(hashes: tuple[int, ...] | None, blocks: tuple[int, ...] | None, tokens: int) -> None:
    """FieldError where the hashes of an input contradict its length, or one another."""
    if hashes is None:
        if blocks is not None:
            raise FieldError("block_tokens", "needs the hashes of the blocks: there are none (hash_ids)")
        return
    if blocks is None:
        due = -(-tokens // HASH_BLOCK_TOKENS)
        if len(hashes) != due:
            raise FieldError("hash_ids", f"has {len(hashes)} hashes; {tokens} tokens are {due} blocks of {HASH_BLOCK_TOKENS}")
    elif len(blocks) != len(hashes):
        raise FieldError("block_tokens", f"has {len(blocks)} lengths for {len(hashes)} hashes")
    elif any(each < 1 for each in blocks):
        raise FieldError("block_tokens", f"must be at least 1 each, not {min(blocks)}")
    elif sum(blocks) > tokens:
        raise FieldError("block_tokens", f"add up to {sum(blocks)}, more than the {tokens} input tokens")
    check_hash_range(hashes)
    if len(set(hashes)) < len(hashes):
        raise FieldError("hash_ids", "has a hash twice: a hash stands for its block and everything before it")


def check_hash_range(hashes: Sequence[int]) -> None:
    """FieldError where a hash is no number of 64 bits."""
    least, most = HASHES
    for each in hashes:
        if not least <= each <= most:
            raise FieldError("hash_ids", f"must be numbers of 64 bits, from {least} to {most}, not {shown(each)}")


def _check_agents(calls: list[Call], told_depth: list[bool]) -> None:
    """FieldError where an agent begins that nobody spawned, stands deeper or less deep than it must, or goes on without a call of
    its own. A depth that is not told is put down: one more than that of the agent which spawned it."""
    depths = {0: 0}
    for position, call in enumerate(calls):
        where, agent = f"calls.{position}", call.agent
        if agent not in depths:
            if not call.after:
                if call.any_of:
                    said = f"the first call of agent {agent} needs the call that spawned it: `any_of` alone names none"
                    raise FieldError(f"{where}.after", said)
                said = f"agent {agent} begins here, but not after another's call: nobody spawned it"
                raise FieldError(f"{where}.agent", said)
            depths[agent] = depths[calls[call.after[0]].agent] + 1
        if told_depth[position] and call.depth != depths[agent]:
            raise FieldError(f"{where}.depth", f"must be {depths[agent]} for agent {agent}, not {call.depth}")
        call.depth = within(depths[agent], f"{where}.depth", *COUNTS["depth"])
        for each in call.any_of:
            if calls[each].agent == agent:
                said = f"may go on without call {each} of its own agent: a first-k join is of others"
                raise FieldError(f"{where}.any_of", said)
