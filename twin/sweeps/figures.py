"""The main figures of a summary as one flat row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Figure = float | int | None

_SERVICE = ("output_tokens_per_s", "input_tokens_per_s", "goodput_output_tokens_per_s", "slo_attainment_frac")
_LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
_TIER = ("output_tokens_per_s", "goodput_output_tokens_per_s", "slo_attainment_frac")
_MEAN_POWERS = ("utility", "it", "cooling", "conversion_loss")
_ENERGY = ("pue", "output_tokens_per_j", "output_tokens_per_s_per_mw")
_EVENT = (
    "target_w",
    "draw_before_w",
    "draw_during_w",
    "compliance_frac",
    "time_to_comply_s",
    "overshoot_w_max",
    "energy_shed_j",
    "goodput_retained_frac",
)


def main_figures(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Column -> value: service, latency quantiles, tiers, mean powers (W), efficiency, hardware, grid events, money, counts.

    The paths are those of summary.json without its first word; quantiles are joined by an underscore (`ttft_s_p99`), mean powers
    are energies over the horizon (`utility_mean_w`). A figure the run has no value for is None.
    """
    service, energy, horizon_s = summary["service"], summary["energy"], summary["horizon_s"]
    row: dict[str, Figure] = {key: service[key] for key in _SERVICE}
    row |= {f"{measure}_{q}": service[measure][q] for measure in _LATENCIES for q in ("p50", "p99")}
    for tier, figures in service["tiers"].items():
        row |= {f"tiers.{tier}.{key}": figures[key] for key in _TIER}
    row |= {f"{name}_mean_w": energy[f"{name}_j"] / horizon_s for name in _MEAN_POWERS}
    row |= {key: energy[key] for key in _ENERGY}
    row |= {key: summary["hardware"][key] for key in ("gpus", "gpu_busy_frac", "speed_of_light_frac")}
    for number, event in enumerate(summary["curtailment"]):
        row |= {f"curtailment.{number}.{key}": event[key] for key in _EVENT}
    # Tables inside them (revenue by tier, rejections by reason) are no figures.
    row |= {key: value for key, value in summary["economics"].items() if not isinstance(value, dict)}
    counts = {key: value for key, value in summary["requests"].items() if not isinstance(value, dict)}
    return row | {f"requests.{key}": value for key, value in counts.items() if key != "represent"}
