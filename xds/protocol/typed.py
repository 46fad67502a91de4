"""The state of one type on one stream: what was asked for, sent, acknowledged and refused.

Owns nonces and what they stand for. What to send, and when, is decided in `stream`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from xds.protocol import rejections
from xds.protocol.claims import NO_CLAIMS, Claims
from xds.protocol.contents import ABSENT, EMPTY, Contents, Entry
from xds.protocol.subscription import Asked, Subscription
from xds.protocol.transitions import Step, Transitions

# Responses to requests are sent without waiting for ACKs, so a client that never acknowledges has many in flight.
_IN_FLIGHT: Final = 64

_NO_NAMES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class InFlight:
    """A response without an answer yet. `event_at`: when the change that it carries happened, if a change made it.

    `doubtful`: an earlier response was refused after this one was made, which took for granted that it would not be.
    """

    step: Step
    sent_at: float
    event_at: float | None
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Nacked:
    """What a NACK came to: the blamed names with their versions, none while the culprit is still looked for."""

    type_url: str
    versions: Mapping[str, str]
    detail: str


class Typed:
    """One type of one stream. Mutable; belongs to its `Stream`."""

    __slots__ = (
        "_claimed",
        "_forgotten",
        "acked",
        "acks",
        "answered",
        "by_request",
        "detail",
        "event_at",
        "held",
        "in_flight",
        "last_nonce",
        "must_answer",
        "nacks",
        "probes",
        "rejected",
        "responses",
        "subscription",
        "suspects",
        "type_url",
        "waiting",
    )

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.subscription: Subscription | None = None
        self.held = EMPTY
        self.acked = EMPTY
        self.in_flight: dict[str, InFlight] = {}
        self.last_nonce = ""
        self._claimed: Claims | str | None = None
        self._forgotten: set[str] = set()
        # What the next response owes to a request rather than to a change.
        self.answered = False
        self.must_answer = False
        self.by_request = False
        # Refusals: name → version, the last words, and disjoint parts of a refused response, to be tried one by one.
        self.rejected: dict[str, str] = {}
        self.detail = ""
        self.suspects: tuple[frozenset[str], ...] = ()
        self.probes = 0
        # Names held back for clusters that are not warm → since when.
        self.waiting: dict[str, float] = {}
        self.event_at: float | None = None
        self.responses = 0
        self.acks = 0
        self.nacks = 0

    # -- requests -----------------------------------------------------------------------------------------------

    def claim(self, held: Claims | str) -> None:
        """Note what a returning client says it holds: versions by name (delta), or one version of all (SotW)."""
        self._claimed = None if held in ("", NO_CLAIMS) else held

    def ask(self, asked: Asked, transitions: Transitions) -> None:
        """Take over the subscription that a request led to."""
        before, after = self.subscription, transitions.subscription(asked.subscription)
        self.subscription = after
        if before is None:
            self.by_request = self.must_answer = True
            return
        dropped = asked.dropped - asked.again
        if before.wildcard and not after.wildcard:
            dropped |= self.held.entries.keys() - after.names
        if self._claimed is not None:
            self._forgotten.update(asked.again, dropped)
        entries = self.held.entries
        # What is on its way may arrive when the client wants it again, so it has to be told whatever comes of it.
        on_its_way = dropped.intersection(name for flight in self.in_flight.values() for name in flight.step.sent)
        if unsure := (asked.again | on_its_way).intersection(entries):
            self.held = transitions.unsure(self.held, unsure)
        if gone := (dropped - on_its_way).intersection(entries):
            self.held = transitions.without(self.held, gone)
            self.acked = transitions.without(self.acked, gone)
        if asked.again or after != before:
            self.by_request = True

    def settle_claims(self, wanted: Contents) -> None:
        """Turn what a returning client said into what it holds, once there are contents to compare with (D8, S7).

        A SotW client's version covers the names that it asked for then, so one that asks for others is sent everything.
        One that dropped a name, took it up again and lost its stream before the answer cannot be told from one that
        kept it.
        """
        claimed, self._claimed = self._claimed, None
        if claimed is None:
            return
        subscription = self.subscription
        assert subscription is not None
        if isinstance(claimed, str):
            self.held = wanted if claimed == wanted.version else EMPTY
        elif not self._forgotten and claimed == wanted.claims:
            self.held = wanted
        else:
            versions = {
                name: version
                for name, version in claimed.versions().items()
                if subscription.wants(name) and name not in self._forgotten
            }
            self.held = wanted.claimed(versions)
        self._forgotten = set()
        self.acked = self.held
        # An empty answer tells a new client that there is nothing; a client that holds something knows better.
        self.must_answer = self.held is EMPTY

    # -- answers ------------------------------------------------------------------------------------------------

    def sent(self, nonce: str, step: Step, now: float) -> None:
        """Note a response."""
        if len(self.in_flight) >= _IN_FLIGHT:
            del self.in_flight[next(iter(self.in_flight))]
        self.in_flight[nonce] = InFlight(step, now, self.event_at)
        self.last_nonce = nonce
        self.held = step.after
        self.responses += 1
        self.caught_up()

    def caught_up(self) -> None:
        """Note that nothing is owed any more."""
        self.answered = True
        self.must_answer = self.by_request = False
        self.event_at = None

    def ack(self, nonce: str) -> InFlight | None:
        """Take an ACK; None if nothing is known of the nonce."""
        flight = self.in_flight.get(nonce)
        if flight is None:
            return None
        self._answered_up_to(nonce)
        step = flight.step
        if flight.doubtful:
            taken: dict[str, Entry | None] = dict(step.sent)
            self.acked = self.acked.replace({**taken, **{name: step.after.get(name) for name in step.removed}})
        else:
            self.acked = step.after
        self.acks += 1
        self._clear(flight.step.sent.keys())
        return flight

    def nack(self, nonce: str, detail: str) -> Nacked | None:
        """Take a NACK: find who is to blame, and put back what the client still holds (S5, S6)."""
        flight = self.in_flight.get(nonce)
        if flight is None:
            return None
        self._answered_up_to(nonce)
        self.nacks += 1
        self.detail = detail
        step = flight.step
        new = {name: entry for name, entry in step.sent.items() if _version(step.before, name) != entry.version}
        guilty = rejections.blamed(new, detail)
        if not guilty and self.probes < rejections.PROBES:
            self.probes += 1
            others = tuple(left for part in self.suspects if (left := part.difference(new)))
            self.suspects = (*rejections.halves(new), *others)
        else:
            guilty = guilty or frozenset(new)
            self._clear(guilty)
        self.rejected.update((name, new[name].version) for name in guilty)
        took_the_rest = guilty and self.type_url in rejections.TAKES_THE_GOOD
        self._put_back(step, guilty if took_the_rest else frozenset(new))
        self.in_flight = {later: replace(flight, doubtful=True) for later, flight in self.in_flight.items()}
        if not self.in_flight:
            self.acked = self.held
        return Nacked(self.type_url, {name: new[name].version for name in sorted(guilty)}, detail)

    def _clear(self, names: Collection[str]) -> None:
        """Suspect these no longer: the client took them, or they are found guilty."""
        self.suspects = tuple(left for part in self.suspects if (left := part.difference(names)))
        if not self.suspects:
            self.probes = 0

    def _answered_up_to(self, nonce: str) -> None:
        # Clients answer in order, so what went before without an answer gets none.
        for older in list(self.in_flight):
            del self.in_flight[older]
            if older == nonce:
                return

    def _put_back(self, step: Step, names: frozenset[str]) -> None:
        """Have these as they were before a response, unless a later one sent or removed them again."""
        before: dict[str, Entry | None] = {}
        for name in names.difference(*(flight.step.sent for flight in self.in_flight.values())):
            if _version(self.held, name) == step.sent[name].version:
                # What was held for certain then may have come with a response that was refused since.
                before[name] = self.acked.get(name) if step.before.has(name) else step.before.get(name)
        self.held = self.held.replace(before)

    # -- what is held back --------------------------------------------------------------------------------------

    def refused(self, changed: Mapping[str, Entry]) -> frozenset[str]:
        """Which of the changed resources the client refused in this very version, or must wait their turn."""
        if not self.rejected and not self.suspects:
            return _NO_NAMES
        refused = frozenset(name for name, entry in changed.items() if self.rejected.get(name) == entry.version)
        open_questions = changed.keys() - refused
        self.suspects = tuple(left for part in self.suspects if (left := part & open_questions))
        return refused.union(*self.suspects[1:])


def _version(contents: Contents, name: str) -> str | None:
    entry = contents.get(name)
    return None if entry is None or entry is ABSENT else entry.version
