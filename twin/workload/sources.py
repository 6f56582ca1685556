"""Generators of sessions by the name that scenarios and `twin trace generate` use."""

from __future__ import annotations

from collections.abc import Callable

from twin.workload.agent_generator import AgentGenerator
from twin.workload.session import SessionSource
from twin.workload.single_call import ChatGenerator, FixedGenerator, ReasoningGenerator

#: Name -> generator; each takes an `Intake` first and its own settings by keyword.
GENERATORS: dict[str, Callable[..., SessionSource]] = {
    "agents": AgentGenerator,
    "chat": ChatGenerator,
    "fixed": FixedGenerator,
    "reasoning": ReasoningGenerator,
}
