"""ListenerSet: listeners that somebody else than the Gateway's owner adds to it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import Group, KindName, Namespace, ObjectName
from mesh.kinds.gateway import Listener
from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import GATEWAY_API


class ParentGatewayReference(Spec, frozen=True, kw_only=True):
    """The Gateway that the listeners are added to."""

    group: Group = GATEWAY_API
    kind: KindName = "Gateway"
    name: ObjectName
    namespace: Namespace | None = None


class ListenerSetSpec(Spec, frozen=True, kw_only=True):
    """The Gateway and the listeners."""

    parent_ref: ParentGatewayReference
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)]


class ListenerSet(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` ListenerSet."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["ListenerSet"]
    spec: ListenerSetSpec
