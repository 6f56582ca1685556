"""Sessions of one call: lengths of a chat or a reasoning service, or identical requests for benchmarks and hand calculation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

from twin.errors import InputError
from twin.rng import stream
from twin.workload.intake import Intake
from twin.workload.quantiles import fitted
from twin.workload.session import Call, Session

_CHUNK = 1024


class _SingleCalls:
    """Common to both: an intake gives arrivals and tiers, a stream of (input, output) lengths gives the rest."""

    def __init__(self, intake: Intake, *, system_prompt_tokens: int = 0):
        """`system_prompt_tokens`: leading tokens of every input that are the same for all."""
        if system_prompt_tokens < 0:
            raise InputError(f"a system prompt can't have {system_prompt_tokens} tokens")
        self._intake = intake
        self._system_tokens = system_prompt_tokens

    def sessions(self) -> Iterator[Session]:
        """The sessions in order of arrival."""
        entries = zip(self._intake.entries(), self._lengths(), strict=False)
        for (session_id, arrival_s, tier), (input_tokens, output_tokens) in islice(entries, self._intake.limit):
            call = Call((), 0.0, input_tokens, output_tokens, system_tokens=min(self._system_tokens, input_tokens))
            yield Session(session_id, arrival_s, tier, [call], system_prompt=0 if self._system_tokens else None)

    def _lengths(self) -> Iterator[tuple[int, int]]:
        raise NotImplementedError


class _DrawnCalls(_SingleCalls):
    """Lengths drawn from the quantiles of `data/<kind>_generator.yaml`, input and output independent of each other."""

    _kind: ClassVar[str]

    def _lengths(self) -> Iterator[tuple[int, int]]:
        tables = fitted(f"{self._kind}_generator")["tables"]
        rng = stream(self._intake.seed, f"workload.{self._kind}")
        while True:
            inputs = tables["input_tokens"].whole(rng.standard_normal(_CHUNK))
            outputs = tables["output_tokens"].whole(rng.standard_normal(_CHUNK))
            yield from zip(inputs.tolist(), outputs.tolist(), strict=True)


class ChatGenerator(_DrawnCalls):
    """A chat service. The rank correlation of input and output in its trace is 0.07."""

    _kind = "chat"


class ReasoningGenerator(_DrawnCalls):
    """A reasoning service of DeepSeek-R1: answers hold their reasoning tokens, so most are longer than their prompts.

    The source gives the lengths by client without pairing them; clients are pooled by their number of requests.
    """

    _kind = "reasoning"


class FixedGenerator(_SingleCalls):
    """Identical requests."""

    def __init__(self, intake: Intake, *, input_tokens: int, output_tokens: int, system_prompt_tokens: int = 0):
        super().__init__(intake, system_prompt_tokens=system_prompt_tokens)
        if input_tokens < 1 or output_tokens < 1:
            raise InputError(f"a request has at least 1 input and 1 output token, not {input_tokens} and {output_tokens}")
        self._tokens = (input_tokens, output_tokens)

    def _lengths(self) -> Iterator[tuple[int, int]]:
        while True:
            yield self._tokens
