"""A digital twin of an AI factory: feed limit, clocks, tokens, latency, watts, heat and back, as discrete events.

    import twin
    run = twin.run("scenarios/quickstart.yaml", set={"control.policy": "uniform_cap"})
    run.summary["energy"]["pue"]

Importing the package is cheap; what a call needs is imported when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twin.api import InputError, Run, SimulationError, compare, load, open_run, run, sweep

__all__ = ["InputError", "Run", "SimulationError", "compare", "load", "open_run", "run", "sweep"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from twin import api

        return getattr(api, name)
    raise AttributeError(f"module 'twin' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
