"""Whether a reference across namespaces is permitted: the target's namespace must have said so (ReferenceGrant).

A reader asks about one exact permission, so that a grant changes nothing but the rows it is about.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mesh.kinds.referencegrant import ReferenceGrant
from mesh.model import Declared, ObjectKey
from mesh.objects import OBJECTS, find
from mesh.tables import Look, Reader, derived, each


class Permission(NamedTuple):
    """Objects of a kind in one namespace may name those of a kind in another; `to_name` empty: any of them."""

    from_group: str
    from_kind: str
    from_namespace: str
    to_group: str
    to_kind: str
    to_namespace: str
    to_name: str = ""


class Grant(msgspec.Struct, frozen=True):
    """What a ReferenceGrant permits, sorted."""

    permissions: tuple[Permission, ...]


def _grant(key: ObjectKey, _row: Declared) -> tuple[ObjectKey, ...]:
    return (key,) if key.kind == "ReferenceGrant" else ()


@derived("reference_grants", each(OBJECTS, _grant))
def REFERENCE_GRANTS(key: ObjectKey, look: Look) -> Grant | None:  # noqa: N802
    """Each ReferenceGrant as the permissions it gives, every `from` with every `to`."""
    grant = find(look, ReferenceGrant, key)
    if grant is None:
        return None
    return Grant(
        tuple(
            sorted(
                Permission(giver.group, giver.kind, giver.namespace, to.group, to.kind, key.namespace, to.name or "")
                for giver in grant.spec.from_
                for to in grant.spec.to
            )
        )
    )


GRANTS_BY_PERMISSION = REFERENCE_GRANTS.index("permission", lambda _, row: row.permissions)


def permitted(look: Reader, wanted: Permission) -> bool:
    """Whether a reference is permitted: inside one namespace always, else where a grant names it or all of its kind."""
    if wanted.from_namespace == wanted.to_namespace:
        return True
    return bool(look.keys(GRANTS_BY_PERMISSION, wanted) or look.keys(GRANTS_BY_PERMISSION, wanted._replace(to_name="")))
