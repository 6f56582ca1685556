"""What became of tasks, which are whole sessions: how they ended, how long they took, where the time went, what their tools
waited for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from twin.analysis.columns import TableColumns
from twin.analysis.service import distribution

#: Parts of a task's time along its critical path: name in the summary, column of the sessions table.
PARTS = {
    "queue": "queue_s",
    "prefill": "prefill_s",
    "decode": "decode_s",
    "tool": "tool_s",
    "sandbox_wait": "sandbox_wait_s",
    "human": "human_s",
    "front_end": "front_end_s",
}
#: How a task ends; `in_flight` if it has not.
ENDINGS = ("completed", "failed", "abandoned", "rejected", "in_flight")


class _Tasks:
    """The sessions of a run."""

    def __init__(self, run_dir: Path, horizon_s: float):
        table = TableColumns(run_dir, "sessions")
        self.outcome = table.names("outcome")
        self.tier = table.names("tier")
        self.deadline = table.names("deadline")
        self.start_s = table.numbers("start_s")
        self.end_s = np.nan_to_num(table.numbers("end_s"), nan=horizon_s)
        self.completion_s = table.numbers("finish_s") - self.start_s
        self.parts = {name: table.numbers(column) for name, column in PARTS.items()}
        self.counts = {name: table.integers(name) for name in ("tool_retries", "calls_dropped", "tokens_unread")}
        self.calls, self.tokens = table.integers("calls"), table.integers("tokens")
        self.input_tokens = _input_tokens(run_dir, table.integers("session_id"))
        self.completed = self.outcome.are("completed")

    def group(self, mask: np.ndarray, scale: float) -> dict[str, Any]:
        """Figures of the sessions in `mask`; `scale` makes a rate of the whole factory of their tokens."""
        done = mask & self.completed
        kept, broken = (int(np.count_nonzero(mask & self.deadline.are(said))) for said in ("met", "missed"))
        good = done & ~self.deadline.are("missed")
        return {
            "total": int(np.count_nonzero(mask)),
            **{ending: int(np.count_nonzero(mask & self.outcome.are(ending))) for ending in ENDINGS},
            "completion_s": distribution(self.completion_s[done]),
            "time_to_end_s": self._time_to_end(mask),
            "split_s": {name: distribution(seconds[done])["mean"] for name, seconds in self.parts.items()},
            "deadline_attainment_frac": kept / (kept + broken) if kept + broken else None,
            "goodput_output_tokens_per_s": int(self.tokens[good].sum()) * scale,
            "calls": distribution(self.calls[done].astype(float)),
            "input_tokens": distribution(self.input_tokens[done]),
            "output_tokens": distribution(self.tokens[done].astype(float)),
            **{name: int(values[mask].sum()) for name, values in self.counts.items()},
        }

    def _time_to_end(self, mask: np.ndarray) -> dict[str, float | None]:
        """Median and 90th percentile of how long tasks take, those included that the horizon finds under way: the time by which
        so many are completed (Kaplan and Meier, 1958; those that end otherwise count up to then). None where it lies beyond
        what the run saw."""
        span_s, done = np.where(self.completed, self.completion_s, self.end_s - self.start_s)[mask], self.completed[mask]
        order = np.lexsort((~done, span_s))
        left = len(span_s) - np.arange(len(span_s))
        still = np.cumprod(np.where(done[order], 1.0 - 1.0 / left, 1.0))
        found = {}
        for name, share in (("p50", 0.5), ("p90", 0.9)):
            place = int(np.searchsorted(-still, -(1.0 - share) - 1e-12))
            found[name] = float(span_s[order][place]) if place < len(still) else None
        return found

    def in_flight(self, horizon_s: float, represent: int) -> dict[str, float]:
        """Mean and most sessions at once, real ones; of those that begin and end in one moment the ends count first."""
        changes = np.concatenate((np.ones(len(self.start_s)), -np.ones(len(self.end_s))))
        at_s = np.concatenate((self.start_s, self.end_s))
        running = np.cumsum(changes[np.lexsort((changes, at_s))])
        mean = math.fsum((self.end_s - self.start_s).tolist()) / horizon_s
        return {"mean": represent * mean, "max": represent * int(running.max(initial=0))}


def _input_tokens(run_dir: Path, session_ids: np.ndarray) -> np.ndarray:
    """Input tokens of all calls of each session."""
    if not len(session_ids):
        return np.zeros(0)
    requests = TableColumns(run_dir, "requests")
    of_call = requests.integers("session_id")
    in_order = np.argsort(session_ids)
    place = in_order[np.searchsorted(session_ids, of_call, sorter=in_order)]
    return np.bincount(place, requests.integers("input_tokens").astype(float), minlength=len(session_ids))


def tasks(run_dir: Path, tiers: Sequence[str], horizon_s: float, represent: int, sandboxes: float | None) -> dict[str, Any]:
    """The section of the summary. Counts are those simulated, as for requests; `sessions_in_flight`, sandboxes and rates are the
    whole factory's. Completion times, splits, calls and tokens are of completed tasks, which in a short
    run are the short ones: `time_to_end_s` reckons with the others. A task counts for goodput if it was
    completed, and within its deadline where it has one; it is judged once it has ended, or while it goes on beyond its
    deadline. `sandboxes` are those of all sites, infinite where tools never wait, None where nothing is said of tools."""
    sessions = _Tasks(run_dir, horizon_s)
    scale = represent / horizon_s
    found = sessions.group(np.ones(len(sessions.tokens), bool), scale)
    found["sessions_in_flight"] = sessions.in_flight(horizon_s, represent)
    if sandboxes is not None:
        found["tools"] = _tools(run_dir, horizon_s, represent, sandboxes)
    found["tiers"] = {name: sessions.group(sessions.tier.are(name), scale) for name in tiers}
    return found


def _tools(run_dir: Path, horizon_s: float, represent: int, sandboxes: float) -> dict[str, Any]:
    """Runs of tools by outcome, use of the sandboxes, and how long runs that began had waited for one."""
    table = TableColumns(run_dir, "tool_runs")
    outcome = table.names("outcome")
    asked_s, begun_s, ended_s = (table.numbers(name) for name in ("asked_s", "begun_s", "ended_s"))
    began = ~np.isnan(begun_s)
    waited_s = (begun_s - asked_s)[began]
    # One that was withdrawn has waited for an unknown time, and no longer than others.
    queued_s = np.where(began, begun_s, np.where(outcome.are("waiting"), horizon_s, asked_s)) - asked_s
    used_s = math.fsum((np.where(np.isnan(ended_s), horizon_s, ended_s) - begun_s)[began].tolist())
    busy = represent * used_s / horizon_s
    finite = math.isfinite(sandboxes)
    return {
        "sandboxes": int(sandboxes) if finite else None,
        "sandboxes_busy": busy,
        "utilisation_frac": busy / sandboxes if finite else None,
        "waiting": represent * math.fsum(queued_s.tolist()) / horizon_s,
        "runs": table.rows,
        "outcomes": {
            said: int(np.count_nonzero(outcome.are(said))) for said in ("done", "failed", "withdrawn", "running", "waiting")
        },
        "wait_s": {**distribution(waited_s), "p95": float(np.quantile(waited_s, 0.95)) if len(waited_s) else None},
    }
