"""UDPRoute: which backends the datagrams of a UDP listener go to."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import ParentReference
from mesh.kinds.stream_routes import StreamRules


class UDPRouteSpec(Spec, frozen=True, kw_only=True):
    """Parents, and the one rule."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    rules: StreamRules


class UDPRoute(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` UDPRoute."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["UDPRoute"]
    spec: UDPRouteSpec
