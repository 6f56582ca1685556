"""Sessions of one call: a chat service's lengths, or identical requests for benchmarks and hand calculation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from twin.errors import InputError
from twin.rng import stream
from twin.workload.intake import Intake
from twin.workload.quantiles import fitted
from twin.workload.session import Call, Session

_CHUNK = 1024


class _SingleCalls:
    """Common to both: an intake gives arrivals and tiers, a stream of (input, output) lengths gives the rest."""

    def __init__(self, intake: Intake):
        self._intake = intake

    def sessions(self) -> Iterator[Session]:
        """The sessions in order of arrival."""
        entries = zip(self._intake.entries(), self._lengths(), strict=False)
        for (session_id, arrival_s, tier), (input_tokens, output_tokens) in islice(entries, self._intake.limit):
            yield Session(session_id, arrival_s, tier, [Call((), 0.0, input_tokens, output_tokens)])

    def _lengths(self) -> Iterator[tuple[int, int]]:
        raise NotImplementedError


class ChatGenerator(_SingleCalls):
    """Lengths drawn from the quantiles of a chat service (`data/chat_generator.yaml`).

    Input and output are independent: their rank correlation in the trace is 0.07.
    """

    def _lengths(self) -> Iterator[tuple[int, int]]:
        tables = fitted("chat_generator")["tables"]
        rng = stream(self._intake.seed, "workload.chat")
        while True:
            inputs = tables["input_tokens"].whole(rng.standard_normal(_CHUNK))
            outputs = tables["output_tokens"].whole(rng.standard_normal(_CHUNK))
            yield from zip(inputs.tolist(), outputs.tolist(), strict=True)


class FixedGenerator(_SingleCalls):
    """Identical requests."""

    def __init__(self, intake: Intake, *, input_tokens: int, output_tokens: int):
        super().__init__(intake)
        if input_tokens < 1 or output_tokens < 1:
            raise InputError(f"a request has at least 1 input and 1 output token, not {input_tokens} and {output_tokens}")
        self._tokens = (input_tokens, output_tokens)

    def _lengths(self) -> Iterator[tuple[int, int]]:
        while True:
            yield self._tokens
