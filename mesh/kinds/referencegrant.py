"""ReferenceGrant: what other namespaces may refer to in this one."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from mesh.kinds.fields import Group, KindName, Namespace, ObjectName
from mesh.kinds.meta import Object, Spec


class ReferenceGrantFrom(Spec, frozen=True, kw_only=True):
    """Who may refer: objects of a kind in a namespace."""

    group: Group
    kind: KindName
    namespace: Namespace


class ReferenceGrantTo(Spec, frozen=True, kw_only=True):
    """What may be referred to: objects of a kind here, or one of them by name."""

    group: Group
    kind: KindName
    name: ObjectName | None = None


class ReferenceGrantSpec(Spec, frozen=True, kw_only=True):
    """Every `from` may refer to every `to`."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], Meta(min_length=1, max_length=16)] = field(name="from")
    to: Annotated[tuple[ReferenceGrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` ReferenceGrant (v1beta1 is accepted and means the same)."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["ReferenceGrant"]
    spec: ReferenceGrantSpec
