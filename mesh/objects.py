"""Which declaration of a config object holds, where several sources declare the same one.

Kubernetes wins over the store, the store over files; of two clusters the one whose name sorts first (DESIGN §3). The
losers are told so by a row of `SHADOWED`. Everything else in the model reads objects from here, never `DECLARED`.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mesh.kinds.meta import Object
from mesh.model import DECLARED, Declared, DeclaredKey, ObjectKey
from mesh.tables import Look, Reader, derived, each

ObjectT = TypeVar("ObjectT", bound=Object)


class Shadowed(msgspec.Struct, frozen=True):
    """A declaration that does not count, and the source and place of the one that does."""

    by: str
    location: str


def _object(key: DeclaredKey, _row: Declared) -> tuple[ObjectKey]:
    return (ObjectKey(key.kind, key.namespace, key.name),)


DECLARED_BY_OBJECT = DECLARED.index("object", _object)


def source_rank(source: str) -> tuple[int, str]:
    """Sort key of sources, the one that wins first."""
    if source.startswith("kubernetes:"):
        return 0, source
    return (1, source) if source == "store" else (2, source)


def _winner(look: Reader, key: ObjectKey) -> DeclaredKey | None:
    return min(look.keys(DECLARED_BY_OBJECT, key), key=lambda declared: source_rank(declared.source), default=None)


@derived("objects", each(DECLARED, _object))
def OBJECTS(key: ObjectKey, look: Look) -> Declared | None:  # noqa: N802
    """Each config object once, as the source that wins declares it."""
    winner = _winner(look, key)
    return look(DECLARED, winner) if winner is not None else None


@derived("shadowed", each(DECLARED))
def SHADOWED(key: DeclaredKey, look: Look) -> Shadowed | None:  # noqa: N802
    """The declarations that lost, and to which."""
    winner = _winner(look, ObjectKey(key.kind, key.namespace, key.name))
    if winner is None or winner == key:
        return None
    row = look(DECLARED, winner)
    return Shadowed(by=winner.source, location=row.location if row is not None else "")


def source_of(look: Reader, key: ObjectKey) -> str:
    """The source whose declaration of an object counts; empty where there is no such object."""
    winner = _winner(look, key)
    return winner.source if winner is not None else ""


def find(look: Reader, struct: type[ObjectT], key: ObjectKey) -> ObjectT | None:
    """The object at a key if it is there and of that kind."""
    row = look(OBJECTS, key)
    return row.object if row is not None and isinstance(row.object, struct) else None
