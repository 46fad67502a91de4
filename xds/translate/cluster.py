"""Clusters: how Envoy reaches a port of a service.

Defaults, and why:
- endpoints over EDS on the ADS stream, so that a moved endpoint touches no cluster; a service known by DNS name only
  is a DNS cluster with its names inside, because EDS carries IP addresses only;
- `least_request` (two random choices): it steers away from slow endpoints, which round robin cannot. It is given as a
  list ending in `round_robin` for clients that lack it (gRPC in C++, Python and Ruby), so that all share one cluster;
- a connect timeout of 5 s, Envoy's own, stated because a gRPC client or a later Envoy may have another;
- circuit breakers at 2^32-1 for connections, pending and parallel requests: Envoy's default of 1,024 makes a busy
  gateway answer 503 out of nowhere, and a limit belongs to a policy that somebody wrote; retries keep a budget of 20 %
  of active requests (at least 3), so that retries cannot amplify an overload;
- `ignore_health_on_host_removal`: discovery said the endpoint is gone, which outweighs a health check that passes;
- `close_connections_on_host_health_failure` stays off: requests in flight may end well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh.model import Protocol
from xds.schema import pack
from xds.schema.types import (
    ApiVersion,
    Cluster,
    ClusterHttpProtocolOptions,
    DnsCluster,
    DnsLookupFamily,
    LeastRequest,
    RoundRobin,
)
from xds.translate.names import stat_name

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
DNS_CLUSTER = "envoy.clusters.dns"
CONNECT_TIMEOUT_SECONDS = 5
NO_LIMIT = 2**32 - 1
HTTP2_PROTOCOLS: frozenset[Protocol] = frozenset({"HTTP2", "GRPC"})


def _http2_options() -> Any:
    options = ClusterHttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()
    return pack(options)


def _dns_options() -> Any:
    options = DnsCluster()
    options.dns_lookup_family = DnsLookupFamily.ALL
    options.respect_dns_ttl = True
    return pack(options)


_DNS = _dns_options()
_HTTP2 = _http2_options()
_LEAST_REQUEST = pack(LeastRequest())
_ROUND_ROBIN = pack(RoundRobin())


def eds_cluster(name: str, *, protocol: Protocol) -> Any:
    """The cluster of a service port whose endpoints come over EDS under the cluster's own name."""
    cluster = _cluster(name, protocol=protocol)
    cluster.type = Cluster.EDS
    source = cluster.eds_cluster_config.eds_config
    source.ads.SetInParent()
    source.resource_api_version = ApiVersion.V3
    return cluster


def dns_cluster(name: str, assignment: Any, *, protocol: Protocol) -> Any:
    """The cluster of a service known by DNS names: Envoy resolves those in the `ClusterLoadAssignment` itself."""
    cluster = _cluster(name, protocol=protocol)
    cluster.cluster_type.name = DNS_CLUSTER
    cluster.cluster_type.typed_config.CopyFrom(_DNS)
    cluster.load_assignment.CopyFrom(assignment)
    return cluster


def static_cluster(name: str, addresses: Iterable[tuple[str, int]], *, protocol: Protocol) -> Any:
    """A cluster with fixed IP addresses, such as the workload next to a sidecar."""
    cluster = _cluster(name, protocol=protocol)
    cluster.type = Cluster.STATIC
    cluster.load_assignment.cluster_name = name
    locality = cluster.load_assignment.endpoints.add()
    for address, port in addresses:
        socket = locality.lb_endpoints.add().endpoint.address.socket_address
        socket.address = address
        socket.port_value = port
    return cluster


def _cluster(name: str, *, protocol: Protocol) -> Any:
    cluster = Cluster()
    cluster.name = name
    cluster.alt_stat_name = stat_name(name)
    cluster.connect_timeout.seconds = CONNECT_TIMEOUT_SECONDS
    cluster.ignore_health_on_host_removal = True
    policies = cluster.load_balancing_policy.policies
    for kind, packed in (("least_request", _LEAST_REQUEST), ("round_robin", _ROUND_ROBIN)):
        config = policies.add().typed_extension_config
        config.name = f"envoy.load_balancing_policies.{kind}"
        config.typed_config.CopyFrom(packed)
    thresholds = cluster.circuit_breakers.thresholds.add()
    thresholds.max_connections.value = NO_LIMIT
    thresholds.max_pending_requests.value = NO_LIMIT
    thresholds.max_requests.value = NO_LIMIT
    thresholds.retry_budget.budget_percent.value = 20.0
    thresholds.retry_budget.min_retry_concurrency.value = 3
    if protocol in HTTP2_PROTOCOLS:
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(_HTTP2)
    return cluster
