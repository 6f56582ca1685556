"""What coefficients were fitted on, and how well they fit there: outside it a result is an extrapolation and says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twin.catalog import Part
from twin.errors import UnknownValueError
from twin.performance.layout import Unfit

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FitRange:
    """The measured points behind a set of coefficients.

    Least and most GPUs of an instance, sequences in flight on one, and tokens of a request (input and output). Errors are
    medians of the absolute relative error over those points, with the coefficients as stored. `taken_over_from` names the
    group (`<generation>_<weights>`) whose coefficients stand in where nothing was measured, empty where something was.
    """

    points: int
    models: tuple[str, ...]
    gpus: Range
    sequences: Range
    request_tokens: Range
    tpot_median_ape: float
    ttft_median_ape: float
    taken_over_from: str = ""

    @classmethod
    def of(cls, backend: Part, generation: str, weights: str) -> FitRange:
        """What the coefficients of `backend` on a GPU `generation` with weights in a format rest on. Raises Unfit if none."""
        own = f"{generation}_{weights}"
        key = group_key(backend, generation, weights)
        try:
            return cls(
                points=int(backend.number(f"{key}_fit_points")),
                models=tuple(backend.text(f"{key}_fit_models").split(", ")),
                gpus=_range(backend, f"{key}_fit_gpus"),
                sequences=_range(backend, f"{key}_fit_sequences"),
                request_tokens=_range(backend, f"{key}_fit_request_tokens"),
                tpot_median_ape=backend.number(f"{key}_fit_tpot_median_ape"),
                ttft_median_ape=backend.number(f"{key}_fit_ttft_median_ape"),
                taken_over_from="" if key == own else key,
            )
        except UnknownValueError as error:
            raise Unfit(f"backend {backend.name} does not say what its coefficients {key} were fitted on: {error}") from None

    def outside(self, model: str, gpus: int, sequences: int, request_tokens: int) -> Iterator[str]:
        """What of a use lies outside the range, in words."""
        if self.taken_over_from:
            yield f"nothing was measured there, the coefficients are those of {self.taken_over_from}"
        if model not in self.models:
            yield f"{model} is not among the models measured ({', '.join(self.models)})"
        for value, (low, high), what in (
            (gpus, self.gpus, "GPUs an instance"),
            (sequences, self.sequences, "sequences on an instance"),
            (request_tokens, self.request_tokens, "tokens a request"),
        ):
            if not low <= value <= high:
                yield f"{value:,} {what}, measured were {low:,} to {high:,}"


def group_key(backend: Part, generation: str, weights: str) -> str:
    """Under which `<generation>_<weights>` the coefficients of a group stand: its own or those taken over."""
    own = f"{generation}_{weights}"
    taken_over = f"{own}_taken_over_from"
    return backend.text(taken_over) if backend.has(taken_over) else own


def _range(backend: Part, key: str) -> Range:
    low, high = backend.numbers(key)
    return int(low), int(high)
