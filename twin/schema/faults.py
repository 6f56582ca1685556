"""What breaks in a run: faults at stated times, and faults drawn from mean times between failures and to repair.

A component is named by its kind and name, such as `cdu/row_a` or `tray/row_a/0/3`. Which ones a site has follows from its
topology and is checked where plant and fabric are known (twin/engine/fault_plan.py).
"""

from __future__ import annotations

from pydantic import Field

from twin.schema.base import Count, Model, Name
from twin.schema.quantities import Number, PositiveTime

#: The kind that stands for every kind of component that the catalogue has figures of.
ALL_KINDS = "all"


class ScheduledFault(Model):
    """Some units of a component fail at a stated time."""

    name: Name
    """Name of the fault."""
    component: str
    """What fails, by kind and name: "cdu/row_a"; `twin faults SCENARIO --list` names all that can."""
    site: Name | None = None
    """Site of the component; may be left out where there is one."""
    units: Count = 1
    """How many of its units fail at once."""
    start: PositiveTime
    """When."""
    duration: PositiveTime | None = None
    """How long until it is repaired; left out: it stays so to the end of the run."""


class DrawnFaults(Model):
    """Every unit of a kind of component fails and is repaired at random times, exponentially distributed, each by itself."""

    kind: str
    """Kind of component (`twin catalog reliability`), or `all`: every kind of the site that the catalogue has figures of and that
    has no entry of its own."""
    site: Name | None = None
    """Site of the components; left out: all sites."""
    mtbf: PositiveTime | None = None
    """Mean time between failures of a unit, from the repair of one to the next; left out: the catalogue's."""
    mttr: PositiveTime | None = None
    """Mean time to repair; left out: the catalogue's."""
    accelerate: Number = Field(default=1.0, ge=1.0, le=1e6)
    """Failures come so many times as often, so that a short run sees some; repairs take as long as they take."""


class Faults(Model):
    """What breaks."""

    scheduled: tuple[ScheduledFault, ...] = ()
    """Faults at stated times."""
    drawn: tuple[DrawnFaults, ...] = ()
    """Faults at random times."""

    @property
    def any(self) -> bool:
        """Whether anything is said to fail."""
        return bool(self.scheduled or self.drawn)
