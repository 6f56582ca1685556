"""Many runs at once: sweeps over a grid of values, and the nightly check of a folder of scenarios against its baselines.

Plural, for `twin.sweep` is the function: a package of that name would take its place once imported.
"""

from typing import TYPE_CHECKING, Any

from twin.sweeps.axis import parse_over

if TYPE_CHECKING:
    from twin.sweeps.regression import Verdict, check_folder
    from twin.sweeps.run import run_sweep
    from twin.sweeps.study import Study, open_study

__all__ = ["Study", "Verdict", "check_folder", "open_study", "parse_over", "run_sweep"]

_HOMES = {
    "Study": "study",
    "open_study": "study",
    "run_sweep": "run",
    "Verdict": "regression",
    "check_folder": "regression",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"twin.sweeps.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
