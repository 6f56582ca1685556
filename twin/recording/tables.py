"""The tables of a run directory: one place that names every column, its type, its unit and its meaning.

A row handed to a writer is a tuple in the order of the columns here. `None` stands for null and is allowed in nullable
columns alone. A power, thermal, workers, fabric or racks row stands for the step that ends at its `time_s`; a site's first step
starts at 0. Its values are means over that step, states (temperatures, charge, queues) are those at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["int64", "int16", "float64", "string", "category", "bool", "int64_list"]

#: How a request or a session ends.
OUTCOMES = ("completed", "moved", "in_flight", "rejected")
#: Only a session can fail (a tool of it did, for good) or be abandoned (the person behind it left).
SESSION_OUTCOMES = (*OUTCOMES, "failed", "abandoned")
#: Why a call is rejected: no memory holds it, it is longer than the model was made for, the wait to be expected is too long, or
#: its tier or tenant has used up its tokens or has too many calls in flight.
REFUSALS = ("memory", "context", "wait", "tier_tokens", "tenant_tokens", "tier_in_flight", "tenant_in_flight")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `type` "category" is a string stored as a dictionary code, for names that recur."""

    name: str
    type: ColumnType
    unit: str
    description: str
    nullable: bool = False


def _id(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, "int64", "", description, nullable)


def _name(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, "category", "", description, nullable)


def _count(name: str, unit: str, description: str) -> Column:
    return Column(name, "int64", unit, description)


def _number(name: str, unit: str, description: str, nullable: bool = False) -> Column:
    return Column(name, "float64", unit, description, nullable)


_TIME = _number("time_s", "s", "end of the step this row stands for, simulated time from the start of the run")
_SITE = _name("site", "site of the topology")

_REQUESTS = (
    _id("request_id", "number of the request, in order of arrival in the twin"),
    _id("session_id", "session the request belongs to"),
    _id("parent_id", "request that this one followed, the last of those it waited for; null for the root of a session", True),
    Column("depth", "int16", "", "depth of the agent that made the call: 0 for the main agent, 1 for its sub-agents"),
    _name("site", "site that served the request, or holds it"),
    _name("tier", "service tier"),
    _number("arrival_s", "s", "when the request reached the factory"),
    _number("admitted_s", "s", "when a worker first took it into a batch; null if it has not happened", True),
    _number("first_token_s", "s", "when its first output token was ready; null if it has not happened", True),
    _number("finish_s", "s", "when its last output token was ready; null if it has not happened", True),
    _count("input_tokens", "token", "prompt tokens, cached ones included"),
    _count("cached_tokens", "token", "prompt tokens found in a KV cache, so not computed again"),
    _count("output_tokens", "token", "tokens generated; those until the horizon if still in flight"),
    _name("prefill_worker", "worker that computed the prompt; null before that", True),
    _name("decode_worker", "worker that generated the output; null before that", True),
    _name("outcome", "completed, moved (completed elsewhere), in_flight at the horizon, or rejected before acceptance"),
    _number("ttft_s", "s", "time to first token: first_token_s - arrival_s", True),
    _number("tpot_s", "s", "time per output token after the first: (finish_s - first_token_s) / (output_tokens - 1)", True),
    _number("e2e_s", "s", "end to end: finish_s - arrival_s", True),
    _number("energy_j", "J", "GPU energy attributed to the request, its share of every step it was in"),
    _count("preemptions", "", "times it lost its KV cache to others and was computed again or swapped in"),
    _count("lower_cached_tokens", "token", "of the cached tokens, those read from tiers below HBM (host memory, storage)"),
    _name("tenant", "whose request it is; null where it is nobody's in particular", True),
    _name("reason", f"why it was rejected: {', '.join(REFUSALS)}; null if it was not", True),
    _count("storage_cached_tokens", "token", "of the lower cached tokens, those read from storage"),
    _count("recomputed_tokens", "token", "tokens of its context that had been computed before and were computed again"),
    _count("failovers", "", "times a failure of hardware moved it to another instance"),
)

_SESSIONS = (
    _id("session_id", "number of the session"),
    _name("site", "site the session entered"),
    _name("tier", "service tier"),
    _number("start_s", "s", "when its first call arrived"),
    _number(
        "finish_s",
        "s",
        "when the last call that anyone waited for finished; null while in flight or if it was not completed",
        True,
    ),
    _count("calls", "", "calls made until it finished or the horizon came"),
    _count("sub_agents", "", "sub-agents forked"),
    _number("tool_s", "s", "of its time, in tools: their runs, failed ones and the pauses after these included"),
    _count("tokens", "token", "output tokens generated over all its calls"),
    _name("outcome", "completed, moved, in_flight, rejected, failed (a tool did, for good) or abandoned (the person left)"),
    _number("end_s", "s", "when nothing of it ran any more, however it ended; null before that", True),
    _number("human_s", "s", "of its time, waiting for a person"),
    _number("sandbox_wait_s", "s", "of its time, tools waiting for a sandbox"),
    _number("front_end_s", "s", "of its time, in the front end"),
    _number("queue_s", "s", "of its time, from the front end into a batch"),
    _number("prefill_s", "s", "of its time, from a batch to the first token"),
    _number("decode_s", "s", "of its time, from the first token to the last"),
    _count("tool_retries", "", "runs of tools begun again after a failure"),
    _count("calls_dropped", "", "calls that never began since the first of their join were enough"),
    _count("tokens_unread", "token", "output tokens of calls that were under way when the person left"),
    _number("deadline_s", "s", "time from its start within which the whole task is of use; null without a deadline", True),
    _name("deadline", "met, missed, or open at the horizon; null without a deadline", True),
    _name("tenant", "whose session it is; empty: nobody in particular"),
)

_POWER = (
    _TIME,
    _SITE,
    _number("utility_w", "W", "everything drawn from the feed"),
    _number("it_w", "W", "power of the IT equipment, at the DC side of the rack"),
    _number("cooling_w", "W", "pumps, fans and chillers"),
    _number("conversion_loss_w", "W", "losses from the feed to the rack's DC bus: transformer, UPS and power shelves"),
    _number("battery_w", "W", "what leaves the battery's store, its inverter's loss included; negative when it charges"),
    _number("generator_w", "W", "on-site generation"),
    _number("limit_w", "W", "what the feed is contracted or rated for"),
    _number("target_w", "W", "load target that the utility has set; null when none is in force", True),
    _number("battery_soc_frac", "", "state of charge of the battery, 0 to 1; null without a battery", True),
    _number("other_w", "W", "fixed loads of the building"),
    _number("shelf_loss_w", "W", "losses of the power shelves in the racks; a part of conversion_loss_w"),
    _number("gpu_w", "W", "GPUs; a part of it_w"),
    _number("cpu_and_other_it_w", "W", "CPUs, switches, NICs, optics and the rest; the other part of it_w"),
    _number("tokens_per_s", "token/s", "output tokens generated at the site, scaled by `represent` as power is"),
    _number("job_gpu_w", "W", "GPUs held by jobs; a part of gpu_w"),
    _number("job_gpus", "", "GPUs held by jobs, mean over the step"),
    _number("ups_soc_frac", "", "content of the emptiest UPS store at the end of the step, 0 to 1; null without one", True),
    _number("generators_on", "", "generators that ran in the step; the most of its plant steps"),
    _number("gpu_core_w", "W", "GPUs without the next and without smoothing_w; the first of the shares that add up to it_w"),
    _number("memory_w", "W", "traffic to the memory of the GPUs; a part of gpu_w, and a share"),
    _number("cpu_w", "W", "CPUs beside the GPUs; a share of it_w"),
    _number("nic_w", "W", "network adapters without their optics; a share of it_w"),
    _number("nvswitch_w", "W", "NVSwitches in the racks; a share of it_w"),
    _number("fabric_switch_w", "W", "switches of the scale-out fabric without their optics; a share of it_w"),
    _number("optic_w", "W", "optics of the scale-out fabric; a share of it_w"),
    _number("fan_w", "W", "fans in the racks; a share of it_w"),
    _number("rest_w", "W", "all else in racks with GPUs: boards, drives, host memory, regulators; a share of it_w"),
    _number("cpu_racks_w", "W", "racks of CPUs, in which tools run; a share of it_w"),
    _number(
        "smoothing_w", "W", "burnt by GPUs to smooth their power, without any work done; a part of gpu_w, and the last share"
    ),
)

_THERMAL = (
    _TIME,
    _SITE,
    _name("loop", "cooling loop"),
    _number("supply_c", "C", "coolant temperature to the racks"),
    _number("return_c", "C", "coolant temperature from the racks"),
    _number("flow_kg_per_s", "kg/s", "coolant mass flow"),
    _number("heat_w", "W", "heat put into the loop"),
    _number("gpu_max_c", "C", "hottest GPU die on the loop; null where no GPU hangs on it", True),
    _number("throttled_frac", "", "share of the loop's racks whose clock is held down by temperature"),
    _number("pump_w", "W", "pumps of the loop or circuit"),
    _number("fan_w", "W", "fans: air handlers of the hall's air, dry coolers or towers of a circuit"),
    _number("chiller_w", "W", "chillers of a circuit, with what moves the water of their own towers"),
    _number("water_kg_per_s", "kg/s", "water used by a circuit's towers, pads and chillers' towers, blowdown and drift included"),
)

_WORKERS = (
    _TIME,
    _SITE,
    _name("worker", "engine instance"),
    _name("pool", "pool of the scenario it belongs to"),
    _name("role", "prefill, decode or aggregated"),
    _number("busy_frac", "", "share of the step in which a batch ran"),
    _number("decode_batch", "", "decoding sequences in the batch, mean over the step"),
    _count("running", "", "requests in the batch"),
    _count("waiting", "", "requests in its queue"),
    _number("kv_used_frac", "", "share of the KV cache in use"),
    _number("clock_frac", "", "GPU clock over its maximum"),
    _number("cap_w", "W", "power cap per GPU in force"),
    _number("power_w", "W", "GPU power of the instance, mean over the step"),
    _number("output_tokens_per_s", "token/s", "output tokens generated by this instance"),
    _number("prefill_tokens_per_s", "token/s", "prompt tokens computed by this instance"),
    _count("preemptions", "", "preemptions over the step"),
)

_FABRIC = (
    _TIME,
    _SITE,
    _name("link", "link or group of links"),
    _number("bytes", "B", "bytes moved over the step"),
    _count("transfers", "", "transfers finished over the step"),
    _number("busy_frac", "", "bytes moved over what the link could have moved in the step"),
)

_TOOL_RUNS = (
    _id("session_id", "session whose tool it is"),
    _SITE,
    _name("tier", "service tier"),
    _id("call", "call of the session that waits for the tool, counted from 0"),
    _count("attempt", "", "1, and one more for each run of the same tool that failed before"),
    _number("asked_s", "s", "when it asked for a sandbox"),
    _number("begun_s", "s", "when it got one; null if it did not", True),
    _number("ended_s", "s", "when it gave it back; null if it did not", True),
    _number("service_s", "s", "how long it needs the sandbox"),
    _name("outcome", "done, failed, withdrawn before it began, or running or waiting at the horizon"),
)

_TASKS = (
    _TIME,
    _SITE,
    _number("sessions_in_flight", "", "sessions begun and not ended, mean over the step, scaled by `represent`"),
    _number("sandboxes_busy", "", "sandboxes in use, mean over the step, scaled by `represent`; null if tools need none", True),
    _number("sandboxes_waiting", "", "tools waiting for a sandbox, mean over the step, scaled likewise; null likewise", True),
    _number("cpu_racks_w", "W", "CPU racks, mean over the step; a part of cpu_and_other_it_w"),
)

_EVENTS = (
    _number("time_s", "s", "when it happened, simulated time from the start of the run"),
    _SITE,
    _name("kind", "what happened"),
    Column("subject", "string", "", "what or whom it happened to"),
    Column("detail", "string", "", "particulars: plain text, or a JSON object"),
)

_JOBS = (
    Column("job", "string", "", "name of the job"),
    _name("kind", "training, fine_tuning, batch_inference, synthetic_data or evaluation"),
    _name("site", "site that it runs at"),
    _count("priority", "", "jobs of a higher one get GPUs first and are paused last"),
    _number("arrival_s", "s", "when it could begin"),
    _number("start_s", "s", "when it first got GPUs; null if it never did", True),
    _number("finish_s", "s", "when its last state was saved; null if it is not done", True),
    _number("deadline_s", "s", "when it should be done; null where it need not", True),
    _name("outcome", "completed, in_flight at the horizon, or not_started"),
    _name("deadline", "met, missed, or open at the horizon; null without one, and for a job that goes on to it", True),
    _count("steps_done", "", "whole steps made; steps_kept + steps_lost + steps_open"),
    _count("steps_kept", "", "steps that are saved"),
    _count("steps_lost", "", "steps made since the last checkpoint when the job was stopped"),
    _count("steps_open", "", "steps made since the last checkpoint, at the horizon"),
    _count("checkpoints", "", "checkpoints made"),
    _count("pauses", "", "times that it gave its GPUs back before it was done"),
    _number("gpu_hours", "h", "GPU-hours held; the sum of the next five"),
    _number("kept_gpu_hours", "h", "GPU-hours of steps that are saved"),
    _number("lost_gpu_hours", "h", "GPU-hours of steps lost, those broken off included"),
    _number("open_gpu_hours", "h", "GPU-hours since the last checkpoint, at the horizon"),
    _number("saving_gpu_hours", "h", "GPU-hours of checkpoints"),
    _number("starting_gpu_hours", "h", "GPU-hours of starts, resumptions and changes of size"),
    _number("energy_j", "J", "energy of its GPUs while it held them"),
    _count("tokens", "token", "output tokens made and saved; 0 for training"),
)

_RACKS = (
    _TIME,
    _SITE,
    _name("rack", "rack as GROUP/INDEX, counted from 0 in its group"),
    _number("it_w", "W", "power of the rack's IT equipment at its DC side, its share of the fabric included"),
    _number("gpu_w", "W", "its GPUs; a part of it_w"),
    _number("die_c", "C", "its hottest GPU die; null in a rack without GPUs", True),
    _number("clock_limit", "", "clock that heat allows it over its maximum"),
    Column("up", "bool", "", "it has power and is not tripped by heat"),
)

_ELEMENTS = (
    _TIME,
    _SITE,
    _name("element", "element of the electrical chain"),
    _name("kind", "transformer, switchboard, ups, busway or rectifier"),
    _number("output_w", "W", "what it delivers, mean over the step"),
    _number("loss_w", "W", "what it loses, mean over the step; a part of conversion_loss_w"),
    _number("loading_frac", "", "output_w over its rating, all its units counted"),
    _number("headroom_w", "W", "what its working units could deliver beyond output_w; below zero above their rating"),
    _name("state", "at the end of the step: live, failed, tripped (open) or dead (nothing above it)"),
)

#: table name -> its columns, in the order of a row.
TABLES: dict[str, tuple[Column, ...]] = {
    "requests": _REQUESTS,
    "sessions": _SESSIONS,
    "power": _POWER,
    "thermal": _THERMAL,
    "workers": _WORKERS,
    "fabric": _FABRIC,
    "tasks": _TASKS,
    "tool_runs": _TOOL_RUNS,
    "events": _EVENTS,
    "jobs": _JOBS,
    "racks": _RACKS,
    "elements": _ELEMENTS,
}
