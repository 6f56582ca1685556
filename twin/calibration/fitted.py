"""Fitted groups as they stand in the catalogue: coefficients, what they were fitted on, and who stands in for whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields

import yaml

from twin.calibration.fitting import PRIORS
from twin.catalog import load_catalog
from twin.performance import Coefficients, FitRange

#: Backend, GPU generation and format of the weights: what one set of coefficients holds for.
Key = tuple[str, str, str]

_FORMATS = ("bf16", "fp8", "fp4")
#: Who stands in where nothing was measured: the nearest format of the same generation, then the nearest generation.
_NEAREST_FORMATS = {"bf16": ("fp8", "fp4"), "fp8": ("bf16", "fp4"), "fp4": ("fp8", "bf16")}
_NEAREST_GENERATIONS = {
    "ampere": ("hopper", "blackwell"),
    "hopper": ("blackwell", "ampere"),
    "blackwell": ("hopper", "ampere"),
    "rubin": ("blackwell", "hopper"),
}
#: Within this factor of the limit of its prior a coefficient is at it; they are stored with three digits.
_AT_LIMIT = 1.01
#: Not yet sold: what stands in for it is a projection.
_PROJECTED = ("rubin",)


@dataclass(frozen=True, slots=True)
class Fitted:
    """One group: its coefficients, the range and error of the fit, and where the measurements are from."""

    key: Key
    coefficients: Coefficients
    range: FitRange
    source: str


def stand_in(key: Key, having: Iterable[Key]) -> Key | None:
    """The group whose coefficients one without measurements takes over: `key` itself where it has some, None if nobody can.

    Another version of the engine (`sglang_0_5_1` of `sglang`) stands in only where its own has nothing on any generation.
    """
    known = frozenset(having)
    backend, generation, weights = key
    versions = sorted({other for other, _, _ in known if other != backend and _engine(other) == _engine(backend)})
    for version in (backend, *versions):
        for near in (generation, *_NEAREST_GENERATIONS.get(generation, ())):
            for form in (weights, *_NEAREST_FORMATS[weights]):
                if (version, near, form) in known:
                    return version, near, form
    return None


def _engine(backend: str) -> str:
    """An engine's name without its version."""
    return re.sub(r"(_\d+)+$", "", backend)


def with_stand_ins(fitted: Mapping[Key, Coefficients], wanted: Iterable[Key]) -> dict[Key, Coefficients]:
    """`fitted`, and for each wanted group that is not in it the coefficients that stand in, where any can."""
    found = dict(fitted)
    for key in wanted:
        substitute = stand_in(key, fitted)
        if substitute is not None:
            found[key] = fitted[substitute]
    return found


def with_shipped(fitted: Iterable[Fitted]) -> list[Fitted]:
    """`fitted`, and of the same backends the shipped groups that it has not: so new measurements take nothing away."""
    groups = list(fitted)
    catalog = load_catalog()
    having = {group.key for group in groups}
    for name in sorted({key[0] for key in having} & set(catalog.names("backend"))):
        backend = catalog.part("backend", name)
        for generation in _NEAREST_GENERATIONS:
            for weights in _FORMATS:
                own = f"{generation}_{weights}_fit_points"
                if (name, generation, weights) in having or not backend.has(own):
                    continue
                coefficients, found = Coefficients.of(backend, generation, weights), FitRange.of(backend, generation, weights)
                groups.append(Fitted((name, generation, weights), coefficients, found, backend.values[own].source))
    return groups


def catalogue_text(groups: Iterable[Fitted]) -> str:
    """The groups as a catalogue file of backends, with an entry for every generation and format of each backend."""
    by_key = {group.key: group for group in groups}
    catalog = load_catalog()
    lines = [
        "# Serving backends by GPU generation and format of the weights: shares of peak rates reached, fixed seconds, and what",
        "# they were fitted on (twin.performance.Coefficients, FitRange). Written by `twin calibrate`.",
        "kind: backend",
        # A scenario that names this file then has these instead of the shipped ones of the same names.
        *(["replaces: true"] if {key[0] for key in by_key} <= set(catalog.names("backend")) else []),
        "parts:",
    ]
    for backend in sorted({key[0] for key in by_key}):
        known = backend in catalog.names("backend")
        description = catalog.part("backend", backend).description if known else "Serving engine, calibrated by twin calibrate"
        lines += [f"  {backend}:", f"    description: {description}", "    values:"]
        for generation in sorted(_NEAREST_GENERATIONS):
            for weights in _FORMATS:
                key = (backend, generation, weights)
                lines += _entries(key, stand_in(key, [other for other in by_key if other[0] == backend]), by_key)
    return "\n".join(lines) + "\n"


def _entries(key: Key, substitute: Key | None, groups: Mapping[Key, Fitted]) -> list[str]:
    _, generation, weights = key
    own = f"{generation}_{weights}"
    if substitute is None:
        return []
    if substitute != key:
        status = "projected" if generation in _PROJECTED else "assumed"
        there = f"{substitute[1]}_{substitute[2]}"
        return [_line(f"{own}_taken_over_from", there, "nearest group with measurements", status, "nothing was measured here")]
    group = groups[key]
    found = group.range
    lines = []
    for field, value in zip(fields(Coefficients), astuple(group.coefficients), strict=True):
        written = f"{float(f'{value * 1e6:.3g}'):g} us" if field.name.endswith("_s") else float(f"{value:.3g}")
        prior = PRIORS[field.name]
        if value <= prior.lowest * _AT_LIMIT or value >= prior.highest / _AT_LIMIT:
            told = ("assumed", "at the limit of what a fit allows: the points do not decide it")
        else:
            told = ("measured", "fitted")
        lines.append(_line(f"{own}_{field.name}", written, group.source, *told))
    for name, value in (
        ("points", found.points),
        ("models", ", ".join(found.models)),
        ("gpus", list(found.gpus)),
        ("sequences", list(found.sequences)),
        ("request_tokens", list(found.request_tokens)),
        ("tpot_median_ape", float(f"{found.tpot_median_ape:.3g}")),
        ("ttft_median_ape", float(f"{found.ttft_median_ape:.3g}")),
    ):
        lines.append(_line(f"{own}_fit_{name}", value, group.source, "measured", ""))
    return lines


def _line(key: str, value: object, source: str, status: str, note: str) -> str:
    entry = {"value": value, "source": source, "status": status} | ({"note": note} if note else {})
    text = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True).strip()
    return f"      {key}: {text}"
