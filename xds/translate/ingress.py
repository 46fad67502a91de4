"""The listener in front of a workload: which filter chains it has in each mode of mutual TLS.

| mode | HTTP | TCP |
|---|---|---|
| STRICT | TLS | TLS |
| PERMISSIVE | TLS, plaintext | TLS with the marker, any other TLS as it is, plaintext |
| DISABLE | as PERMISSIVE | plaintext |

Chains are the same ones in STRICT and PERMISSIVE, so that Envoy changes them in place and connections of a chain that
stays are not drained. An HTTP client always speaks first, so DISABLE costs nobody a wait there, and mesh clients that
have not heard yet get through. A TCP client may wait for the server to speak: in PERMISSIVE it counts as plaintext
after `first_bytes_wait`; in DISABLE nobody looks.

A proxy without a certificate takes plaintext; in STRICT it takes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mesh.model import HTTP2_PROTOCOLS, Audience, MeshSettings, ServicePort
from mesh.peer_authentication import PeerMode
from xds.schema import pack
from xds.schema.types import HttpConnectionManager, Listener, TcpProxy, TlsInspector, TrafficDirection
from xds.translate.access_log import add_handshake_log
from xds.translate.http_connection_manager import ingress_manager
from xds.translate.listener import EVERY_ADDRESS, add_manager, set_address
from xds.translate.mutual_tls import MARKER, demand_mutual_tls
from xds.translate.names import MISSING_CLUSTER, listener_name, local_cluster_name, stat_name
from xds.translate.timeouts import set_duration
from xds.translate.tls import ALPN

INGRESS: Final = "ingress"
MUTUAL: Final = "ingress-mutual-tls"
PASSED_ON: Final = "ingress-tls"
TLS_INSPECTOR: Final = "envoy.filters.listener.tls_inspector"
TCP_PROXY: Final = "envoy.filters.network.tcp_proxy"
TCP_PROTOCOLS: Final = frozenset({"TCP", "TLS"})


def ingress_listener(audience: Audience, fronted: ServicePort | None, mode: PeerMode, mesh: MeshSettings) -> Any:
    """The listener in front of a workload, and `fronted` the port of its service (None while there is no service)."""
    listener = Listener()
    listener.name = listener_name(EVERY_ADDRESS, audience.ingress_port)
    listener.stat_prefix = stat_name(listener.name)
    listener.traffic_direction = TrafficDirection.INBOUND
    set_address(listener, EVERY_ADDRESS, audience.ingress_port)
    tcp = fronted is not None and fronted.protocol in TCP_PROTOCOLS
    fill: Callable[..., None] = _tcp if tcp else _http
    cluster = ingress_cluster(audience, fronted)
    if not audience.mesh_tls:
        if mode == "STRICT":
            _tcp(_chain(listener, INGRESS), audience, MISSING_CLUSTER)
        else:
            fill(_chain(listener, INGRESS), audience, cluster)
        return listener
    if tcp and mode == "DISABLE":
        fill(_chain(listener, INGRESS), audience, cluster)
        return listener
    _inspect(listener, mesh.first_bytes_wait if tcp else 0)
    add_handshake_log(listener)
    mutual = _chain(listener, MUTUAL, "tls")
    if tcp:
        mutual.filter_chain_match.application_protocols.append(MARKER)
    demand_mutual_tls(mutual, mesh.trust_domain, alpn=() if tcp else ALPN)
    fill(mutual, audience, cluster, known=True)
    if mode != "STRICT":
        fill(_chain(listener, INGRESS, "raw_buffer"), audience, cluster)
        if tcp:
            fill(_chain(listener, PASSED_ON, "tls"), audience, cluster)
    return listener


def ingress_cluster(audience: Audience, fronted: ServicePort | None) -> str:
    """The name of the cluster that is the workload itself."""
    return local_cluster_name(audience.port, http2=fronted is not None and fronted.protocol in HTTP2_PROTOCOLS)


def _chain(listener: Any, name: str, transport: str = "") -> Any:
    chain = listener.filter_chains.add()
    chain.name = name
    chain.filter_chain_match.transport_protocol = transport
    if not transport:
        chain.ClearField("filter_chain_match")
    return chain


def _inspect(listener: Any, wait: int) -> None:
    inspector = listener.listener_filters.add()
    inspector.name = TLS_INSPECTOR
    inspector.typed_config.CopyFrom(pack(TlsInspector()))
    if wait:
        set_duration(listener.listener_filters_timeout, wait)
        listener.continue_on_listener_filters_timeout = True


def _http(chain: Any, audience: Audience, cluster: str, *, known: bool = False) -> None:
    """HTTP to the workload; of a client that is `known` the workload is told the identity, of others nothing."""
    manager = ingress_manager(INGRESS)
    if known:
        manager.forward_client_cert_details = HttpConnectionManager.SANITIZE_SET
        manager.set_current_client_cert_details.uri = True
    routes = manager.route_config
    routes.name = INGRESS
    host = routes.virtual_hosts.add()
    host.name = f"{audience.namespace}/{audience.name}"
    host.domains.append("*")
    route = host.routes.add()
    route.name = INGRESS
    route.match.prefix = "/"
    route.route.cluster = cluster
    route.route.timeout.SetInParent()
    add_manager(chain, manager)


def _tcp(chain: Any, _audience: Audience, cluster: str, *, known: bool = False) -> None:  # noqa: ARG001
    proxy = TcpProxy()
    proxy.stat_prefix = stat_name(INGRESS)
    proxy.cluster = cluster
    filter_ = chain.filters.add()
    filter_.name = TCP_PROXY
    filter_.typed_config.CopyFrom(pack(proxy))
