"""The kinds of events that the engine records, what each means, and which are commands of the control policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventGroup = Literal["grid", "command", "report", "plant", "serving", "job"]


@dataclass(frozen=True, slots=True)
class EventKind:
    """`group`: the utility asked, the policy acted or only spoke, the plant did by itself, serving or a job changed. `said`: for
    people, in a few words."""

    group: EventGroup
    said: str


#: kind in events.parquet -> what it is. A kind that is not here is no command, and is shown under its own name.
EVENT_KINDS: dict[str, EventKind] = {
    "target_announced": EventKind("grid", "load target announced"),
    "target_start": EventKind("grid", "load target: ramp begins"),
    "target_in_force": EventKind("grid", "load target in force"),
    "target_lifted": EventKind("grid", "load target lifted"),
    "set_clock": EventKind("command", "set clocks"),
    "set_cap": EventKind("command", "set power caps"),
    "hold_tier": EventKind("command", "hold back a tier"),
    "release_tier": EventKind("command", "release a tier"),
    "battery_follow": EventKind("command", "battery covers the excess"),
    "battery_rest": EventKind("command", "battery rests"),
    "start_generators": EventKind("command", "start generators"),
    "stop_generators": EventKind("command", "stop generators"),
    "pause_job": EventKind("command", "pause a job"),
    "resume_job": EventKind("command", "resume a job"),
    "hold_jobs": EventKind("command", "let no further job begin"),
    "release_jobs": EventKind("command", "let jobs begin again"),
    "report": EventKind("report", "policy reports"),
    "limit_exceeded": EventKind("plant", "meter above the limit"),
    "limit_kept_again": EventKind("plant", "meter within the limit again"),
    "supply": EventKind("plant", "who carries the site"),
    "generator": EventKind("plant", "generators"),
    "cap_unmet": EventKind("plant", "cap unmet at the lowest clock"),
    "cap_met_again": EventKind("plant", "cap met again"),
    "thermal_throttle": EventKind("plant", "clock held down by heat"),
    "thermal_release": EventKind("plant", "clock free of heat again"),
    "fault": EventKind("plant", "component fails"),
    "repair": EventKind("plant", "component is repaired"),
    "rack_down": EventKind("plant", "rack off: no power, or heat"),
    "rack_up": EventKind("plant", "rack on again"),
    "thermal_trip": EventKind("plant", "rack trips, a die is too hot"),
    "thermal_back": EventKind("plant", "rack is cool and on again"),
    "breaker_trip": EventKind("plant", "breaker trips"),
    "failover": EventKind("plant", "feed lost, others carry"),
    "rack_dark": EventKind("plant", "racks without power"),
    "rack_back": EventKind("plant", "racks have power again"),
    "planner_drain": EventKind("serving", "instance drains, then moves"),
    "planner_restart": EventKind("serving", "instance is empty and restarts"),
    "planner_join": EventKind("serving", "instance serves in its new pool"),
    "planner_called_off": EventKind("serving", "move called off: failure"),
    "instance_down": EventKind("serving", "instance is down"),
    "instance_restarting": EventKind("serving", "instance restarts"),
    "instance_up": EventKind("serving", "instance serves again"),
    "instance_degraded": EventKind("serving", "instance has fewer links"),
    "instance_restored": EventKind("serving", "instance has all links again"),
    "job_start": EventKind("job", "job gets GPUs"),
    "job_checkpoint": EventKind("job", "job has saved its state"),
    "job_resized": EventKind("job", "job goes on with other GPUs"),
    "job_paused": EventKind("job", "job paused, all saved"),
    "job_stopped": EventKind("job", "job stopped, unsaved work lost"),
    "job_failed": EventKind("job", "GPUs of a job failed"),
    "job_done": EventKind("job", "job is done"),
}

#: Kinds that are commands of the policy.
COMMAND_KINDS = tuple(kind for kind, meaning in EVENT_KINDS.items() if meaning.group == "command")
