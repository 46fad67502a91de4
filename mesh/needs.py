"""Which services config objects and proxies need, by name: for sources that ask for each apart. Pure.

A gateway needs what routes and policies name. What sidecars and proxyless clients may call is not known beforehand:
while there are any, all services are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from mesh.kinds.meta import Object
from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.references import BackendObjectReference, ParentReference
from mesh.kinds.servicesubset import ServiceSubset
from mesh.model import AUDIENCES, Audience
from mesh.objects import OBJECTS
from mesh.tables import Commit


def named_services(found: Object) -> frozenset[str]:
    """The names of the services that an object refers to, in whatever namespace."""
    named = set(_named(found.spec)) if hasattr(found, "spec") else set()
    if isinstance(found, ServiceSubset):
        named.add(found.spec.service)
    return frozenset(named)


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, BackendObjectReference | ParentReference | PolicyTargetReference) and value.kind == "Service":
        yield value.name
    if isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _named(getattr(value, field))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _named(each)


class Needs:
    """What is needed, kept up to date by `committed`."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()
        self._clients: set[Audience] = set()

    @property
    def names(self) -> frozenset[str] | None:
        """The services that are needed; None: all."""
        return None if self._clients else frozenset(self._names)

    def committed(self, commit: Commit) -> bool:
        """Take in what a commit changed; whether `names` may be others now."""
        before = (set(self._names), bool(self._clients))
        objects = commit.of(OBJECTS)
        for old, new in objects.values():
            self._names.update(named_services(new.object) if new is not None else ())
            self._names.subtract(named_services(old.object) if old is not None else ())
        self._names = +self._names if objects else self._names
        for audience, (_, row) in commit.of(AUDIENCES).items():
            if audience.kind != "gateway":
                (self._clients.discard if row is None else self._clients.add)(audience)
        return before != (set(self._names), bool(self._clients))
