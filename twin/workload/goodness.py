"""How near a fitted generator comes to its trace: quantiles of what makes sessions, how contexts go on, what caches find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twin.workload.agent_figures import AgentFigures, agent_figures
from twin.workload.agent_generator import AgentGenerator
from twin.workload.arrivals import Gamma, Poisson
from twin.workload.call_columns import CallColumns, Ints, call_columns
from twin.workload.fit import fit_agents
from twin.workload.intake import Intake
from twin.workload.quantiles import Floats

#: A sample has twenty times the sessions of its trace, so that its own chance is small beside the trace's: not fewer than a
#: thousand sessions, and no more calls than this where that is enough for as many sessions as the trace has. Of very many
#: sessions these are enough, however few calls they have: drawing one costs more than its calls do.
_TIMES, _LEAST_SAMPLE, _CALLS, _MOST_SAMPLE = 20, 1000, 400_000, 20_000
LAGS = (1, 10)
#: Main calls of a session whose own autocorrelation is told.
_LEAST_CALLS = 30
#: Sessions of a trace that can be halved for a check on sessions that the fit has not seen.
_LEAST_SESSIONS = 40


def _main_first(calls: CallColumns) -> Any:
    return calls.main & (calls.place == 0)


def _later(calls: CallColumns) -> Any:
    return calls.main & (calls.place > 0)


def _sub_first(calls: CallColumns) -> Any:
    return ~calls.main & (calls.place == 0)


#: Name -> its values in a trace.
MARGINALS: dict[str, Callable[[CallColumns], Ints | Floats]] = {
    "turns": lambda calls: calls.turns,
    "first_input_tokens": lambda calls: calls.inputs[_main_first(calls)],
    "input_tokens": lambda calls: calls.inputs,
    "output_tokens": lambda calls: calls.outputs,
    "new_tokens": lambda calls: calls.inputs - calls.shared,
    "shared_prefix_tokens": lambda calls: calls.shared,
    "tool_wait_s": lambda calls: calls.wait_s[_later(calls) & calls.tool],
    "human_wait_s": lambda calls: calls.wait_s[_later(calls) & ~calls.tool],
    "sub_agents_per_spawn": lambda calls: calls.spawn_agents,
    "sub_agent_calls": lambda calls: calls.agent_calls[_sub_first(calls)],
    "sub_agent_first_shared_tokens": lambda calls: calls.shared[_sub_first(calls)],
    "session_s": lambda calls: calls.session_s,
    "arrival_gap_s": lambda calls: np.diff(calls.arrival_s[np.isfinite(calls.arrival_s)]),
}
QUANTILES = {"p50": 0.5, "p95": 0.95}
#: Name -> its value over a whole trace.
TOTALS: dict[str, Callable[[CallColumns], float]] = {
    "delegating_session_frac": lambda calls: len(np.unique(calls.spawn_session)) / len(calls.session_s),
    "sub_agents_per_session": lambda calls: float(calls.spawn_agents.sum()) / len(calls.session_s),
    "sub_agent_call_frac": lambda calls: float((~calls.main).mean()),
}


@dataclass(frozen=True, slots=True)
class Measures:
    """Quantiles of each marginal (None where it has no values), autocorrelation of the context by lag, totals, prefix hits."""

    marginals: Mapping[str, Mapping[str, float] | None]
    autocorrelation: Mapping[int, float | None]
    totals: Mapping[str, float]
    prefix_hit_frac: float

    def quantile(self, name: str, key: str) -> float | None:
        """The quantile `key` of the marginal `name`; None where it has no values."""
        values = self.marginals[name]
        return None if values is None else values[key]


def measure(calls: CallColumns) -> Measures:
    """What of a trace is held against another."""
    marginals = {}
    for name, values_of in MARGINALS.items():
        values = values_of(calls)
        marginals[name] = {key: float(np.quantile(values, q)) for key, q in QUANTILES.items()} if len(values) else None
    hits = float(calls.shared.sum() / calls.inputs.sum())
    totals = {name: value_of(calls) for name, value_of in TOTALS.items()}
    return Measures(marginals, {lag: _autocorrelation(calls, lag) for lag in LAGS}, totals, hits)


def _autocorrelation(calls: CallColumns, lag: int) -> float | None:
    """Mean over sessions of the autocorrelation of their main agents' input, each weighted by its calls.

    Of sessions with at least 30 main calls and a context that changes; None where there are none.
    """
    session = calls.session[calls.main]
    inputs, place = calls.inputs[calls.main].astype(float), calls.place[calls.main]
    turns = calls.turns
    off = inputs - (np.bincount(session, inputs) / turns)[session]
    later = np.flatnonzero(place >= lag)
    together = np.bincount(session[later], off[later] * off[later - lag], len(turns))
    whole = np.bincount(session, off * off)
    told = (turns >= _LEAST_CALLS) & (whole > 0)
    return float(np.average(together[told] / whole[told], weights=turns[told])) if told.any() else None


def generated(figures: AgentFigures, seed: int, sessions: int) -> CallColumns:
    """A sample of what the generator makes of `figures`, to be held against a trace of so many sessions."""
    per_session = float(figures.tables["turns"].at(np.linspace(-2, 2, 41)).mean())
    count = max(sessions, min(max(_TIMES * sessions, _LEAST_SAMPLE), math.ceil(_CALLS / per_session)))
    count = min(count, _MOST_SAMPLE)
    rate, burstiness = figures.arrivals or (1.0, 1.0)
    arrivals = Gamma(rate, burstiness) if figures.arrivals else Poisson(rate)
    return call_columns(AgentGenerator(Intake(arrivals, seed, limit=count), figures=figures).sessions())


def goodness(trace: CallColumns, sample: CallColumns) -> dict[str, Any]:
    """The two side by side, as `twin trace fit --json` prints them."""
    one, other = measure(trace), measure(sample)
    if not np.isfinite(trace.arrival_s).all():
        other = replace(other, marginals={**other.marginals, "arrival_gap_s": None})
    marginals: dict[str, Any] = {}
    for name, values in one.marginals.items():
        marginals[name] = values and {key: _beside(value, other.quantile(name, key)) for key, value in values.items()}
    return {
        "sessions": {"trace": len(trace.session_s), "generated": len(sample.session_s)},
        "marginals": marginals,
        "autocorrelation": {f"lag_{lag}": _difference(one.autocorrelation[lag], other.autocorrelation[lag]) for lag in LAGS},
        "totals": {name: _beside(value, other.totals[name]) for name, value in one.totals.items()},
        "prefix_hit_frac": _difference(one.prefix_hit_frac, other.prefix_hit_frac),
    }


def held_out(trace: CallColumns, seed: int) -> dict[str, dict[str, dict[str, float | None]]] | None:
    """Whether the fit holds for sessions that it has not seen: each half of the trace against a generator fitted to the other.

    Marginal -> quantile -> mean error of the two (`error_frac`), beside the mean difference of the halves themselves
    (`halves_frac`), which no generator can be expected to beat. None where the trace has too few sessions to be halved.
    """
    if len(trace.session_s) < _LEAST_SESSIONS:
        return None
    even = np.arange(len(trace.session_s)) % 2 == 0
    halves = [trace.of(even), trace.of(~even)]
    measures = [measure(half) for half in halves]
    made = [measure(generated(agent_figures(fit_agents(half, {})), seed, len(half.session_s))) for half in halves]
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for name in MARGINALS:
        if name == "arrival_gap_s":
            continue  # every second session arrives at half the rate
        quantiles = {}
        for key in QUANTILES:
            one, other, by_one, by_other = [each.quantile(name, key) for each in (*measures, *made)]
            quantiles[key] = {
                "error_frac": _mean_error((one, by_other), (other, by_one)),
                "halves_frac": _mean_error((one, other), (other, one)),
            }
        found[name] = quantiles
    return found


def _mean_error(*pairs: tuple[float | None, float | None]) -> float | None:
    errors = [_error(value, made) for value, made in pairs]
    known = [abs(error) for error in errors if error is not None]
    return sum(known) / len(known) if len(known) == len(errors) else None


def _beside(value: float, made: float | None) -> dict[str, float | None]:
    return {"trace": value, "generated": made, "error_frac": _error(value, made)}


def _error(value: float | None, made: float | None) -> float | None:
    """Relative error; None where there is nothing to relate to."""
    if value is None or made is None:
        return None
    if value == 0:
        return 0.0 if made == 0 else None
    return (made - value) / abs(value)


def _difference(value: float | None, made: float | None) -> dict[str, float | None]:
    return {"trace": value, "generated": made, "difference": None if value is None or made is None else made - value}
