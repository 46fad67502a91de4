"""Listeners of a gateway: one per address and port, with a filter chain for HTTP, one per HTTPS hostname, and so on.

HTTP routes are not in here and never change a listener: only the Gateway itself does. (Those of connections that pass
as they are have no other place: `stream_tables`.) Several HTTP listeners of one port
share one chain, since only the Host header tells them apart; HTTPS listeners are told apart by SNI, and a client that
names none of them is cut off unless a listener takes any host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mesh.certificates import SecretKey
from mesh.hostnames import ANY
from xds.schema import pack
from xds.schema.types import Listener, SocketAddress, TlsInspector
from xds.translate.http_connection_manager import FILTER, gateway_manager
from xds.translate.names import listener_name, stat_name
from xds.translate.stream_tables import StreamHost, StreamShare
from xds.translate.tcp_proxy import add_tcp_proxy
from xds.translate.tls import ALPN, ClientTrust, set_downstream_tls
from xds.translate.udp_proxy import add_udp_proxy

EVERY_ADDRESS = "::"


class Chain(msgspec.Struct, frozen=True):
    """A filter chain: its name, which its routes bear too, and for HTTPS its hostname and certificates.

    `stream` is set where connections pass as they are: their shares. `by_server_name`: only TLS comes in here.
    """

    name: str
    hostname: str = ANY
    certificates: tuple[SecretKey, ...] = ()
    stream: tuple[StreamShare, ...] | None = None
    by_server_name: bool = False
    clients: ClientTrust | None = None


def gateway_listener(address: str, port: int, chains: Iterable[Chain], *, scoped: bool) -> Any:
    """The listener at an address; `EVERY_ADDRESS` takes IPv4 as well. `scoped`: it gets its routes by scope."""
    listener = Listener()
    listener.name = listener_name(address, port)
    listener.stat_prefix = stat_name(listener.name)
    set_address(listener, address, port)
    tls = False
    for chain in chains:
        made = listener.filter_chains.add()
        made.name = chain.name
        if chain.certificates:
            alpn = ALPN if chain.stream is None else ()
            set_downstream_tls(made.transport_socket, chain.certificates, alpn=alpn, clients=chain.clients)
        if chain.certificates or chain.by_server_name:
            tls = True
            if chain.hostname != ANY:
                made.filter_chain_match.server_names.append(chain.hostname)
        if chain.by_server_name:
            made.filter_chain_match.transport_protocol = "tls"
        if chain.stream is not None:
            add_tcp_proxy(made, chain.stream)
        else:
            add_manager(made, gateway_manager(chain.name, scoped=scoped))
    if tls:
        inspector = listener.listener_filters.add()
        inspector.name = "envoy.filters.listener.tls_inspector"
        inspector.typed_config.CopyFrom(pack(TlsInspector()))
    return listener


def udp_listener(address: str, port: int, hosts: Sequence[StreamHost]) -> Any:
    """The listener for datagrams at an address."""
    listener = Listener()
    listener.name = listener_name(address, port, udp=True)
    listener.stat_prefix = stat_name(listener.name)
    set_address(listener, address, port)
    listener.address.socket_address.protocol = SocketAddress.UDP
    add_udp_proxy(listener, hosts)
    return listener


def set_address(listener: Any, address: str, port: int) -> None:
    """Where a listener binds."""
    socket = listener.address.socket_address
    socket.address = address
    socket.port_value = port
    socket.ipv4_compat = address == EVERY_ADDRESS


def add_manager(filter_chain: Any, manager: Any) -> None:
    """Let a connection manager be the chain's only network filter."""
    filter_ = filter_chain.filters.add()
    filter_.name = FILTER
    filter_.typed_config.CopyFrom(pack(manager))
