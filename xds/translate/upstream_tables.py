"""TCP ports of services that sidecars offer their workloads on loopback (`mesh/upstreams.py`), and their clusters.

The cluster is the very one that a gateway's TCPRoute has, with mutual TLS for proxies with a certificate. A port that
is none, speaks HTTP or UDP, or belongs to a service that the sidecar may not see is listened at all the same, and
connections are closed: once the service is there, they are passed on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from mesh.backends import Backend
from mesh.model import AUDIENCES, Audience, Connected, ServiceKey, Upstream
from mesh.services import SERVICES, VISIBLE, ClientsKey, VisibleKey, visible_part
from mesh.tables import Look, derived, each
from xds.resources import ResourceKey
from xds.schema.type_urls import TYPE_LISTENER
from xds.schema.types import Listener, TrafficDirection
from xds.translate.listener import set_address
from xds.translate.names import cluster_name, listener_name, stat_name
from xds.translate.sidecar import LOOPBACK
from xds.translate.stream_tables import StreamShare
from xds.translate.tcp_proxy import add_tcp_proxy
from xds.translate.traffic import with_failover

SCOPE = "upstream"
PROTOCOLS = frozenset({"TCP", "TLS"})


class UpstreamKey(NamedTuple):
    """A port of a service that such clients want."""

    clients: ClientsKey
    service: ServiceKey
    port: int


class Reached(msgspec.Struct, frozen=True):
    """The cluster to which their connections go."""

    cluster: str


def _wanted(key: Audience, _row: Connected) -> Iterable[UpstreamKey]:
    return (_key(key.namespace, upstream) for upstream in key.upstreams)


def _key(namespace: str, upstream: Upstream) -> UpstreamKey:
    service = ServiceKey(upstream.namespace, upstream.service)
    return UpstreamKey(ClientsKey(namespace, grpc=False), service, upstream.port)


@derived("upstreams", each(AUDIENCES, _wanted))
def UPSTREAMS(key: UpstreamKey, look: Look) -> Reached | None:  # noqa: N802
    """The ports that sidecars want and may have."""
    visible = look(VISIBLE, VisibleKey(key.clients, visible_part(key.service)))
    service = look(SERVICES, key.service)
    port = service.port(key.port) if service is not None else None
    if visible is None or key.service not in visible.services or port is None or port.protocol not in PROTOCOLS:
        return None
    return Reached(cluster_name(with_failover(look, Backend(key.service, key.port))))


def upstream_key(audience: Audience, upstream: Upstream) -> ResourceKey:
    """The listener for an upstream, the same for all sidecars of a namespace that want it there."""
    scope = "/".join((SCOPE, audience.namespace, upstream.namespace, upstream.service, str(upstream.port)))
    return ResourceKey(TYPE_LISTENER, listener_name(LOOPBACK, upstream.listen), scope)


def wanted_at(key: ResourceKey) -> UpstreamKey | None:
    """What `upstream_key` made a key for; None for another listener."""
    kind, *rest = key.scope.split("/")
    if kind != SCOPE:
        return None
    clients, namespace, service, port = rest
    return _key(clients, Upstream(0, namespace, service, int(port)))


def upstream_listener(key: ResourceKey, reached: Reached | None) -> Any:
    """The listener; with nothing to reach it closes connections."""
    port = int(key.name.rpartition(":")[2])
    listener = Listener()
    listener.name = key.name
    listener.stat_prefix = stat_name(key.name)
    listener.traffic_direction = TrafficDirection.OUTBOUND
    set_address(listener, LOOPBACK, port)
    chain = listener.filter_chains.add()
    chain.name = SCOPE
    add_tcp_proxy(chain, (StreamShare(reached.cluster, 1),) if reached is not None else ())
    return listener
