"""Authorizers: whom an ExternalAuth filter has asked before a request goes on.

A rule whose authorizer cannot be had answers as one without a backend does: a request that somebody wants judged must
not pass unjudged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from mesh.backends import Backend, Invalid, port_of, resolve
from mesh.kinds.http_filters import HTTPExternalAuthFilter, HTTPRouteFilter
from mesh.model import HTTP2_PROTOCOLS, ObjectKey
from mesh.outside import find_outside
from mesh.tables import Reader

ALWAYS_SENT = ("authorization", "content-length", "host")
"""The headers that an authorizer over HTTP is always sent."""

ITS_OWN = (
    r"connection|content-.*|date|expect|host|keep-alive|proxy-connection|server|te|trailer|transfer-encoding|upgrade"
)
"""The headers that say something of an authorizer's own answer, as an expression of their names in lower case.

Put on the request, they would say it of the request's body, and `content-length` would smuggle a second request.
"""

_ITS_OWN = re.compile(ITS_OWN)


def is_its_own(header: str) -> bool:
    """Whether a header is never taken from an authorizer's answer; Envoy's own are not either."""
    name = header.lower()
    return _ITS_OWN.fullmatch(name) is not None or name.startswith("x-envoy-")


def of_rule(filters: Iterable[HTTPRouteFilter]) -> HTTPExternalAuthFilter | None:
    """What a rule's requests are asked for."""
    return next((one.external_auth for one in filters if one.external_auth is not None), None)


def authorizer(look: Reader, route: ObjectKey, asked: HTTPExternalAuthFilter) -> Backend | Invalid:
    """The backend that is asked."""
    backend = resolve(look, route=route, ref=asked.backend_ref)
    if isinstance(backend, Invalid):
        return backend
    outside = find_outside(look, backend.service) if backend.outside else None
    if outside is not None and outside.spec.dynamic_resolver is not None:
        said = f"Backend {backend.service.namespace}/{backend.service.name} resolves dynamically: clients would choose"
        return Invalid("UnsupportedValue", f"{said} their own authorizer; name a Service, or a Backend with endpoints.")
    port = port_of(look, backend)
    if asked.protocol == "GRPC" and port is not None and port.protocol not in HTTP2_PROTOCOLS:
        return msgspec.structs.replace(backend, http2=True)
    return backend
