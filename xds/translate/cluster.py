"""Clusters: how Envoy reaches a port of a service.

What a TrafficPolicy says of it is filled in by the modules of the features (`load_balancing`, `circuit_breakers`,
`outlier_detection`, `health_check`, `upstream_http`, `upstream_connection`), each of which states what holds without
one. Beside that, and why:
- endpoints over EDS on the ADS stream, so that a moved endpoint touches no cluster; a service known by DNS name only
  is a DNS cluster with its names inside, because EDS carries IP addresses only;
- a connect timeout of 5 s, Envoy's own, stated because a gRPC client or a later Envoy may have another;
- `ignore_health_on_host_removal`: discovery said the endpoint is gone, which outweighs a health check that passes;
- `close_connections_on_host_health_failure` stays off unless asked for: requests in flight may end well.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from mesh.backend_tls import BackendTLS
from mesh.kinds.trafficpolicy import TrafficSettings
from mesh.model import HTTP2_PROTOCOLS, Protocol
from xds.schema.types import ApiVersion, Cluster
from xds.translate.backend_tls import set_backend_tls
from xds.translate.circuit_breakers import set_circuit_breakers
from xds.translate.health_check import add_health_checks
from xds.translate.load_balancing import set_load_balancing
from xds.translate.names import host_of, stat_name
from xds.translate.outlier_detection import set_outlier_detection
from xds.translate.upstream_connection import dns_options, set_connection, wrap_in_proxy_protocol
from xds.translate.upstream_http import Injected, set_http_options

_NO_POLICY = TrafficSettings()

DNS_CLUSTER = "envoy.clusters.dns"


class ClusterTLS(NamedTuple):
    """How a cluster's endpoints are spoken to over TLS, and the SDS name of what the proxy shows (empty: nothing)."""

    backend: BackendTLS
    certificate: str = ""


def eds_cluster(
    name: str,
    *,
    protocol: Protocol,
    policy: TrafficSettings | None = None,
    grpc: bool = False,
    tls: ClusterTLS | None = None,
    injected: Injected | None = None,
) -> Any:
    """The cluster of a service port whose endpoints come over EDS under the cluster's own name.

    `grpc`: it is for proxyless clients. `injected` is the credential that its requests get.
    """
    if policy is not None or tls is not None or injected is not None:
        made = bare_cluster(name, protocol=protocol, policy=policy, grpc=grpc, tls=tls, injected=injected)
        return _with_endpoints_over_eds(made)
    cluster = Cluster.FromString(_without_policy(protocol, grpc))
    _call(cluster, name)
    return cluster


@cache
def _without_policy(protocol: Protocol, grpc: bool) -> bytes:
    """What all clusters without a policy are but for their names: nearly all clusters of a large mesh are such."""
    nameless = _with_endpoints_over_eds(bare_cluster("", protocol=protocol, grpc=grpc))
    encoded: bytes = nameless.SerializeToString()
    return encoded


def _with_endpoints_over_eds(cluster: Any) -> Any:
    cluster.type = Cluster.EDS
    source = cluster.eds_cluster_config.eds_config
    source.ads.SetInParent()
    source.resource_api_version = ApiVersion.V3
    return cluster


def dns_cluster(
    name: str,
    assignment: Any,
    *,
    protocol: Protocol,
    policy: TrafficSettings | None = None,
    grpc: bool = False,
    tls: ClusterTLS | None = None,
    injected: Injected | None = None,
) -> Any:
    """The cluster of a service known by DNS names: Envoy resolves those in the `ClusterLoadAssignment` itself."""
    cluster = bare_cluster(name, protocol=protocol, policy=policy, grpc=grpc, tls=tls, injected=injected)
    cluster.cluster_type.name = DNS_CLUSTER
    cluster.cluster_type.typed_config.CopyFrom(dns_options(policy.dns if policy is not None else None))
    cluster.load_assignment.CopyFrom(assignment)
    return cluster


def static_cluster(name: str, addresses: Iterable[tuple[str, int]], *, protocol: Protocol) -> Any:
    """A cluster with fixed IP addresses, such as the workload next to a sidecar."""
    cluster = bare_cluster(name, protocol=protocol)
    cluster.type = Cluster.STATIC
    cluster.load_assignment.cluster_name = name
    locality = cluster.load_assignment.endpoints.add()
    for address, port in addresses:
        socket = locality.lb_endpoints.add().endpoint.address.socket_address
        socket.address = address
        socket.port_value = port
    return cluster


def bare_cluster(
    name: str,
    *,
    protocol: Protocol,
    policy: TrafficSettings | None = None,
    grpc: bool = False,
    tls: ClusterTLS | None = None,
    injected: Injected | None = None,
    host: str = "",
) -> Any:
    """A cluster that is still to be told where its endpoints are; `host` is what health checks say, if not its name."""
    cluster = Cluster()
    _call(cluster, name)
    cluster.ignore_health_on_host_removal = True
    settings = policy or _NO_POLICY
    set_connection(cluster, settings)
    set_load_balancing(cluster, settings.load_balancer, grpc=grpc)
    set_circuit_breakers(cluster, settings.circuit_breaker)
    set_outlier_detection(cluster, settings.outlier_detection)
    add_health_checks(cluster, settings.health_checks or (), protocol=protocol, host=host or host_of(name))
    set_http_options(cluster, protocol, policy, injected)
    if tls is not None:
        set_backend_tls(cluster, tls.backend, http2=protocol in HTTP2_PROTOCOLS, certificate=tls.certificate)
    wrap_in_proxy_protocol(cluster, settings)
    return cluster


def _call(cluster: Any, name: str) -> None:
    cluster.name = name
    cluster.alt_stat_name = stat_name(name)
