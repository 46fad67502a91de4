"""GRPCRoute: which gRPC calls go to which backends, by service, method and headers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mesh.kinds.fields import HeaderName, HeaderValue, Hostname, SectionName, Weight
from mesh.kinds.http_filters import HTTPHeaderFilter, HTTPRequestMirrorFilter
from mesh.kinds.httproute import SessionPersistence
from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import BackendObjectReference, LocalObjectReference, ParentReference


class GRPCMethodMatch(Spec, frozen=True, kw_only=True):
    """A service (with its package), a method, or both; an absent one means any."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: Annotated[str, Meta(max_length=1024)] = ""
    method: Annotated[str, Meta(max_length=1024)] = ""


class GRPCHeaderMatch(Spec, frozen=True, kw_only=True):
    """A header (metadata) to match; of several with one name (case aside) only the first counts."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: HeaderValue


class GRPCRouteMatch(Spec, frozen=True, kw_only=True):
    """A call must satisfy all of it. An absent method means every call."""

    method: GRPCMethodMatch | None = None
    headers: Annotated[tuple[GRPCHeaderMatch, ...], Meta(max_length=16)] = ()


EVERY_CALL = (GRPCRouteMatch(),)


class GRPCRouteFilter(Spec, frozen=True, kw_only=True):
    """One filter: `type` says which of the other fields is set."""

    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


class GRPCBackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend, its share of the calls, and filters for those calls alone."""

    weight: Weight = 1
    filters: Annotated[tuple[GRPCRouteFilter, ...], Meta(max_length=16)] = ()


class GRPCRouteRule(Spec, frozen=True, kw_only=True):
    """Matches of which one must hold, the filters, and the backends; no matches means every call."""

    name: SectionName | None = None
    matches: Annotated[tuple[GRPCRouteMatch, ...], Meta(max_length=64)] = EVERY_CALL
    filters: Annotated[tuple[GRPCRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None

    def __post_init__(self) -> None:
        # An empty list means what an absent one means, and whoever reads `matches` need not remember it.
        if not self.matches:
            msgspec.structs.force_setattr(self, "matches", EVERY_CALL)


class GRPCRouteSpec(Spec, frozen=True, kw_only=True):
    """Parents, hostnames and rules; no hostnames means those of the parent's listener."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[GRPCRouteRule, ...], Meta(max_length=16)] = ()


class GRPCRoute(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` GRPCRoute."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["GRPCRoute"]
    spec: GRPCRouteSpec
