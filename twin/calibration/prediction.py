"""Predictions beside measurements, and how far apart they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Hears, as rows are predicted, of how many are done and how many there are.
OnRows = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A row: what was measured and what the model says, by figure. `labels` name the groups that it counts in."""

    row: str
    labels: Mapping[str, str]
    figures: Mapping[str, tuple[float, float]]
    """Figure -> (predicted, measured), in SI."""

    def error(self, figure: str) -> float:
        """Absolute error over the measured value."""
        predicted, measured = self.figures[figure]
        return abs(predicted / measured - 1.0)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row outside what the model knows."""

    row: str
    why: str

    @property
    def kind(self) -> str:
        """The reason without its numbers."""
        return re.sub(r"[0-9][0-9,.]*", "#", self.why)


@dataclass(frozen=True, slots=True)
class Validation:
    """What a file of measurements says of the model."""

    kind: str
    predictions: tuple[Prediction, ...]
    refused: tuple[Refusal, ...]
    group_by: tuple[tuple[str, ...], ...] = field(default=())
    """Sets of labels by which errors are grouped."""

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return len(self.predictions) + len(self.refused)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Figure -> median, 90th percentile and mean of the absolute relative error."""
        return metrics(self.predictions)

    def groups(self) -> list[dict[str, Any]]:
        """The same by group, largest group first within a set of labels."""
        return [group for labels in self.group_by for group in self.groups_by(labels)]

    def groups_by(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """The same for one set of labels."""
        members: dict[tuple[str, ...], list[Prediction]] = {}
        for prediction in self.predictions:
            members.setdefault(tuple(prediction.labels[label] for label in labels), []).append(prediction)
        ordered = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
        return [
            {"by": dict(zip(labels, key, strict=True)), "rows": len(group), "metrics": metrics(group)} for key, group in ordered
        ]

    def worst(self, figure: str, count: int) -> list[Prediction]:
        """The rows with the largest errors."""
        return sorted(self.predictions, key=lambda p: -p.error(figure))[:count]

    def to_json(self) -> dict[str, Any]:
        """As `twin validate --json` prints it."""
        return {
            "kind": self.kind,
            "rows": self.rows,
            "predicted": len(self.predictions),
            "refused": [{"row": refusal.row, "why": refusal.why} for refusal in self.refused],
            "metrics": self.metrics(),
            "groups": self.groups(),
        }


def metrics(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Figure -> median_ape, p90_ape, mape and bias (median of predicted over measured), as shares of the measured value; and
    mae, the mean absolute error in the figure's own unit."""
    found = {}
    for figure in dict.fromkeys(name for prediction in predictions for name in prediction.figures):
        having = [prediction for prediction in predictions if figure in prediction.figures]
        errors = sorted(prediction.error(figure) for prediction in having)
        ratios = sorted(p.figures[figure][0] / p.figures[figure][1] for p in having)
        found[figure] = {
            "median_ape": quantile(errors, 0.5),
            "p90_ape": quantile(errors, 0.9),
            "mape": sum(errors) / len(errors),
            "bias": quantile(ratios, 0.5),
            "mae": sum(abs(predicted - measured) for predicted, measured in (p.figures[figure] for p in having)) / len(having),
        }
    return found


def metrics_text(name: str, rows: int, found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines for people."""
    return [
        f"{name:52} {rows:6,}  {figure:11} median {each['median_ape']:6.1%}  p90 {each['p90_ape']:6.1%}  "
        f"mean {each['mape']:6.1%}  bias {each['bias'] - 1.0:+6.1%}"
        for figure, each in found.items()
    ]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, linear between them."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def merged(parts: Iterable[tuple[Sequence[Prediction], Sequence[Refusal]]]) -> tuple[tuple[Prediction, ...], tuple[Refusal, ...]]:
    """Predictions and refusals of parts of a file, in their order."""
    predictions: list[Prediction] = []
    refused: list[Refusal] = []
    for some, none in parts:
        predictions += some
        refused += none
    return tuple(predictions), tuple(refused)
