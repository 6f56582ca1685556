"""Arrivals, the intake, and the generators: laws they must keep, and the real sessions' quantiles they must match."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin.errors import InputError, SimulationError
from twin.rng import stream
from twin.workload.agent_generator import AgentGenerator, WarmStart
from twin.workload.arrivals import ARRIVALS, Arrivals, Gamma, Poisson, Profile, read_profile
from twin.workload.intake import Intake, TierMix
from twin.workload.quantiles import QuantileTable
from twin.workload.session import Call, Session
from twin.workload.single_call import ChatGenerator, FixedGenerator

#: p50 and p95 of the 344 recorded sessions (callanjfox/kv-cache-tester), as `test_the_recorded_quantiles` finds them.
RECORDED = {
    "input": (100_430, 322_593),
    "output": (213, 1493.2),
    "new": (734, 11_666.4),
    "turns": (36, 197.4),
    "think": (10, 454),
}


def arrivals(process: Arrivals, seed: int, start_s: float, end_s: float) -> list[float]:
    return list(process.times(stream(seed, "test"), start_s, end_s))


PROCESSES = [Poisson(2.0), Gamma(2.0, 3.0), Gamma(2.0, 0.3), Profile(((0.0, 1.0), (500.0, 3.0), (1000.0, 1.0)))]


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_arrivals_keep_their_rate_and_their_order(process: Arrivals) -> None:
    times = arrivals(process, 1, -100.0, 10_000.0)
    assert all(a <= b for a, b in pairwise(times))
    assert times[0] >= -100.0
    assert times[-1] < 10_000.0
    expected = 10_100 * 2.0 if not isinstance(process, Profile) else 100 * 1.0 + 1000 * 2.0 + 9000 * 1.0
    spread = process.burstiness if isinstance(process, Gamma) else 1.0
    assert len(times) == pytest.approx(expected, abs=4 * spread * math.sqrt(expected))


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_a_later_end_changes_nothing_before(process: Arrivals) -> None:
    times = arrivals(process, 5, 0.0, 2000.0)
    assert [each for each in times if each < 700.0] == arrivals(process, 5, 0.0, 700.0)


def test_gamma_gaps_have_the_variation_asked_for() -> None:
    gaps = np.diff(arrivals(Gamma(1.0, 2.5), 1, 0.0, 40_000.0))
    assert gaps.std() / gaps.mean() == pytest.approx(2.5, rel=0.05)
    assert set(ARRIVALS) == {"poisson", "gamma", "profile"}


def test_a_profile_by_hand() -> None:
    """Unit exponentials are consumed along the integrated rate: 2t, then 20 + 2(t-10) - (t-10)^2 / 10, then nothing."""
    profile = Profile(((0.0, 2.0), (10.0, 2.0), (20.0, 0.0)))
    sums = np.cumsum(stream(3, "test").standard_exponential(1024))
    expected = [s / 2 if s < 20 else 20 - math.sqrt(100 - 10 * (s - 20)) for s in sums.tolist() if s < 30]
    assert arrivals(profile, 3, 0.0, math.inf) == pytest.approx(expected, abs=1e-9)


def test_a_profile_that_begins_with_nothing() -> None:
    times = arrivals(Profile(((0.0, 0.0), (100.0, 0.0), (200.0, 10.0), (300.0, 10.0))), 1, 0.0, 300.0)
    assert min(times) > 100.0
    assert len(times) == pytest.approx(1500, abs=160)


def test_bad_arrivals() -> None:
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError):
            Poisson(bad)
        with pytest.raises(InputError):
            Gamma(1.0, bad)
    for points in ((), ((0.0, 0.0),), ((1.0, 1.0), (1.0, 2.0)), ((0.0, -1.0), (1.0, 1.0)), ((0.0, math.nan),)):
        with pytest.raises(InputError):
            Profile(points)


def test_profile_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("time_s,rate_per_s\n0,1\n60,2.5\n")
    assert read_profile(path) == Profile(((0.0, 1.0), (60.0, 2.5)))
    path.write_text("time_s,rate_per_s\n0,1\n60,fast\n")
    with pytest.raises(InputError, match=r"rates\.csv:3:1: expected a time and a rate, not '60,fast'"):
        read_profile(path)
    path.write_text("time_s,rate_per_s\n60,1\n0,1\n")
    with pytest.raises(InputError, match="must increase"):
        read_profile(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_profile(tmp_path / "absent")


def test_tiers_keep_their_shares_and_do_not_move_arrivals() -> None:
    one = list(Intake(Poisson(1.0), 1, 5000.0).entries())
    mixed = list(Intake(Poisson(1.0), 1, 5000.0, {"gold": 0.2, "silver": 0.5, "bronze": 0.3}).entries())
    assert [entry[:2] for entry in one] == [entry[:2] for entry in mixed]
    share = sum(tier == "silver" for *_, tier in mixed) / len(mixed)
    assert share == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / len(mixed)))
    for bad in ({}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": math.nan}):
        with pytest.raises(InputError):
            TierMix(bad)
    with pytest.raises(InputError, match="limit"):
        Intake(Poisson(1.0), 1)


def test_thinning_keeps_a_fair_sample_of_the_same_arrivals() -> None:
    every = {arrival_s for _, arrival_s, _ in Intake(Poisson(2.0), 1, 10_000.0).entries()}
    kept = [arrival_s for _, arrival_s, _ in Intake(Poisson(2.0), 1, 10_000.0, represent=4).entries()]
    assert set(kept) <= every
    assert len(kept) == pytest.approx(len(every) / 4, abs=4 * math.sqrt(len(every) * 3 / 16))
    with pytest.raises(InputError):
        list(Intake(Poisson(2.0), 1, 10.0, represent=0).entries())


def test_quantile_table() -> None:
    table = QuantileTable([0.0, 0.5, 1.0], [-10.0, 0.0, 1000.0])
    assert table.at(np.array([-9.0, 0.0, 9.0])) == pytest.approx([-10.0, 0.0, 1000.0])
    assert table.whole(np.array([-9.0, 0.0])).tolist() == [1, 1]
    for probabilities, values in (([0.0], [1.0]), ([0.0, 0.0], [1.0, 2.0]), ([0.0, 1.0], [2.0, 1.0]), ([0.0, 1.0], [1.0])):
        with pytest.raises(SimulationError):
            QuantileTable(probabilities, values)


def test_fixed() -> None:
    (first, *rest) = FixedGenerator(Intake(Poisson(6.0), 1, limit=10), input_tokens=512, output_tokens=128).sessions()
    assert len(rest) == 9
    assert first.calls == [Call((), 0.0, 512, 128)]
    with pytest.raises(InputError):
        FixedGenerator(Intake(Poisson(6.0), 1, 1.0), input_tokens=0, output_tokens=1)


def test_single_calls_may_begin_with_one_system_prompt() -> None:
    (one,) = FixedGenerator(
        Intake(Poisson(6.0), 1, limit=1), input_tokens=512, output_tokens=128, system_prompt_tokens=200
    ).sessions()
    assert one.calls == [Call((), 0.0, 512, 128, system_tokens=200)]
    assert one.system_prompt == 0
    intake = Intake(Poisson(6.0), 1, limit=300)
    plain, begun = list(ChatGenerator(intake).sessions()), list(ChatGenerator(intake, system_prompt_tokens=900).sessions())
    assert {session.system_prompt for session in plain} == {None}
    for without, session in zip(plain, begun, strict=True):
        (call,) = session.calls
        assert (call.input_tokens, call.output_tokens) == (without.calls[0].input_tokens, without.calls[0].output_tokens)
        assert call.system_tokens == min(900, call.input_tokens)
        assert session.system_prompt == 0
    with pytest.raises(InputError, match="-1 tokens"):
        ChatGenerator(intake, system_prompt_tokens=-1)


def test_chat_has_the_lengths_of_the_azure_trace() -> None:
    calls = [session.calls[0] for session in ChatGenerator(Intake(Poisson(5.0), 1, limit=20_000)).sessions()]
    for tokens, expected in (
        ([call.input_tokens for call in calls], (1020, 4083, 1154.7)),
        ([call.output_tokens for call in calls], (129, 451, 211.1)),
    ):
        assert (*np.quantile(tokens, [0.5, 0.95]), np.mean(tokens)) == pytest.approx(expected, rel=0.05)


def agents(seed: int = 1, **options: object) -> AgentGenerator:
    return AgentGenerator(Intake(Poisson(1.0), seed, **options))  # type: ignore[arg-type]


def test_the_quantiles_of_agent_sessions() -> None:
    sessions = list(agents(limit=3000).sessions())
    calls = [call for session in sessions for call in session.calls]
    made = {
        "input": [call.input_tokens for call in calls],
        "output": [call.output_tokens for call in calls],
        "new": [call.input_tokens - call.shared_prefix_tokens for call in calls],
        "turns": [len(session.calls) for session in sessions],
        "think": [call.wait_s for call in calls],
    }
    for name, values in made.items():
        assert tuple(np.quantile(values, [0.5, 0.95])) == pytest.approx(RECORDED[name], rel=0.1), name


def test_the_recorded_quantiles(shared_data: Callable[[str], Path]) -> None:
    rows = pd.read_csv(shared_data("traces/claude_code_agentic/requests_flat.csv"))
    recorded = {
        "input": rows.in_tokens,
        "output": rows.out_tokens,
        "new": rows.in_tokens - rows.cached_prefix_tokens,
        "turns": rows.groupby("session").size(),
        "think": rows.think_time_s.dropna(),
    }
    for name, values in recorded.items():
        assert tuple(values.quantile([0.5, 0.95])) == pytest.approx(RECORDED[name], rel=1e-3), name


def check_tree(session: Session) -> None:
    """Calls wait for earlier ones only, and repeat no more than their agent's call before had."""
    before: dict[int, Call] = {}
    for position, call in enumerate(session.calls):
        assert all(0 <= each < position for each in call.after)
        assert call.wait_s >= 0
        assert call.output_tokens >= 1
        assert 0 <= call.shared_prefix_tokens < call.input_tokens
        previous = before.get(call.agent)
        if previous is None and call.agent:
            (spawner,) = call.after
            assert call.shared_prefix_tokens <= session.calls[spawner].input_tokens
        elif previous is None:
            assert call.shared_prefix_tokens == 0 or session.warm_tokens
        else:
            assert call.shared_prefix_tokens <= previous.input_tokens
            assert call.input_tokens >= call.shared_prefix_tokens + 1
        before[call.agent] = call
    roots = [position for position, call in enumerate(session.calls) if not call.after]
    assert roots == [0]
    assert session.calls[0].wait_s == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), horizon_s=st.floats(10, 20_000), warm=st.booleans())
def test_every_agent_session_is_consistent(seed: int, horizon_s: float, warm: bool) -> None:
    intake = Intake(Poisson(0.01), seed, horizon_s)
    generator = AgentGenerator(intake, warm_start=WarmStart(lookback_cap_s=20_000.0) if warm else None)
    latest_s = 0.0
    for session in generator.sessions():
        check_tree(session)
        assert latest_s <= session.arrival_s < horizon_s
        latest_s = session.arrival_s


def test_agent_sessions_are_the_same_each_time_and_whatever_the_arrivals() -> None:
    one = list(agents(limit=300).sessions())
    assert one == list(agents(limit=300).sessions())
    assert one != list(agents(2, limit=300).sessions())
    faster = list(AgentGenerator(Intake(Gamma(50.0, 2.0), 1, tiers={"a": 0.5, "b": 0.5}, limit=300)).sessions())
    assert [session.calls for session in one] == [session.calls for session in faster]


def test_system_prompts_are_dealt_out_and_change_nothing_else() -> None:
    intake = Intake(Poisson(1.0), 1, limit=120)
    own, shared = list(AgentGenerator(intake).sessions()), list(AgentGenerator(intake, system_prompts=5).sessions())
    assert {session.system_prompt for session in own} == {None}
    assert {call.system_tokens for session in own for call in session.calls} == {0}
    assert {session.system_prompt for session in shared} == set(range(5))
    for without, session in zip(own, shared, strict=True):
        tokens = {call.system_tokens for call in session.calls if not call.agent and call.system_tokens < call.input_tokens}
        assert len(tokens) <= 1, "one system prompt a session"
        assert all(call.system_tokens == 0 for call in session.calls if call.agent), "sub-agents have their own"
        assert [replace(call, system_tokens=0) for call in session.calls] == without.calls
    assert any(call.system_tokens for session in shared for call in session.calls)
    with pytest.raises(InputError, match="at least 1 system prompt"):
        AgentGenerator(intake, system_prompts=0)


def test_sub_agents_are_forked_and_joined() -> None:
    forked = [session for session in agents(limit=800).sessions() if session.sub_agents]
    assert forked
    ends = joined = 0
    for session in forked:
        last = {call.agent: i for i, call in enumerate(session.calls) if call.agent}
        waited_for = {each for call in session.calls if not call.agent for each in call.after}
        assert {each for each in waited_for if session.calls[each].agent} <= set(last.values())
        ends += len(last)
        joined += len(set(last.values()) & waited_for)
    assert joined / ends == pytest.approx(0.889, abs=0.1), "the others run beside, as recorded"


def test_think_time_scale() -> None:
    plain = list(agents(limit=20).sessions())
    slow = list(AgentGenerator(Intake(Poisson(1.0), 1, limit=20), think_time_scale=2.0).sessions())
    for a, b in zip(plain, slow, strict=True):
        assert [2 * call.wait_s for call in a.calls] == pytest.approx([call.wait_s for call in b.calls])
    with pytest.raises(InputError):
        AgentGenerator(Intake(Poisson(1.0), 1, limit=20), think_time_scale=0.0)


def starts_s(session: Session, service_s: float) -> list[float]:
    """When the calls of a session start if every call takes `service_s`."""
    finished: list[float] = []
    starts = []
    for call in session.calls:
        start_s = max((finished[i] for i in call.after), default=session.arrival_s) + call.wait_s
        starts.append(start_s)
        finished.append(start_s + service_s)
    return starts


def test_calls_beyond_the_horizon_are_left_out_but_for_one() -> None:
    whole = list(agents(limit=200).sessions())
    cut = list(agents(horizon_s=1000.0, limit=200).sessions())
    for long, short in zip(whole, cut, strict=True):
        kept = [start_s for start_s, call in zip(starts_s(short, 0.0), short.calls, strict=True) if not call.agent]
        every = [start_s for start_s, call in zip(starts_s(long, 0.0), long.calls, strict=True) if not call.agent]
        if len(kept) < len(every):
            assert kept[-1] >= 1000.0
        if not short.sub_agents:  # waiting for those delays a main call further
            assert all(start_s < 1000.0 for start_s in kept[:-1])


def test_a_warm_start_is_stationary_from_the_first_minute() -> None:
    warm = AgentGenerator(Intake(Poisson(0.3), 1, 3600.0), warm_start=WarmStart())
    cold = AgentGenerator(Intake(Poisson(0.3), 1, 3600.0))
    assert cold.lookback_s == 0
    assert 30_000 < warm.lookback_s <= 86_400
    started = [start_s for session in warm.sessions() for start_s in starts_s(session, 9.5) if start_s < 3600]
    per_s = np.histogram(started, bins=6, range=(0, 3600))[0] / 600
    mean_calls = np.mean([len(session.calls) for session in agents(limit=3000).sessions()])
    assert per_s == pytest.approx(np.full(6, 0.3 * mean_calls), rel=0.12)
    assert sum(start_s < 600 for session in cold.sessions() for start_s in starts_s(session, 9.5)) < 0.5 * per_s[0] * 600


def test_a_warm_session_goes_on_where_it_was() -> None:
    """One that arrived at -L with the same number has the same calls, less those before 0."""
    seen = 0
    intake = Intake(Poisson(0.05), 7, 3600.0)
    generator = AgentGenerator(intake, warm_start=WarmStart(lookback_cap_s=10_000.0))
    entered = {session.session_id: session for session in generator.sessions()}
    began = {session_id: arrival_s for session_id, arrival_s, _ in intake.entries(-generator.lookback_s)}
    shapes = {session.session_id: session for session in agents(7, limit=1 + max(entered)).sessions()}
    for session_id, session in entered.items():
        if began[session_id] >= 0:
            assert session.warm_tokens == 0
            continue
        main = [call for call in shapes[session_id].calls if not call.agent]
        shapes[session_id].calls = [Call((i - 1,) if i else (), c.wait_s, 1, 1) for i, c in enumerate(main)]
        shapes[session_id].arrival_s = began[session_id]
        skipped = sum(start_s < 0 for start_s in starts_s(shapes[session_id], 9.5))
        assert session.arrival_s == pytest.approx(starts_s(shapes[session_id], 9.5)[skipped])
        assert session.calls[0].input_tokens == main[skipped].input_tokens
        assert session.warm_tokens == (main[skipped - 1].input_tokens + main[skipped - 1].output_tokens if skipped else 0)
        seen += skipped > 0
    assert seen > 10


def test_generation_is_fast_and_lazy() -> None:
    sessions = agents(limit=10**9).sessions()
    begin_s = time.perf_counter()
    calls = sum(len(session.calls) for session in islice(sessions, 800))
    assert calls / (time.perf_counter() - begin_s) > 50_000
