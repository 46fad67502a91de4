"""Which backends take over where the endpoints of one are gone or unhealthy: `failover` of a TrafficPolicy.

The policy says it in its own namespace and with its own permissions (ReferenceGrant), as a route does with its
backends. Failover is not handed on: who takes over is asked as it is, and its own failover counts only for requests
that are meant for it. So `a` may name `b` and `b` may name `a`, and no request goes in circles.

Where it counts for nothing, by what is known of the requests: those of mirrors, which are copies; those of a canary
while its Rollout is under way or counts them apart, which is judged by its own answers; those with a credential, which
is not for another backend; those of rules with sessions, which Envoy forgets where others can take over (tried with
1.40: a strict session is answered 503); datagrams; and those of proxyless gRPC clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mesh.backends import UNROUTABLE, Backend, Invalid, port_of, resolve, tls_of
from mesh.kinds.httproute import HTTPRouteRule
from mesh.kinds.policy import PolicyTargetReference
from mesh.kinds.references import BackendObjectReference
from mesh.kinds.routepolicy import RouteSettings
from mesh.kinds.trafficpolicy import Failover, TrafficPolicy
from mesh.model import HTTP2_PROTOCOLS, ObjectKey, ServiceKey
from mesh.outside import PORT, outside_port
from mesh.policies import Effective
from mesh.services import SERVICES, SUBSETS, SubsetKey
from mesh.tables import Reader
from mesh.tries import effective_for


class Successor(NamedTuple):
    """One who is named to take over: its place in the list, and what it is, or why it is nobody."""

    place: int
    backend: Backend | Invalid


def keeps_sessions(rule: HTTPRouteRule, policies: Effective | None) -> bool:
    """Whether a rule of a route has sessions, by itself or by what RoutePolicies say of it."""
    settings: RouteSettings | None = policies.settings if policies is not None else None
    return rule.session_persistence is not None or (settings is not None and settings.session_affinity is not None)


def successors(look: Reader, backend: Backend) -> tuple[Backend, ...]:
    """The backends that take over from one, in order; those that cannot are left out."""
    if backend.canary_of or backend.credential or backend.udp:
        return ()
    effective = effective_for(look, backend)
    failover: Failover | None = effective.settings.failover if effective is not None else None
    if effective is None or failover is None:
        return ()
    found = named(look, effective.said_by("failover"), failover, backend)
    return tuple(dict.fromkeys(each.backend for each in found if isinstance(each.backend, Backend)))


def named(look: Reader, policy: ObjectKey, failover: Failover, backend: Backend) -> Iterator[Successor]:
    """Those whom a policy names to take over from a backend, in order, each judged."""
    for place, ref in enumerate(failover.backend_refs):
        yield Successor(place, _successor(look, policy, ref, backend))


def missing_successors(
    look: Reader, key: ObjectKey, policy: TrafficPolicy, path: str, failover: Failover
) -> Iterator[tuple[str, str]]:
    """Those whom a policy names and who cannot take over from one of its targets: the reason, and what to mend."""
    for target in policy.spec.target_refs:
        for backend in _targets(look, key.namespace, target):
            for place, found in named(look, key, failover, backend):
                if isinstance(found, Invalid):
                    yield found.reason, f"{path}.backendRefs[{place}]: {found.message}"


def _targets(look: Reader, namespace: str, target: PolicyTargetReference) -> Iterator[Backend]:
    """The backends that a policy is for, port by port."""
    key, subset = ServiceKey(namespace, target.name), ""
    if target.kind == "Backend":
        if outside_port(look, key) is not None:
            yield Backend(key, PORT, outside=True)
        return
    if target.kind == "ServiceSubset":
        found = look(SUBSETS, SubsetKey(namespace, target.name))
        if found is None:
            return
        key, subset = found.service, target.name
    service = look(SERVICES, key)
    for port in service.ports if service is not None else ():
        if not port.udp and target.section_name in (None, port.name, str(port.port)):
            yield Backend(key, port.port, subset)


def _successor(look: Reader, policy: ObjectKey, ref: BackendObjectReference, backend: Backend) -> Backend | Invalid:
    if ref.port is None and ref.kind != "Backend" and not backend.outside:
        ref = msgspec.structs.replace(ref, port=backend.port)
    found = resolve(look, route=policy, ref=ref)
    if isinstance(found, Invalid):
        return found
    name = f"{ref.kind} {ref.namespace or policy.namespace}/{ref.name}"
    if _place(found) == _place(backend):
        return Invalid("UnsupportedValue", f"{name} would take over from itself; name another.")
    mine, its = port_of(look, backend), port_of(look, found)
    if mine is None or its is None:
        return Invalid("BackendNotFound", f"{name} does not exist.")
    if mine.protocol not in ("TCP", *UNROUTABLE) and its.protocol in UNROUTABLE and tls_of(look, found) is None:
        return Invalid("UnsupportedProtocol", f"{name} speaks {its.protocol}, and what it would take over is HTTP.")
    http2 = backend.http2 and its.protocol not in HTTP2_PROTOCOLS
    raw = backend.raw and tls_of(look, found) is not None
    return msgspec.structs.replace(found, http2=http2, raw=raw)


def _place(backend: Backend) -> tuple[object, ...]:
    return backend.service, backend.subset, backend.port, backend.outside
