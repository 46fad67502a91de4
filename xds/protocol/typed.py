"""The state of one type on one stream: what was asked for, sent, acknowledged and refused.

Owns nonces and what they stand for. What to send, and when, is decided in `stream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    """A response without an answer yet. `event_at`: when the change that it carries happened, if a change made it."""

    step: Step
    sent_at: float
    event_at: float | None


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
        "farewell",
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
        self.farewell = _NO_NAMES
        # Refusals: name → version, the last words, and the parts still to be tried one by one.
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
        if after is before or after == before:
            forgotten = asked.again | asked.dropped
        elif before.wildcard and not after.wildcard:
            forgotten = asked.again | asked.dropped | frozenset(self.held.entries.keys() - after.names)
        else:
            forgotten = asked.again | asked.dropped
        if after.wildcard:
            self.farewell |= asked.dropped
        if self._claimed is not None:
            self._forgotten.update(forgotten)
        present = forgotten & self.held.entries.keys()
        if present:
            self.held = transitions.without(self.held, frozenset(present))
        if asked.again or after != before:
            self.by_request = True

    def settle_claims(self, wanted: Contents) -> None:
        """Turn what a returning client said into what it holds, once there are contents to compare with (D8, S7)."""
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
        self.farewell = _NO_NAMES
        self.event_at = None

    def ack(self, nonce: str) -> InFlight | None:
        """Take an ACK; None if nothing is known of the nonce."""
        flight = self.in_flight.get(nonce)
        if flight is None:
            return None
        self._answered_up_to(nonce)
        self.acked = flight.step.after
        self.acks += 1
        self.suspects = self.suspects[1:]
        if not self.suspects:
            self.probes = 0
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
            self.suspects = (*rejections.halves(new), *self.suspects[1:])
        else:
            guilty = guilty or frozenset(new)
            self.suspects = tuple(left for part in self.suspects if (left := part - guilty))
        self.rejected.update((name, new[name].version) for name in guilty)
        took_the_rest = guilty and self.type_url in rejections.TAKES_THE_GOOD
        self._put_back(step, guilty if took_the_rest else frozenset(new))
        if not self.in_flight:
            self.acked = self.held
        return Nacked(self.type_url, {name: new[name].version for name in sorted(guilty)}, detail)

    def _answered_up_to(self, nonce: str) -> None:
        # Clients answer in order, so what went before without an answer gets none.
        for older in list(self.in_flight):
            del self.in_flight[older]
            if older == nonce:
                return

    def _put_back(self, step: Step, names: frozenset[str]) -> None:
        self.held = self.held.replace(
            {name: step.before.get(name) for name in names if self.held.get(name) is step.sent[name]}
        )

    # -- what is held back --------------------------------------------------------------------------------------

    def refused(self, changed: Mapping[str, Entry]) -> frozenset[str]:
        """Which of the changed resources the client refused in this very version, or must wait their turn."""
        while self.suspects and not self.suspects[0] & changed.keys():
            self.suspects = self.suspects[1:]
        if not self.rejected and len(self.suspects) < 2:
            return _NO_NAMES
        refused = {name for name, entry in changed.items() if self.rejected.get(name) == entry.version}
        return frozenset(refused.union(*self.suspects[1:]) & changed.keys())


def _version(contents: Contents, name: str) -> str | None:
    entry = contents.get(name)
    return None if entry is None or entry is ABSENT else entry.version
