"""What a reference to a backend means: a port of a service or subset, a destination outside, or why it means nothing.

A reference in a route's rule and one in a mirror filter are resolved alike. What is invalid here answers 500 in
Envoy; a service that exists and has no endpoints is valid, and answers 503 (Gateway API, HTTPRouteRule.backendRefs).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mesh.backend_tls import BackendTLS, backend_tls
from mesh.kinds.references import FAIRLEAD, GATEWAY_API, BackendObjectReference
from mesh.model import HTTP2_PROTOCOLS, ObjectKey, ServiceKey, ServicePort
from mesh.outside import PORT, find_outside, outside_port, why_unbounded
from mesh.reference_grants import Permission, permitted
from mesh.services import SERVICES, SUBSETS, SubsetKey
from mesh.tables import Reader

Reason = Literal["InvalidKind", "BackendNotFound", "RefNotPermitted", "UnsupportedProtocol", "UnsupportedValue"]

KINDS = (("", "Service"), (FAIRLEAD, "Service"), (FAIRLEAD, "ServiceSubset"), (FAIRLEAD, "Backend"))
UNROUTABLE = ("UDP", "TLS")
"""What an HTTP route cannot reach (TLS only by a BackendTLSPolicy); TCP and TLS routes carry all but UDP, UDP routes
that alone."""


_WHO_REFERS = {"TrafficPolicy": (FAIRLEAD, "TrafficPolicies")}
"""The groups and the plurals of those that are no routes of Gateway API."""

_A_ROUTE = {
    "HTTPRoute": "an HTTP route",
    "GRPCRoute": "a gRPC route",
    "TLSRoute": "a TLS route",
    "TCPRoute": "a TCP route",
    "UDPRoute": "a UDP route",
    "TrafficPolicy": "failover",
}


class Backend(msgspec.Struct, frozen=True, order=True):
    """A port of a service; `subset` is the name of a ServiceSubset in the service's namespace, or empty.

    `own` says that only the endpoints of our `Service` object are meant, though other sources know the service too;
    `route_retry` that a route brings a `retry` of its own, which a TrafficPolicy's must not overrule; `udp` that the
    port is one of UDP, whose numbers are apart from those of TCP; `http2` that it is spoken to as gRPC is, whatever
    else is known of it; `raw` that bytes pass as they are, though a BackendTLSPolicy asks for TLS; `outside` that it is
    no service but the Backend object of that name; `canary_of` (`<namespace>/<name>`) that the requests which a Rollout
    sends there are counted apart from all others; `credential` (`<namespace>/<name>`) that requests get that of a
    RoutePolicy; `failover` the names of the clusters of those that take over where its endpoints cannot answer
    (`mesh.failovers`).
    """

    service: ServiceKey
    port: int
    subset: str = ""
    own: bool = False
    route_retry: bool = False
    udp: bool = False
    http2: bool = False
    raw: bool = False
    outside: bool = False
    canary_of: str = ""
    credential: str = ""
    failover: tuple[str, ...] = ()


class Invalid(msgspec.Struct, frozen=True):
    """A reference that leads nowhere: `reason` is a word of Gateway API, `message` says what to mend."""

    reason: Reason
    message: str


def resolve(look: Reader, *, route: ObjectKey, ref: BackendObjectReference) -> Backend | Invalid:
    """The backend that a reference of a route names, or of a TrafficPolicy (`mesh.failovers`)."""
    namespace = ref.namespace or route.namespace
    if (ref.group, ref.kind) not in KINDS:
        said = (
            f"backendRef names {ref.kind} {ref.name} of group {ref.group!r}; "
            f"use kind Service (group '' or {FAIRLEAD}), or ServiceSubset or Backend (group {FAIRLEAD})."
        )
        return Invalid("InvalidKind", said)
    group, several = _WHO_REFERS.get(route.kind, (GATEWAY_API, f"{route.kind}s"))
    wanted = Permission(group, route.kind, route.namespace, ref.group, ref.kind, namespace, ref.name)
    if not permitted(look, wanted):
        said = (
            f"{ref.kind} {namespace}/{ref.name} is in another namespace and no ReferenceGrant in {namespace} permits "
            f"{several} of {route.namespace} to use it."
        )
        return Invalid("RefNotPermitted", said)
    if ref.kind == "Backend":
        return _outside(look, route, Backend(ServiceKey(namespace, ref.name), PORT, outside=True))
    if ref.kind == "ServiceSubset":
        subset = look(SUBSETS, SubsetKey(namespace, ref.name))
        if subset is None:
            return Invalid("BackendNotFound", f"ServiceSubset {namespace}/{ref.name} does not exist.")
        return _port(look, route.kind, ref, Backend(subset.service, ref.port or 0, subset=ref.name))
    return _port(look, route.kind, ref, Backend(ServiceKey(namespace, ref.name), ref.port or 0))


def _port(look: Reader, kind: str, ref: BackendObjectReference, backend: Backend) -> Backend | Invalid:
    name = f"Service {backend.service.namespace}/{backend.service.name}"
    service = look(SERVICES, backend.service)
    if service is None:
        return Invalid("BackendNotFound", f"{name} does not exist.")
    only_own = ref.group == FAIRLEAD and ref.kind == "Service"
    if only_own and not service.own:
        said = f"{name} is not an object of {FAIRLEAD}; leave out the group to mean the discovered service."
        return Invalid("BackendNotFound", said)
    known = ", ".join(str(port.port) for port in service.ports) or "none"
    if ref.port is None:
        return Invalid("UnsupportedValue", f"backendRef to {name} needs a port; it has: {known}.")
    udp = kind == "UDPRoute"
    port = service.port(ref.port, udp=udp) or service.port(ref.port, udp=not udp)
    if port is None:
        return Invalid("BackendNotFound", f"{name} has no port {ref.port}; it has: {known}.")
    made = _spoken_to(look, kind, backend, port, f"Port {port.port} of {name}")
    if isinstance(made, Backend) and only_own and len(service.sources) > 1:
        return msgspec.structs.replace(made, own=True)
    return made


def _outside(look: Reader, route: ObjectKey, backend: Backend) -> Backend | Invalid:
    name = f"Backend {backend.service.namespace}/{backend.service.name}"
    found, port = find_outside(look, backend.service), outside_port(look, backend.service)
    if found is None or port is None:
        return Invalid("BackendNotFound", f"{name} does not exist.")
    why = why_unbounded(look, route, found)
    return Invalid("UnsupportedValue", why) if why else _spoken_to(look, route.kind, backend, port, name)


def _spoken_to(look: Reader, kind: str, backend: Backend, port: ServicePort, name: str) -> Backend | Invalid:
    """A backend as a kind of route speaks to it, if that can speak to it at all."""
    udp = kind == "UDPRoute"
    plain_only = kind in ("HTTPRoute", "GRPCRoute") and port.protocol in UNROUTABLE
    if port.udp != udp or (plain_only and backend_tls(look, backend.service, port, outside=backend.outside) is None):
        return Invalid("UnsupportedProtocol", f"{name} speaks {port.protocol}, which {_A_ROUTE[kind]} cannot reach.")
    if udp or (kind == "GRPCRoute" and port.protocol not in HTTP2_PROTOCOLS):
        return msgspec.structs.replace(backend, udp=udp, http2=not udp)
    return backend


def port_of(look: Reader, backend: Backend) -> ServicePort | None:
    """The port that a backend is, as its service or Backend object has it; None where that is gone."""
    if backend.outside:
        return outside_port(look, backend.service)
    service = look(SERVICES, backend.service)
    return service.port(backend.port, udp=backend.udp) if service is not None else None


def tls_of(look: Reader, backend: Backend) -> BackendTLS | None:
    """How a backend is spoken to over TLS; None where no policy asks for it."""
    port = port_of(look, backend)
    return backend_tls(look, backend.service, port, outside=backend.outside) if port is not None else None
