"""TLSRoute: which backends TLS connections go to, by the server name that the client asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import Hostname
from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import ParentReference
from mesh.kinds.stream_routes import StreamRules


class TLSRouteSpec(Spec, frozen=True, kw_only=True):
    """Parents, server names and the one rule."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(min_length=1, max_length=1024)]
    rules: StreamRules


class TLSRoute(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` TLSRoute."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["TLSRoute"]
    spec: TLSRouteSpec
