"""What goes together: how far a session's values are its own, and how sessions' own levels of one quantity go with another's.

Reckoned on normal scores (the value's rank as a standard normal draw), as the generator draws them: a Gaussian copula.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from twin.workload.call_columns import Ints
from twin.workload.quantiles import Floats

#: Values of a session from which its own level is told, sessions from which a correlation is.
_LEAST_VALUES, _LEAST_SESSIONS = 5, 20


def normal_scores(values: Ints | Floats) -> Floats:
    """Of each value the standard normal draw of its rank; those of equal values are equal."""
    unique, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / max(len(values), 1)
    normal = NormalDist()
    return np.array([normal.inv_cdf(p) for p in ranks.tolist()])[where] if len(unique) > 1 else np.zeros(len(values))


def within_sessions(scores: Floats, owner: Ints, sessions: int) -> tuple[float, Floats]:
    """(share of the variance of `scores` that lies between the sessions that own them, each session's own level).

    The share is 0 where it cannot be told; the level of a session with less than five values is NaN.
    """
    counts = np.bincount(owner, minlength=sessions)
    known = counts >= _LEAST_VALUES
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.bincount(owner, scores, sessions) / counts
        spread = np.bincount(owner, (scores - level[owner]) ** 2, sessions) / (counts - 1)
    level[~known] = np.nan
    if known.sum() < 2:
        return 0.0, level
    within = float(spread[known].mean())
    between = float(level[known].var(ddof=1) - (spread[known] / counts[known]).mean())
    total = within + between
    return (float(np.clip(between / total, 0, 1)) if total > 0 else 0.0), level


def correlation(levels: Mapping[str, Floats]) -> list[list[float]]:
    """The matrix of correlations of `levels` (NaN where unknown); 0 where too few sessions have both.

    Moved to the nearest mixture with none at all that can be drawn from, since each pair has sessions of its own.
    """
    names = list(levels)
    matrix = np.eye(len(names))
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            both = np.isfinite(levels[one]) & np.isfinite(levels[other])
            if both.sum() >= _LEAST_SESSIONS:
                a, b = normal_scores(levels[one][both]), normal_scores(levels[other][both])
                if a.any() and b.any():
                    matrix[i, j] = matrix[j, i] = np.corrcoef(a, b)[0, 1]
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < 0.01:
        keep = (1 - 0.01) / (1 - least)
        matrix = keep * matrix + (1 - keep) * np.eye(len(names))
    return [[round(float(each), 3) for each in row] for row in matrix]
