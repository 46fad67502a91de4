"""One client's stream as a state machine: requests and news in, responses out, time as an argument.

It decides what is sent and when; see the modules it calls for the rules. The caller gives it every request, tells it
which types have news (`mark`), then takes responses from `next` until there is none, and comes back at `deadline`.
Because `next` looks at the latest contents only, a slow client costs one pending state and never a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from xds.protocol import subscription as subscriptions
from xds.protocol.contents import ABSENT, EMPTY, Contents, Entry
from xds.protocol.frames import with_nonce
from xds.protocol.ordering import PATIENCE, ROUTING, Patience, Retirement, in_order
from xds.protocol.requests import NAMES, TYPES, DeltaRequest, ProtocolError, SotwRequest
from xds.protocol.subscription import Subscription
from xds.protocol.transitions import COMPLETE, Difference, Step, Transitions, Variant
from xds.protocol.typed import InFlight, Nacked, Typed
from xds.resources import is_requirement
from xds.schema import any_bytes, version_of
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT, TYPE_EXTENSION_CONFIG
from xds.schema.types import ClusterLoadAssignment

_NO_NAMES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Response:
    """A message to send, complete."""

    type_url: str
    message: bytes
    resources: int
    removed: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What a request told of earlier responses; both None when it only asks."""

    acked: InFlight | None = None
    nacked: Nacked | None = None


class Stream:
    """The machine. Mutable; one per gRPC stream.

    `source` gives the present contents of a type, None as long as they are not known.
    """

    __slots__ = (
        "_dirty",
        "_nonces",
        "_patience",
        "_retirement",
        "_source",
        "_transitions",
        "_wake",
        "types",
        "variant",
    )

    def __init__(
        self,
        variant: Variant,
        transitions: Transitions,
        source: Callable[[str], Contents | None],
        patience: Patience = PATIENCE,
    ) -> None:
        self.variant = variant
        self.types: dict[str, Typed] = {}
        self._transitions = transitions
        self._source = source
        self._patience = patience
        self._retirement = Retirement()
        self._dirty: set[str] = set()
        self._wake: dict[str, float] = {}
        self._nonces = 0

    # -- in -----------------------------------------------------------------------------------------------------

    def receive(self, request: SotwRequest | DeltaRequest) -> Heard:
        """Take a request.

        Raises `ProtocolError` when the stream asks for more than it may.
        """
        state = self.types.get(request.type_url)
        if state is None:
            if len(self.types) >= TYPES:
                raise ProtocolError(f"the stream asks for more than {TYPES} resource types", exhausted=True)
            state = self.types[request.type_url] = Typed(request.type_url)
        stale = isinstance(request, SotwRequest) and state.responses and request.nonce not in ("", state.last_nonce)
        dirty = state.type_url in self._dirty
        heard = self._heard(state, request)
        if isinstance(request, DeltaRequest):
            self._ask_delta(state, request)
        else:
            self._ask_sotw(state, request)
        if not stale:
            self._dirty.add(state.type_url)
        elif not dirty:
            # What it says counts, since requests come in order, but it is not answered: the client has yet to take the
            # latest response, and will ask again when it does (S3).
            self._dirty.discard(state.type_url)
        return heard

    def _heard(self, state: Typed, request: SotwRequest | DeltaRequest) -> Heard:
        """The ACK or NACK in a request."""
        if not request.nonce:
            return Heard()
        if request.error is not None:
            nacked = state.nack(request.nonce, request.error)
            self._release(state)
            return Heard(nacked=nacked)
        acked = state.ack(request.nonce)
        if acked is not None:
            self._release(state)
        return Heard(acked=acked)

    def _ask_delta(self, state: Typed, request: DeltaRequest) -> None:
        before = state.subscription
        if before is None:
            state.claim(request.versions)
        elif not request.subscribe and not request.unsubscribe:
            return
        asked = subscriptions.delta(before, request.subscribe, request.unsubscribe)
        self._check_size(asked.subscription)
        state.ask(asked, self._transitions)

    def _ask_sotw(self, state: Typed, request: SotwRequest) -> None:
        before = state.subscription
        if before is None:
            state.claim(request.version)
        asked = subscriptions.sotw(before, request.names)
        self._check_size(asked.subscription)
        state.ask(asked, self._transitions)
        if asked.again and state.type_url in COMPLETE:
            # Of complete types a response also tells that a name is not there, which the client waits to hear.
            state.must_answer = True

    def _check_size(self, asked: Subscription) -> None:
        if len(asked.names) > NAMES:
            raise ProtocolError(
                f"the stream is subscribed to {len(asked.names)} resources of a type; at most {NAMES} are served",
                exhausted=True,
            )

    def mark(self, type_url: str, event_at: float | None = None) -> bool:
        """Note that a type may have news, made by an event at this time; False if the stream does not ask for it."""
        state = self.types.get(type_url)
        if state is None:
            return False
        if event_at is not None and state.event_at is None:
            state.event_at = event_at
        self._dirty.add(type_url)
        return True

    def mark_all(self) -> None:
        """Note that anything may have changed."""
        self._dirty.update(self.types)

    def _release(self, state: Typed) -> None:
        """Look again at what waited for an answer about this type."""
        self._dirty.add(state.type_url)
        if state.type_url in ROUTING:
            if self._retirement:
                self._dirty.add(TYPE_CLUSTER)
            filters = self.types.get(TYPE_EXTENSION_CONFIG)
            if filters is not None and filters.waiting:
                self._dirty.add(TYPE_EXTENSION_CONFIG)
        else:
            self._release_waiting()

    def _release_waiting(self) -> None:
        for type_url in ROUTING:
            waiting = self.types.get(type_url)
            if waiting is not None and waiting.waiting:
                self._dirty.add(type_url)

    # -- out ----------------------------------------------------------------------------------------------------

    def wanted(self, state: Typed) -> Contents | None:
        """What the client should hold of a type; None as long as that is not known."""
        contents = self._source(state.type_url)
        if contents is None or state.subscription is None:
            return None
        return self._transitions.wanted(contents, state.subscription)

    def unanswered_since(self) -> float | None:
        """When the oldest response that the client has not answered was sent; None if it has answered all."""
        oldest = [next(iter(state.in_flight.values())).sent_at for state in self.types.values() if state.in_flight]
        return min(oldest, default=None)

    def deadline(self) -> float | None:
        """When time alone may bring something to send."""
        return min(self._wake.values(), default=None)

    def next(self, now: float) -> Response | None:
        """The next response, or None when there is nothing to send for now."""
        for type_url in [type_url for type_url, at in self._wake.items() if at <= now]:
            del self._wake[type_url]
            self._dirty.add(type_url)
        while self._dirty:
            type_url = next(iter(self._dirty)) if len(self._dirty) == 1 else in_order(self._dirty)[0]
            self._dirty.discard(type_url)
            response = self._advance(self.types[type_url], now)
            if response is not None:
                return response
        return None

    def _advance(self, state: Typed, now: float) -> Response | None:
        contents = self._source(state.type_url)
        subscription = state.subscription
        if contents is None or subscription is None:
            return None
        state.settle_claims(self._transitions.wanted(contents, subscription))
        found = self._transitions.difference(state.held, contents, subscription)
        if state.type_url == TYPE_CLUSTER and self._retirement:
            self._retirement.wanted_again(found.gone)
        owed = state.must_answer and self._answers_empty(state)
        if found.empty and not owed:
            state.held = found.wanted
            if not state.in_flight:
                state.acked = found.wanted
            state.caught_up()
            return None
        if self._awaits_answer(state, now):
            return None
        left_out, empty = self._held_back(state, found, now)
        if not empty and found.gone <= left_out and found.changed.keys() <= left_out:
            if state.waiting:
                # An empty answer now would make the client start without what it is about to get.
                return None
            if not owed:
                state.must_answer = state.by_request = False
                return None
        step = self._transitions.step(self.variant, state.type_url, found, left_out=left_out, empty=empty)
        if self.variant == "sotw" and not step.sent and state.type_url not in COMPLETE:
            # Absence of the other types is not told (S9); the client will hear when they appear (S13).
            state.held = step.after
            state.caught_up()
            return None
        return self._send(state, found, step, left_out, now)

    def _answers_empty(self, state: Typed) -> bool:
        """Whether a first request is answered even when there is nothing, so that the client does not wait for it."""
        assert state.subscription is not None
        if self.variant == "sotw":
            return state.type_url in COMPLETE
        return state.subscription.wildcard

    def _awaits_answer(self, state: Typed, now: float) -> bool:
        """Whether a push waits for the ACK of the last one; what a request asks for never does."""
        if not state.in_flight or (state.by_request and not state.suspects):
            return False
        newest = next(reversed(state.in_flight.values()))
        due = newest.sent_at + self._patience.answer
        if due <= now:
            return False
        self._wake[state.type_url] = due
        return True

    def _send(self, state: Typed, found: Difference, step: Step, left_out: frozenset[str], now: float) -> Response:
        self._nonces += 1
        nonce = str(self._nonces)
        state.sent(nonce, step, now)
        if state.type_url == TYPE_CLUSTER:
            self._retirement.left(step.removed)
            self._follow_with_endpoints(name for name in found.changed if name not in left_out)
        elif state.type_url in (TYPE_ENDPOINT, TYPE_EXTENSION_CONFIG):
            self._release_waiting()
        return Response(state.type_url, with_nonce(step.body, nonce), len(step.sent), len(step.removed))

    def _follow_with_endpoints(self, clusters: Iterable[str]) -> None:
        """Send the assignments of changed clusters again: a changed cluster warms until it gets them (S17)."""
        endpoints = self.types.get(TYPE_ENDPOINT)
        if endpoints is None or not len(endpoints.held):
            return
        again = frozenset(name for name in clusters if name in endpoints.held.entries)
        if again:
            endpoints.held = self._transitions.unsure(endpoints.held, again)
            endpoints.by_request = True
            self._dirty.add(TYPE_ENDPOINT)

    # -- what must wait -----------------------------------------------------------------------------------------

    def _held_back(self, state: Typed, found: Difference, now: float) -> tuple[frozenset[str], dict[str, Entry]]:
        """Which names of a difference stay as they are for now, and which are answered by an empty assignment."""
        left_out = state.refused(found.changed)
        if state.type_url in ROUTING:
            return left_out | self._cold(state, found, now), {}
        if state.type_url == TYPE_EXTENSION_CONFIG:
            return left_out | self._waiting(state, self._still_named(found), self._patience.leave, now), {}
        if not found.gone:
            return left_out, {}
        if state.type_url == TYPE_CLUSTER:
            return left_out | self._staying(found, now), {}
        if state.type_url == TYPE_ENDPOINT:
            kept, empty = self._assignments_of_held_clusters(found)
            return left_out | kept, empty
        return left_out, {}

    def _cold(self, state: Typed, found: Difference, now: float) -> frozenset[str]:
        clusters = self.types.get(TYPE_CLUSTER)
        served = self._source(TYPE_CLUSTER)
        if clusters is None or served is None or not found.changed:
            return _NO_NAMES
        if clusters.subscription is not None:
            # Who asks for clusters by name (gRPC) does so when a route names them, and waits by itself.
            served = self._transitions.wanted(served, clusters.subscription)
        if clusters.rejected:
            # A refused cluster will not become warm: routes to it go out, and answer 503.
            served = self._transitions.without(served, frozenset(served.entries.keys() & clusters.rejected.keys()))
        endpoints = self.types.get(TYPE_ENDPOINT)
        filters = self.types.get(TYPE_EXTENSION_CONFIG)
        cold = self._transitions.not_warm(
            found,
            served,
            clusters.acked,
            endpoints.held if endpoints else EMPTY,
            filters.held if filters is not None else None,
        )
        return self._waiting(state, cold, self._patience.warm, now)

    def _waiting(self, state: Typed, names: frozenset[str], patience: float, now: float) -> frozenset[str]:
        """Of the names that are to wait, those that have not waited out our patience."""
        state.waiting = {name: state.waiting.get(name, now) for name in names}
        if not names:
            return _NO_NAMES
        waited_out = {name for name, since in state.waiting.items() if since + patience <= now}
        if len(waited_out) < len(names):
            self._wake[state.type_url] = (
                min(since for name, since in state.waiting.items() if name not in waited_out) + patience
            )
        return names - waited_out

    def _still_named(self, found: Difference) -> frozenset[str]:
        """The changed configurations of filters that would know less than routes which the client holds still name.

        Unless others that it is to get name something new: those come first, for the same reason.
        """
        missing: set[str] = set()
        for name, entry in found.changed.items():
            have = found.held.get(name)
            missing.update(have.provides if have is not None else ())
            missing.difference_update(entry.provides)
        if not missing:
            return _NO_NAMES
        routing = [state for type_url in ROUTING if (state := self.types.get(type_url)) is not None]
        if missing.isdisjoint(
            _NO_NAMES.union(*(part.needs for state in routing for part in (state.held, state.acked)))
        ):
            return _NO_NAMES
        held = found.held.provides
        for state in routing:
            wanted = self.wanted(state)
            if wanted is not None and any(is_requirement(need) and need not in held for need in wanted.needs):
                return _NO_NAMES
        return frozenset(found.changed)

    def _staying(self, found: Difference, now: float) -> frozenset[str]:
        leaving = {name for name in found.gone if found.held.get(name) not in (None, ABSENT)}
        needed = [held.held.needs for type_url in ROUTING if (held := self.types.get(type_url)) is not None]
        stay = self._retirement.stay(
            leaving,
            settled=self._routing_is_settled(),
            needed=_NO_NAMES.union(*needed),
            now=now,
            patience=self._patience,
        )
        deadline = self._retirement.deadline(now, self._patience)
        if deadline is not None:
            self._wake[TYPE_CLUSTER] = deadline
        return stay

    def _routing_is_settled(self) -> bool:
        for type_url in ROUTING:
            state = self.types.get(type_url)
            if state is None or state.subscription is None:
                continue
            contents = self._source(type_url)
            if state.in_flight or contents is None:
                return False
            if not self._transitions.difference(state.held, contents, state.subscription).empty:
                return False
        return True

    def _assignments_of_held_clusters(self, found: Difference) -> tuple[frozenset[str], dict[str, Entry]]:
        """A cluster that the client has keeps its assignment, or gets an empty one, so that it never stays warming."""
        clusters = self.types.get(TYPE_CLUSTER)
        if clusters is None:
            return _NO_NAMES, {}
        served = [name for name in found.gone if clusters.held.has(name)]
        kept = frozenset(name for name in served if found.held.has(name))
        return kept, {name: empty_assignment(name) for name in sorted(served) if name not in kept}


def empty_assignment(cluster: str) -> Entry:
    """The assignment of a cluster that has no endpoints."""
    content = any_bytes(ClusterLoadAssignment(cluster_name=cluster))
    return Entry(cluster, version_of(content), content)
