"""What a system can give at all: tokens/s per GPU and per MW at the meter, against tokens/s for each user.

Every configuration is played by the real workers under a closed loop, and its power goes through the real plant.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twin.pareto.study import ParetoStudy, run_pareto

__all__ = ["ParetoStudy", "run_pareto"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from twin.pareto import study

        return getattr(study, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
