"""What a stream has asked for of one type, as a value; requests turn one value into the next.

The rules are those of "How the client specifies what resources to return" in Envoy's xds_protocol document. A type's
first request without names means everything (`legacy`, since "*" came later); once a stream has named anything, an
empty list means nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

WILDCARD: Final = "*"

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Subscription:
    """The names asked for (without "*"), and whether everything is.

    `legacy` holds as long as the stream has never named anything of the type.
    """

    names: frozenset[str] = _NONE
    wildcard: bool = False
    legacy: bool = True

    def wants(self, name: str) -> bool:
        """Whether a resource of this name belongs to the subscription."""
        return self.wildcard or name in self.names


@dataclass(frozen=True, slots=True)
class Asked:
    """A subscription after a request, and what the request means for what is to be sent.

    `again` must be answered even if the client held them (S10, D3, D6); `dropped` the client has forgotten.
    """

    subscription: Subscription
    again: frozenset[str] = _NONE
    dropped: frozenset[str] = _NONE


def sotw(before: Subscription | None, names: Collection[str]) -> Asked:
    """After a state-of-the-world request, whose names are the whole subscription (S10, S11, S12)."""
    if before is None:
        before = Subscription()
    if not names and before.legacy:
        return Asked(Subscription(wildcard=True))
    named, wildcard = _told(names)
    if before.wildcard == wildcard and before.names == named and not before.legacy:
        return Asked(before)
    after = Subscription(named, wildcard=wildcard, legacy=False)
    return Asked(after, again=named - before.names, dropped=_NONE if wildcard else before.names - named)


def delta(before: Subscription | None, subscribe: Collection[str], unsubscribe: Collection[str]) -> Asked:
    """After a delta request, which adds names and takes names away (D3, D4, D6, D9)."""
    first = before is None
    if before is None:
        before = Subscription()
    if not subscribe and not unsubscribe:
        return Asked(Subscription(wildcard=True) if first else before)
    added, everything = _told(subscribe)
    wildcard = before.wildcard or (first and not subscribe) or everything
    if WILDCARD in unsubscribe:
        wildcard = False
    gone = before.names.intersection(unsubscribe)
    names = (before.names - gone) | added if before.names else added
    after = Subscription(names, wildcard=wildcard, legacy=before.legacy and not subscribe)
    return Asked(after, again=added | gone if wildcard else added, dropped=gone - added)


def _told(names: Collection[str]) -> tuple[frozenset[str], bool]:
    """The names without "*", and whether that is among them."""
    named = frozenset(names)
    return (named - {WILDCARD}, True) if WILDCARD in named else (named, False)
