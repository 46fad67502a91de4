"""TCPRoute: which backends the connections of a TCP listener go to."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import ParentReference
from mesh.kinds.stream_routes import StreamRules


class TCPRouteSpec(Spec, frozen=True, kw_only=True):
    """Parents, and the one rule."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    rules: StreamRules


class TCPRoute(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` TCPRoute."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["TCPRoute"]
    spec: TCPRouteSpec
