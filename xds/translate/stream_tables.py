"""The table of what passes a gateway as it came: TLS connections by server name, TCP connections, UDP datagrams.

Here routes are part of the listener, for Envoy knows no other place for them. A change of one replaces the filter chain
of its server name alone: Envoy keeps the port and the connections of all other chains, and lets those of the changed
one end in its drain time.

Of several routes for one server name, or one port, the oldest has it all; Gateway API counts the others as attached all
the same. A listener answers for its own hostname even without a route, by closing the connection: otherwise a narrower
listener's connections would fall to the routes of a wider one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from mesh.attachments import ListenerKey
from mesh.backends import Backend, Invalid, resolve, tls_of
from mesh.gateways import GATEWAYS, Gateway, GatewayKey
from mesh.listeners import GatewayListener
from mesh.model import ObjectKey
from mesh.routes import find_stream_route
from mesh.stream_winners import winners
from mesh.tables import Look, Reader, derived, each
from xds.translate.names import cluster_name, shared_cluster, with_members
from xds.translate.traffic import with_failover


class StreamShare(NamedTuple):
    """A backend's cluster (None where it cannot be had) and its part of the connections."""

    cluster: str | None
    weight: int


class StreamHost(NamedTuple):
    """A server name (empty: any) and where its connections go; no share: nowhere, they are closed."""

    hostname: str
    shares: tuple[StreamShare, ...]


class Stream(msgspec.Struct, frozen=True):
    """What a listener does with connections or datagrams, by server name, sorted."""

    hosts: tuple[StreamHost, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that are named, and those behind them, sorted."""
        named = {share.cluster for host in self.hosts for share in host.shares}
        return tuple(sorted({each for name in named if name is not None for each in with_members(name)}))


def _passing(key: GatewayKey, row: Gateway) -> Iterable[ListenerKey]:
    return (ListenerKey(key, one.name) for one in row.listeners if one.programmed and not one.http)


@derived("streams", each(GATEWAYS, _passing))
def STREAMS(key: ListenerKey, look: Look) -> Stream | None:  # noqa: N802
    """Each listener whose connections or datagrams pass as they are."""
    gateway = look(GATEWAYS, key.gateway)
    listener = gateway.listener(key.listener) if gateway is not None else None
    if gateway is None or listener is None:
        return None
    shares = {
        hostname: _shares(look, route, listener) for hostname, route in winners(look, key, gateway, listener).items()
    }
    hosts = {listener.hostname: (), **shares}
    return Stream(tuple(StreamHost(hostname, hosts[hostname]) for hostname in sorted(hosts)))


def _shares(look: Reader, key: ObjectKey, listener: GatewayListener) -> tuple[StreamShare, ...]:
    route = find_stream_route(look, key)
    if route is None:
        return ()
    weighted = [ref for ref in route.spec.rules[0].backend_refs if ref.weight]
    if key.kind == "UDPRoute" and len(weighted) > 1:
        return (StreamShare(shared_cluster(key), 1),)
    shares = []
    for ref in weighted:
        backend = resolve(look, route=key, ref=ref)
        if isinstance(backend, Backend) and _raw(look, key, listener, backend):
            backend = msgspec.structs.replace(backend, raw=True)
        named = None if isinstance(backend, Invalid) else cluster_name(with_failover(look, backend))
        shares.append(StreamShare(named, ref.weight))
    return tuple(shares)


def _raw(look: Reader, key: ObjectKey, listener: GatewayListener, backend: Backend) -> bool:
    """Whether a backend that a BackendTLSPolicy is for gets bytes as they came: only terminated TLS begins anew."""
    ended = key.kind == "TLSRoute" and not listener.passthrough
    return not ended and tls_of(look, backend) is not None
