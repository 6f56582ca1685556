"""Requests and agent sessions: trace formats and their replay, generators, arrival processes."""

from twin.workload.agent_figures import AgentFigures, read_figures
from twin.workload.agent_generator import AgentGenerator, WarmStart
from twin.workload.arrivals import ARRIVALS, Arrivals, AtOnce, Gamma, Poisson, Profile, read_profile
from twin.workload.formats import TRACE_FORMATS, TraceFormat, check_trace, read_trace, trace_format, trace_formats
from twin.workload.info import trace_info
from twin.workload.intake import Intake, with_tenants
from twin.workload.replay import TraceReplay, assign_arrivals
from twin.workload.servegen import ServeGenSessions
from twin.workload.session import HASH_BLOCK_TOKENS, NO_ARRIVAL, Call, Session, SessionSource
from twin.workload.single_call import ChatGenerator, FixedGenerator, ReasoningGenerator
from twin.workload.sources import GENERATORS
from twin.workload.trace_rows import ReadLog

__all__ = [
    "ARRIVALS",
    "GENERATORS",
    "HASH_BLOCK_TOKENS",
    "NO_ARRIVAL",
    "TRACE_FORMATS",
    "AgentFigures",
    "AgentGenerator",
    "Arrivals",
    "AtOnce",
    "Call",
    "ChatGenerator",
    "FixedGenerator",
    "Gamma",
    "Intake",
    "Poisson",
    "Profile",
    "ReadLog",
    "ReasoningGenerator",
    "ServeGenSessions",
    "Session",
    "SessionSource",
    "TraceFormat",
    "TraceReplay",
    "WarmStart",
    "assign_arrivals",
    "check_trace",
    "read_figures",
    "read_profile",
    "read_trace",
    "trace_format",
    "trace_formats",
    "trace_info",
    "with_tenants",
]
