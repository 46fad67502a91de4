"""The bookkeeping that a store writes into `metadata`, as Kubernetes' API server does for its objects.

Pure. `uid` and `creationTimestamp` are made once per life of an object, `generation` counts changes of anything but
metadata (Kubernetes: of `spec`), `resourceVersion` is the store's revision. What a user sends in these fields is
ignored: only names, labels and annotations of `metadata` are theirs. A store on Kubernetes leaves all this to the API
server.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from mesh.kinds.meta import Object, ObjectMeta

Kind = TypeVar("Kind", bound=Object)


def timestamp(at: datetime) -> str:
    """RFC 3339 with whole seconds in UTC, as Kubernetes writes them: `2026-11-23T06:28:15Z`."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def stamped(new: Kind, old: Object | None, *, revision: int, now: datetime, uid: str) -> Kind:
    """`new` with the stamps of a write over `old` (None: a first write, which takes `now` and `uid`)."""
    if old is None:
        created, generation = timestamp(now), 1
    else:
        created = old.metadata.creation_timestamp or timestamp(now)
        uid = old.metadata.uid or uid
        generation = old.metadata.generation + (not _same_but_for_metadata(new, old))
    metadata = replace(
        new.metadata, creation_timestamp=created, generation=generation, resource_version=str(revision), uid=uid
    )
    return replace(new, metadata=metadata)


def same(new: Object, old: Object) -> bool:
    """Whether a write would change nothing but stamps."""
    return _users_own(new.metadata) == _users_own(old.metadata) and _same_but_for_metadata(new, old)


def _same_but_for_metadata(new: Object, old: Object) -> bool:
    return type(new) is type(old) and replace(new, metadata=old.metadata) == old


def _users_own(metadata: ObjectMeta) -> ObjectMeta:
    return replace(metadata, creation_timestamp=None, generation=0, resource_version="", uid="")
