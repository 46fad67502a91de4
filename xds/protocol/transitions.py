"""From what a client holds to what it should hold: computed once per state, shared by all streams in that state.

Everything here is a function of immutable values, so its results are kept and found again by the identity of what they
were made from: two hundred proxies that hold the same and are told of the same change share one difference, one body
and one outcome. What was not used between two publications is let go.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, cast

from xds.protocol import frames
from xds.protocol.contents import ABSENT, EMPTY, Contents, Entry
from xds.protocol.subscription import Subscription
from xds.resources import is_requirement
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_LISTENER, TYPE_SCOPED_ROUTE

Variant = Literal["delta", "sotw"]
T = TypeVar("T")

# Types of which a state-of-the-world response is complete, so that absence means deletion (S8). Envoy takes scoped
# routes so too (source/common/router/scoped_rds.cc), though the protocol's page names listeners and clusters only.
COMPLETE: Final = frozenset({TYPE_CLUSTER, TYPE_LISTENER, TYPE_SCOPED_ROUTE})

# More remembered transitions than this are not worth their memory; they are only ever an economy.
_KEPT: Final = 20_000
_NO_NAMES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """What separates what is held from what is wanted. `gone` are removals, and absences to be told."""

    held: Contents
    wanted: Contents
    changed: Mapping[str, Entry] = field(default_factory=dict)
    gone: frozenset[str] = _NO_NAMES

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.changed and not self.gone


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A response but for its nonce, and what the client holds once it has taken it."""

    body: bytes
    before: Contents
    after: Contents
    sent: Mapping[str, Entry]
    removed: frozenset[str]


class Transitions:
    """The shared memory of one server; holds only what follows from its arguments."""

    def __init__(self) -> None:
        self._young: dict[Hashable, Any] = {}
        self._old: dict[Hashable, Any] = {}
        self._subscriptions: weakref.WeakKeyDictionary[Subscription, weakref.ref[Subscription]] = (
            weakref.WeakKeyDictionary()
        )
        self.made = 0

    def age(self) -> None:
        """Forget what was not used since the last time this was called."""
        self._old, self._young = self._young, {}

    def _remember(self, key: Hashable, make: Callable[[], T]) -> T:
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                found = make()
                self.made += 1
            if len(self._young) >= _KEPT:
                self.age()
            self._young[key] = found
        return cast("T", found)

    def subscription(self, subscription: Subscription) -> Subscription:
        """One object for equal subscriptions, so that their thousand names are in memory once."""
        known = self._subscriptions.get(subscription)
        shared = known() if known is not None else None
        if shared is None:
            self._subscriptions[subscription] = weakref.ref(subscription)
            return subscription
        return shared

    def wanted(self, contents: Contents, subscription: Subscription) -> Contents:
        """What a client with this subscription should hold; a name that does not exist maps to `ABSENT`."""
        if subscription.wildcard and not subscription.names:
            return contents
        return self._remember(("wanted", contents, subscription), lambda: self._follow(contents, subscription))

    def _follow(self, contents: Contents, subscription: Subscription) -> Contents:
        # The last answer for this subscription leads to the next one at the cost of the change.
        last: list[Contents] = self._remember(("last wanted", subscription), list)
        changed = contents.changed_since(last[0]) if last else None
        if changed is None:
            wanted = _wanted(contents, subscription)
        else:
            entries = contents.entries
            named = changed if subscription.wildcard else changed & subscription.names
            absent = subscription.names
            wanted = last[1].replace({name: entries.get(name, ABSENT if name in absent else None) for name in named})
        last[:] = contents, wanted
        return wanted

    def difference(self, held: Contents, contents: Contents, subscription: Subscription) -> Difference:
        """What separates a client that holds `held` from what it should hold."""
        wanted = self.wanted(contents, subscription)
        return self._remember(("difference", held, wanted), lambda: difference(held, wanted))

    def without(self, held: Contents, names: frozenset[str]) -> Contents:
        """`held` less some names."""
        return self._remember(("without", held, names), lambda: held.without(names))

    def unsure(self, held: Contents, names: frozenset[str]) -> Contents:
        """`held` with some names of which the client must be told again, whether it still has them or not."""
        return self._remember(("unsure", held, names), lambda: held.replace({name: Entry(name, "") for name in names}))

    def step(
        self,
        variant: Variant,
        type_url: str,
        found: Difference,
        *,
        left_out: frozenset[str] = _NO_NAMES,
        empty: Mapping[str, Entry] | None = None,
    ) -> Step:
        """The response that carries a difference.

        `left_out` are names that stay as they are for now; `empty` stands in for absent resources.
        """
        replaced = frozenset(empty) if empty else _NO_NAMES
        key = ("step", variant, type_url, found, left_out, replaced)
        return self._remember(key, lambda: _step(variant, type_url, found, left_out, empty or {}))

    def not_warm(
        self, found: Difference, clusters: Contents, acked: Contents, endpoints: Contents, filters: Contents | None
    ) -> frozenset[str]:
        """The changed routes and listeners that need what the client does not have yet (S18)."""
        key = ("not warm", found, clusters, acked, endpoints, filters)
        return self._remember(key, lambda: not_warm(found, clusters, acked, endpoints, filters))

    def sizes(self) -> Iterator[int]:
        """Bytes of the remembered bodies, for tests and telemetry."""
        for made in itertools.chain(self._young.values(), self._old.values()):
            if isinstance(made, Step):
                yield len(made.body)


def difference(held: Contents, wanted: Contents) -> Difference:
    """The difference of two contents."""
    if held is wanted:
        return Difference(held, wanted)
    changed: dict[str, Entry] = {}
    gone: set[str] = set()
    for name in wanted.may_differ_from(held):
        want, have = wanted.get(name), held.get(name)
        if want is have:
            continue
        if want is None or want is ABSENT:
            if want is ABSENT or have is not ABSENT:
                gone.add(name)
        elif have is None or have is ABSENT or have.version != want.version:
            changed[name] = want
    return Difference(held, wanted, dict(sorted(changed.items())), frozenset(gone))


def not_warm(
    found: Difference, clusters: Contents, acked: Contents, endpoints: Contents, filters: Contents | None = None
) -> frozenset[str]:
    """The names in `found.changed` that route to a cluster of `clusters` that the client has not acknowledged, or whose
    endpoints it has not been sent. Clusters that we do not serve are the resource's own affair.

    Those too that name a requirement which none of the `filters` knows that the client was sent; None: it asks for no
    configurations of filters.
    """
    cold = set()
    for name, entry in found.changed.items():
        for needed in entry.needs:
            if is_requirement(needed):
                if filters is not None and needed not in filters.provides:
                    cold.add(name)
                    break
                continue
            cluster = clusters.get(needed)
            if cluster is None or cluster is ABSENT:
                continue
            if not acked.has(needed) or (cluster.eds and not endpoints.has(cluster.eds)):
                cold.add(name)
                break
    return frozenset(cold)


def _wanted(contents: Contents, subscription: Subscription) -> Contents:
    entries = contents.entries
    names = subscription.names
    if subscription.wildcard:
        return contents.replace({name: ABSENT for name in names if name not in entries})
    if names == entries.keys():
        return contents
    if not names:
        return EMPTY
    return Contents({name: entries.get(name, ABSENT) for name in sorted(names)})


def _step(
    variant: Variant,
    type_url: str,
    found: Difference,
    left_out: frozenset[str],
    empty: Mapping[str, Entry],
) -> Step:
    sent = {name: entry for name, entry in found.changed.items() if name not in left_out}
    sent.update(empty)
    removed = found.gone.difference(left_out, empty)
    after = found.wanted.replace(dict(empty)) if empty else found.wanted
    if left_out:
        after = after.replace({name: found.held.get(name) for name in left_out})
    if variant == "delta":
        body = frames.delta_body(type_url, sent.values(), sorted(removed))
        return Step(body, found.held, after, sent, removed)
    carried = sent
    if type_url in COMPLETE:
        carried = {name: entry for name, entry in after.entries.items() if entry is not ABSENT}
    body = frames.sotw_body(type_url, after.version, carried.values())
    return Step(body, found.held, after, carried, removed)
