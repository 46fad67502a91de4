"""Destinations outside the catalog: the cluster of a `Backend`, with its endpoints inside: nobody else tells of them.

- names: a DNS cluster, as of a service that is known by name only; IP addresses may stand beside them;
- IP addresses and Unix sockets: a static cluster;
- a dynamic resolver: Envoy's dynamic forward proxy, which looks up the `Host` of each request and keeps what it found
  for 5 minutes after the last use, at most 1,024 names, and judges the addresses. Envoy 1.40 does that in the cluster,
  without a filter in the listener. It balances nothing and checks no health: a policy's word on either has no effect.
"""

from __future__ import annotations

import hashlib
from typing import Any

from mesh.kinds.backend import BackendEndpoint, BackendSpec, DynamicResolver
from mesh.kinds.duration import milliseconds
from mesh.kinds.trafficpolicy import TrafficSettings
from mesh.model import Endpoint, Protocol
from xds.schema import encode, pack
from xds.schema.types import Cluster, DynamicForwardProxyClusterConfig
from xds.translate.cluster import DNS_CLUSTER, ClusterTLS, bare_cluster
from xds.translate.health_check import check_port
from xds.translate.timeouts import set_duration
from xds.translate.upstream_connection import dns_options
from xds.translate.upstream_http import Injected

# What a name may not resolve to, whoever controls it: the proxy itself, its link (clouds' metadata), nobody, everybody,
# and the ways to write such IPv4 addresses as IPv6.
_NEVER = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "100.100.100.200/32", "::/96", "::ffff:0:0/96",
    "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fe80::/10", "ff00::/8", "fd00:ec2::254/128",
)  # fmt: skip
_PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")

DYNAMIC_FORWARD_PROXY = "envoy.clusters.dynamic_forward_proxy"
MAX_NAMES = 1024

# Numbered otherwise than those of a DNS cluster.
_FAMILIES = {
    "Auto": Cluster.AUTO,
    "IPv4Only": Cluster.V4_ONLY,
    "IPv6Only": Cluster.V6_ONLY,
    "IPv4Preferred": Cluster.V4_PREFERRED,
    "All": Cluster.ALL,
}


def outside_cluster(
    name: str,
    spec: BackendSpec,
    *,
    protocol: Protocol,
    policy: TrafficSettings | None,
    tls: ClusterTLS | None,
    injected: Injected | None = None,
) -> Any:
    """The cluster of a Backend."""
    names = [endpoint.fqdn.hostname for endpoint in spec.endpoints if endpoint.fqdn is not None]
    host = names[0] if names else ""
    cluster = bare_cluster(name, protocol=protocol, policy=policy, tls=tls, host=host, injected=injected)
    if spec.dynamic_resolver is not None:
        _resolve_dynamically(cluster, spec.dynamic_resolver, policy)
        return cluster
    if names:
        cluster.cluster_type.name = DNS_CLUSTER
        cluster.cluster_type.typed_config.CopyFrom(dns_options(policy.dns if policy is not None else None))
    else:
        cluster.type = Cluster.STATIC
    cluster.load_assignment.cluster_name = name
    group = cluster.load_assignment.endpoints.add()
    for endpoint in sorted(spec.endpoints, key=_order):
        _set_address(group.lb_endpoints.add().endpoint, endpoint)
        if endpoint.unix is None and (ask_at := check_port(policy)):
            group.lb_endpoints[-1].endpoint.health_check_config.port_value = ask_at
    return cluster


def ip_endpoints(spec: BackendSpec) -> tuple[Endpoint, ...]:
    """The IP addresses of a Backend, as endpoints of a service with one port that has no name."""
    found = (endpoint.ip for endpoint in spec.endpoints)
    return tuple(sorted(Endpoint(ip.address, (("", ip.port),)) for ip in found if ip is not None))


def _order(endpoint: BackendEndpoint) -> tuple[str, int]:
    if endpoint.unix is not None:
        return endpoint.unix.path, 0
    if endpoint.fqdn is not None:
        return endpoint.fqdn.hostname, endpoint.fqdn.port
    return (endpoint.ip.address, endpoint.ip.port) if endpoint.ip is not None else ("", 0)


def _set_address(made: Any, endpoint: BackendEndpoint) -> None:
    place, port = _order(endpoint)
    if endpoint.unix is not None:
        made.address.pipe.path = place
        return
    made.address.socket_address.address = place
    made.address.socket_address.port_value = port
    if endpoint.fqdn is not None:
        made.hostname = place


def _resolve_dynamically(cluster: Any, resolver: DynamicResolver, policy: TrafficSettings | None) -> None:
    for field in ("load_balancing_policy", "common_lb_config", "health_checks"):
        cluster.ClearField(field)
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    config = DynamicForwardProxyClusterConfig()
    config.allow_insecure_cluster_options = True  # the names of certificates are those of a BackendTLSPolicy
    cache = config.dns_cache_config
    cache.max_hosts.value = MAX_NAMES
    for network in (*_NEVER, *(() if resolver.allow_private_addresses else _PRIVATE)):
        address, _, length = network.partition("/")
        refused = cache.resolved_address_filter.ranges.add()
        refused.address_prefix = address
        refused.prefix_len.value = int(length)
    dns = policy.dns if policy is not None else None
    family = dns.lookup_family if dns is not None else None
    cache.dns_lookup_family = _FAMILIES[family or "All"]
    if dns is not None and dns.refresh_rate is not None:
        set_duration(cache.dns_refresh_rate, milliseconds(dns.refresh_rate))
    # Envoy keeps a cache by its name and refuses one of that name that is otherwise.
    cache.name = f"{cluster.name}~{hashlib.sha256(encode(cache)).hexdigest()[:8]}"
    cluster.cluster_type.name = DYNAMIC_FORWARD_PROXY
    cluster.cluster_type.typed_config.CopyFrom(pack(config))
