"""HTTPRoute: which requests go to which backends, and what is done to them on the way."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mesh.kinds.fields import (
    Duration,
    HeaderName,
    HeaderValue,
    Hostname,
    Path,
    QueryParamName,
    QueryParamValue,
    SectionName,
    Weight,
)
from mesh.kinds.http_filters import HTTPRouteFilter
from mesh.kinds.meta import Object, Spec
from mesh.kinds.references import BackendObjectReference, ParentReference

HTTPMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class HTTPPathMatch(Spec, frozen=True, kw_only=True):
    """A path to match; a regular expression must match the whole path."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Path = "/"


class HTTPHeaderMatch(Spec, frozen=True, kw_only=True):
    """A header to match; of several with one name (case aside) only the first counts."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: HeaderValue


class HTTPQueryParamMatch(Spec, frozen=True, kw_only=True):
    """A query parameter to match; names compare by case."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: QueryParamName
    value: QueryParamValue


class HTTPRouteMatch(Spec, frozen=True, kw_only=True):
    """A request must satisfy all of it. An absent path means every path, as the CRD's default says."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: Annotated[tuple[HTTPHeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], Meta(max_length=16)] = ()
    method: HTTPMethod | None = None


DEFAULT_ATTEMPTS = 2
"""How often a request is sent again where somebody wants it to be and does not say how often."""

EVERY_REQUEST = (HTTPRouteMatch(),)


class HTTPBackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend, its share of the requests, and filters for those requests alone."""

    weight: Weight = 1
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()


class HTTPRouteTimeouts(Spec, frozen=True, kw_only=True):
    """Durations as Gateway API writes them (`mesh.kinds.duration`); zero switches a timeout off."""

    request: Duration | None = None
    backend_request: Duration | None = None


class HTTPRouteRetry(Spec, frozen=True, kw_only=True):
    """When and how often a failed request is sent again (GEP-1731)."""

    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    backoff: Duration | None = None

    @property
    def repeated(self) -> int:
        """How often a request is sent again at most."""
        return self.attempts if self.attempts is not None else DEFAULT_ATTEMPTS


class CookieConfig(Spec, frozen=True, kw_only=True):
    """Whether a session cookie outlives the browser."""

    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(Spec, frozen=True, kw_only=True):
    """Requests of one session go to one endpoint (GEP-1619)."""

    session_name: Annotated[str, Meta(max_length=128)] | None = None
    absolute_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None


class HTTPRouteRule(Spec, frozen=True, kw_only=True):
    """Matches of which one must hold, the filters, and the backends; no matches means every request."""

    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], Meta(max_length=64)] = EVERY_REQUEST
    filters: Annotated[tuple[HTTPRouteFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None

    def __post_init__(self) -> None:
        # An empty list means what an absent one means, and whoever reads `matches` need not remember it.
        if not self.matches:
            msgspec.structs.force_setattr(self, "matches", EVERY_REQUEST)


class HTTPRouteSpec(Spec, frozen=True, kw_only=True):
    """Parents, hostnames and rules; no hostnames means those of the parent's listener."""

    parent_refs: Annotated[tuple[ParentReference, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], Meta(min_length=1, max_length=16)] = (HTTPRouteRule(),)


class HTTPRoute(Object, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1` HTTPRoute."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    spec: HTTPRouteSpec
