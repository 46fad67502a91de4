"""Objects of every kind that are declared and taken back at random."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from mesh.kinds import KINDS
from mesh.model import DECLARED, Declared, DeclaredKey
from mesh.tables import Change
from tests.support.configs.common import SOURCES, names, namespaces, services
from tests.support.configs.gateway_api import (
    backend_tls_policies,
    gateways,
    grants,
    grpc_routes,
    listener_sets,
    routes,
    stream_routes,
    tls_routes,
)
from tests.support.configs.policies import (
    client_policies,
    envoy_patches,
    peer_authentications,
    request_authentications,
    rollouts,
    route_policies,
    telemetry_policies,
    traffic_policies,
)
from tests.support.configs.services import backends, config_maps, secrets, service_specs, subsets


def _kind(kind: str, names_: st.SearchStrategy[str], body: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Changes that declare an object of a kind, or take it back."""

    def make(name: str, namespace: str, source: str, content: dict[str, Any] | None, stamp: str | None) -> Change:
        known = KINDS[kind]
        namespace = namespace if known.namespaced else ""
        key = DeclaredKey(kind, namespace, name, source)
        if content is None:
            return Change(DECLARED, key, None)
        metadata = {"name": name, "namespace": namespace, **({"creationTimestamp": stamp} if stamp else {})}
        extra = content.pop("labels", None) if kind == "Namespace" else None
        metadata |= {"labels": extra} if extra else {}
        document = {"apiVersion": known.api_version, "kind": kind, "metadata": metadata, **content}
        return Change(DECLARED, key, Declared(msgspec.convert(document, known.struct), f"{source}:1"))

    stamps = st.sampled_from((None, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"))
    copies = body.map(lambda content: msgspec.json.decode(msgspec.json.encode(content)))
    return st.builds(make, names_, namespaces, st.sampled_from(SOURCES), st.none() | copies, stamps)


def _spec(body: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return body.map(lambda spec: {"spec": spec})


_controllers = st.sampled_from(("fairlead.dev/gateway-controller", "example.com/x")).map(
    lambda name: {"spec": {"controllerName": name}}
)
_labels = st.sampled_from(({"labels": {"team": "1"}}, {"labels": {"team": "2"}}, {}))

declarations = st.one_of(
    _kind("Gateway", names, _spec(gateways)),
    _kind("ListenerSet", names, _spec(listener_sets)),
    _kind("HTTPRoute", st.sampled_from(("r", "q", "p")), _spec(routes)),
    _kind("GRPCRoute", st.sampled_from(("r", "q")), _spec(grpc_routes)),
    _kind("TCPRoute", st.sampled_from(("r", "q")), _spec(stream_routes)),
    _kind("UDPRoute", st.sampled_from(("r", "q")), _spec(stream_routes)),
    _kind("TLSRoute", st.sampled_from(("r", "q")), _spec(tls_routes)),
    _kind("Service", services, _spec(service_specs)),
    _kind("ServiceSubset", services, _spec(subsets)),
    _kind("Backend", services, _spec(backends)),
    _kind("ReferenceGrant", names, _spec(grants)),
    _kind("GatewayParameters", names, _spec(st.sampled_from(({}, {"replicas": 2})))),
    _kind("PeerAuthentication", names, _spec(peer_authentications)),
    _kind("RequestAuthentication", names, _spec(request_authentications)),
    _kind("ClientPolicy", names, _spec(client_policies)),
    _kind("TelemetryPolicy", names, _spec(telemetry_policies)),
    _kind("BackendTLSPolicy", names, _spec(backend_tls_policies)),
    _kind("RoutePolicy", names, _spec(route_policies)),
    _kind("Rollout", names, _spec(rollouts)),
    _kind("TrafficPolicy", names, _spec(traffic_policies)),
    _kind("EnvoyPatch", names, _spec(envoy_patches)),
    _kind("Secret", st.just("cert"), secrets),
    _kind("ConfigMap", st.just("ca"), config_maps),
    _kind("GatewayClass", st.sampled_from(("fairlead", "other")), _controllers),
    _kind("Namespace", namespaces, _labels),
)


def declare(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> Change:
    known = KINDS[kind]
    document = {
        "apiVersion": known.api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    item = Declared(msgspec.convert(document, known.struct), "files:1")
    return Change(DECLARED, DeclaredKey(kind, namespace, name, "files"), item)
