"""The flat agent CSV: nested sub-agents, joins of all or the first few, whose session it is; what is wrong with its rows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin.errors import InputError
from twin.workload import Call, Session, check_trace, read_trace, trace_format

HEADER = (
    "session,agent,depth,idx,parent_agent,spawned_after_parent_idx,joined_by_parent_idx,join_first,"
    "t_s,in_tokens,out_tokens,cached_prefix_tokens,think_time_s,stop,tier,tenant,deadline_s\n"
)


def row(session: str = "s", agent: int = 0, idx: int = 0, **more: object) -> str:
    fields: dict[str, object] = {"depth": min(agent, 1), "parent": "", "after": "", "by": "", "first": "", "t": 0, "in": 100}
    fields |= {"out": 10, "cached": 0, "think": 0.0, "stop": "end_turn", "tier": "", "tenant": "", "deadline": ""} | more
    return ",".join(map(str, (session, agent, fields.pop("depth"), idx, *fields.values()))) + "\n"


def written(sessions: list[Session]) -> str:
    file = io.StringIO()
    form = trace_format("agent_csv")
    assert form.write is not None
    form.write(file, sessions)
    return file.getvalue()


def read(path: Path, *rows: str, header: str = HEADER) -> list[Session]:
    path.write_text(header + "".join(rows))
    return list(read_trace(path))


def problems(path: Path, *rows: str, header: str = HEADER) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(path, *rows, header=header)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_nested_tree_by_hand(tmp_path: Path) -> None:
    """Agent 0 spawns 1 after its first call; 1 spawns 2 and 3 after its first and goes on when one of them is done."""
    (session,) = read(
        tmp_path / "t.csv",
        row(tier="gold", tenant="acme", deadline=600),
        row(idx=1, tier="gold", tenant="acme", deadline=600, think=3.0),
        row(agent=1, after=0, by=1, tier="gold", tenant="acme", deadline=600),
        row(agent=1, idx=1, after=0, by=1, tier="gold", tenant="acme", deadline=600, think=2.0),
        row(agent=2, depth=2, parent=1, after=0, by=1, first=1, tier="gold", tenant="acme", deadline=600),
        row(agent=3, depth=2, parent=1, after=0, by=1, first=1, tier="gold", tenant="acme", deadline=600),
    )
    assert (session.tier, session.tenant, session.deadline_s) == ("gold", "acme", 600.0)
    assert [(c.agent, c.depth, c.after, c.any_of, c.any_count, c.wait_s) for c in session.calls] == [
        (0, 0, (), (), 0, 0.0),
        (1, 1, (0,), (), 0, 0.0),
        (2, 2, (1,), (), 0, 0.0),
        (3, 2, (1,), (), 0, 0.0),
        (1, 1, (1,), (2, 3), 1, 2.0),
        (0, 0, (0, 4), (), 0, 3.0),
    ]
    assert list(read_trace(_saved(tmp_path, [session]))) == [session]


def _saved(folder: Path, sessions: list[Session]) -> Path:
    path = folder / "again.csv"
    path.write_text(written(sessions))
    return path


def test_a_deep_line_of_agents_needs_no_deep_stack(tmp_path: Path) -> None:
    rows = [row()] + [row(agent=n, depth=n, parent=n - 1 or "", after=0) for n in range(1, 3000)]
    (session,) = read(tmp_path / "t.csv", *rows)
    assert [call.depth for call in session.calls] == list(range(3000))
    assert [call.after for call in session.calls[1:]] == [(n,) for n in range(2999)]


def test_all_that_is_wrong_with_a_tree(tmp_path: Path) -> None:
    cases = {
        "cycle": [row(), row(agent=1, parent=2, after=0), row(agent=2, parent=1, after=0)],
        "itself": [row(), row(agent=1, parent=1, after=0)],
        "no parent": [row(), row(agent=2, parent=1, after=0)],
        "no spawn": [row(), row(agent=1)],
        "spawn beyond": [row(), row(agent=1, after=4)],
        "join before": [row(), row(idx=1), row(agent=1, after=1, by=1)],
        "join beyond": [row(), row(agent=1, after=0, by=9)],
        "changes": [row(), row(idx=1), row(agent=1, after=0), row(agent=1, idx=1, after=1)],
        "duplicate": [row(), row(agent=1, after=0), row(agent=1, after=0)],
        "gap": [row(), row(idx=2)],
        "depth": [row(), row(agent=1, depth=2, after=0)],
        "of none": [row(), row(idx=1), row(agent=1, after=0, first=1)],
        "of few": [row(), row(idx=1), row(agent=1, after=0, by=1, first=2)],
        "of two minds": [row(), row(idx=1), row(agent=1, after=0, by=1, first=1), row(agent=2, after=0, by=1, first=2)],
        "main spawned": [row(after=0)],
        "back in time": [row(t=5), row(idx=1, t=4)],
        "before its spawner": [row(t=5), row(agent=1, after=0, t=4)],
    }
    said = {name: problems(tmp_path / "t.csv", *rows) for name, rows in cases.items()}
    assert said == {
        "cycle": ["3:9: parent_agent: agent 1 is spawned in a cycle: 1 by 2 by 1"],
        "itself": ["3:9: parent_agent: agent 1 is spawned in a cycle: 1 by 1"],
        "no parent": ["3:9: parent_agent: agent 1 has no call in the session: nobody spawned agent 2"],
        "no spawn": ["3:10: spawned_after_parent_idx: is blank: no call spawned agent 1"],
        "spawn beyond": ["3:10: spawned_after_parent_idx: 4 is no call of the main agent, which has 1"],
        "join before": ["4:12: joined_by_parent_idx: 1 is no later call of the main agent, which has 2"],
        "join beyond": ["3:12: joined_by_parent_idx: 9 is no later call of the main agent, which has 1"],
        "changes": ["5:10: spawned_after_parent_idx: the rows of agent 1 name different parent calls"],
        "duplicate": ["4:7: idx: 0 is a duplicate: agent 1 has that call already"],
        "gap": ["3:7: idx: must be 1, the next of agent 0, not 2"],
        "depth": ["3:5: depth: must be 1 for agent 1, not 2"],
        "of none": ["4:13: join_first: needs the call that waits: joined_by_parent_idx is blank"],
        "of few": ["4:14: join_first: 2 is more than the 1 agents that call 1 waits for so"],
        "of two minds": ["5:14: join_first: 2 differs from the 1 of others that call 1 waits for"],
        "main spawned": ["2:10: spawned_after_parent_idx: must be blank for the main agent"],
        "back in time": ["3:13: t_s: 4 is before the call before it of agent 0, at 5"],
        "before its spawner": ["3:14: t_s: 4 is before the call that spawned agent 1, at 5"],
    }


def test_all_that_is_wrong_with_a_row_and_its_session(tmp_path: Path) -> None:
    rows = [
        row("a", think=-1),
        row("b", think=1e12),
        row("c", out=0),
        row("d", cached=101),
        row("e", deadline=0),
        row("f", tier="gold"),
        row("f", idx=1, tier="free"),
        row("g", tenant="x"),
        row("g", idx=1),
        row("a", idx=1),
    ]
    assert problems(tmp_path / "t.csv", *rows) == [
        "2:24: think_time_s: must be at least 0, not '-1'",
        "3:24: think_time_s: must be at most 3,155,760,000 s, a hundred years, not '1000000000000.0'",
        "4:19: out_tokens: must be at least 1, not 0",
        "5:22: cached_prefix_tokens: 101 is more than the 100 input tokens",
        "6:39: deadline_s: must be more than 0: nothing is done in no time",
        "8:37: tier: 'free' differs from the session's first row",
        "10:38: tenant: '' differs from the session's first row",
        "11:1: session: 'a' began earlier: the rows of a session must stand together",
    ]


def test_unknown_tiers_are_told_by_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + row("a", tier="gold") + row("b", tier="stndard") + row("c", tier="free") + row("d"))
    check_trace(path)
    with pytest.raises(InputError) as caught:
        check_trace(path, tiers=["gold", "standard"])
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:3:37: tier: unknown tier 'stndard' (did you mean 'standard'?)",
        f"{path}:4:37: tier: unknown tier 'free' (known: gold, standard)",
    ]


def test_a_file_of_before_reads_as_before(tmp_path: Path) -> None:
    """Without the new columns: joins by the recorded span, tenants nobody, no deadline."""
    header = (
        "session,agent,depth,idx,spawned_after_parent_idx,t_s,in_tokens,out_tokens,cached_prefix_tokens,api_time_s,"
        "think_time_s,stop\n"
    )
    (session,) = read(
        tmp_path / "t.csv",
        "s,0,0,0,,0,100,10,0,5,0.0,tool_use\n",
        "s,1,1,0,0,6,50,10,0,4,0.0,end_turn\n",
        "s,0,0,1,,20,200,10,64,5,15.0,end_turn\n",
        header=header,
    )
    assert (session.tenant, session.deadline_s) == ("", None)
    assert [(call.after, call.wait_s) for call in session.calls] == [((), 0.0), ((0,), 0.0), ((0, 1), 11.0)]


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        (
            [Call((), 0, 5, 5), Call((0,), 0, 5, 5, 0, 1, 1), Call((0,), 0, 5, 5, 0, 2, 1), Call((1, 2), 0, 5, 5, 0, 1, 1)],
            "end of",
        ),
        ([Call((), 0, 5, 5), Call((0,), 0, 5, 5, 0, 1, 2)], "depth 2"),
        ([Call((), 0, 5, 5), Call((0,), 0, 5, 5, 0, 1, 1, tool=True)], "waits for a tool"),
        ([Call((), 0, 5, 5), Call((0,), 0, 5, 5), Call((0, 1), 0, 5, 5, 0, 1, 1)], "begins a sub-agent"),
    ],
)
def test_trees_that_do_not_fit_are_refused(calls: list[Call], why: str) -> None:
    with pytest.raises(InputError, match=f"session 3 does not fit the agent CSV: .*{why}.*write .jsonl or .parquet"):
        written([Session(3, 0.0, "", calls)])


@st.composite
def trees(draw: st.DrawFn) -> list[Call]:
    """Sessions as the form orders them: an agent's calls, each followed by those it spawns; joins of all or the first few."""
    calls: list[Call] = []
    agents = 0

    def grow(agent: int, depth: int, spawner: tuple[int, ...]) -> int:
        nonlocal agents
        open_ends: list[int] = []
        after = spawner
        for index in range(draw(st.integers(1, 3))):
            chosen = [end for end in open_ends if draw(st.booleans())] if index else []
            open_ends = [end for end in open_ends if end not in chosen]
            some = chosen if chosen and draw(st.booleans()) else []
            tokens = draw(st.integers(1, 5000))
            call = Call(
                (*after, *([] if some else chosen)),
                draw(st.floats(0, 1e6)),
                tokens,
                draw(st.integers(1, 100)),
                draw(st.integers(0, tokens)),
                agent,
                depth,
                tool=bool(index) and draw(st.booleans()),
                any_of=tuple(some),
                any_count=draw(st.integers(1, len(some))) if some else 0,
            )
            after = (len(calls),)
            calls.append(call)
            for _ in range(draw(st.integers(0, 2)) if depth < 3 and agents < 6 else 0):
                agents += 1
                open_ends.append(grow(agents, depth + 1, after))
        return after[0]

    grow(0, 0, ())
    return calls


@given(st.lists(trees(), min_size=1, max_size=3), st.sampled_from(["", "gold, free"]), st.sampled_from([None, 60.5]))
def test_any_tree_of_forks_and_joins_comes_back(tmp_path_factory, forest, tier, deadline_s) -> None:  # type: ignore[no-untyped-def]
    sessions = [Session(n, float(n), tier, calls, tenant='a "b"', deadline_s=deadline_s) for n, calls in enumerate(forest)]
    path = tmp_path_factory.mktemp("trees") / "t.csv"
    path.write_text(written(sessions))
    assert list(read_trace(path)) == sessions
