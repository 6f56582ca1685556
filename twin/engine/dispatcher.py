"""The serving side of a site: calls come in, find an instance, move from prefill to decode, and come out finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple

from twin.engine.clock import Clock
from twin.engine.session_paths import own_keys
from twin.engine.station import Station
from twin.engine.turn_keeper import TurnKeeper
from twin.errors import SimulationError
from twin.fabric import Network
from twin.serving import FINISHED, PREFILLED, Admission, ContextPath, Homes, Request, Router, Worker, least_loaded


class _Travel(NamedTuple):
    """A request's KV on its way between two stations."""

    request: Request
    source: Station
    target: Station


class Dispatcher:
    """Routes requests over the stations of one site and holds back the tiers that a policy has put on hold.

    Instances may fail at any time. What they held goes on elsewhere, and waits outside while no instance of its role is up.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        router: Router,
        kv_bytes_per_token: float,
        site: str = "",
        admission: Admission | None = None,
        turns: TurnKeeper | None = None,
    ):
        self._clock = clock
        self._network = network
        self._router = router
        self._kv_bytes_per_token = kv_bytes_per_token
        self._site = site
        self._admission = admission
        self._turns = turns
        #: Called with each request that has sent its last token; set before the run.
        self.on_finished: Callable[[Request], None]
        self._stations: dict[Worker, Station] = {}
        self._by_name: dict[str, Station] = {}
        self._entry: list[Worker] = []
        self._decoders: list[Worker] = []
        self._smallest: list[Worker] = []
        self._leaving: dict[Worker, Callable[[Station], None]] = {}
        self._homes = Homes()
        self._gates: dict[str, deque[Request]] = {}
        self._releasing: dict[int, Request] = {}
        self._travelling: dict[int, _Travel] = {}
        self._down: dict[Worker, Station] = {}
        #: Requests that no instance is up for: to compute their prompts, and to decode what is prefilled.
        self._outside: dict[int, Request] = {}
        self._prefilled: dict[int, Request] = {}
        #: Times that a failure moved a request.
        self.failovers = 0

    def add(self, station: Station) -> None:
        """Put a station into service, before the run."""
        worker = station.worker
        self._stations[worker] = station
        self._by_name[worker.name] = station
        self._candidates(worker).append(worker)
        self._find_smallest()

    def withdraw(self, station: Station, then: Callable[[Station], None]) -> None:
        """Give a station no more work, and call `then` with it as soon as it holds nothing any more, maybe at once.

        What it has begun it finishes, what only waits there goes to others of its role, of which there must be some, and where
        contexts lie is forgotten.
        """
        worker = station.worker
        self._candidates(worker).remove(worker)
        self._find_smallest()
        self._homes.forget_all_of(worker)
        self._leaving[worker] = then
        self._place_again([worker])
        self._let_go(station)

    def rejoin(self, station: Station) -> None:
        """Put a station that was withdrawn, or was down, into service again, in the role that it has now; it gets its share of
        what waits."""
        self._down.pop(station.worker, None)
        candidates = self._candidates(station.worker)
        candidates.append(station.worker)
        self._find_smallest()
        self._place_again(candidates)
        if self._outside or self._prefilled:
            stranded = [*self._outside.values(), *self._prefilled.values()]
            self._outside, self._prefilled = {}, {}
            self._place(stranded)

    def fail(self, stations: Sequence[Station]) -> None:
        """Stations lose their hardware at once. What they held, and what was on its way to or from them, goes on elsewhere.

        Tokens that were sent stay sent. KV that still lies with another instance is fetched from there; what has lost its KV has
        its prompt, and what it was sent, computed again.
        """
        now_s = self._clock.environment.now
        for station in stations:
            station.touched()
        for station in stations:
            worker = station.worker
            if worker in (candidates := self._candidates(worker)):
                candidates.remove(worker)
            self._leaving.pop(worker, None)
            self._down[worker] = station
            self._homes.forget_all_of(worker)
        self._find_smallest()
        moved = [request for station in stations for request in station.fail(now_s)]
        touched = self._call_back(moved, now_s)
        for request in moved:
            request.failovers += 1
        self.failovers += len(moved)
        self._place(moved)
        for station in touched:
            station.touched()

    def _call_back(self, moved: list[Request], now_s: float) -> list[Station]:
        """Add to `moved` what has lost the instance that its KV lay with, or was on its way to; the stations on which that frees
        room."""
        down, touched = self._down, []
        for travel in list(self._travelling.values()):
            request, source, target = travel
            if source.worker in down or target.worker in down:
                del self._travelling[request.request_id]
                if target.worker not in down:
                    target.worker.cancel(request, now_s)
                    touched.append(target)
                moved.append(request)
        for worker, station in self._stations.items():
            lost = {r for r in worker.queue.waiting if self._has_lost_kv(r)} if worker.role == "decode" else None
            if lost:
                moved += sorted(lost, key=attrgetter("request_id"))
                worker.drop(lost, now_s)
                touched.append(station)
        for request in list(self._prefilled.values()):
            if self._has_lost_kv(request):
                moved.append(self._prefilled.pop(request.request_id))
        for request in moved:
            if self._has_lost_kv(request):
                request.lose_kv()
        return touched

    def _has_lost_kv(self, request: Request) -> bool:
        """Whether a request waits for KV from an instance that is down."""
        if not request.kv_elsewhere or request.swapped_tokens:
            return False
        assert request.prefill_worker is not None
        return self._by_name[request.prefill_worker].worker in self._down

    def _candidates(self, worker: Worker) -> list[Worker]:
        return self._decoders if worker.role == "decode" else self._entry

    def _place_again(self, workers: Sequence[Worker]) -> None:
        """Choose anew for what only waits, in order of arrival."""
        self._place([request for worker in workers for request in worker.take_back()])

    def _place(self, requests: Iterable[Request]) -> None:
        for request in sorted(requests, key=attrgetter("request_id")):
            (self._to_decode if request.kv_elsewhere else self._enter)(request)

    def _find_smallest(self) -> None:
        decoders = [*self._decoders, *(worker for worker in self._down if worker.role == "decode")]
        entry = [*self._entry, *(worker for worker in self._down if worker.role != "decode")]
        self._smallest = [min(pool, key=lambda w: w.spec.kv_capacity_tokens) for pool in (entry, decoders) if pool]

    def refusal(self, request: Request, first: bool) -> str | None:
        """Why a call is refused (one of `twin.recording.REFUSALS`), None if it may come in; `first`: it begins its session.

        Each of the site's instances that a router may choose, now or once it is repaired, must hold it at its longest.
        """
        for worker in self._smallest:
            if not worker.can_hold(request):
                return "memory"
        if self._admission is None:
            return None
        return self._admission.refusal(request, first, self._clock.now_s, self._shortest_wait_s)

    def _shortest_wait_s(self) -> float:
        now_s = self._clock.now_s
        return min((worker.wait_s(now_s) for worker in self._entry), default=inf)

    def accept(self, request: Request) -> None:
        """Take a call in for good: it will be finished, or still here at the horizon."""
        if self._admission is not None:
            self._admission.accepted(request, self._site, self._clock.now_s)
        if self._turns is not None:
            self._turns.called(request, self._clock.environment.now)
        gate = self._gates.get(request.tier)
        if gate is None:
            self._enter(request)
        else:
            gate.append(request)

    def warm(self, path: ContextPath) -> None:
        """Place a context that was made before the run began where memory has most room; too large a one is nowhere."""
        if not self._entry:
            return
        memory = min((worker.memory for worker in self._entry), key=lambda m: m.kept_tokens + m.pinned_tokens)
        if sum(tokens for _, tokens in path) < memory.capacity_tokens:
            memory.warm(path)
            self._homes.put(path, next(worker for worker in self._entry if worker.memory is memory))

    def hold(self, tier: str) -> None:
        """Keep new calls of `tier` at the door."""
        self._gates.setdefault(tier, deque())

    def release(self, tier: str, over_s: float) -> None:
        """Let the calls of a held tier in, evenly over `over_s`; new ones pass at once."""
        waiting = self._gates.pop(tier, deque())
        for place, request in enumerate(waiting):
            self._releasing[request.request_id] = request
            self._clock.at(self._clock.now_s + over_s * place / len(waiting), partial(self._let_in, request))

    def held_calls(self, tier: str) -> int | None:
        """Calls at the door of a held tier, None for a tier that is not held."""
        gate = self._gates.get(tier)
        return None if gate is None else len(gate)

    def forget(self, path: ContextPath) -> None:
        """A context will not be asked for again, but for what other sessions share of it."""
        for key in own_keys(path):
            self._homes.forget(key)

    def in_flight(self) -> list[tuple[Request, Worker | None]]:
        """Everything accepted and not finished, by number, with the instance that holds it (None: at the door or on the way)."""
        outside = [request for gate in self._gates.values() for request in gate]
        outside += [*self._releasing.values(), *(travel.request for travel in self._travelling.values())]
        outside += [*self._outside.values(), *self._prefilled.values()]
        found: list[tuple[Request, Worker | None]] = [(request, None) for request in outside]
        found += [(request, worker) for worker in self._stations for request in worker.held()]
        return sorted(found, key=lambda entry: entry[0].request_id)

    def _let_in(self, request: Request, _: Any) -> None:
        del self._releasing[request.request_id]
        self._enter(request)

    def _enter(self, request: Request) -> None:
        entry = self._entry
        if request.failovers:
            entry = self._able(request)
        if not entry:
            self._outside[request.request_id] = request
            return
        path = request.path
        home = None
        if path:
            home, known_tokens = self._homes.find(path)
            if not request.failovers:
                request.known_tokens = known_tokens
        worker = entry[0] if len(entry) == 1 else self._router(request, entry, home)
        if path:
            self._homes.put(path, worker)
        worker.submit(request, self._clock.environment.now)
        self._stations[worker].touched()

    def _able(self, request: Request) -> list[Worker]:
        """The instances up now that can compute the prompt of a request again, with what it was sent: where that has become too
        long for all that compute prompts, decode instances do it, which have room for the whole context."""
        tokens = request.prompt_tokens
        able = [w for w in self._stations if w.role != "decode" and w.memory.longest_tokens >= tokens]
        return [worker for worker in self._entry if worker in able] if able else self._decoders

    def take_output(self, station: Station) -> None:
        """Act on what a worker has put out."""
        worker = station.worker
        outbox, worker.outbox = worker.outbox, []
        for kind, request in outbox:
            if kind == FINISHED:
                if self._admission is not None:
                    self._admission.ended(request, self._site)
                if self._turns is not None:
                    self._end_turn(request)
                self.on_finished(request)
            elif kind == PREFILLED:
                self._to_decode(request)
            else:
                self._fetch(request, station)
        if self._leaving:
            self._let_go(station)

    def _end_turn(self, request: Request) -> None:
        """A call has ended: its context stays with the instance that has its prompt, or goes as the policy has it."""
        assert self._turns is not None
        assert request.prefill_worker is not None
        worker = self._by_name[request.prefill_worker].worker
        if worker not in self._leaving and worker not in self._down:
            self._turns.ended(request, worker, self._clock.environment.now)

    def _let_go(self, station: Station) -> None:
        """A station that is to leave does so once it is empty."""
        worker = station.worker
        if worker in self._leaving and worker.is_empty:
            self._leaving.pop(worker)(station)

    def _to_decode(self, request: Request) -> None:
        """Ask the decode instance with the least work for room; the KV stays where it is until there is some."""
        decoders = self._decoders
        request.kv_elsewhere = True
        if not decoders:
            if not any(worker.role == "decode" for worker in self._stations):
                raise SimulationError(f"request {request.request_id} was prefilled and there is no decode pool")
            self._prefilled[request.request_id] = request
            return
        worker = least_loaded(request, decoders, None)
        request.decode_worker = worker.name
        worker.submit(request, self._clock.environment.now)
        self._stations[worker].touched()

    def _fetch(self, request: Request, target: Station) -> None:
        """Room was granted: move the KV over the fabric."""
        assert request.prefill_worker is not None
        source = self._by_name[request.prefill_worker]
        size_bytes = request.context_tokens * self._kv_bytes_per_token
        handoff = self._network.handoff(self._clock.environment.now, source.endpoint, target.endpoint, size_bytes)
        travel = self._travelling[request.request_id] = _Travel(request, source, target)
        self._clock.at(handoff.finish_s, partial(self._arrived, travel))

    def _arrived(self, travel: _Travel, _: Any) -> None:
        request, source, target = travel
        if self._travelling.get(request.request_id) is not travel:
            return  # one of its ends has failed
        del self._travelling[request.request_id]
        now_s = self._clock.environment.now
        source.worker.release(request, now_s)
        target.worker.join(request, now_s)
        source.touched()
        target.touched()
        if self._leaving:
            self._let_go(source)

    @property
    def stations(self) -> Sequence[Station]:
        """All stations, in the order they were added."""
        return list(self._stations.values())
