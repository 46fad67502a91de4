"""The tables of clusters and endpoints, and who uses which cluster.

Clusters exist because a route names them, once for all Envoys (scope "") and once for all proxyless gRPC clients, which
are told of load balancing otherwise; so a mesh of thousands of services costs a gateway only what it routes to.
Endpoints follow their cluster, and a moved endpoint touches one row of ASSIGNMENTS.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from mesh.attachments import HostKey, ListenerKey
from mesh.audiences import SIGHTS, Sight
from mesh.backends import Backend, Invalid, port_of, resolve, tls_of
from mesh.credentials import CREDENTIALS
from mesh.envoy_patches import Patched
from mesh.failovers import successors
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.kinds.trafficpolicy import LocalityPolicy
from mesh.model import AUDIENCES_BY_NODE, Audience, Endpoint, ObjectKey, ServiceKey, ServicePort
from mesh.nearness import nearest_first, nearest_to_node, nodes_apart, zones_apart
from mesh.outside import find_outside
from mesh.peer_authentication import has_identity, peer_modes
from mesh.results import Results
from mesh.routes import find_stream_route
from mesh.services import ENDPOINTS, SERVICES, SUBSETS, SubsetKey
from mesh.tables import Look, derived, each
from mesh.telemetry_policies import TELEMETRY_RULES, TelemetryRules
from xds.resources import Resource, ResourceKey
from xds.schema import encode
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_ENDPOINT
from xds.schema.types import Cluster
from xds.translate.cluster import ClusterTLS, dns_cluster, eds_cluster, static_cluster
from xds.translate.endpoint import is_ip, load_assignment
from xds.translate.envoy_patch import patch_message
from xds.translate.failover import aggregate_cluster, instead_of_panic
from xds.translate.framing import encode_checked, resource
from xds.translate.health_check import check_port
from xds.translate.ingress import ingress_cluster
from xds.translate.names import (
    GRPC_SCOPE,
    backend_of,
    clients_scope,
    cluster_name,
    gateway_of,
    gateway_scope,
    members_of,
    node_of,
    node_scope,
    route_of,
    with_members,
    zone_of,
    zone_scope,
)
from xds.translate.outside import ip_endpoints, outside_cluster
from xds.translate.route_tables import SERVICE_HOSTS, VIRTUAL_HOSTS, SeenPortKey
from xds.translate.secret import secret_name
from xds.translate.sidecar import LOOPBACK
from xds.translate.stream_tables import STREAMS, Stream
from xds.translate.traffic import endpoint_selection, traffic_settings
from xds.translate.udp_proxy import BY_WEIGHT, UdpShare, shared_assignment
from xds.translate.upstream_http import Injected
from xds.translate.upstream_tables import UPSTREAMS, Reached, UpstreamKey
from xds.translate.virtual_host import BuiltVirtualHost


class Addressing(msgspec.Struct, frozen=True):
    """Whether some endpoints of a service are known by DNS name only, which EDS cannot carry."""

    by_name: bool


class UseKey(NamedTuple):
    """A cluster that routes of a scope name, or the endpoints of one."""

    scope: str
    resource: ResourceKey


class Use(msgspec.Struct, frozen=True):
    """That there is such a resource."""


def _gateway_clusters(_key: HostKey | ListenerKey, row: BuiltVirtualHost | Stream) -> Iterable[ResourceKey]:
    return [ResourceKey(TYPE_CLUSTER, cluster) for cluster in row.clusters]


def _client_clusters(key: SeenPortKey, row: BuiltVirtualHost) -> Iterable[ResourceKey]:
    scope = GRPC_SCOPE if key.clients.grpc else ""
    return [ResourceKey(TYPE_CLUSTER, cluster, scope) for cluster in row.clusters]


def _gateway_uses(key: HostKey, row: BuiltVirtualHost) -> Iterable[UseKey]:
    return _uses(gateway_scope(*key.gateway), _gateway_clusters(key, row))


def _stream_uses(key: ListenerKey, row: Stream) -> Iterable[UseKey]:
    return _uses(gateway_scope(*key.gateway), _gateway_clusters(key, row))


def _client_uses(key: SeenPortKey, row: BuiltVirtualHost) -> Iterable[UseKey]:
    return _uses(clients_scope(key.clients.namespace, grpc=key.clients.grpc), _client_clusters(key, row))


def _collectors(_key: GatewayKey, row: TelemetryRules) -> Iterable[ResourceKey]:
    return [ResourceKey(TYPE_CLUSTER, cluster_name(backend)) for backend in row.backends]


def _collector_uses(key: GatewayKey, row: TelemetryRules) -> Iterable[UseKey]:
    return _uses(gateway_scope(*key), _collectors(key, row))


def _upstream_clusters(_key: UpstreamKey, row: Reached) -> Iterable[ResourceKey]:
    return [ResourceKey(TYPE_CLUSTER, cluster) for cluster in with_members(row.cluster)]


def _upstream_uses(key: UpstreamKey, row: Reached) -> Iterable[UseKey]:
    return _uses(clients_scope(key.clients.namespace, grpc=False), _upstream_clusters(key, row))


def _uses(scope: str, clusters: Iterable[ResourceKey]) -> Iterable[UseKey]:
    for cluster in clusters:
        yield UseKey(scope, cluster)
        yield UseKey(scope, ResourceKey(TYPE_ENDPOINT, cluster.name))


@derived("addressings", each(ENDPOINTS))
def ADDRESSINGS(key: ServiceKey, look: Look) -> Addressing | None:  # noqa: N802
    """Each service, by IP address or by name; a moved endpoint leaves the row as it is."""
    row = look(ENDPOINTS, key)
    service = look(SERVICES, key)
    if row is None or service is None:
        return None
    external = bool(service.external_name) and not row.endpoints
    return Addressing(external or any(not is_ip(endpoint.address) for endpoint in row.endpoints))


@derived(
    "clusters",
    each(VIRTUAL_HOSTS, _gateway_clusters),
    each(SERVICE_HOSTS, _client_clusters),
    each(STREAMS, _gateway_clusters),
    each(TELEMETRY_RULES, _collectors),
    each(UPSTREAMS, _upstream_clusters),
)
def CLUSTERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """Each cluster that some route names."""
    if route_of(key.name) is not None:
        shared = eds_cluster(key.name, protocol="UDP", policy=BY_WEIGHT)
        return resource(key.type_url, key.name, encode_checked(shared), eds=key.name)
    return _cluster(look, key)


def _cluster(look: Look, key: ResourceKey, certificate: str = "") -> Resource | None:
    """The cluster of a backend; `certificate` is the SDS name of what the proxy shows of itself there."""
    grpc = key.scope == GRPC_SCOPE
    named = _named(look, key.name)
    if named is None:
        return None
    backend, port = named
    if backend.failover:
        return _aggregate(look, key, backend, port)
    asked = tls_of(look, backend) if not grpc and not backend.raw else None
    tls = ClusterTLS(asked, certificate) if asked is not None else None
    policy = traffic_settings(look, backend)
    if policy is not None and not grpc and successors(look, backend):
        policy = instead_of_panic(policy)
    injected = _injected(look, backend)
    if backend.outside:
        found = find_outside(look, backend.service)
        if found is None:
            return None
        outside = outside_cluster(
            key.name, found.spec, protocol=port.protocol, policy=policy, tls=tls, injected=injected
        )
        return _patched(look, key, backend, port, outside)
    addressing = look(ADDRESSINGS, backend.service)
    if addressing is not None and addressing.by_name:
        assignment = _assignment(look, key.name, backend, port)
        cluster = dns_cluster(
            key.name, assignment, protocol=port.protocol, policy=policy, grpc=grpc, tls=tls, injected=injected
        )
        return _patched(look, key, backend, port, cluster)
    cluster = eds_cluster(key.name, protocol=port.protocol, policy=policy, grpc=grpc, tls=tls, injected=injected)
    plain = policy is None and tls is None and injected is None
    return _patched(look, key, backend, port, cluster, checked=not plain)


def _aggregate(look: Look, key: ResourceKey, backend: Backend, port: ServicePort) -> Resource:
    policy = traffic_settings(look, backend)
    cluster = aggregate_cluster(key.name, members_of(key.name), protocol=port.protocol, policy=policy)
    return resource(key.type_url, key.name, encode_checked(cluster))


def _injected(look: Look, backend: Backend) -> Injected | None:
    if not backend.credential:
        return None
    policy = ObjectKey("RoutePolicy", *backend.credential.split("/"))
    credential = look(CREDENTIALS, policy)
    return Injected(credential.wanted, policy) if credential is not None else None


def _patched(
    look: Look, key: ResourceKey, backend: Backend, port: ServicePort, cluster: Any, *, checked: bool = True
) -> Resource:
    """The cluster as a resource, with the EnvoyPatches of its backend; `checked`: by Envoy's field rules."""
    outcomes: Results = ()
    if key.scope != GRPC_SCOPE:
        target = Patched("Backend" if backend.outside else "Service", *backend.service)
        sections = frozenset({port.name, str(port.port)})
        cluster, outcomes = patch_message(look, cluster, target, sections)
    content = encode_checked(cluster) if checked else encode(cluster)
    eds = key.name if cluster.type == Cluster.EDS else ""
    return resource(key.type_url, key.name, content, eds=eds, results=outcomes)


class Near(msgspec.Struct, frozen=True):
    """The zones and the nodes whose clients see the endpoints of a cluster in an order of their own, sorted."""

    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


@derived(
    "nearness",
    each(CLUSTERS, lambda _, row: (ResourceKey(TYPE_ENDPOINT, row.eds),) if row.eds else ()),
)
def NEARNESS(key: ResourceKey, look: Look) -> Near | None:  # noqa: N802
    """The clusters whose endpoints are not the same for all; a moved endpoint seldom changes for whom."""
    named = _named(look, key.name)
    if named is None:
        return None
    backend, port = named
    endpoints, places = _arranged(look, backend, port)
    serving = [one for one in endpoints if one.weight and any(name == port.name for name, _ in one.ports)]
    zones, nodes = zones_apart(serving, same_zone=_same_zone(places)), nodes_apart(serving)
    return Near(tuple(sorted(zones)), tuple(sorted(nodes))) if zones or nodes else None


def _near(key: ResourceKey, row: Near) -> Iterable[ResourceKey]:
    return (key._replace(scope=scope) for scope in (*map(zone_scope, row.zones), *map(node_scope, row.nodes)))


@derived("zonal_assignments", each(NEARNESS, _near))
def ZONAL_ASSIGNMENTS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The endpoints of such clusters as clients of a zone or on a node see them, under the cluster's own name.

    For a node only where proxies run on it: there may be as many as endpoints.
    """
    named = _named(look, key.name)
    node = node_of(key.scope)
    if named is None or (node and not look.keys(AUDIENCES_BY_NODE, node)):
        return None
    backend, port = named
    return resource(key.type_url, key.name, encode(_assignment(look, key.name, backend, port, key.scope)))


ZONAL_ASSIGNMENTS_BY_SCOPE = ZONAL_ASSIGNMENTS.index("scope", lambda key, _: (key.scope,))


@derived(
    "assignments",
    each(CLUSTERS, lambda _, row: (ResourceKey(TYPE_ENDPOINT, row.eds),) if row.eds else ()),
)
def ASSIGNMENTS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """The endpoints of each EDS cluster, under the cluster's name; empty rather than absent (DESIGN §5, S17)."""
    route = route_of(key.name)
    if route is not None:
        return resource(key.type_url, key.name, encode(shared_assignment(key.name, _udp_shares(look, route))))
    named = _named(look, key.name)
    if named is None:
        return None
    backend, port = named
    return resource(key.type_url, key.name, encode(_assignment(look, key.name, backend, port)))


def _udp_shares(look: Look, key: ObjectKey) -> Iterable[UdpShare]:
    route = find_stream_route(look, key)
    for ref in route.spec.rules[0].backend_refs if route is not None else ():
        if not ref.weight:
            continue
        backend = resolve(look, route=key, ref=ref)
        port = _port(look, backend) if not isinstance(backend, Invalid) else None
        if isinstance(backend, Invalid) or port is None:
            yield UdpShare(ref.weight, (), "")
        else:
            yield UdpShare(ref.weight, _endpoints(look, backend, port, fallback=False), port.name)


def _assignment(look: Look, name: str, backend: Backend, port: ServicePort, scope: str = "") -> Any:
    """The endpoints; `scope` is that of a zone or of a node whose clients see them in an order of their own."""
    endpoints, places = _arranged(look, backend, port)
    if zone := zone_of(scope):
        endpoints = nearest_first(endpoints, zone, same_zone=_same_zone(places))
    elif node := node_of(scope):
        endpoints = nearest_to_node(endpoints, node, same_zone=_same_zone(places))
    modes = peer_modes(look, backend.service)

    def mutual(endpoint: Endpoint, number: int) -> bool:
        return modes.of_port(number) != "DISABLE" and has_identity(backend.service.namespace, endpoint.service_account)

    return load_assignment(
        name,
        endpoints,
        port_name=port.name,
        places=places,
        selection=endpoint_selection(look, backend),
        mutual=mutual,
        check_port=check_port(traffic_settings(look, backend)),
    )


def _arranged(look: Look, backend: Backend, port: ServicePort) -> tuple[Iterable[Endpoint], LocalityPolicy | None]:
    """The endpoints of a backend, and what a policy says of their places."""
    policy = traffic_settings(look, backend)
    balancer = policy.load_balancer if policy is not None else None
    fallback = balancer is not None and balancer.subset_fallback == "AnyEndpoint"
    return _endpoints(look, backend, port, fallback=fallback), balancer.locality if balancer is not None else None


def _same_zone(places: LocalityPolicy | None) -> bool:
    return places is not None and bool(places.prefer_same_zone)


def _named(look: Look, cluster: str) -> tuple[Backend, ServicePort] | None:
    """The backend that a cluster is named after, and its port; None where there is none (any more)."""
    backend = backend_of(cluster)
    port = _port(look, backend) if backend is not None else None
    return (backend, port) if backend is not None and port is not None else None


def _port(look: Look, backend: Backend) -> ServicePort | None:
    port = port_of(look, backend)
    return msgspec.structs.replace(port, protocol="GRPC") if port is not None and backend.http2 else port


def _endpoints(look: Look, backend: Backend, port: ServicePort, *, fallback: bool) -> Iterable[Endpoint]:
    """The endpoints of a backend; with `fallback` all others follow those of its subset."""
    if backend.outside:
        found = find_outside(look, backend.service)
        return ip_endpoints(found.spec) if found is not None else ()
    row = look(ENDPOINTS, backend.service)
    if row is None:
        return ()
    if not row.endpoints:
        service = look(SERVICES, backend.service)
        name = service.external_name if service is not None else ""
        return (Endpoint(name, ((port.name, port.port),)),) if name else ()
    endpoints = row.own if backend.own else row.endpoints
    if not backend.subset:
        return endpoints
    subset = look(SUBSETS, SubsetKey(backend.service.namespace, backend.subset))
    return subset.arranged(endpoints, any_endpoint=fallback) if subset is not None else ()


def _workload(key: Audience, row: Sight) -> tuple[ResourceKey, ...]:
    if key.kind != "sidecar" or not key.port:
        return ()
    return (ResourceKey(TYPE_CLUSTER, ingress_cluster(key, row.fronted_port)),)


@derived("workload_clusters", each(SIGHTS, _workload))
def WORKLOAD_CLUSTERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802, ARG001
    """The workloads next to sidecars, by their port."""
    _, _, port = key.name.partition(":")
    number, _, version = port.partition("~")
    cluster = static_cluster(key.name, [(LOOPBACK, int(number))], protocol="HTTP2" if version else "HTTP")
    return resource(key.type_url, key.name, encode_checked(cluster))


@derived(
    "uses",
    each(VIRTUAL_HOSTS, _gateway_uses),
    each(SERVICE_HOSTS, _client_uses),
    each(STREAMS, _stream_uses),
    each(TELEMETRY_RULES, _collector_uses),
    each(UPSTREAMS, _upstream_uses),
)
def USES(key: UseKey, look: Look) -> Use | None:  # noqa: N802
    """Which scope's routes name which clusters, and so need which endpoints."""
    table = CLUSTERS if key.resource.type_url == TYPE_CLUSTER else ASSIGNMENTS
    return Use() if look(table, key.resource) is not None else None


USES_BY_SCOPE = USES.index("scope", lambda key, _: ((key.scope, key.resource.type_url),))


class ClientCertificate(msgspec.Struct, frozen=True):
    """The SDS name of what a Gateway shows to backends, and the clusters that it shows it to."""

    secret: str
    clusters: tuple[str, ...]


def _with_certificate(key: GatewayKey, row: Gateway) -> tuple[GatewayKey, ...]:
    return (key,) if row.client_certificate is not None else ()


@derived("client_certificates", each(GATEWAYS, _with_certificate))
def CLIENT_CERTIFICATES(key: GatewayKey, look: Look) -> ClientCertificate | None:  # noqa: N802
    """The Gateways that have a certificate of their own towards backends which are spoken to over TLS."""
    gateway = look(GATEWAYS, key)
    if gateway is None or gateway.client_certificate is None:
        return None
    used = look.keys(USES_BY_SCOPE, (gateway_scope(*key), TYPE_CLUSTER))
    clusters = sorted(at.resource.name for at in used if _speaks_tls(look, at.resource.name))
    return ClientCertificate(secret_name(gateway.client_certificate), tuple(clusters)) if clusters else None


def _speaks_tls(look: Look, cluster: str) -> bool:
    named = _named(look, cluster)
    return named is not None and not named[0].raw and not named[0].failover and tls_of(look, named[0]) is not None


def _gateway_own(key: GatewayKey, row: ClientCertificate) -> Iterable[ResourceKey]:
    return (ResourceKey(TYPE_CLUSTER, name, gateway_scope(*key)) for name in row.clusters)


@derived("gateway_clusters", each(CLIENT_CERTIFICATES, _gateway_own))
def GATEWAY_CLUSTERS(key: ResourceKey, look: Look) -> Resource | None:  # noqa: N802
    """Such clusters as the Gateway sees them, under the names of those that all others see."""
    namespace, name, _ = gateway_of(key.scope)
    certificate = look(CLIENT_CERTIFICATES, GatewayKey(namespace, name))
    return _cluster(look, key, certificate.secret) if certificate is not None else None


GATEWAY_CLUSTERS_BY_SCOPE = GATEWAY_CLUSTERS.index("scope", lambda key, _: (key.scope,))
